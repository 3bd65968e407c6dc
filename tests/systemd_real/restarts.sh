# Whatever is restarted, in whatever order: sessions come back, and nothing that was typed is lost.
. /root/checks/lib.sh
settled

check "restart of the server: sessions are back within a second" 'systemctl restart tenantfs && within 1 both'
check "kill -9 of the server: mounts are gone within a second, and back" 'systemctl kill -s KILL tenantfs; within 1 mounts 0; within 4 both'
check "restart of the mounter: nobody notices" 'systemctl restart tenantfs-mounter && both && within 1 mounts 2'
check "kill -9 of the mounter: nobody notices, and a new one serves new logins" 'systemctl kill -s KILL tenantfs-mounter; both && within 3 systemctl is-active tenantfs-mounter && as bob "tenantfs logout; printf key-of-bob | tenantfs login" && both'
check "kill -9 of both, the mounter first" 'systemctl kill -s KILL tenantfs-mounter tenantfs; within 6 both'
check "kill -9 of both, the server first" 'systemctl kill -s KILL tenantfs tenantfs-mounter; within 6 both && mounts 2'
check "daemon-reload and daemon-reexec keep the sessions keys" 'systemctl daemon-reload; systemctl daemon-reexec; systemctl restart tenantfs && within 2 both'
check "reload" 'systemctl reload tenantfs && both'
check "one descriptor is kept for each session" '[ "$(kept)" = 2 ]'

# Ten sessions, each with a record that is open and not saved.
for n in $(seq 10); do useradd -M -u $((2000 + n)) many$n; done
users alice bob alice-nightly $(seq -f 'many%g' 10)
drafts() { find /srv/records -name '.tenantfs-draft*' | wc -l; }
ten() { # SECONDS NAME COMMAND: 10 of 10 drafts are kept, in at most so many seconds
    local most=$1 name=$2 writers=()
    shift 2
    find /srv/records -name '.tenantfs-draft*' -delete
    for n in $(seq 10); do
        setpriv --reuid many$n --regid many$n --clear-groups bash -c "printf key-of-many$n | tenantfs login >/dev/null"
        setpriv --reuid many$n --regid many$n --clear-groups bash -c "exec 3>/run/tenantfs/mnt/$((2000 + n))/schedules/open.json; printf '{\"typed\":1' >&3; exec sleep 300" &
        writers+=($!)
    done
    sleep 0.5
    command=$*
    check "$name: 10 of 10 unsaved records are kept, in at most $most s" 't=$(date +%s%N); eval "$command"; ms=$((($(date +%s%N) - t) / 1000000)); echo "$(drafts) of 10 kept, in $ms ms"; echo "NOTE  $(drafts) of 10 kept in $ms ms: $command" >>notes; [ "$(drafts)" = 10 ] && [ "$ms" -le ${most}000 ] && within 10 mounts 12'
    kill "${writers[@]}" 2>/dev/null
    wait "${writers[@]}" 2>/dev/null
}
ten 5 "server and mounter in one command, the server named first" systemctl restart tenantfs tenantfs-mounter
for _ in 1 2 3; do ten 5 "server and mounter in one command, the mounter named first" systemctl restart tenantfs-mounter tenantfs; done
ten 5 "by a glob" "systemctl restart 'tenantfs*.service'"
ten 60 "an upgrade of the package in place" 'DEBIAN_FRONTEND=noninteractive apt-get install -y -q ./tenantfs-next.deb'
check "the upgraded package is what runs" 'dpkg-query -W tenantfs | grep next && [ /proc/$(main)/exe -ef /usr/bin/tenantfs ] && [ /proc/$(main tenantfs-mounter)/exe -ef /usr/bin/tenantfs ]'
find /srv/records -name '.tenantfs-draft*' -delete
for n in $(seq 10); do tenantfs revoke --uid many$n >/dev/null; done
users alice bob alice-nightly

cat notes

# The watchdog, at 3 s.
mkdir -p /run/systemd/system/tenantfs.service.d
printf '[Service]\nWatchdogSec=3\n' >/run/systemd/system/tenantfs.service.d/w.conf
systemctl daemon-reload; systemctl restart tenantfs; within 2 both
check "a server that hangs is killed by the watchdog, and its sessions come back" 'p=$(main); kill -STOP $p; within 9 "[ \$(main) != $p ] && [ \$(main) != 0 ] && both"'
rm /run/systemd/system/tenantfs.service.d/w.conf
systemctl daemon-reload; systemctl restart tenantfs; within 2 both

check "whoever asks while it is restarted waits, and is answered" 'for _ in $(seq 10); do systemctl restart tenantfs & for _ in $(seq 8); do as alice "tenantfs status" >said 2>&1; ! grep -E "not running|makes no sense|talking to" said || exit 1; done; wait; done; within 2 both'
check "stop ends the mounts, in good order" 'systemctl stop tenantfs; mounts 0; ! ls /run/tenantfs/mnt | grep .'
check "whoever asks a server that was stopped does not start it, and is told" 'as alice "tenantfs status" 2>&1 | grep "not running"; as alice "printf key-of-alice | tenantfs login" 2>/dev/null; sleep 0.3; ! systemctl is-active tenantfs'
check "start has it serve again" 'systemctl start tenantfs && within 5 login && within 5 both'
