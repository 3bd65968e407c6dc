//! Files that root names to be read, where users of the host are at work.

use std::fs;
use std::os::unix::fs::chown;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::fs::{CWD, FileType, Mode, mknodat};

use super::{ALICE, BOB, Layout, OF_BOB, Volume, ask, directory, ends, run, set_mode, tell, tenantfs};

/// Who waits for a FIFO waits for ever; a command takes some milliseconds.
const SOON: Duration = Duration::from_secs(10);

/// Every command with a file that it reads.
fn reading(path: &str) -> Vec<Vec<&str>> {
    vec![
        vec!["list", "--users-file", path],
        vec!["list", "--usage", "--users-file", path],
        vec!["list", "--all", "--usage", "--quota-users", path],
        vec!["list", "--all", "--config", path],
        vec!["verify", "--config", path],
        vec!["reseal", "--sealing-keys", path],
        vec!["unseal", "bob", "schedules", "c", "--sealing-keys", path],
    ]
}

#[test]
fn what_would_keep_root_waiting_is_refused_wherever_a_file_is_read() {
    let volume = Volume::new(Layout::ResourceFirst);
    volume.plant(&BOB, "schedules", "c.json", OF_BOB);
    let place = directory(&volume.base().join("of-alice"), (ALICE.uid, ALICE.uid), 0o755);
    let fifo = place.join("fifo");
    mknodat(CWD, &fifo, FileType::Fifo, Mode::from_raw_mode(0o666), 0).unwrap();
    let fifo = fifo.to_str().unwrap();
    let commands = reading(fifo);
    for args in &commands {
        let begun = Instant::now();
        let said = ends(&ask(&volume, args), 2);
        assert!(begun.elapsed() < SOON, "{args:?}");
        assert!(said.contains("not a regular file"), "{args:?}: {said}");
    }
    let mut verify = tenantfs();
    verify.args(["audit", "verify", fifo]);
    let said = ends(&run(verify, ""), 1);
    assert!(said.contains("not a regular file"), "{said}");
    tell("operator", "FIFOs that are to be read", commands.len() + 1);
}

#[test]
fn what_another_command_prints_is_read_wherever_a_file_is() {
    let volume = Volume::new(Layout::ResourceFirst);
    volume.plant(&BOB, "schedules", "c.json", OF_BOB);
    let root = volume.root();
    let program = tenantfs();
    let program = program.get_program().to_str().unwrap();
    let config =
        format!("[volume]\npath = {root:?}\nlayout = \"resource-first\"\n[audit]\npath = \"none\"\n");
    for script in [
        format!(
            "{program} list --volume {} --users-file <(echo bob)",
            root.display()
        ),
        format!(
            "echo bob | {program} list --volume {} --users-file /dev/stdin",
            root.display()
        ),
        format!("{program} list --all --config <(echo \"$CONFIG\")"),
    ] {
        let mut command = Command::new("bash");
        command
            .args(["-c", &script])
            .env("CONFIG", &config)
            .env("TENANTFS_LOG", "warn");
        let said = ends(&run(command, ""), 0);
        assert!(said.contains("\"id\":\"c\""), "{script}: {said}");
    }
}

#[test]
fn no_config_file_is_believed_that_others_could_have_written() {
    let volume = Volume::new(Layout::ResourceFirst);
    volume.plant(&BOB, "schedules", "c.json", OF_BOB);
    let list = |config: &Path| ask(&volume, &["list", "--all", "--config", config.to_str().unwrap()]);
    let write = |path: &Path, uid: u32, mode: u32| {
        fs::write(path, "[audit]\nlevel = \"denied\"\n").unwrap();
        chown(path, Some(uid), Some(uid)).unwrap();
        set_mode(path, mode);
    };
    let place = directory(&volume.base().join("of-root"), (0, 0), 0o755);
    let config = place.join("config.toml");
    write(&config, 0, 0o644);
    ends(&list(&config), 0);

    write(&config, ALICE.uid, 0o644);
    let said = ends(&list(&config), 2);
    assert!(
        said.contains("chown root '") && said.contains("uid 61001"),
        "{said}"
    );
    write(&config, 0, 0o664);
    let said = ends(&list(&config), 2);
    assert!(said.contains("chmod go-w '"), "{said}");
    // It is root's, and in a place where another can be put.
    write(&config, 0, 0o644);
    chown(&place, Some(ALICE.uid), None).unwrap();
    ends(&list(&config), 2);
    chown(&place, Some(0), None).unwrap();
    set_mode(&place, 0o777);
    ends(&list(&config), 2);
    set_mode(&place, 0o755);
    ends(&list(&config), 0);
    tell("operator", "config files of others", 4);
}
