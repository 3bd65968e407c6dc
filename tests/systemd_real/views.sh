# tenantfs@NAME, lines of /etc/fstab, automounts, and what is told of all of it: metrics, the audit log, the journal.
. /root/checks/lib.sh
settled
record='{"a":1}'

echo TENANTFS_UID=alice >/etc/tenantfs/instances/nightly.env
install -m 600 <(printf key-of-alice-nightly) /etc/tenantfs/keys/nightly.key
nightly=/run/tenantfs/service/nightly
check "tenantfs@NAME mounts, for a user by name" 'systemctl enable -q --now tenantfs@nightly && [ "$(as alice cat $nightly/schedules/n.json)" = "$record" ]'
check "it outlives the mounter" 'systemctl kill -s KILL tenantfs-mounter; within 3 systemctl is-active tenantfs-mounter; as alice ls $nightly'
check "it is back after a kill -9" 'systemctl kill -s KILL tenantfs@nightly; within 9 "systemctl is-active tenantfs@nightly && as alice ls $nightly/schedules"'
check "it reloads and stops; nothing is left" 'systemctl reload tenantfs@nightly && systemctl stop tenantfs@nightly && mounts 2 && ! ls -d $nightly 2>/dev/null'
check "a key that is refused ends it for good" 'users alice bob; ! systemctl start tenantfs@nightly; sleep 6; systemctl is-failed tenantfs@nightly; users alice bob alice-nightly; systemctl reset-failed tenantfs@nightly'
echo >/etc/tenantfs/instances/nouid.env
cp /etc/tenantfs/keys/nightly.key /etc/tenantfs/keys/nouid.key
check "an instance that names no user is refused, and says so" '! systemctl start tenantfs@nouid; sleep 0.3; systemctl is-failed tenantfs@nouid && journal -u tenantfs@nouid | grep "no user is named"'
check "an instance without a key or an environment says what is missing" '! systemctl start tenantfs@nothing 2>/dev/null; sleep 0.3; journal -u tenantfs@nothing | grep "no user is named.*/etc/tenantfs/instances/NAME.env" && echo TENANTFS_UID=alice >/etc/tenantfs/instances/nothing.env; ! systemctl start tenantfs@nothing; sleep 0.3; journal -u tenantfs@nothing | grep "no API key.*/etc/tenantfs/keys/NAME.key"'
systemctl reset-failed 'tenantfs@*'
systemctl start tenantfs@nightly

mkdir -p /mnt/fstab /mnt/auto /mnt/hand
key=/etc/tenantfs/keys/nightly.key
check "mount -t tenantfs mounts a view, and umount ends its server" 'mount -t tenantfs /srv/records /mnt/hand -o uid=alice,api_key_file=$key,auth_url=https://auth.test:8443/validate && [ "$(as alice cat /mnt/hand/schedules/n.json)" = "$record" ] && umount /mnt/hand && within 3 "! pgrep -f /mnt/hand"'
check "it says what is wrong, and mount fails" '! mount -t tenantfs /srv/records /mnt/hand -o uif=alice 2>said; grep "there is no option uif" said; ! mount -t tenantfs /srv/records /mnt/hand -o uid=nobody-is-called-so 2>said; grep -E "no such account|parse mount options" said'
cat >>/etc/fstab <<F
/srv/records /mnt/fstab tenantfs uid=alice,api_key_file=$key,auth_url=https://auth.test:8443/validate,_netdev,nofail,x-systemd.requires=authsvc.service 0 0
records /mnt/auto tenantfs volume=/srv/records,uid=bob,api_key_file=/home/bob/.config/tenantfs/api-key,auth_url=https://auth.test:8443/validate,noauto,x-systemd.automount,x-systemd.idle-timeout=1s 0 0
F
systemctl daemon-reload
check "a line of fstab mounts" 'systemctl start mnt-fstab.mount && [ "$(as alice cat /mnt/fstab/schedules/n.json)" = "$record" ]'
[ -c /dev/autofs ] && check "an automount mounts when somebody looks" 'systemctl start mnt-auto.automount && ! grep "/mnt/auto fuse" /proc/mounts; [ "$(as bob cat /mnt/auto/schedules/n.json)" = "{\"b\":1}" ] && ! as alice ls /mnt/auto'
[ -c /dev/autofs ] && check "it ends when nobody looks any more, and mounts again when somebody does" 'within 10 "! grep \"/mnt/auto fuse\" /proc/mounts" && within 3 "! pgrep -f /mnt/auto" && as bob cat /mnt/auto/schedules/n.json'
check "both end in good order" 'systemctl stop mnt-auto.automount mnt-auto.mount mnt-fstab.mount && mounts 3 && within 3 "! pgrep -f mount.tenantfs"'

systemctl enable -q --now tenantfs-metrics.socket
systemctl restart tenantfs; within 2 both
check "metrics are there by the socket unit" 'curl -s -m 3 http://127.0.0.1:9641/metrics | grep -x "tenantfs_sessions{state=\"active\"} 2"'
check "logrotate, twice: the chain goes on, also in what is compressed" 'for _ in 1 2; do logrotate -f /etc/logrotate.d/tenantfs && both && sleep 0.2; done; tenantfs audit verify --sealing-keys /etc/credstore/tenantfs.sealing-keys <(zcat /var/log/tenantfs/audit.jsonl.2.gz) /var/log/tenantfs/audit.jsonl.1 /var/log/tenantfs/audit.jsonl'
cp /etc/tenantfs/config.toml good.toml
sed -i 's,^path = "/var/log/tenantfs/audit.jsonl",path = "journal",' /etc/tenantfs/config.toml
systemctl restart tenantfs; within 2 both; sleep 0.3
check "the audit log in the journal, and its chain" 'both; sleep 0.3; journalctl -t tenantfs-audit -o cat _PID=$(main) | tenantfs audit verify /dev/stdin'
check "a restart of journald loses none of it" 'systemctl restart systemd-journald; both; sleep 0.3; journalctl -t tenantfs-audit -o cat _PID=$(main) | tenantfs audit verify /dev/stdin'
cp good.toml /etc/tenantfs/config.toml
systemctl restart tenantfs
check "work on the whole volume goes on beside the running units" 'within 2 both; tenantfs verify --sealing-keys /etc/credstore/tenantfs.sealing-keys && tenantfs list --all | grep -q schedules && tenantfs export --user-id alice --to /root/alice.tar.zst && both'
