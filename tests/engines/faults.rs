//! A part of the cluster fails, a network is cut, a client is killed or hangs: nothing that was acknowledged is lost, and who does
//! not use what is broken goes on.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use super::common::{ALICE, BOB, Conversation, Layout, as_user, eventually, run, shell};
use super::history::What;
use super::hosts::{Host, TwoHosts, at_length, record};
use super::workers::{Work, Worker, worker};

/// Undoes what a test has done to the cluster, however the test ends.
struct Undo<'h> {
    hosts: &'h TwoHosts,
    action: &'static str,
    host: Option<Host>,
}

impl Drop for Undo<'_> {
    fn drop(&mut self) {
        self.hosts.cluster.order(self.action, self.host);
    }
}

/// Does `action` to the cluster, and its contrary after a while.
fn for_a_while(hosts: &TwoHosts, [action, contrary]: [&'static str; 2], host: Option<Host>, lasts: u64) {
    thread::sleep(Duration::from_secs(2));
    hosts.cluster.order(action, host);
    let _undone = Undo {
        hosts,
        action: contrary,
        host,
    };
    thread::sleep(Duration::from_secs(lasts));
}

/// One user on each host, and one who saves.
const WORKERS: [Worker; 3] = [
    worker(Some(Host::A), "a", "user"),
    worker(Some(Host::B), "b", "user"),
    worker(Some(Host::B), "c", "saver"),
];

/// Has users work on both hosts while something is broken for so many seconds, and checks that they can count on what they were told.
fn nothing_is_lost(what: &str, [action, contrary]: [&'static str; 2], host: Option<Host>, lasts: u64) {
    let hosts = TwoHosts::new(Layout::ResourceFirst);
    let [a, b] = hosts.daemons(&[]);
    let places = [a.login(&ALICE), b.login(&ALICE)];
    let mounts = places.each_ref().map(|place| place.as_path());
    let work = Work {
        hosts: &hosts,
        mounts,
        // What hung goes on only a while after it was mended.
        seconds: lasts + 6,
    };
    let mut history = work.done_by(&WORKERS, || for_a_while(&hosts, [action, contrary], host, lasts));
    // Whoever is cut off shows what was there before for as long as that lasts.
    history.freshness += Duration::from_secs(lasts + 15);
    history.must_be_right(what);
    let is_save = |what: &What| matches!(what, What::Saved(_));
    let failed = history
        .events
        .iter()
        .filter(|event| is_save(&event.what) && !event.acknowledged)
        .count();
    let longest = history
        .events
        .iter()
        .map(|event| event.end - event.begin)
        .max()
        .unwrap();
    let figure = format!(
        "{} saves, {failed} told to have failed, 0 acknowledged lost; the longest took {:.1} s",
        history.count(is_save),
        longest.as_secs_f64()
    );
    hosts.cluster.report(what, &figure);
}

#[test]
#[ignore = "needs a cluster: scripts/test --engines"]
fn nothing_acknowledged_is_lost_when_a_server_of_the_engine_is_killed() {
    nothing_is_lost(
        "a server killed and started again",
        ["fail", "mend"],
        None,
        at_length(10, 4),
    );
}

#[test]
#[ignore = "needs a cluster: scripts/test --engines"]
fn nothing_acknowledged_is_lost_when_the_network_of_a_host_is_cut() {
    let lasts = at_length(30, 4);
    let what = format!("the network of a host cut for {lasts} s");
    nothing_is_lost(&what, ["cut", "join"], Some(Host::B), lasts);
}

#[test]
#[ignore = "needs a cluster: scripts/test --engines"]
fn sessions_go_on_when_the_engines_client_was_killed_and_mounted_again() {
    let hosts = TwoHosts::new(Layout::ResourceFirst);
    hosts.plant(&ALICE, "schedules", "x.json", &record("alice", 1));
    let [_a, b] = hosts.daemons(&[]);
    let place = b.login(&ALICE);
    shell(ALICE.uid, &place, "cat schedules/x.json");
    hosts.cluster.order("restart", Some(Host::B));
    let since = Instant::now();
    let mut met = String::new();
    let came_back = eventually(Duration::from_secs(20), || {
        let read = run(as_reader(&place), "");
        met = String::from_utf8_lossy(&read.stderr).into_owned();
        read.status.success()
    });
    assert!(came_back, "the session does not go on: {met}");
    let figure = format!("the session goes on after {:.1} s", since.elapsed().as_secs_f64());
    shell(ALICE.uid, &place, "echo '{\"n\": 2}' > schedules/x.json");
    hosts
        .cluster
        .report("the engine's client killed and mounted again", &figure);
}

fn as_reader(place: &Path) -> std::process::Command {
    let mut command = as_user(ALICE.uid, place, "cat");
    command.arg("schedules/x.json");
    command
}

/// Reads one record whenever it is told to, by a descriptor that it holds, and says what it has read.
const HOLDER: &str = "
import os, sys
file = os.open('schedules/x.json', os.O_RDONLY)
print(os.pread(file, 100, 0).decode(), flush=True)
for line in sys.stdin:
    print(os.pread(file, 100, 0).decode(), flush=True)
";

#[test]
#[ignore = "needs a cluster: scripts/test --engines"]
fn a_client_that_hangs_holds_up_neither_the_operator_nor_who_does_not_need_it() {
    let hosts = TwoHosts::new(Layout::ResourceFirst);
    for tenant in [&ALICE, &BOB] {
        hosts.plant(tenant, "schedules", "x.json", &record(tenant.user, 1));
    }
    let [_a, b] = hosts.daemons(&[]);
    let places = [b.login(&ALICE), b.login(&BOB)];
    let mut holder = Conversation::start_in(BOB.uid, &places[1], HOLDER);
    let before = holder.next_of_its_own();
    let paused = Undo {
        hosts: &hosts,
        action: "resume",
        host: Some(Host::B),
    };
    hosts.cluster.order("pause", Some(Host::B));
    assert!(!hosts.cluster.answers(Host::B), "the client does not hang");
    // Alice hangs.
    let mut hangs = as_user(ALICE.uid, &places[0], "sh");
    hangs.args(["-c", "exec cat schedules/x.json schedules/other.json"]);
    hangs
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null());
    let mut hangs = hangs.spawn().unwrap();
    thread::sleep(Duration::from_millis(500));
    let asked = Instant::now();
    let told = holder.say("again");
    let cached = asked.elapsed();
    assert_eq!(told, before);
    let asked = Instant::now();
    b.asked(0, &["status"], "");
    let status = asked.elapsed();
    let asked = Instant::now();
    let login = b.ask(0, &["login", "--uid", "61003"], ALICE.api_key);
    let answered = asked.elapsed();
    let said = String::from_utf8_lossy(&login.stderr).into_owned();
    drop(paused);
    let _ = hangs.wait();
    assert!(cached < Duration::from_secs(1), "cached work took {cached:?}");
    assert!(status < Duration::from_millis(1_200), "status took {status:?}");
    assert!(
        answered < Duration::from_secs(6),
        "the login took {answered:?}: {said}"
    );
    let figure = format!(
        "status {:.1} s, login answered in {:.1} s, cached read {:.0} ms",
        status.as_secs_f64(),
        answered.as_secs_f64(),
        cached.as_secs_f64() * 1e3
    );
    hosts.cluster.report("a client that hangs", &figure);
    // And afterwards everything is as before.
    let goes_on = eventually(Duration::from_secs(20), || {
        run(as_reader(&places[0]), "").status.success()
    });
    assert!(goes_on, "alice's session does not go on");
}
