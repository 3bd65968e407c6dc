//! The demonstration: what it claims holds, and it leaves nothing behind, however it ends.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use common::{LAYOUTS, eventually, require_root, run, tenantfs};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// Where a demo works: whatever it leaves there, it left behind.
fn workplace() -> TempDir {
    require_root();
    let place = tempfile::Builder::new()
        .prefix("tenantfs-test-")
        .tempdir_in("/var/tmp")
        .unwrap();
    common::set_mode(place.path(), 0o755);
    place
}

fn demo(place: &Path, arguments: &[&str]) -> Command {
    let mut command = tenantfs();
    command.arg("demo").args(arguments).env("TMPDIR", place);
    command
}

fn assert_nothing_left(place: &Path) {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let place_name = place.to_str().unwrap();
    assert!(!mounts.contains(place_name), "{mounts}");
    assert_eq!(fs::read_dir(place).unwrap().count(), 0);
}

#[test]
fn every_claim_holds_in_both_layouts_and_nothing_is_left() {
    for layout in LAYOUTS {
        let place = workplace();
        let output = run(demo(place.path(), &["--layout", &layout.to_string()]), "");
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{said}\n{:?}", output.stderr);
        assert!(!said.contains('✗') && !said.contains('\x1b'), "{said}");
        let claims = said.matches("  ✓ ").count();
        assert!(
            said.ends_with(&format!("\n{claims} of {claims} claims hold\n")),
            "{said}"
        );
        assert!(claims >= 20, "{said}");
        assert!(
            output.stderr.is_empty(),
            "{:?}",
            String::from_utf8_lossy(&output.stderr)
        );
        assert_nothing_left(place.path());
    }
}

#[test]
fn kept_mounts_stay_until_ctrl_c_and_then_go() {
    let place = workplace();
    let mut command = demo(place.path(), &["--keep"]);
    let mut demo = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(demo.stdout.take().unwrap()).lines();
    // What it advises is true: the tenant's commands work, everybody else's are refused.
    let advised: Vec<_> = lines
        .by_ref()
        .map(Result::unwrap)
        .filter_map(|line| line.trim().strip_prefix("sudo ").map(str::to_owned))
        .take(5)
        .collect();
    let outcomes = advised.iter().map(|line| {
        let mut command = Command::new("sh");
        command.args(["-c", line]);
        (line, run(command, ""))
    });
    for (line, output) in outcomes.collect::<Vec<_>>() {
        let refused = line.ends_with("# refused");
        assert_eq!(output.status.success(), !refused, "{line}\n{output:?}");
    }
    kill_process(Pid::from_child(&demo), Signal::INT).unwrap();
    let mut status = None;
    eventually(Duration::from_secs(20), || {
        status = demo.try_wait().unwrap();
        status.is_some()
    });
    let rest: Vec<_> = lines.map(Result::unwrap).collect();
    assert!(
        status.is_some_and(|status| status.success()),
        "{status:?} {rest:?}"
    );
    assert_nothing_left(place.path());
}

#[test]
fn interrupted_it_cleans_up_too() {
    let place = workplace();
    let mut command = demo(place.path(), &[]);
    let mut demo = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(demo.stdout.take().unwrap()).lines();
    // The mounts are up when it begins to show them.
    lines
        .by_ref()
        .map(Result::unwrap)
        .find(|line| line.contains('✓'))
        .unwrap();
    kill_process(Pid::from_child(&demo), Signal::TERM).unwrap();
    lines.for_each(drop);
    let output = demo.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        String::from_utf8(output.stderr).unwrap(),
        "tenantfs: interrupted; the mounts and the volume are gone\n"
    );
    assert_nothing_left(place.path());
}

#[test]
fn without_root_it_says_what_it_needs() {
    require_root();
    let mut command = common::as_user(65534, Path::new("/"), env!("CARGO_BIN_EXE_tenantfs"));
    command.arg("demo");
    let output = run(command, "");
    assert_eq!(output.status.code(), Some(5));
    assert!(output.stdout.is_empty());
    assert_eq!(
        String::from_utf8(output.stderr).unwrap(),
        "tenantfs: the demo mounts file systems and acts as three users: run it as root, for example with sudo\n"
    );
}
