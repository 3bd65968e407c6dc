# After a reboot with sessions open.
. /root/checks/lib.sh

check "every unit that was enabled is up" 'systemctl is-active tenantfs tenantfs-mounter tenantfs.socket tenantfs-mounter.socket tenantfs-auth.socket tenantfs-metrics.socket tenantfs@nightly'
check "the view of a service is mounted before anybody asks, and the line of fstab" 'as alice cat /run/tenantfs/service/nightly/schedules/n.json && within 10 as alice cat /mnt/fstab/schedules/n.json'
[ -c /dev/autofs ] && check "the automount mounts when somebody looks" 'as bob cat /mnt/auto/schedules/n.json'
check "users log in, and find their files" 'login && both'
check "ssh logs in" 'tenantfs revoke --uid alice; ssh_ alice "cat $(view alice)/schedules/n.json"'
check "nothing was killed at the shutdown, and the server ended before the mounter" 'log=$(journalctl -b -1 --no-pager -o cat -u tenantfs -u tenantfs-mounter -n 20); echo "$log"; ! grep -E "timed out|Killing|still mounted" <<<"$log" && s=$(grep -n "Stopped tenantfs.service" <<<"$log" | tail -n 1 | cut -d: -f1) && m=$(grep -n "Stopped tenantfs-mounter" <<<"$log" | tail -n 1 | cut -d: -f1) && [ "$s" -lt "$m" ]'
check "no unit has failed" '! systemctl --failed --no-legend --plain | grep -E "tenantfs|mnt-"'
check "nothing was refused by a filter" '! journal | grep -iE "SECCOMP|SIGSYS"'
