# What is configured wrongly, another account, another volume.
. /root/checks/lib.sh
settled
cp /etc/tenantfs/config.toml good.toml

check "a reload refuses a configuration with a mistake, and the server goes on" 'sed -i "s/^lease/laese/" /etc/tenantfs/config.toml; ! systemctl reload tenantfs 2>/dev/null; p=$(main); cp good.toml /etc/tenantfs/config.toml; systemctl reload tenantfs && [ "$(main)" = "$p" ] && both'
check "a mistake in the configuration is refused by restart, which says where" 'sed -i "s/^lease/laese/" /etc/tenantfs/config.toml; ! systemctl restart tenantfs 2>/dev/null; journal -u tenantfs -n 20 | grep "laese"'
check "nobodys session is lost by it: everybody is back when it is mended, without another command" '[ "$(kept)" = 2 ] && cp good.toml /etc/tenantfs/config.toml && within 4 both'
check "and who restarts it then is not let down either" 'sed -i "s/^lease/laese/" /etc/tenantfs/config.toml; ! systemctl restart tenantfs 2>/dev/null; sleep 2; cp good.toml /etc/tenantfs/config.toml; systemctl restart tenantfs && within 2 both'

mkdir -p /data && cp -a /srv/records /data/
sed -i 's,^path = "/srv/records",path = "/data/records",' /etc/tenantfs/config.toml
check "a volume that the sandbox keeps read-only is told at the start" '! systemctl restart tenantfs 2>/dev/null; sleep 0.3; journal -u tenantfs -n 20 | grep ReadWritePaths='
cp good.toml /etc/tenantfs/config.toml
within 4 both

check "setup moves to a volume of another account, in a path with a space, and the doctor is content" 'useradd -r web; mkdir "/data/my records"; cp -a /srv/records/. "/data/my records/"; chown -R web: "/data/my records"; setup --volume "/data/my records" --auth-url https://auth.test:8443/validate && within 5 login && within 3 both && [ "$(stat -c %U /proc/$(main))" = web ] || [ "$(ps -o user= -p $(main))" = web ]'
check "its users save there, and its log is rotated as that account" 'as alice "echo {} > $(view alice)/schedules/there.json" && ls "/data/my records"/schedules/*/there.json && logrotate -f /etc/logrotate.d/tenantfs && both'
check "its tenantfs@NAME serves as that account, too" '{ systemctl restart tenantfs@nightly || { journal -u tenantfs@nightly -n 5; false; }; } && [ "$(ps -o user= -p $(main tenantfs@nightly))" = web ] && as alice ls /run/tenantfs/service/nightly/schedules/there.json'
check "restarts in either order are the same there" 'systemctl restart tenantfs-mounter tenantfs && within 3 both && systemctl restart tenantfs tenantfs-mounter && within 3 both'
check "a volume below a home is reached in the sandbox" 'install -d -o web -g web /home/web && cp -a "/data/my records" /home/web/records && setup --volume /home/web/records --auth-url https://auth.test:8443/validate && within 5 login && within 3 both && ! nsenter -m -t $(main) ls /home/alice 2>/dev/null'
check "and back, with nothing left of it in the units" 'setup --volume /srv/records --auth-url https://auth.test:8443/validate && within 5 login && within 3 both && diff good.toml /etc/tenantfs/config.toml && ! grep -rE "User=|ReadWritePaths=|admit|ProtectHome=" /etc/systemd/system/tenantfs*.d/ 2>/dev/null'
check "setup refuses what cannot be, and changes nothing" 'for bad in "--volume /root" "--volume /srv/records --account root" "--volume /srv/records --account nobody-is-called-so" "--volume x/y --account tenantfs"; do tenantfs setup $bad --auth-url https://auth.test:8443/validate && exit 1; done; ! tenantfs setup --volume /srv/records --auth-url http://192.0.2.1/x && ! tenantfs setup --volume /srv/records --static-keys /etc/none.json && diff good.toml /etc/tenantfs/config.toml && both'
rm -rf /data /home/web
