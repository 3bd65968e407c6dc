//! A volume whose file system's client dies, or answers nobody: what sessions, users and operators have of it.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use std::process::Output;
use std::time::{Duration, Instant};

use common::daemon::Daemon;
use common::hanging::Hanging;
use common::{ALICE, BOB, Layout, Volume, eventually, shell};

const PATIENCE: Duration = Duration::from_secs(20);

/// A volume with a record of each, on a file system that can be made to hang.
fn prepared(volume: &Volume) -> Option<Hanging> {
    let hanging = Hanging::beneath(volume)?;
    for tenant in [&ALICE, &BOB] {
        volume.plant(
            tenant,
            "schedules",
            "x.json",
            format!(r#"{{"user_id":"{}"}}"#, tenant.user),
        );
    }
    Some(hanging)
}

/// How long `act` takes, and what it returns.
fn timed<T>(act: impl FnOnce() -> T) -> (Duration, T) {
    let begun = Instant::now();
    let done = act();
    (begun.elapsed(), done)
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn metrics(daemon: &Daemon<'_>, socket: &std::path::Path) -> String {
    let socket = socket.display();
    let text = format!("curl -s --unix-socket {socket} http://localhost/metrics");
    let read = shell(0, &daemon.mounts, &text);
    let line = read.lines().find(|line| line.starts_with("tenantfs_volume_up"));
    line.unwrap_or_else(|| panic!("{read}")).to_owned()
}

#[test]
fn sessions_go_on_when_the_volumes_client_was_started_anew() {
    let volume = Volume::new(Layout::default());
    let Some(mut client) = prepared(&volume) else {
        return;
    };
    let daemon = Daemon::start(&volume, &[]);
    let (alices, bobs) = (daemon.login(&ALICE), daemon.login(&BOB));
    shell(ALICE.uid, &alices, "echo '{\"n\":1}' > schedules/before.json");
    client.die();
    let failed = shell(
        ALICE.uid,
        &alices,
        "cat schedules/before.json 2>&1 || cat schedules/x.json 2>&1 || true",
    );
    assert!(failed.contains("Input/output error"), "{failed}");
    assert_eq!(daemon.state(ALICE.uid), "active");
    client.revive();
    let reads = |uid, place: &std::path::Path| {
        let read = shell(
            uid,
            place.parent().unwrap(),
            &format!("cat {uid}/schedules/x.json 2>&1 || true"),
        );
        read.contains("user_id")
    };
    let both = || reads(ALICE.uid, &alices) && reads(BOB.uid, &bobs);
    assert!(eventually(PATIENCE, both), "{}", daemon.log());
    assert_eq!(daemon.state(ALICE.uid), "active");
    let again = shell(
        ALICE.uid,
        &alices,
        "cat schedules/before.json; echo '{\"n\":2}' > schedules/after.json && cat schedules/after.json",
    );
    assert_eq!(again, "{\"n\":1}\n{\"n\":2}\n");
    assert!(volume.stored(&ALICE, "schedules", "after.json").contains("alice"));
    let log = daemon.log();
    assert_eq!(log.matches("the volume does not answer").count(), 1, "{log}");
    assert_eq!(log.matches("the volume was opened anew").count(), 1, "{log}");
    daemon.asked(ALICE.uid, &["logout"], "");
    daemon.login(&ALICE);
}

#[test]
fn who_logs_out_while_the_volume_is_dead_stays_out_when_it_is_back() {
    let volume = Volume::new(Layout::default());
    let Some(mut client) = prepared(&volume) else {
        return;
    };
    let daemon = Daemon::start(&volume, &[]);
    daemon.login(&ALICE);
    let bobs = daemon.login(&BOB);
    client.die();
    daemon.asked(ALICE.uid, &["logout"], "");
    let (took, refused) = timed(|| daemon.ask(ALICE.uid, &["login"], ALICE.api_key));
    assert!(
        said(&refused).contains("endpoint is not connected"),
        "{refused:?}"
    );
    assert!(took < Duration::from_secs(2), "{took:?}");
    client.revive();
    let read = format!(
        "setpriv --reuid={0} --regid={0} --clear-groups cat {1}/schedules/x.json 2>&1 || true",
        BOB.uid,
        bobs.display()
    );
    let reads = || shell(0, &daemon.mounts, &read).contains("bob");
    assert!(eventually(PATIENCE, reads), "{}", daemon.log());
    assert_eq!(daemon.state(ALICE.uid), "none");
    daemon.login(&ALICE);
}

#[test]
fn a_volume_that_hangs_is_told_in_time_and_begins_no_session_later() {
    let volume = Volume::new(Layout::default());
    let Some(client) = prepared(&volume) else {
        return;
    };
    let socket = volume.base().join("metrics.sock");
    let daemon = Daemon::start(&volume, &["--metrics-listen", socket.to_str().unwrap()]);
    daemon.login(&ALICE);
    assert_eq!(metrics(&daemon, &socket), "tenantfs_volume_up 1");
    let hang = client.hang();
    let (took, status) = timed(|| daemon.state(ALICE.uid));
    assert_eq!(status, "active");
    assert!(took < Duration::from_secs(1), "status took {took:?}");
    let status = daemon.json(0, &["status"], "");
    assert_eq!(
        status["sessions"][0]["reason"], "the volume does not answer",
        "{status}"
    );
    let (took, refused) = timed(|| daemon.ask(BOB.uid, &["login"], BOB.api_key));
    assert!(
        said(&refused).contains("the volume does not answer"),
        "{refused:?}"
    );
    assert!(took < Duration::from_secs(5), "a login took {took:?}");
    let is_down = || metrics(&daemon, &socket) == "tenantfs_volume_up 0";
    assert!(eventually(Duration::from_secs(8), is_down));
    let (took, _) = timed(|| daemon.ask(0, &["revoke", "--uid", &ALICE.uid.to_string()], ""));
    assert!(took < Duration::from_secs(2), "the first revoke took {took:?}");
    let (took, again) = timed(|| daemon.ask(0, &["revoke", "--uid", &ALICE.uid.to_string()], ""));
    assert!(
        took < Duration::from_millis(700),
        "of an ended session it took {took:?}: {again:?}"
    );
    let (took, _) = timed(|| daemon.ask(ALICE.uid, &["logout"], ""));
    assert!(
        took < Duration::from_millis(700),
        "the logout of an ended session took {took:?}"
    );
    drop(hang);
    assert!(eventually(PATIENCE, || metrics(&daemon, &socket) == "tenantfs_volume_up 1"));
    assert!(eventually(PATIENCE, || daemon.state(ALICE.uid) == "none"));
    assert_eq!(daemon.state(BOB.uid), "none");
    assert_eq!(daemon.mounted(), Vec::<std::path::PathBuf>::new());
    daemon.login(&BOB);
}

#[test]
fn a_mount_ends_and_says_why_when_the_volumes_client_was_started_anew() {
    let volume = Volume::new(Layout::default());
    let Some(mut client) = prepared(&volume) else {
        return;
    };
    let mount = volume.mount(&ALICE);
    assert!(mount.read("schedules/x.json").contains("alice"));
    client.die();
    client.revive();
    let told = || mount.log().contains("mounted anew; start this again");
    assert!(eventually(PATIENCE, told), "{}", mount.log());
    assert_eq!(mount.unmount().code(), Some(1));
}
