//! A volume that cannot be written: found before anybody relies on it, and told as long as something is not saved.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use common::daemon::Daemon;
use common::{
    ALICE, Conversation, LAYOUTS, Layout, Volume, errno, eventually, run, set_mode, shell, success,
};

/// A volume on a mount of its own, which can be made read-only. Dropped, it is none any more.
struct Remountable(PathBuf);

impl Remountable {
    fn over(volume: &Volume) -> Self {
        let root = volume.root();
        mount(&["--bind", root.to_str().unwrap()], &root);
        Self(root)
    }

    fn remount(&self, how: &str) {
        mount(&["-o", &format!("remount,bind,{how}")], &self.0);
    }
}

impl Drop for Remountable {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(&self.0, rustix::mount::UnmountFlags::DETACH);
    }
}

fn mount(options: &[&str], place: &Path) {
    let mut command = Command::new("mount");
    command.args(options).arg(place);
    success(command, "");
}

/// `mount` and `daemon`, not started.
fn servers(volume: &Volume) -> [Command; 2] {
    let place = volume.base().join("mnt-alice");
    if !place.exists() {
        std::fs::create_dir(&place).unwrap();
    }
    [
        volume.mount_command(&place, &ALICE, &[]),
        Daemon::command(volume, &[]),
    ]
}

fn refused(command: Command, words: &[&str]) {
    let output = run(command, "");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    for word in words {
        assert!(said.contains(word), "{word}: {said}");
    }
}

#[test]
fn a_volume_that_is_read_only_is_refused_with_what_to_do_unless_that_is_wanted() {
    for layout in LAYOUTS {
        let volume = Volume::new(layout);
        volume.plant(&ALICE, "schedules", "x.json", r#"{"user_id":"alice"}"#);
        let remountable = Remountable::over(&volume);
        remountable.remount("ro");
        let root = volume.root();
        for server in servers(&volume) {
            refused(
                server,
                &[root.to_str().unwrap(), "EROFS", "ReadWritePaths=", "--read-only"],
            );
        }
        let mount = volume.mount_with(&ALICE, &["--read-only"]);
        assert_eq!(mount.read("schedules/x.json"), r#"{"user_id":"alice"}"#);
        drop(mount);
        drop(remountable);
    }
}

#[test]
fn a_volume_that_the_servers_account_may_not_write_is_refused() {
    let volume = Volume::new(Layout::ResourceFirst);
    volume.plant(&ALICE, "schedules", "x.json", r#"{"user_id":"alice"}"#);
    set_mode(&volume.root().join("schedules"), 0o550);
    for server in servers(&volume) {
        refused(server, &["/schedules", "EACCES", "uid 61000", "--read-only"]);
    }
}

#[test]
fn what_a_volume_that_turns_read_only_does_not_take_is_in_status_the_log_and_a_metric_until_it_does() {
    let volume = Volume::new(Layout::default());
    let remountable = Remountable::over(&volume);
    let metrics = volume.base().join("metrics.sock");
    let daemon = Daemon::start(&volume, &["--metrics-listen", metrics.to_str().unwrap()]);
    let place = daemon.login(&ALICE);
    shell(ALICE.uid, &place, "echo '{\"a\":1}' > schedules/x.json");
    remountable.remount("ro");
    let write = "f = open('schedules/x.json', 'w'); f.write('{\"a\":2}'); f.close()";
    assert_eq!(errno(ALICE.uid, &place, write), "EROFS");
    assert_eq!(errno(ALICE.uid, &place, write), "EROFS");

    let status = daemon.asked(ALICE.uid, &["status"], "");
    assert!(
        status.contains("schedules/x.json: ") && status.contains("Read-only file system"),
        "{status}"
    );
    let said = daemon.log();
    let lines: Vec<_> = said
        .lines()
        .filter(|line| line.contains("cannot be saved"))
        .collect();
    assert_eq!(lines.len(), 1, "told when it begins\n{said}");
    assert!(
        lines[0].contains("WARN") && lines[0].contains("EROFS"),
        "{}",
        lines[0]
    );
    let mut reader = UnixStream::connect(&metrics).unwrap();
    reader
        .write_all(b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n")
        .unwrap();
    let mut numbers = String::new();
    reader.read_to_string(&mut numbers).unwrap();
    assert!(
        numbers.contains("tenantfs_saves_failed_total{errno=\"EROFS\"} 1"),
        "{numbers}"
    );

    remountable.remount("rw");
    let mut again = Conversation::start_in(
        ALICE.uid,
        &place,
        "f = open('schedules/x.json', 'r+'); f.close(); print('closed', flush=True); input()",
    );
    again.next();
    let is_saved = || volume.stored(&ALICE, "schedules", "x.json").contains("\"a\":2");
    assert!(eventually(Duration::from_secs(2), is_saved));
    let status = daemon.asked(ALICE.uid, &["status"], "");
    assert!(!status.contains("not saved"), "{status}");
    drop(again);
    drop(daemon);
    drop(remountable);
}
