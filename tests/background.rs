//! `tenantfs mount -d`: returns when it is mounted, and goes on without the caller.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use std::fs;
use std::path::Path;
use std::time::Duration;

use common::{ALICE, Layout, Volume, eventually, is_mounted, run, shell};
use rustix::process::{Pid, Signal, kill_process};

/// Ends the server behind a mountpoint, also when the test fails.
struct Server<'m>(&'m Path);

impl Server<'_> {
    /// The process that `mount MOUNTPOINT` became, as an operator finds it: by its name and command line.
    fn pid(&self) -> Option<Pid> {
        fs::read_dir("/proc").unwrap().find_map(|entry| {
            let process = entry.unwrap().path();
            let name = fs::read_to_string(process.join("comm")).ok()?;
            let command = fs::read_to_string(process.join("cmdline")).ok()?;
            let ours = format!("tenantfs\0mount\0{}\0", self.0.display());
            let pid = process.file_name()?.to_str()?.parse().ok()?;
            (name == "tenantfs\n" && command.starts_with(&ours)).then(|| Pid::from_raw(pid).unwrap())
        })
    }

    fn end(&self) -> bool {
        if let Some(pid) = self.pid() {
            let _ = kill_process(pid, Signal::TERM);
        }
        eventually(Duration::from_secs(10), || {
            !is_mounted(self.0) && self.pid().is_none()
        })
    }
}

impl Drop for Server<'_> {
    fn drop(&mut self) {
        self.end();
    }
}

#[test]
fn a_mount_in_the_background_outlives_its_caller_and_ends_on_sigterm() {
    let volume = Volume::new(Layout::ResourceFirst);
    volume.plant(&ALICE, "schedules", "x.json", r#"{"n":1,"user_id":"alice"}"#);
    let mountpoint = volume.base().join("background");
    fs::create_dir(&mountpoint).unwrap();
    let server = Server(&mountpoint);
    // Returns at all: nothing of it holds the caller's pipes open.
    let output = run(volume.mount_command(&mountpoint, &ALICE, &["--background"]), "");
    assert!(output.status.success(), "{output:?}");
    assert_eq!(
        String::from_utf8(output.stdout).unwrap(),
        format!("{}\n", mountpoint.display())
    );

    assert!(server.pid().is_some(), "an operator finds it");
    assert_eq!(
        shell(ALICE.uid, &mountpoint, "cat schedules/x.json"),
        r#"{"n":1,"user_id":"alice"}"#
    );
    assert!(server.end(), "SIGTERM ends it");
}
