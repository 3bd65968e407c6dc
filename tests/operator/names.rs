//! Accounts by name, wherever a uid is taken or shown.

use std::fs;

use crate::common::daemon::Daemon;
use crate::common::{ALICE, Layout, Volume, run, tenantfs};
use crate::{stderr, stdout};

/// An account of every host that is not root: its name and uid.
fn somebody() -> (String, String) {
    let accounts = fs::read_to_string("/etc/passwd").unwrap();
    let mut accounts = accounts.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let found = accounts.find(|fields| fields[2] != "0").unwrap();
    (found[0].to_owned(), found[2].to_owned())
}

#[test]
fn who_is_meant_is_said_by_name() {
    let volume = Volume::new(Layout::default());
    let daemon = Daemon::start(&volume, &[]);
    let (name, uid) = somebody();
    let place = daemon.asked(0, &["login", "--uid", &name, "--gid", "root"], ALICE.api_key);
    assert_eq!(
        place.trim_end(),
        daemon.place(uid.parse().unwrap()).to_str().unwrap()
    );
    let status = daemon.json(0, &["status", "--uid", &name], "");
    assert_eq!(status["sessions"][0]["uid"].to_string(), uid);
    assert_eq!(status["sessions"][0]["gid"], 0);
    let shown = daemon.asked(0, &["status", "--uid", &name], "");
    assert!(
        shown.contains(&format!("  user        alice, uid {uid} ({name})\n")),
        "{shown}"
    );
    for asked in [&["removed", "--uid", &name][..], &["drafts", "--uid", &name]] {
        assert!(daemon.ask(0, asked, "").status.success(), "{asked:?}");
    }
    // No audit log is kept here: it is asked all the same, of the right one.
    assert!(stderr(&daemon.ask(0, &["audit", "mine", "--uid", &name], "")).contains("audit"));
    assert_eq!(
        daemon.asked(0, &["revoke", "--uid", &name], ""),
        "1 session ended\n"
    );
    daemon.asked(0, &["login", "--uid", &name], ALICE.api_key);
    daemon.asked(0, &["logout", "--uid", &name], "");
}

#[test]
fn a_mount_is_for_a_user_by_name_from_the_command_line_the_environment_and_the_config_file() {
    let volume = Volume::new(Layout::default());
    let (name, uid) = somebody();
    let config = volume.base().join("config.toml");
    fs::write(&config, format!("[mounts]\nuid = \"{name}\"\n")).unwrap();
    let place = volume.base().join("mnt-named");
    fs::create_dir(&place).unwrap();
    let owner = format!(
        "u={uid}; test \"$(setpriv --reuid=$u --regid=$(id -g {name}) --clear-groups stat -c %u {0})\" = $u",
        place.display()
    );
    for (options, variable) in [
        (&["--uid", name.as_str()][..], None),
        (&[], Some(("TENANTFS_UID", &name))),
        (&["--config", config.to_str().unwrap()], None),
    ] {
        let mut command = tenantfs();
        command
            .arg("mount")
            .arg(&place)
            .arg("--volume")
            .arg(volume.root());
        command.arg("--static-keys").arg(volume.static_keys_file());
        command
            .arg("--api-key-file")
            .arg(volume.api_key_file(&ALICE))
            .arg("-d")
            .args(options);
        variable.map(|(name, value)| command.env(name, value));
        let output = run(command, "");
        assert!(output.status.success(), "{options:?}: {}", stderr(&output));
        let mut looked = std::process::Command::new("sh");
        looked.args(["-c", &owner]);
        let looked = run(looked, "");
        rustix::mount::unmount(&place, rustix::mount::UnmountFlags::DETACH).unwrap();
        assert!(
            looked.status.success(),
            "{options:?}: {}{}",
            stdout(&looked),
            stderr(&looked)
        );
        assert!(crate::common::eventually(
            std::time::Duration::from_secs(5),
            || !crate::common::is_mounted(&place)
        ));
    }
}

#[test]
fn who_does_not_exist_is_told_as_that() {
    let volume = Volume::new(Layout::default());
    let daemon = Daemon::start(&volume, &[]);
    for command in [
        &["login", "--uid", "no-such-account"][..],
        &["logout", "--uid", "no-such-account"],
        &["status", "--uid", "no-such-account"],
        &["revoke", "--uid", "no-such-account"],
        &["removed", "--uid", "no-such-account"],
        &["login", "--gid", "no-such-group"],
    ] {
        let output = daemon.ask(0, command, "");
        assert_eq!(output.status.code(), Some(2), "{command:?}");
        let said = stderr(&output);
        assert!(
            said.contains("there is no such ") && said.contains("no-such-"),
            "{command:?}: {said}"
        );
    }
}
