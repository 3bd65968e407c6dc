//! `tenantfs erase`.

use std::collections::BTreeMap;
use std::os::unix::fs::chown;
use std::process::Stdio;
use std::time::Duration;
use std::{fs, thread};

use rustix::fs::{FlockOperation, flock};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::{
    COLLIDING, SENTINEL, ask, asked, audited, command, erased, files, json_lines, populate, record_of,
    stderr, stdout,
};
use crate::common::daemon::Daemon;
use crate::common::{
    ALICE, BOB, Conversation, LAYOUTS, Layout, SERVICE_UID, Volume, errno, eventually, is_mounted, run,
    shell, tenantfs,
};

#[test]
fn an_erased_user_is_nowhere_and_everybody_else_is_whole() {
    for layout in LAYOUTS {
        let volume = Volume::new(layout);
        populate(&volume, 5);
        {
            let mount = volume.mount(&ALICE);
            mount.shell(&format!(
                "echo '{{\"half\": \"{SENTINEL}' > schedules/draft.json || true
                 rm schedules/1.json; mkdir results/gone; cp schedules/2.json results/gone; rm -r results/gone"
            ));
        }
        let others: BTreeMap<_, _> = files(&volume.root())
            .into_iter()
            .filter(|(path, text)| {
                let alices = path.to_str().unwrap().contains(ALICE.hash);
                !alices && !String::from_utf8_lossy(text).contains(r#""user_id" : "alice""#)
            })
            .collect();
        // Bob's marker and record, a neighbour's, the secret of the inode numbers, and which layout it is.
        assert_eq!(others.len(), 5);
        // Who has a file open elsewhere keeps a name, and nothing in it.
        let held = fs::File::open(volume.path(&ALICE, "schedules", "0.json")).unwrap();

        let empty = volume.directory(&ALICE, "schedules").join("empty");
        fs::create_dir(&empty).unwrap();
        chown(&empty, Some(SERVICE_UID), Some(SERVICE_UID)).unwrap();
        let would = asked(&volume, "erase", &["--user-id", "alice", "--dry-run"]);
        assert!(empty.exists());
        assert_eq!(json_lines(&would).len(), 10, "{would}");
        let asks = ask(&volume, "erase", &["--user-id", "alice"]);
        assert_eq!(asks.status.code(), Some(2), "{}", stderr(&asks));

        let output = erased(&volume, &["--user-id", "alice"]);
        assert!(output.status.success(), "{}", stderr(&output));
        let receipt: Value = serde_json::from_str(&stdout(&output)).unwrap();
        let receipt = &receipt["erased"];
        assert_eq!(
            [&receipt["records"], &receipt["attachments"], &receipt["drafts"]],
            [8, 1, 1],
            "{receipt}"
        );
        assert!(!receipt.to_string().contains("alice"));
        assert_eq!(files(&volume.root()), others);
        assert!(
            !others
                .values()
                .any(|text| String::from_utf8_lossy(text).contains(SENTINEL))
        );
        assert_eq!(held.metadata().unwrap().len(), 0);
        let directories = volume.directory(&ALICE, "schedules");
        assert!(!directories.exists() && !directories.parent().unwrap().join(ALICE.hash).exists());
        let lines = audited(&volume, "erase");
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[1]["user"], ALICE.hash);

        // Once more changes nothing, and says so.
        let again = erased(&volume, &["--user-id", "alice"]);
        let receipt: Value = serde_json::from_str(&stdout(&again)).unwrap();
        assert_eq!(receipt["erased"]["records"], 0);
        assert_eq!(files(&volume.root()), others);
    }
}

#[test]
fn a_users_record_that_is_larger_than_any_mount_shows_is_erased_too() {
    let volume = Volume::new(Layout::default());
    let text = format!(
        r#"{{"user_id": "alice", "x": "{SENTINEL}{}"}}"#,
        "x".repeat(80_000)
    );
    volume.plant(&ALICE, "schedules", "large.json", text);
    let output = erased(&volume, &["--user-id", "alice", "--max-size", "1KiB"]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(files(&volume.root()).len(), 0);
}

#[test]
fn of_two_users_with_one_hash_the_other_keeps_everything() {
    for layout in LAYOUTS {
        let volume = Volume::new(layout);
        populate(&volume, 1);
        let output = erased(&volume, &["--user-id", COLLIDING[0]]);
        assert!(output.status.success(), "{}", stderr(&output));
        let left = files(&volume.root());
        let has = |user: &str| {
            left.values()
                .any(|text| String::from_utf8_lossy(text).contains(user))
        };
        assert!(!has(COLLIDING[0]) && has(COLLIDING[1]) && has("alice"));
    }
}

#[test]
fn an_erasure_ends_the_users_sessions_first_and_keeps_the_user_out() {
    let volume = Volume::new(Layout::default());
    populate(&volume, 3);
    let daemon = Daemon::start(&volume, &[]);
    let (alices, bobs) = (daemon.login(&ALICE), daemon.login(&BOB));
    let mut writer = Conversation::start_in(
        ALICE.uid,
        &alices,
        "import time\nprint('begins', flush=True)\nn = 0\n\
         try:\n  while True:\n    n += 1; open(f'schedules/new-{n}.json', 'w').write('{}'); time.sleep(0.001)\n\
         except OSError as error: print('ended', flush=True); input()",
    );
    assert_eq!(writer.next(), "begins");
    thread::sleep(Duration::from_millis(300));
    let output = erased(&volume, &["--user-id", "alice"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let left = files(&volume.root());
    assert!(
        !left
            .values()
            .any(|text| String::from_utf8_lossy(text).contains(r#""alice""#)),
        "{:?}",
        left.keys()
    );
    assert_eq!(shell(BOB.uid, &bobs, "ls schedules"), "own.json\n");
    // Whoever is erased may begin anew.
    daemon.login(&ALICE);
    assert_eq!(
        errno(
            ALICE.uid,
            &alices,
            "os.listdir('schedules') == [] or os.stat('x')"
        ),
        "ok"
    );
}

#[test]
fn an_erasure_ends_what_goes_on_elsewhere_before_it_removes_anything() {
    let volume = Volume::new(Layout::default());
    populate(&volume, 3);
    let mount = volume.mount(&ALICE);
    let mut writer = Conversation::start_in(
        ALICE.uid,
        &mount.path,
        "import time\nn = 0\n\
         try:\n  while True:\n    n += 1; open(f'schedules/new-{n}.json', 'w').write('{}'); time.sleep(0.001)\n\
         \x20   if n == 10: print('begins', flush=True)\n\
         except OSError as error: print('ended', flush=True); input()",
    );
    assert_eq!(writer.next(), "begins");
    // As if on another host: no daemon that can be asked has the session.
    let options = ["--yes", "--user-id", "alice", "--socket", "/nowhere"];
    let output = run(command(&volume, "erase", &options), "");
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(writer.next(), "ended");
    let over = || !is_mounted(&mount.path);
    assert!(eventually(Duration::from_secs(5), over), "{}", mount.log());
    assert!(
        mount.log().contains("this user's data is being erased"),
        "{}",
        mount.log()
    );
    let left = files(&volume.root());
    assert!(
        !left
            .values()
            .any(|text| String::from_utf8_lossy(text).contains(r#""alice""#)),
        "{:?}",
        left.keys()
    );
}

#[test]
fn an_erasure_that_is_killed_at_any_point_is_finished_by_another_run() {
    const ROUNDS: usize = 50;
    let volume = Volume::new(Layout::default());
    let journal = volume.root().join(format!(
        ".tenantfs-erasure-{}",
        hex::encode(Sha256::digest("alice"))
    ));
    let mut random = 88_172_645_463_325_252_u64;
    let mut next = |below: u64| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random % below
    };
    let mut interrupted = 0;
    for round in 0..ROUNDS {
        populate(&volume, 20);
        let digest = {
            let would = json_lines(&asked(&volume, "erase", &["--user-id", "alice", "--dry-run"]));
            let mut names: Vec<_> = would
                .iter()
                .map(|line| line["would_erase"].as_str().unwrap().to_owned())
                .collect();
            names.sort();
            let lines: String = names.iter().map(|name| format!("{name}\n")).collect();
            hex::encode(Sha256::digest(lines))
        };
        let mut child = command(
            &volume,
            "erase",
            &["--yes", "--user-id", "alice", "--socket", "/nowhere"],
        )
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
        // When so many records are gone, and a moment later.
        let remain = usize::try_from(next(21)).unwrap();
        let records = volume.directory(&ALICE, "schedules");
        let there = || fs::read_dir(&records).map_or(0, Iterator::count);
        while there() > remain && matches!(child.try_wait(), Ok(None)) {
            std::hint::spin_loop();
        }
        thread::sleep(Duration::from_micros(next(1500)));
        let _ = kill_process(Pid::from_child(&child), Signal::KILL);
        child.wait().unwrap();
        let has_names = fs::metadata(&journal).is_ok_and(|journal| journal.len() > 100);
        let output = erased(&volume, &["--user-id", "alice"]);
        assert!(output.status.success(), "round {round}: {}", stderr(&output));
        let receipt: Value = serde_json::from_str(&stdout(&output)).unwrap();
        let receipt = &receipt["erased"];
        if has_names {
            interrupted += 1;
            assert_eq!(receipt["names_sha256"], digest, "round {round}: {receipt}");
            assert_eq!(receipt["records"], 22, "round {round}: {receipt}");
        }
        let left = files(&volume.root());
        let names: Vec<_> = left.keys().collect();
        let has = |text: &[u8]| {
            let text = String::from_utf8_lossy(text);
            text.contains(SENTINEL) || text.contains(r#""alice""#)
        };
        assert!(!left.values().any(|text| has(text)), "{names:?}");
        assert_eq!(left.len(), 3, "round {round}: {names:?}");
    }
    eprintln!("killed in the middle: {interrupted} of {ROUNDS}");
    assert!(interrupted > ROUNDS / 3, "{interrupted}");
}

#[test]
fn a_journal_that_was_emptied_is_begun_anew_and_one_that_is_none_is_left_alone() {
    let volume = Volume::new(Layout::default());
    populate(&volume, 3);
    let full_hash = hex::encode(Sha256::digest("alice"));
    let journal = volume.root().join(format!(".tenantfs-erasure-{full_hash}"));
    let plant = |text: &str| {
        fs::write(&journal, text).unwrap();
        chown(&journal, Some(SERVICE_UID), Some(SERVICE_UID)).unwrap();
    };
    plant("nonsense\n");
    let before = files(&volume.root());
    let output = erased(&volume, &["--user-id", "alice"]);
    assert_eq!(output.status.code(), Some(1));
    let said = format!("({}): it is not one: look at it", journal.display());
    assert!(stderr(&output).contains(&said), "{}", stderr(&output));
    assert_eq!(files(&volume.root()), before);
    plant("");
    let output = erased(&volume, &["--user-id", "alice"]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(!journal.exists());
}

#[test]
fn two_erasures_of_one_user_are_never_at_work_at_a_time() {
    let volume = Volume::new(Layout::default());
    populate(&volume, 3);
    let full_hash = hex::encode(Sha256::digest("alice"));
    let journal = volume.root().join(format!(".tenantfs-erasure-{full_hash}"));
    fs::write(&journal, "{\"begun\":\"2026-01-01T00:00:00Z\"}\n").unwrap();
    chown(&journal, Some(SERVICE_UID), Some(SERVICE_UID)).unwrap();
    let before = files(&volume.root());
    {
        let other_run = fs::File::open(&journal).unwrap();
        flock(&other_run, FlockOperation::LockExclusive).unwrap();
        let output = erased(&volume, &["--user-id", "alice"]);
        assert_eq!(output.status.code(), Some(1));
        assert!(stderr(&output).contains("is at work"), "{}", stderr(&output));
        assert_eq!(files(&volume.root()), before, "the other run's journal stays");
    }
    let output = erased(&volume, &["--user-id", "alice"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let receipt: Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!(receipt["erased"]["begun"], "2026-01-01T00:00:00Z");
    assert!(!journal.exists());
}

#[test]
fn that_no_audit_log_is_kept_is_said_once_by_each_command() {
    let volume = Volume::new(Layout::ResourceFirst);
    volume.plant(&ALICE, "schedules", "x.json", record_of("alice", 1));
    let mount = volume.mount(&ALICE);
    mount.shell("rm schedules/x.json");
    drop(mount);
    let commands: [(&str, &[&str]); 2] = [
        ("restore", &["schedules/x.json", "--user-id", "alice"]),
        ("erase", &["--user-id", "alice", "--yes"]),
    ];
    for (name, options) in commands {
        let mut command = tenantfs();
        command.env("TENANTFS_LOG", "warn").arg(name).args(options);
        command.args(["--layout", "resource-first", "--volume"]);
        command.arg(volume.root());
        let output = run(command, "");
        let said = stderr(&output);
        assert!(output.status.success(), "{name}: {said}");
        assert_eq!(said.matches("no audit log is kept").count(), 1, "{name}: {said}");
    }
}
