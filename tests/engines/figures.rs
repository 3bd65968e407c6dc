//! How soon a host shows what was done on the other one, and what the view costs beside the engine's own mount.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::chown;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

use super::common::{ALICE, Conversation, Layout, SERVICE_UID, as_user, set_mode, shell, success};
use super::hosts::{Host, TwoHosts, at_length};

/// Waits, for each line that it is given, until the file that it names is as the line says, and says when that was.
const WATCHER: &str = "
import json, os, sys, time
print('ready', flush=True)
for line in sys.stdin:
    name, wanted, limit = json.loads(line)
    end = time.monotonic() + limit
    while time.monotonic() < end:
        try:
            with open(name) as file:
                found = file.read()
        except OSError:
            found = None
        if (wanted == '' and found is not None) or (wanted is None and found is None) or (wanted and found and wanted in found):
            break
        time.sleep(0.002)
    else:
        print('-1', flush=True)
        continue
    print(time.monotonic(), flush=True)
";

/// What the service does on the first host.
#[derive(Clone, Copy, Debug)]
enum Done {
    Replaced,
    Rewritten,
    Created,
    Removed,
}

fn text(number: usize) -> String {
    format!(
        r#"{{"user_id": "alice", "value": "v{number}.", "pad": "{}"}}"#,
        "p".repeat(300)
    )
}

fn write_new(path: &Path, text: &str) {
    let new = path.with_extension("new");
    let mut file = fs::File::create(&new).unwrap();
    file.write_all(text.as_bytes()).unwrap();
    chown(&new, Some(SERVICE_UID), Some(SERVICE_UID)).unwrap();
    set_mode(&new, 0o640);
    fs::rename(new, path).unwrap();
}

/// The time of every process of this machine.
fn now() -> f64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec as f64 + now.tv_nsec as f64 / 1e9
}

/// Does it, and returns what the watcher has to see.
fn does(path: &Path, done: Done, number: usize) -> serde_json::Value {
    let text = text(number);
    match done {
        Done::Replaced | Done::Created => write_new(path, &text),
        Done::Rewritten => fs::write(path, &text).unwrap(),
        Done::Removed => {
            fs::remove_file(path).unwrap();
            return serde_json::Value::Null;
        }
    }
    format!("v{number}.").into()
}

/// After how many milliseconds a watcher in `directory` of the second host sees each of some changes, sorted.
fn seen_after(hosts: &TwoHosts, (uid, directory): (u32, &Path), done: Done, rounds: usize) -> Vec<f64> {
    let mut watcher = Conversation::start_in(uid, directory, WATCHER);
    assert_eq!(watcher.next_of_its_own(), "ready");
    let limit = 4.0 * hosts.cluster.freshness().as_secs_f64();
    let mut after = Vec::new();
    for round in 0..rounds {
        let name = match done {
            Done::Created | Done::Removed => format!("{done:?}-{uid}-{round}.json"),
            _ => format!("{done:?}.json"),
        };
        let path = hosts.volume(Host::A).path(&ALICE, "schedules", &name);
        let (is_new, wanted) = match done {
            Done::Created => (false, serde_json::Value::Null),
            _ => (true, "".into()),
        };
        if is_new {
            write_new(&path, &text(round));
        }
        // It is known there, or known to be missing, as where somebody works with it.
        let see = |wanted: serde_json::Value| serde_json::json!([name, wanted, limit]).to_string();
        assert_ne!(watcher.say(&see(wanted)), "-1", "{name}");
        // At no certain time after what was looked at last.
        thread::sleep(Duration::from_millis(37 * (round as u64 % 13)));
        let wanted = does(&path, done, 1_000 + round);
        let begun = now();
        let seen: f64 = watcher.say(&see(wanted)).parse().unwrap();
        assert!(seen > 0.0, "{done:?} {round} is not seen within {limit} s");
        after.push((seen - begun).max(0.0) * 1e3);
    }
    after.sort_by(f64::total_cmp);
    after
}

fn percentiles(sorted: &[f64]) -> String {
    let at = |share: f64| sorted[((sorted.len() - 1) as f64 * share).round() as usize];
    format!("{:.0}/{:.0}", at(0.5), at(0.99))
}

#[test]
#[ignore = "needs a cluster: scripts/test --engines"]
fn what_the_other_host_did_is_seen_within_the_stated_time() {
    let hosts = TwoHosts::new(Layout::ResourceFirst);
    hosts.plant(&ALICE, "schedules", "first.json", &text(0));
    let [_a, b] = hosts.daemons(&[]);
    let place = b.login(&ALICE).join("schedules");
    let own = hosts.volume(Host::B).directory(&ALICE, "schedules");
    let rounds = at_length(30, 4);
    for done in [Done::Replaced, Done::Rewritten, Done::Created, Done::Removed] {
        let view = seen_after(&hosts, (ALICE.uid, &place), done, rounds);
        let engines = seen_after(&hosts, (SERVICE_UID, &own), done, rounds);
        let figure = format!(
            "{} ms (the engine's own {})",
            percentiles(&view),
            percentiles(&engines)
        );
        hosts
            .cluster
            .report(&format!("{done:?} elsewhere, seen after, p50/p99"), &figure);
        let latest = Duration::from_secs_f64(view.last().unwrap() / 1e3);
        assert!(latest <= hosts.cluster.freshness(), "{done:?}: {view:?}");
    }
}

/// How long a shell's command takes, in seconds: the least of some, for the machine has other things to do.
fn took(uid: u32, directory: &Path, script: &str) -> f64 {
    let mut least = f64::MAX;
    for _ in 0..at_length(3, 2) {
        let begun = Instant::now();
        let mut command = as_user(uid, directory, "sh");
        command.args(["-euc", script]);
        success(command, "");
        least = least.min(begun.elapsed().as_secs_f64());
    }
    least
}

#[test]
#[ignore = "needs a cluster: scripts/test --engines"]
fn what_a_listing_a_reading_and_a_creating_cost_is_measured_beside_the_engines_own() {
    let hosts = TwoHosts::new(Layout::ResourceFirst);
    let records = at_length(2_000, 150);
    for number in 0..records {
        let path = hosts
            .volume(Host::A)
            .path(&ALICE, "schedules", &format!("r{number:04}.json"));
        if number == 0 {
            hosts
                .volume(Host::A)
                .plant(&ALICE, "schedules", "r0000.json", text(0));
        }
        write_new(
            &path,
            &format!(
                r#"{{"user_id": "alice", "n": {number}, "pad": "{}"}}"#,
                "x".repeat(1_400)
            ),
        );
    }
    hosts.settle();
    let [_a, b] = hosts.daemons(&[]);
    let view = b.login(&ALICE).join("schedules");
    let own = hosts.volume(Host::B).directory(&ALICE, "schedules");
    let listed = shell(ALICE.uid, &view, "ls | wc -l");
    assert_eq!(listed.trim(), records.to_string());
    let ratio = |what: &str, script: &str| {
        let (theirs, ours) = (took(SERVICE_UID, &own, script), took(ALICE.uid, &view, script));
        let figure = format!(
            "{:.1} × ({ours:.2} s, the engine's own {theirs:.2} s)",
            ours / theirs
        );
        hosts
            .cluster
            .report(&format!("{what} of {records} records"), &figure);
    };
    ratio("ls -lU", "ls -lU > /dev/null");
    ratio("cat", "cat r*.json > /dev/null");
    let create = format!(
        "mkdir -p new-$(id -u) && cd new-$(id -u) && python3 -B -c 'import os
for n in range({}):
    with open(\".new\", \"w\") as file: file.write(\"{{}}\"); file.flush(); os.fsync(file.fileno())
    os.rename(\".new\", \"n%d.json\" % n)'",
        records / 10
    );
    ratio("create, a tenth", &create);
}
