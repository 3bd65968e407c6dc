# Taking it away: what setup did, then the package.
. /root/checks/lib.sh
sed -i '/ tenantfs /d' /etc/fstab
systemctl daemon-reload
systemctl stop mnt-auto.automount mnt-auto.mount mnt-fstab.mount 2>/dev/null
systemctl disable -q --now tenantfs@nightly tenantfs-metrics.socket

check "setup --remove takes back what setup did" 'tenantfs setup --remove && mounts 0 && ! systemctl is-enabled tenantfs && ! ls /etc/tenantfs/config.toml /etc/logrotate.d/tenantfs 2>/dev/null && ! ls /etc/systemd/system/*.d 2>/dev/null | grep tenantfs-setup && ! grep -r pam-session /etc/pam.d'
check "and leaves the records, the audit log and the keys" 'ls /srv/records/schedules/*/n.json /var/log/tenantfs/audit.jsonl /etc/credstore/tenantfs.sealing-keys /etc/tenantfs/keys/nightly.key'
check "another run has nothing to do" 'tenantfs setup --remove | grep "Nothing is to be done"'
check "setup sets up again, and users find their files" 'setup --volume /srv/records --auth-url https://auth.test:8443/validate --sealing-keys --pam && login && both'
check "removing the package ends everything in good order, and keeps the configuration" 'apt-get remove -y -q tenantfs && mounts 0 && ls /etc/tenantfs/config.toml && ! ls /usr/bin/tenantfs 2>/dev/null && ! grep -r pam-session /etc/pam.d'
check "ssh goes on without it" 'ssh_ alice true'
check "installing it again has it serve again" 'apt-get install -y -q ./tenantfs.deb && systemctl start tenantfs && login && both'
check "purging leaves the records, the audit log and every key, and nothing else" 'apt-get purge -y -q tenantfs; mounts 0; ls /srv/records/schedules/*/n.json /var/log/tenantfs/audit.jsonl /etc/credstore/tenantfs.sealing-keys /etc/tenantfs/keys/nightly.key && ! ls /etc/tenantfs/config.toml /etc/tenantfs/auth.env /etc/logrotate.d/tenantfs 2>/dev/null && ! find /etc/systemd | grep tenantfs'
check "no unit has failed" '! systemctl --failed --no-legend --plain | grep tenantfs'
