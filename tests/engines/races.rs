//! Two hosts do the same at once.

use std::collections::BTreeSet;
use std::path::Path;
use std::thread;

use super::common::{ALICE, Layout, as_user, python, success};
use super::history::{History, What};
use super::hosts::{HOSTS, Host, TwoHosts, at_length, layouts};
use super::workers::{SERVICE, USERS, Work, worker};

/// Creates the file of its first argument, at the time of its second.
const CREATE: &str = "
import errno, os, sys, time
time.sleep(max(0, float(sys.argv[2]) - time.monotonic()))
try:
    file = os.open(sys.argv[1], os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o640)
    os.write(file, b'{\"n\": 1}')
    os.close(file)
    print('ok')
except OSError as error:
    print(errno.errorcode[error.errno])
";

/// Has both create a file in their mounts at the same time. What each was told.
fn create_at_once(places: &[&Path; 2], names: [&str; 2]) -> [String; 2] {
    let now = python(
        ALICE.uid,
        Path::new("/"),
        "import time; print(time.monotonic())",
        &[],
    );
    let at = (now.trim().parse::<f64>().unwrap() + 0.7).to_string();
    let create = |place: &Path, name: &str| {
        let mut command = as_user(ALICE.uid, place, "python3");
        command.args(["-B", "-c", CREATE, name, &at]);
        success(command, "").trim().to_owned()
    };
    thread::scope(|scope| {
        let other = scope.spawn(|| create(places[1], names[1]));
        [create(places[0], names[0]), other.join().unwrap()]
    })
}

#[test]
#[ignore = "needs a cluster: scripts/test --engines"]
fn the_first_change_of_a_new_user_can_be_made_on_both_hosts_at_once() {
    for layout in layouts() {
        let hosts = TwoHosts::new(layout);
        let [a, b] = hosts.daemons(&[]);
        let places = [a.login(&ALICE), b.login(&ALICE)];
        let made = create_at_once(
            &places.each_ref().map(|place| place.as_path()),
            ["schedules/on-a.json", "schedules/on-b.json"],
        );
        assert_eq!(made, ["ok", "ok"], "{layout}");
        for host in HOSTS {
            for name in ["on-a.json", "on-b.json", ".tenantfs-owner"] {
                let directory = match (layout, name) {
                    (Layout::UserFirst, ".tenantfs-owner") => {
                        hosts.volume(host).root().join("users").join(ALICE.hash)
                    }
                    _ => hosts.volume(host).directory(&ALICE, "schedules"),
                };
                hosts.wait_until(host, name, |_| directory.join(name).is_file());
            }
        }
    }
}

#[test]
#[ignore = "needs a cluster: scripts/test --engines"]
fn of_two_who_create_one_name_exclusively_one_is_told_that_it_exists() {
    let hosts = TwoHosts::new(Layout::ResourceFirst);
    let [a, b] = hosts.daemons(&[]);
    let places = [a.login(&ALICE), b.login(&ALICE)];
    let rounds = at_length(20, 4);
    for round in 0..rounds {
        let name = format!("schedules/plot-{round}.csv");
        let mut told = create_at_once(&places.each_ref().map(|place| place.as_path()), [&name, &name]);
        told.sort();
        assert_eq!(told, ["EEXIST", "ok"], "{name}");
    }
    let figure = format!("{rounds} of {rounds} have one winner");
    hosts
        .cluster
        .report("one attachment created exclusively on both at once", &figure);
}

/// That nothing is wrong with it, and that it is of something.
fn check(hosts: &TwoHosts, what: &str, history: &History) {
    history.must_be_right(what);
    let failed: Vec<_> = history
        .events
        .iter()
        .filter(|event| !event.acknowledged)
        .collect();
    let few: Vec<_> = failed.iter().take(5).collect();
    assert!(failed.is_empty(), "{what}: {} failed: {few:#?}", failed.len());
    let saves = history.count(|what| matches!(what, What::Saved(_)));
    let reads = history.count(|what| matches!(what, What::Read(_)));
    assert!(saves > 20 && reads > 20, "{saves} saves, {reads} reads");
    let figure = format!("{saves} saves, {reads} reads: 0 lost, torn, stale, back in time; 0 errors");
    hosts.cluster.report(what, &figure);
}

#[test]
#[ignore = "needs a cluster: scripts/test --engines"]
fn what_users_on_both_hosts_do_to_the_same_records_is_as_if_done_one_after_the_other() {
    for layout in layouts() {
        let hosts = TwoHosts::new(layout);
        let [a, b] = hosts.daemons(&[]);
        let places = [a.login(&ALICE), b.login(&ALICE)];
        let mounts = places.each_ref().map(|place| place.as_path());
        let seconds = at_length(30, 4);
        let work = Work {
            hosts: &hosts,
            mounts,
            seconds,
        };
        check(
            &hosts,
            "users on both hosts, checked",
            &work.done_by(&USERS, || {}),
        );
    }
}

#[test]
#[ignore = "needs a cluster: scripts/test --engines"]
fn users_on_both_hosts_and_the_service_lose_nothing_of_each_others() {
    let hosts = TwoHosts::new(Layout::ResourceFirst);
    let [a, b] = hosts.daemons(&[]);
    let places = [a.login(&ALICE), b.login(&ALICE)];
    // The service's directory is there once a user has changed something.
    python(
        ALICE.uid,
        &places[0],
        "open('schedules/first.json', 'w').write('{}')",
        &[],
    );
    let mounts = places.each_ref().map(|place| place.as_path());
    let seconds = at_length(30, 4);
    let work = Work {
        hosts: &hosts,
        mounts,
        seconds,
    };
    let workers = [USERS.as_slice(), &[SERVICE, worker(Some(Host::B), "c", "saver")]].concat();
    let history = work.done_by(&workers, || {});
    check(&hosts, "users, a saver and the service, checked", &history);
    let by: BTreeSet<_> = history.events.iter().map(|event| event.by).collect();
    assert_eq!(by.len(), 3);
}
