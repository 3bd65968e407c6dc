//! A volume that publishes only when it is told to: two directories, and rsync between them and what is published.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use common::daemon::Daemon;
use common::{ALICE, Layout, SERVICE_UID, Volume, eventually, shell, tool};

const PATIENCE: Duration = Duration::from_secs(20);

/// A program of these lines, which notes each of its runs.
fn program(volume: &Volume, name: &str, lines: &str) -> String {
    let (path, runs) = (
        volume.base().join(name),
        volume.base().join(format!("{name}.runs")),
    );
    let text = format!("#!/bin/sh -eu\necho run >> {}\n{lines}\n", runs.display());
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(&runs, "").unwrap();
    fs::set_permissions(&runs, fs::Permissions::from_mode(0o666)).unwrap();
    path.to_str().unwrap().to_owned()
}

fn runs(program: &str) -> usize {
    fs::read_to_string(format!("{program}.runs"))
        .unwrap()
        .lines()
        .count()
}

/// A directory of the server's account, where what is published is.
fn published(volume: &Volume) -> PathBuf {
    let published = volume.base().join("published");
    fs::create_dir(&published).unwrap();
    std::os::unix::fs::chown(&published, Some(SERVICE_UID), Some(SERVICE_UID)).unwrap();
    published
}

fn rsync(from: &Path, to: &Path) -> String {
    format!(
        "exec rsync -ac --exclude=.tenantfs-tmp-* {}/ {}/",
        from.display(),
        to.display()
    )
}

#[test]
fn what_is_saved_on_one_host_is_published_and_fetched_by_the_other() {
    if tool("rsync").is_none() {
        return;
    }
    let [one, other] = [Layout::default(), Layout::default()].map(Volume::new);
    let published = published(&one);
    let commit = program(&one, "commit", &rsync(&one.root(), &published));
    let reload = program(&one, "reload", &rsync(&published, &other.root()));
    let here = Daemon::start(&one, &["--commit-command", &commit]);
    let there = Daemon::start(&other, &["--reload-command", &reload]);
    let (saves, sees) = (here.login(&ALICE), there.login(&ALICE));
    shell(
        ALICE.uid,
        &saves,
        "for n in $(seq 40); do echo \"{\\\"n\\\":$n}\" > schedules/x.json; done; mkdir schedules/d; echo plot > results/plot.svg",
    );
    let last = "{\"n\":40}\nd\nx.json\nplot\n";
    let read = "cat schedules/x.json && ls schedules && cat results/plot.svg || true";
    let seen = || shell(ALICE.uid, &sees, &format!("({read}) 2>&1"));
    assert!(
        eventually(PATIENCE, || seen() == last),
        "{}\n{}",
        seen(),
        there.log()
    );
    let count = runs(&commit);
    assert!((1..30).contains(&count), "{count} runs for 43 changes");

    // Who logs in finds what was published just now.
    shell(ALICE.uid, &saves, "echo '{\"n\":41}' > schedules/late.json");
    let late = published.join(format!("schedules/{}/late.json", ALICE.hash));
    assert!(eventually(PATIENCE, || late.exists()), "{}", here.log());
    there.asked(ALICE.uid, &["logout"], "");
    there.login(&ALICE);
    assert_eq!(shell(ALICE.uid, &sees, "cat schedules/late.json"), "{\"n\":41}\n");

    // And what was saved last is published before the daemon is gone.
    shell(ALICE.uid, &saves, "echo '{\"n\":42}' > schedules/last.json");
    drop(here);
    assert!(
        published
            .join(format!("schedules/{}/last.json", ALICE.hash))
            .exists()
    );
}

#[test]
fn a_command_that_fails_is_told_and_stops_nobody() {
    let volume = Volume::new(Layout::default());
    let commit = program(&volume, "commit", "exit 3");
    let socket = volume.base().join("metrics.sock");
    let options = [
        "--commit-command",
        &commit,
        "--metrics-listen",
        socket.to_str().unwrap(),
    ];
    let daemon = Daemon::start(&volume, &options);
    let place = daemon.login(&ALICE);
    shell(
        ALICE.uid,
        &place,
        "echo '{}' > schedules/x.json; cat schedules/x.json",
    );
    let told = || daemon.log().contains("running commit_command: exit status: 3");
    assert!(eventually(PATIENCE, told), "{}", daemon.log());
    let read = format!(
        "curl -s --unix-socket {} http://localhost/metrics",
        socket.display()
    );
    assert!(shell(0, volume.base(), &read).contains("tenantfs_commit_command_failed 1\n"));
}
