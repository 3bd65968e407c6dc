# The auth service: gone, back, wrong, and reached in other ways.
. /root/checks/lib.sh
settled

check "a key that the service revokes is dark within the lease and a second" 'users alice alice-nightly; within 5 "! as bob ls $(view bob)"; [ "$(as alice cat $(view alice)/schedules/n.json)" = "{\"a\":1}" ]'
users alice bob alice-nightly; login
systemctl stop authsvc
check "a silent service suspends after lease and grace" 'within 11 sessions suspended 2 && ! as alice cat $(view alice)/schedules/n.json 2>/dev/null'
check "and its return brings everything back" 'auth_up && within 6 both'

systemctl stop authsvc; systemctl restart tenantfs; sleep 0.5
check "after a restart in a silence sessions wait" 'sessions restoring 2'
check "a login that fails meanwhile fails, and loses nothing" '! as alice "printf key-of-alice | tenantfs login" 2>/dev/null; sessions restoring 2 && [ "$(kept)" = 2 ]'
check "a logout meanwhile is final: its key is kept no longer" 'as bob tenantfs logout && within 1 "[ \"\$(kept)\" = 1 ]"'
check "also over the next restart, when the service is back" 'auth_up; systemctl restart tenantfs; within 6 "as alice cat $(view alice)/schedules/n.json"; sleep 1; ! as bob ls $(view bob) 2>/dev/null && ! has_session bob'
login; within 5 both

mv /etc/tenantfs/auth.env auth.env
systemctl stop tenantfs-auth.service
as alice tenantfs logout
for _ in $(seq 8); do as alice 'printf key-of-alice | tenantfs login' 2>said; sleep 0.2; done
check "where auth.env is missing the error names the unit and the file" 'cat said; grep tenantfs-auth.service said && grep /etc/tenantfs/auth.env said'
check "and the way comes back by itself when it is mended" 'sleep 2; mv auth.env /etc/tenantfs/; within 12 login; within 10 both'
check "so it does when it led to a wrong place" 'echo TENANTFS_AUTH_HOST=127.0.0.1:1 >auth.wrong; cp /etc/tenantfs/auth.env auth.env; cp auth.wrong /etc/tenantfs/auth.env; systemctl stop tenantfs-auth.service; as alice tenantfs logout; as alice "printf key-of-alice | tenantfs login" 2>/dev/null; cp auth.env /etc/tenantfs/; systemctl stop tenantfs-auth.service; within 12 login; within 10 both'
check "none of it has left a unit that failed" '! systemctl --failed --no-legend --plain | grep tenantfs'

# Other ways, by setup: a service of this host by plain http, run by an account of its own; and a file of keys.
useradd -r webauth
cat >/etc/systemd/system/plainauth.service <<'U'
[Service]
User=webauth
ExecStart=/usr/bin/python3 /root/checks/auth.py 8089
[Install]
WantedBy=multi-user.target
U
chmod 711 /root; chmod 755 /root/checks
systemctl daemon-reload; systemctl start plainauth; within 10 'curl -s http://127.0.0.1:8089/' >/dev/null
cp /etc/tenantfs/config.toml good.toml
check "setup finds out who runs an auth service of this host, and asks nobody else" 'setup --volume /srv/records --auth-url http://127.0.0.1:8089/validate && grep "^service_user = \"webauth\"" /etc/tenantfs/config.toml && within 5 login && within 3 both'
systemctl stop plainauth
check "another user who listens in its place is sent no key" 'setpriv --reuid bob --regid bob --clear-groups python3 /root/checks/auth.py 8089 & p=$!; sleep 0.7; as alice tenantfs logout; as alice "printf key-of-alice | tenantfs login" 2>said; e=$?; kill $p; cat said; [ $e = 4 ]'
echo "{\"keys\":[$(for u in alice bob; do printf '{"sha256":"%s","user_id":"%s"},' "$(printf "key-of-$u" | tenantfs key-hash)" $u; done | sed 's/,$//')]}" >/etc/tenantfs/keys.json
chmod 600 /etc/tenantfs/keys.json
check "setup changes to a file of keys, which the server can read then" 'setup --volume /srv/records --static-keys /etc/tenantfs/keys.json && within 5 login && within 3 both && stat -c "%U:%G %a" /etc/tenantfs/keys.json | grep -x "root:tenantfs 640" && ! systemctl is-active tenantfs-auth.socket'
check "and back, with everything as it was" 'setup --volume /srv/records --auth-url https://auth.test:8443/validate && diff good.toml /etc/tenantfs/config.toml && within 5 login && within 3 both'
