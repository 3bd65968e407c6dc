//! The store's promises: what a user does on one host is done, and the other one shows it.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::common::sealing::KEY;
use super::common::{ALICE, Layout, eventually, python, shell};
use super::hosts::{HOSTS, Host, TwoHosts, layouts, record};

/// What a user does all day, in the mount of the first host.
const DAY: &str = r#"
cd schedules
echo '{"n": 1}' > written.json
echo '{"n": 2}' > .new && mv .new renamed.json
echo '{"n": 3}' > gone.json && rm gone.json
echo '{"n": 4}' > was.json && mv was.json is.json
cp written.json copied.json
mkdir -p deep/er && echo '{"n": 5}' > deep/er/inside.json
printf 'a,b\n1,2\n' > plot.csv && printf '3,4\n' >> plot.csv
echo '{"n": 6}' > changed.json && sed -i 's/6/7/' changed.json
ln written.json hard.json 2>/dev/null && exit 1
sync
"#;

/// What is there then.
const SHOWN: &str = "
for name in $(find schedules -type f | LC_ALL=C sort); do echo \"$name $(tr '\\n' ' ' < $name)\"; done";

const DAYS_END: &str = r#"schedules/changed.json {"n": 7} 
schedules/copied.json {"n": 1} 
schedules/deep/er/inside.json {"n": 5} 
schedules/is.json {"n": 4} 
schedules/plot.csv a,b 1,2 3,4 
schedules/renamed.json {"n": 2} 
schedules/written.json {"n": 1} 
"#;

#[test]
#[ignore = "needs a cluster: scripts/test --engines"]
fn what_a_user_does_on_one_host_the_other_one_shows_in_both_layouts() {
    for layout in layouts() {
        let hosts = TwoHosts::new(layout);
        let [a, b] = hosts.daemons(&[]);
        let places = [a.login(&ALICE), b.login(&ALICE)];
        shell(ALICE.uid, &places[0], DAY);
        for (host, place) in HOSTS.into_iter().zip(&places) {
            let mut shown = String::new();
            let came = eventually(3 * hosts.cluster.freshness(), || {
                shown = shell(ALICE.uid, place, SHOWN);
                shown == DAYS_END
            });
            assert!(came, "{layout} {host:?}: {shown}");
        }
        // What the service finds has its owner in it, and nothing is left of how it came to be.
        hosts.settle();
        let volume = hosts.volume(Host::B);
        let stored: Value =
            serde_json::from_str(&volume.stored(&ALICE, "schedules", "changed.json")).unwrap();
        assert_eq!(stored, serde_json::json!({"n": 7, "user_id": "alice"}));
        assert_eq!(
            temporaries(&volume.directory(&ALICE, "schedules")),
            Vec::<PathBuf>::new()
        );
        hosts
            .cluster
            .report("a user's day in both layouts, shown by the other host", "holds");
    }
}

/// What has a name of a file that is not complete.
fn temporaries(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    paths
        .filter(|path| path.to_string_lossy().contains(".tenantfs-tmp-"))
        .collect()
}

#[test]
#[ignore = "needs a cluster: scripts/test --engines"]
fn a_save_on_one_host_keeps_the_secret_that_was_saved_on_the_other() {
    let hosts = TwoHosts::new(Layout::ResourceFirst);
    for host in HOSTS {
        hosts.volume(host).has_keys(KEY, &[KEY]);
    }
    let keys = hosts.volume(Host::A).sealing_keys_file();
    let [a, b] = hosts.daemons(&["--sealing-keys", keys.to_str().unwrap()]);
    let places = [a.login(&ALICE), b.login(&ALICE)];
    let save =
        |place: &Path, text: &str| shell(ALICE.uid, place, &format!("echo '{text}' > schedules/x.json"));
    save(&places[0], r#"{"n": 1, "api_key": "sk-of-alice"}"#);
    hosts.wait_until(Host::B, "x.json", |volume| {
        volume.path(&ALICE, "schedules", "x.json").exists()
    });
    for (turn, place) in [&places[1], &places[0], &places[1]].into_iter().enumerate() {
        save(place, &format!(r#"{{"n": {}}}"#, turn + 2));
        let shown = shell(ALICE.uid, place, "cat schedules/x.json");
        assert!(
            !shown.contains("sk-of-alice") && !shown.contains("tfs1"),
            "{shown}"
        );
    }
    hosts.settle();
    for host in HOSTS {
        let opened = hosts
            .volume(host)
            .opened(&ALICE, "schedules", "x.json", "api_key");
        assert_eq!(opened.as_deref(), Some("sk-of-alice"), "{host:?}");
    }
    hosts
        .cluster
        .report("a secret survives saves on both hosts", "holds");
}

#[test]
#[ignore = "needs a cluster: scripts/test --engines"]
fn what_was_just_saved_elsewhere_is_never_an_error() {
    let hosts = TwoHosts::new(Layout::ResourceFirst);
    hosts.plant(&ALICE, "schedules", "z.json", &record("alice", 0));
    let [a, b] = hosts.daemons(&[]);
    let places = [a.login(&ALICE), b.login(&ALICE)];
    let count = super::hosts::at_length(500, 60);
    let code = "
import collections, os, sys
a, b, count = sys.argv[1:]
met = collections.Counter()
for number in range(int(count)):
    file = os.open(a + '/schedules/z.json', os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.write(file, b'{\"n\": %d}' % number)
    os.close(file)
    for look in (os.stat, lambda path: open(path).read()):
        try:
            look(b + '/schedules/z.json')
        except OSError as error:
            met[error.errno] += 1
print(dict(met))
";
    let [a, b] = places.each_ref().map(|place| place.to_str().unwrap());
    let met = python(
        ALICE.uid,
        hosts.volume(Host::A).base(),
        code,
        &[a, b, &count.to_string()],
    );
    assert_eq!(met.trim(), "{}", "errnos of {} accesses", 2 * count);
    let figure = format!("0 of {}", 2 * count);
    hosts
        .cluster
        .report("errors of accesses right after a save on the other host", &figure);
}
