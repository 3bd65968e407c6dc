# ssh with and without a shell, sftp, rsync, cron: who begins something is logged in, and who has ended the last is logged out.
. /root/checks/lib.sh
settled
systemctl stop tenantfs@nightly
out() { tenantfs revoke --all >/dev/null; within 3 mounts 0; within 3 'as alice true; ! pgrep -u alice'; }

out
check "ssh without a shell is in the view" '[ "$(ssh_ alice cat $(view alice)/schedules/n.json)" = "{\"a\":1}" ]'
check "and the user is logged out with the last session" 'within 8 mounts 0'
out
check "a login shell is in the view" '[ "$(ssh_ alice "bash -lc \"cat $(view alice)/schedules/n.json\"")" = "{\"a\":1}" ]'
out
check "sftp gets and puts" 'echo "{\"c\":3}" >c.json; printf "put c.json $(view alice)/schedules/c.json\nget $(view alice)/schedules/c.json back.json\n" >batch; sftp -q -b batch -i .ssh/id -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR alice@127.0.0.1 && cmp c.json back.json && ls /srv/records/schedules/*/c.json'
out
check "rsync over ssh" 'rm -rf copy; rsync -a -e "ssh -i /root/.ssh/id -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR" alice@127.0.0.1:$(view alice)/schedules/ copy/ && cmp c.json copy/c.json'
out
check "an end of one of two sessions does not end the other" 'ssh_ bob sleep 4 & sleep 1; ssh_ bob true; sleep 2; mounts 1 && wait && within 8 mounts 0'
check "su and sudo-like sessions are logged in, too" 'su bob -c "cat $(view bob)/schedules/n.json" | grep -x "{\"b\":1}"'
out
systemctl start cron
# cron looks at its tables when the minute begins.
echo "* * * * * cat $(view alice)/schedules/n.json >/tmp/from-cron 2>&1" | crontab -u alice -
(while sleep 1; do [ ! -s /tmp/from-cron ] || break; done) & waiting=$!

# Meanwhile: whose key it is.
check "nobody is logged in by a link to another users key" 'mv /home/bob/.config/tenantfs/api-key bobs; as bob "ln -s /home/alice/.config/tenantfs/api-key /home/bob/.config/tenantfs/api-key"; ssh_ bob true; ! has_session bob; e=$?; rm /home/bob/.config/tenantfs/api-key; install -o bob -g bob -m 600 bobs /home/bob/.config/tenantfs/api-key; [ $e = 0 ]'
check "a wrong key keeps nobody from a session, and the log says so" 'echo wrong | as bob "cat >/home/bob/.config/tenantfs/api-key"; ssh_ bob true && journal -t tenantfs | grep "session of bob"; e=$?; install -o bob -g bob -m 600 bobs /home/bob/.config/tenantfs/api-key; [ $e = 0 ]'
check "a key that root keeps for the user counts" 'rm /home/bob/.config/tenantfs/api-key; install -m 600 bobs /etc/tenantfs/users/bob.key; ssh_ bob "cat $(view bob)/schedules/n.json" | grep -x "{\"b\":1}"; e=$?; rm /etc/tenantfs/users/bob.key; install -o bob -g bob -m 600 bobs /home/bob/.config/tenantfs/api-key; [ $e = 0 ]'
tenantfs revoke --uid bob >/dev/null 2>&1
check "no key is on a command line or in an environment" '! cat /proc/*/cmdline /proc/*/environ 2>/dev/null | tr "\0" "\n" | grep "^key-o[f]-\|=key-o[f]-"'
systemctl stop tenantfs
check "without a server a session begins at once, and does not start one" 't=$(date +%s%N); ssh_ alice true; ms=$((($(date +%s%N) - t) / 1000000)); echo "it took $ms ms"; systemctl status tenantfs | head -n 4; [ $ms -lt 4000 ] && ! systemctl is-active -q tenantfs'
systemctl start tenantfs

check "a job of cron is in the view" 'within 65 "[ -s /tmp/from-cron ]"; grep -x "{\"a\":1}" /tmp/from-cron'
crontab -u alice -r
check "and its user is logged out later, when nothing of theirs runs" 'within 15 mounts 0'
kill $waiting 2>/dev/null
systemctl stop cron
systemctl start tenantfs@nightly
