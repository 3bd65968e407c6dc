//! A view is for processes of one user and one group: who has another group is told, before the kernel says no.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use std::process::Output;

use common::daemon::Daemon;
use common::{ALICE, Layout, Volume, run};

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn the_same_user_in_another_group_is_told_that_the_kernel_will_refuse_it_and_gid_lets_it_in() {
    const OTHER: u32 = 100;
    let volume = Volume::new(Layout::default());
    let daemon = Daemon::start(&volume, &[]);
    let program = common::daemon::reachable_program(&volume);
    let login = |gid, options: &[&str]| {
        let mut command = common::as_group(ALICE.uid, gid, volume.base(), program.to_str().unwrap());
        command
            .arg("login")
            .arg("--socket")
            .arg(&daemon.socket)
            .args(options);
        let output = run(command, ALICE.api_key);
        assert!(output.status.success(), "{}", said(&output));
        assert_eq!(
            String::from_utf8_lossy(&output.stdout).trim_end(),
            daemon.place(ALICE.uid).to_str().unwrap()
        );
        said(&output)
    };
    let sees = |gid| {
        let mut command = common::as_group(ALICE.uid, gid, volume.base(), "ls");
        command.arg(daemon.place(ALICE.uid));
        run(command, "").status.success()
    };
    assert_eq!(login(ALICE.uid, &[]), "");
    assert!(sees(ALICE.uid) && !sees(OTHER));
    let told = login(OTHER, &[]);
    for words in ["(100)", "EACCES", "--gid 100", "61001"] {
        assert!(told.contains(words), "{words}: {told}");
    }
    let told = login(OTHER, &["--gid", "100"]);
    assert!(told.contains("log out and log in with --gid 100"), "{told}");
    assert_eq!(
        daemon.json(ALICE.uid, &["status"], "")["sessions"][0]["gid"],
        ALICE.uid
    );

    daemon.asked(ALICE.uid, &["logout"], "");
    assert_eq!(login(OTHER, &["--gid", "100"]), "");
    assert!(sees(OTHER) && !sees(ALICE.uid));
    assert_eq!(
        daemon.json(ALICE.uid, &["status"], "")["sessions"][0]["gid"],
        OTHER
    );
}

#[test]
fn a_mount_of_its_own_is_for_the_group_it_was_told_and_says_whom_the_kernel_refuses() {
    let volume = Volume::new(Layout::default());
    let mount = volume.mount_with(&ALICE, &["--gid", "100"]);
    let sees = |gid| {
        let mut command = common::as_group(ALICE.uid, gid, volume.base(), "stat");
        command.args(["-c", "%u %g"]).arg(&mount.path);
        run(command, "")
    };
    assert_eq!(sees(100).stdout, b"61001 100\n");
    assert!(!sees(ALICE.uid).status.success());
    assert!(
        mount.log().contains("(100)") && mount.log().contains("see --gid"),
        "{}",
        mount.log()
    );
}

#[test]
fn whoever_has_processes_in_another_group_is_told_what_the_kernel_will_do() {
    let volume = Volume::new(Layout::default());
    let program = common::daemon::reachable_program(&volume);
    let group = |gid| {
        let mut command = common::as_group(ALICE.uid, gid, volume.base(), program.to_str().unwrap());
        command.args(["doctor", "--json", "--volume"]).arg(volume.root());
        command.arg("--static-keys").arg(volume.static_keys_file());
        let report: serde_json::Value = serde_json::from_slice(&run(command, "").stdout).unwrap();
        let checks = report["checks"].as_array().unwrap();
        let found = checks.iter().find(|finding| finding["check"] == "group");
        let found = found.unwrap_or_else(|| panic!("{report}"));
        let text = |key: &str| found[key].as_str().unwrap_or_default().to_owned();
        (found["ok"].as_bool().unwrap(), text("message"), text("mend"))
    };
    let (ok, said, _) = group(ALICE.uid);
    assert!(ok && said.contains("61001"), "{said}");
    let (ok, said, how) = group(100);
    assert!(!ok && said.contains("61001") && said.contains("(100)"), "{said}");
    assert!(how.contains("--gid 100"), "{how}");
}
