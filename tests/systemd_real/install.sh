# From a fresh machine to users who work by ssh.
. /root/checks/lib.sh

# What is there before: two users who have keys, an auth service on another port of this host, reached by its name and certificate.
useradd -m -s /bin/bash alice && useradd -m -s /bin/bash bob
mkdir -p .ssh /var/lib/auth && ssh-keygen -q -N '' -t ed25519 -f .ssh/id
for user in alice bob; do
    install -d -o $user -g $user -m 700 /home/$user/.ssh /home/$user/.config /home/$user/.config/tenantfs
    install -o $user -g $user -m 600 .ssh/id.pub /home/$user/.ssh/authorized_keys
    install -o $user -g $user -m 600 <(printf 'key-of-%s\n' $user) /home/$user/.config/tenantfs/api-key
done
users alice bob alice-nightly
openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=auth.test -addext subjectAltName=DNS:auth.test \
    -addext basicConstraints=critical,CA:FALSE -keyout /var/lib/auth/key.pem -out /var/lib/auth/cert.pem 2>/dev/null
cp /var/lib/auth/cert.pem /usr/local/share/ca-certificates/auth.crt && update-ca-certificates >/dev/null 2>&1
echo '127.0.0.1 auth.test' >>/etc/hosts
cat >/etc/systemd/system/authsvc.service <<'U'
[Service]
ExecStart=/usr/bin/python3 /root/checks/auth.py 8443 /var/lib/auth/cert.pem /var/lib/auth/key.pem
[Install]
WantedBy=multi-user.target
U
systemctl daemon-reload
systemctl enable -q --now authsvc
within 10 'curl -s https://auth.test:8443/' || echo "FAIL  the auth service of the test does not answer"

began=$(date +%s%N)
check "the package installs, and starts nothing" 'apt-get install -y -q --no-install-recommends ./tenantfs.deb && ! systemctl is-active -q tenantfs && getent passwd tenantfs'
check "a dry run changes nothing" 'find /etc | sort >before; tenantfs setup --dry-run --volume /srv/records --auth-url https://auth.test:8443/validate --sealing-keys --pam && find /etc | sort | diff before - && ! [ -e /srv/records ]'
check "one command sets the host up, and its doctor finds no problem" setup --volume /srv/records --auth-url https://auth.test:8443/validate --sealing-keys --pam
check "then ssh has both users in their views, shell or not" 'ssh_ alice "echo \{\\\"a\\\":1\} > $(view alice)/schedules/n.json" && ssh_ bob "echo \{\\\"b\\\":1\} > $(view bob)/schedules/n.json" && both'
echo "NOTE  from the fresh container to both users at work by ssh: 2 commands, $((($(date +%s%N) - began) / 1000000)) ms, with the dry run"
# The lease and the grace period, short.
sed -i 's,^lease = .*,lease = "4s",; s,^grace = .*,grace = "4s",' /etc/tenantfs/config.toml
systemctl restart tenantfs
settled
check "another run of setup has nothing to do, and disturbs nobody" 'p=$(main); tenantfs setup --volume /srv/records --auth-url https://auth.test:8443/validate --sealing-keys --pam | grep -x "Nothing is to be done." && [ "$(main)" = "$p" ] && both'
check "each sees their own, and not the other's" 'both; ! as alice "ls $(view bob)"; ! as bob "grep -r a $(view bob)" 2>/dev/null | grep a\":1'
check "systemd has nothing to say of the units, nor of their manual" 'out=$(systemd-analyze verify /usr/lib/systemd/system/tenantfs*.service /usr/lib/systemd/system/tenantfs*.socket 2>&1); echo "$out"; [ -z "$out" ]'
for u in tenantfs.service:1.0 tenantfs@x.service:1.0 tenantfs-auth.service:1.5 tenantfs-mounter.service:3.6; do
    e=$(systemd-analyze security --no-pager "${u%:*}" 2>/dev/null | sed -n 's/.*level for .*: \([0-9.]*\) .*/\1/p')
    check "the exposure of ${u%:*}, $e, is at most ${u#*:}" "awk 'BEGIN { exit !($e <= ${u#*:}) }'"
done
check "the manual has every command, the configuration and the mount helper" 'for c in $(tenantfs --help | sed -n "/^Commands:/,/^Options:/s/^  \([a-z-]*\)  .*/\1/p" | grep -vx help); do man -w tenantfs-$c || exit 1; done; man -w 5 tenantfs.toml && man -w 8 mount.tenantfs && man tenantfs-setup | grep -q -e --dry-run'
check "bash completes" 'bash -c ". /usr/share/bash-completion/completions/tenantfs; COMP_WORDS=(tenantfs sta); COMP_CWORD=1; _tenantfs tenantfs sta tenantfs; [ \"\${COMPREPLY[*]}\" = status ]"'
check "doctor finds no problem, in ten runs of ten" 'for _ in $(seq 10); do well || exit 1; done'
check "sessions are confined by Landlock" '! journal -u tenantfs | grep "NOT confined"'
check "the server has no capability, no new privileges, a seccomp filter" 'grep -E "^(CapEff|CapBnd):.0+$|^NoNewPrivs:.1|^Seccomp:.2" /proc/$(main)/status | wc -l | grep -x 4'
check "the server has a network of its own, with nothing in it" '! [ /proc/$(main)/ns/net -ef /proc/1/ns/net ] && [ "$(nsenter -n -t $(main) cat /proc/net/route | wc -l)" -le 1 ]'
check "the server can write nowhere but on the volume and in its log" '! nsenter -m -t $(main) touch /etc/x /usr/x /var/lib/x 2>/dev/null && nsenter -m -t $(main) touch /srv/records/.x /var/log/tenantfs/.x && rm /srv/records/.x /var/log/tenantfs/.x'
check "the mounter mounts in the host's mount namespace" '[ /proc/$(main tenantfs-mounter)/ns/mnt -ef /proc/1/ns/mnt ]'
check "a secret is sealed with the keys that setup made" "as alice 'echo \"{\\\"api_key\\\":\\\"sk-123\\\"}\" > $(view alice)/schedules/s.json' && grep tfs1 /srv/records/schedules/*/s.json && ! grep -r sk-123 /srv/records && tenantfs unseal --sealing-keys /etc/credstore/tenantfs.sealing-keys alice schedules s | grep -x sk-123"
check "nothing was refused by a filter" '! journal | grep -iE "SECCOMP|SIGSYS"'
