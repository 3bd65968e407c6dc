//! Two tenants on two hosts: neither sees anything of the other's, whoever wrote it where and in whatever way.

use std::fs;
use std::thread;

use super::common::{ALICE, BOB, Layout, SERVICE_UID, as_user, run, shell};
use super::hosts::{HOSTS, Host, TwoHosts, at_length, layouts, record, secret_of_bob};

#[test]
#[ignore = "needs a cluster: scripts/test --engines"]
fn nothing_of_another_tenants_is_shown_on_either_host() {
    for layout in layouts() {
        let hosts = TwoHosts::new(layout);
        let [a, b] = hosts.daemons(&[]);
        let alice = [a.login(&ALICE), b.login(&ALICE)];
        let bob = b.login(&BOB);
        shell(
            BOB.uid,
            &bob,
            r#"cd results; echo '{"words": "words-of-bob"}' > own.json; echo words-of-bob > plot"#,
        );
        shell(
            ALICE.uid,
            &alice[0],
            r#"cd results; echo '{"n": 1}' > hers.json; ln -s ../../../etc/passwd link || true"#,
        );
        // Misfiled by a service on the other host: bob's record where alice's are, before she lists and while she does.
        hosts.plant(&ALICE, "results", "misfiled.json", &secret_of_bob());
        hosts.settle();
        for (host, place) in HOSTS.into_iter().zip(&alice) {
            let shown = shell(
                ALICE.uid,
                place,
                "ls -A results; cat results/* ; cat results/misfiled.json results/own.json 2>&1 || true",
            );
            assert!(shown.contains("hers.json"), "{layout} {host:?}: {shown}");
            assert!(!shown.contains("words-of-bob"), "{layout} {host:?}: {shown}");
            let listed: Vec<_> = shown.lines().take(1).collect();
            assert_eq!(listed, ["hers.json"], "{layout} {host:?}: {shown}");
        }
        let entered = run(as_user(BOB.uid, &alice[1], "ls"), "");
        assert!(!entered.status.success(), "bob is in alice's mount");
    }
}

/// Rewrites a record in place, again and again, in turn with a text of one owner and of another.
const REWRITER: &str = r#"
import itertools, os, sys, time
path, seconds, other, gap = sys.argv[1], float(sys.argv[2]), sys.argv[3], float(sys.argv[4])
end = time.monotonic() + seconds
for letter in itertools.cycle("AB"):
    if time.monotonic() > end:
        break
    owner = "alice" if letter == "A" else other
    text = '{"user_id": %-8s, "pad": "%s"}' % ('"%s"' % owner, letter * 400000)
    file = os.open(path, os.O_WRONLY)
    os.pwrite(file, text.encode(), 0)
    os.close(file)
    time.sleep(gap)
"#;

const READER: &str = r#"
import collections, sys, time
end, seen = time.monotonic() + float(sys.argv[1]), collections.Counter()
while time.monotonic() < end:
    try:
        text = open("schedules/torn.json").read()
    except OSError as error:
        seen["errno %d" % error.errno] += 1
        time.sleep(0.01)
        continue
    seen["".join(sorted(set(text.split('"pad": "')[1].split('"')[0]))) if '"pad": "' in text else "no pad"] += 1
for found, times in seen.items():
    print(found, times, sep="\t")
"#;

#[test]
#[ignore = "needs a cluster: scripts/test --engines"]
fn what_another_host_rewrites_in_place_is_never_shown_mixed_nor_with_another_users_bytes() {
    let hosts = TwoHosts::new(Layout::ResourceFirst);
    let [_a, b] = hosts.daemons(&[]);
    let place = b.login(&ALICE);
    let seconds = at_length("15", "4");
    for (other, gap, allowed) in [("bob", "0.05", ["A"].as_slice()), ("alice", "1.8", &["A", "B"])] {
        let path = hosts
            .volume(Host::A)
            .plant(&ALICE, "schedules", "torn.json", record("alice", 0));
        fs::write(
            &path,
            format!(r#"{{"user_id": "alice" , "pad": "{}"}}"#, "A".repeat(400_000)),
        )
        .unwrap();
        hosts.settle();
        let program = |uid, directory: &std::path::Path, code: &str, args: &[&str]| {
            let mut command = as_user(uid, directory, "python3");
            command.args(["-B", "-c", code]).args(args);
            command
        };
        let path = path.to_str().unwrap();
        let writer = program(
            SERVICE_UID,
            hosts.volume(Host::A).base(),
            REWRITER,
            &[path, seconds, other, gap],
        );
        let reader = program(ALICE.uid, &place, READER, &[seconds]);
        let (wrote, read) = thread::scope(|scope| {
            let wrote = scope.spawn(|| run(writer, ""));
            (run(reader, ""), wrote.join().unwrap())
        });
        assert!(
            wrote.status.success() && read.status.success(),
            "{wrote:?} {read:?}"
        );
        let shown = String::from_utf8(wrote.stdout).unwrap();
        let mut reads = 0;
        for (found, times) in shown.lines().filter_map(|line| line.split_once('\t')) {
            let is_hidden = found == "errno 2";
            assert!(is_hidden || allowed.contains(&found), "{other}: {shown}");
            if !is_hidden {
                reads += times.parse::<u64>().unwrap();
            }
        }
        // Where nobody else's text comes in between, it is shown between two rewrites.
        assert!(other == "bob" || reads > 0, "{shown}");
        let what = format!("rewritten in place in turn with {other}'s text: reads that are mixed");
        hosts.cluster.report(&what, &format!("0 of {reads}"));
    }
}
