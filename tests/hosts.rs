//! Several hosts that serve one volume: who is where, and what ends sessions everywhere. Each has a client of its own of a file
//! system whose locks do not travel.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use std::fs;
use std::path::Path;
use std::process::Output;
use std::thread;
use std::time::Duration;

use common::daemon::Daemon;
use common::hanging::Hanging;
use common::{ALICE, BOB, Layout, Volume, eventually, run, shell, tenantfs};

const PATIENCE: Duration = Duration::from_secs(15);

/// The volume as two hosts have it.
fn hosts() -> Option<(Volume, Volume, [Hanging; 2])> {
    let [one, other] = [Layout::default(), Layout::default()].map(Volume::new);
    let first = Hanging::beneath(&one)?;
    let second = first.also(&other);
    for tenant in [&ALICE, &BOB] {
        one.plant(
            tenant,
            "schedules",
            "x.json",
            format!(r#"{{"user_id":"{}"}}"#, tenant.user),
        );
    }
    Some((one, other, [first, second]))
}

/// Who is logged in, as any host says: user hashes.
fn everywhere(daemon: &Daemon<'_>) -> Vec<String> {
    let hosts = daemon.json(0, &["status", "--all-hosts"], "");
    let hosts = hosts["hosts"].as_array().unwrap_or_else(|| panic!("{hosts}"));
    let sessions = hosts.iter().flat_map(|host| host["sessions"].as_array().unwrap());
    let live = sessions.filter(|session| session["state"] != "ended");
    let mut users: Vec<_> = live
        .map(|session| session["user"].as_str().unwrap()[..16].to_owned())
        .collect();
    users.sort();
    users
}

fn ours(root: &Path, prefix: &str) -> Vec<String> {
    let names = fs::read_dir(root)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.starts_with(prefix)).collect()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn every_host_knows_who_is_where_and_ends_sessions_everywhere() {
    let Some((one, other, _clients)) = hosts() else {
        return;
    };
    let (here, there) = (Daemon::start(&one, &[]), Daemon::start(&other, &[]));
    here.login(&ALICE);
    there.login(&ALICE);
    let bobs = there.login(&BOB);
    let all = [ALICE.hash, ALICE.hash, BOB.hash];
    for daemon in [&here, &there] {
        assert!(
            eventually(PATIENCE, || everywhere(daemon) == all),
            "{:?}",
            everywhere(daemon)
        );
    }
    let mode = shell(
        0,
        &one.root(),
        "stat -c %a .tenantfs-hosts; ls .tenantfs-hosts | wc -l",
    );
    assert_eq!(mode, "700\n2\n");
    let refused = here.ask(ALICE.uid, &["status", "--all-hosts"], "");
    assert!(said(&refused).contains("only root"), "{refused:?}");
    let refused = here.ask(ALICE.uid, &["revoke", "--all-hosts", "--user-id", "bob"], "");
    assert!(said(&refused).contains("only root"), "{refused:?}");

    here.asked(0, &["revoke", "--all-hosts", "--user-id", "alice"], "");
    assert_eq!(there.state(ALICE.uid), "none");
    assert_eq!(here.state(ALICE.uid), "none");
    assert_eq!(shell(BOB.uid, &bobs, "ls schedules"), "x.json\n");
    // Who logs in after that is not meant.
    there.login(&ALICE);
    thread::sleep(Duration::from_secs(3));
    assert_eq!(there.state(ALICE.uid), "active");
    assert!(eventually(PATIENCE, || ours(&one.root(), ".tenantfs-end").is_empty()));

    there.asked(0, &["revoke", "--all-hosts", "--all"], "");
    assert!(
        eventually(PATIENCE, || everywhere(&here).is_empty()),
        "{:?}",
        everywhere(&here)
    );
    drop(there);
    drop(here);
    assert_eq!(shell(0, &one.root(), "ls .tenantfs-hosts"), "", "nobody is left");
}

#[test]
fn an_erasure_ends_the_users_sessions_on_every_host_first() {
    let Some((one, other, _clients)) = hosts() else {
        return;
    };
    let there = Daemon::start(&other, &[]);
    let alices = there.login(&ALICE);
    there.login(&BOB);
    shell(
        ALICE.uid,
        &alices,
        "echo '{}' > schedules/there.json; echo plot > results/plot.svg",
    );
    let mut command = tenantfs();
    command
        .args(["erase", "--user-id", "alice", "--yes", "--volume"])
        .arg(one.root());
    command
        .args(["--layout", &one.layout.to_string(), "--socket"])
        .arg(one.base().join("nobody.sock"));
    let erased = run(command, "");
    assert!(erased.status.success(), "{}", said(&erased));
    assert_eq!(there.state(ALICE.uid), "none");
    assert_eq!(there.state(BOB.uid), "active");
    thread::sleep(Duration::from_secs(2));
    assert_eq!(
        shell(0, &one.root(), "find . -path '*2bd806c97f0e00af*' -type f"),
        ""
    );
}
