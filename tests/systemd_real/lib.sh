# What the checks have in common; in the container.
cd /root

check() { # NAME COMMAND: it succeeds
    local name=$1 out t
    shift
    t=$(date +%s%N)
    if out=$( (eval "$*") 2>&1); then
        echo "ok    $name ($((($(date +%s%N) - t) / 1000000)) ms)"
    else
        echo "FAIL  $name"
        echo "${out:-(it said nothing)}" | tail -n 6 | sed 's/^/          /'
    fi
}
within() { # SECONDS COMMAND: it succeeds before that
    local end=$(($(date +%s%N) + $1 * 1000000000))
    shift
    until eval "$*" >/dev/null 2>&1; do
        [ "$(date +%s%N)" -lt "$end" ] || { eval "$*"; return 1; }
        sleep 0.05
    done
}
as() { # USER COMMAND: without PAM
    local user=$1
    shift
    setpriv --reuid "$user" --regid "$user" --clear-groups env HOME="/home/$user" bash -c "$*"
}
main() { systemctl show -P MainPID "${1:-tenantfs}"; }
kept() { systemctl show -P NFileDescriptorStore tenantfs; }
mounts() { [ "$(grep -c ' fuse.tenantfs ' /proc/mounts)" = "$1" ]; }
view() { echo "/run/tenantfs/mnt/$(id -u "$1")"; }
login() { as alice 'printf key-of-alice | tenantfs login' >/dev/null && as bob 'printf key-of-bob | tenantfs login' >/dev/null; }
both() {
    [ "$(as alice "cat $(view alice)/schedules/n.json")" = '{"a":1}' ] && [ "$(as bob "cat $(view bob)/schedules/n.json")" = '{"b":1}' ]
}
users() { # USER...: whose keys the auth service knows
    echo "$*" >/var/lib/auth/users.new && mv /var/lib/auth/users.new /var/lib/auth/users
}
auth_up() { systemctl start authsvc && within 10 'curl -sk https://auth.test:8443/'; }
ssh_() { # USER COMMAND...
    local user=$1
    shift
    ssh -i /root/.ssh/id -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR "$user@127.0.0.1" "$@"
}
sessions() { # STATE NUMBER: so many are in that state
    [ "$(tenantfs status --json | jq "[.sessions[] | select(.state == \"$1\")] | length")" = "$2" ]
}
has_session() { tenantfs status --json | jq -e ".sessions[] | select(.uid == $(id -u "$1"))" >/dev/null; }
# The doctor finds no problem; but for the number of files, where the machine that this runs on does not allow the container more.
well() {
    local problems
    tenantfs doctor --json >doctor.json
    problems=$(jq -r '.. | objects | select(.ok == false) | .check' doctor.json | sort -u)
    [ "$(ulimit -Hn)" -ge 65536 ] || problems=$(grep -vx limits <<<"$problems")
    [ -z "$problems" ] || { jq -c '.. | objects | select(.ok == false)' doctor.json; return 1; }
}
setup() { # OPTION...: sets up, and the doctor is content
    tenantfs setup "$@" || { well && echo "the doctor is content"; }
}
journal() { journalctl -b --no-pager -o cat "$@"; }
# The state that every stage begins and ends with: two users are logged in.
settled() {
    auth_up
    systemctl is-active -q tenantfs || systemctl start tenantfs
    # logind logs out whoever was here by ssh.
    within 10 '! ls /run/systemd/users/1*' >/dev/null 2>&1
    # And pam-session does a while after the last job of cron.
    within 15 '! systemctl list-units --all --no-legend "tenantfs-logout-*.timer" | grep .' >/dev/null 2>&1
    # No more often than one account may.
    for _ in $(seq 10); do
        ! login 2>said || break
        sleep 1
    done
    within 10 both || cat said
}
