//! What the operator is told when a part of the volume cannot be read, and that nobody is locked out by it.
//!
//! The commands are given by root and become the account that owns the volume, so that modes count.

use std::fs;
use std::os::unix::fs::{chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Output;

use serde_json::Value;

use super::{ask, erased, files, json_lines, record_of, stderr, stdout};
use crate::common::{ALICE, BOB, LAYOUTS, Layout, SERVICE_UID, Volume, run, set_mode};

/// A directory of the volume that its account may not enter, until this is dropped.
pub(super) struct Closed {
    path: PathBuf,
}

impl Closed {
    pub(super) fn new(path: PathBuf) -> Self {
        set_mode(&path, 0o000);
        Self { path }
    }

    /// Whatever was said names the directory, the errno, and what to do.
    pub(super) fn assert_named_by(&self, output: &Output, exit_code: i32) {
        let said = format!("{}{}", stdout(output), stderr(output));
        assert_eq!(output.status.code(), Some(exit_code), "{said}");
        let told = format!("({}): Permission denied (EACCES); let uid", self.path.display());
        assert!(said.contains(&told), "{told}: {said}");
        assert!(said.contains("correct its owner or mode"), "{said}");
        assert!(!said.contains("nothing of this user"), "{said}");
        assert!(!said.contains("no directory of this user"), "{said}");
    }
}

impl Drop for Closed {
    fn drop(&mut self) {
        if self.path.exists() {
            set_mode(&self.path, 0o750);
        }
    }
}

/// Two records of alice's: one in a directory of her own.
pub(super) fn volume(layout: Layout) -> Volume {
    let volume = Volume::new(layout);
    volume.plant(&ALICE, "schedules", "y.json", record_of("alice", 1));
    volume.plant(&ALICE, "schedules", "sub/x.json", record_of("alice", 2));
    volume
}

/// The directory of the volume's root that everything is in.
pub(super) fn tree(volume: &Volume) -> PathBuf {
    volume.root().join(match volume.layout {
        Layout::ResourceFirst => "schedules",
        Layout::UserFirst => "users",
    })
}

pub(super) fn home(volume: &Volume) -> PathBuf {
    tree(volume).join(ALICE.hash)
}

pub(super) fn nested(volume: &Volume) -> PathBuf {
    volume.path(&ALICE, "schedules", "sub")
}

/// The names in the volume's root that say of something that it is not finished: journals, and the mark of a migration.
fn marks(root: &Path) -> Vec<String> {
    let names = fs::read_dir(root)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let names = names.filter(|name| name.starts_with(".tenantfs"));
    names.filter(|name| name != LAYOUT || !is_settled(root)).collect()
}

const LAYOUT: &str = ".tenantfs-layout";

/// Whether the volume says its layout, and nothing of another one.
fn is_settled(root: &Path) -> bool {
    fs::read_to_string(root.join(LAYOUT)).is_ok_and(|mark| !mark.contains("from"))
}

fn assert_alice_gets_in_and_sees(volume: &Volume, names: &str) {
    assert_eq!(marks(&volume.root()), [""; 0]);
    let mount = volume.mount(&ALICE);
    assert_eq!(mount.shell("cd schedules && find . -type f | sort"), names);
}

#[test]
fn listing_names_what_cannot_be_entered_and_lists_the_rest() {
    for layout in LAYOUTS {
        for (directory, listed) in [(tree as fn(&Volume) -> PathBuf, 0), (home, 0), (nested, 1)] {
            let volume = volume(layout);
            for options in [["--user-id", "alice"].as_slice(), &["--all"]] {
                let closed = Closed::new(directory(&volume));
                let output = ask(&volume, "list", options);
                closed.assert_named_by(&output, 6);
                assert_eq!(json_lines(&stdout(&output)).len(), listed);
            }
            assert_alice_gets_in_and_sees(&volume, "./sub/x.json\n./y.json\n");
        }
    }
}

#[test]
fn an_export_names_what_cannot_be_entered_and_has_the_rest() {
    for layout in LAYOUTS {
        for (directory, exported) in [
            (tree as fn(&Volume) -> PathBuf, false),
            (home, false),
            (nested, true),
        ] {
            let volume = volume(layout);
            let to = volume.base().join("out");
            {
                let closed = Closed::new(directory(&volume));
                let options = ["--user-id", "alice", "--to", to.to_str().unwrap()];
                closed.assert_named_by(&ask(&volume, "export", &options), 6);
            }
            assert_eq!(to.join("schedules/y.json").exists(), exported);
            // It may be given to the user, who is not told where the volume is.
            let manifest = fs::read_to_string(to.join("MANIFEST.sha256")).unwrap();
            assert!(manifest.contains("# left out: "), "{manifest}");
            assert!(!manifest.contains(volume.root().to_str().unwrap()), "{manifest}");
        }
    }
}

#[test]
fn verifying_names_what_cannot_be_entered() {
    for layout in LAYOUTS {
        for directory in [tree, home, nested] {
            let volume = volume(layout);
            let closed = Closed::new(directory(&volume));
            let output = ask(&volume, "verify", &[]);
            closed.assert_named_by(&output, 6);
            let found = json_lines(&stdout(&output));
            assert!(
                found.iter().any(|line| line["problem"] == "unreadable"),
                "{found:?}"
            );
        }
    }
}

#[test]
fn an_erasure_that_cannot_begin_names_the_directory_and_keeps_nobody_out() {
    for layout in LAYOUTS {
        for directory in [tree, home] {
            let volume = volume(layout);
            {
                let closed = Closed::new(directory(&volume));
                let output = erased(&volume, &["--user-id", "alice"]);
                closed.assert_named_by(&output, 6);
                assert!(
                    stderr(&output).contains("nothing was erased"),
                    "{}",
                    stderr(&output)
                );
                assert_eq!(marks(&volume.root()), [""; 0]);
                let would = ask(&volume, "erase", &["--user-id", "alice", "--dry-run"]);
                closed.assert_named_by(&would, 6);
            }
            assert_alice_gets_in_and_sees(&volume, "./sub/x.json\n./y.json\n");
            assert!(erased(&volume, &["--user-id", "alice"]).status.success());
        }
    }
}

#[test]
fn an_erasure_that_cannot_enter_a_directory_names_it_and_erases_nothing() {
    for layout in LAYOUTS {
        for of_bob in [false, true] {
            let volume = volume(layout);
            volume.plant(&BOB, "schedules", "sub/x.json", record_of("bob", 1));
            let directory = match of_bob {
                // Something of alice's may have been put there.
                true => volume.path(&BOB, "schedules", "sub"),
                false => nested(&volume),
            };
            let before = files(&volume.root());
            {
                let closed = Closed::new(directory);
                let output = erased(&volume, &["--user-id", "alice"]);
                closed.assert_named_by(&output, 6);
                let said = stderr(&output);
                assert_eq!(said.matches("EACCES").count(), 1, "each place once: {said}");
                assert!(said.contains("nothing was erased"), "{said}");
            }
            assert_eq!(files(&volume.root()), before);
            assert_alice_gets_in_and_sees(&volume, "./sub/x.json\n./y.json\n");
            assert!(erased(&volume, &["--user-id", "alice"]).status.success());
            assert!(!home(&volume).exists());
        }
    }
}

#[test]
fn an_erasure_that_meets_a_link_where_a_directory_belongs_erases_nothing() {
    for layout in LAYOUTS {
        let volume = volume(layout);
        volume.plant(&ALICE, "results", "z.json", record_of("alice", 3));
        let (place, elsewhere) = (
            volume.directory(&ALICE, "results"),
            volume.base().join("elsewhere"),
        );
        fs::rename(&place, &elsewhere).unwrap();
        symlink(&elsewhere, &place).unwrap();
        let output = erased(&volume, &["--user-id", "alice"]);
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(6), "{said}");
        assert!(
            said.contains("results") && said.contains("nothing was erased"),
            "{said}"
        );
        assert!(elsewhere.join("z.json").exists());
        assert_eq!(marks(&volume.root()), [""; 0]);
        fs::remove_file(&place).unwrap();
        fs::rename(&elsewhere, &place).unwrap();
        assert!(erased(&volume, &["--user-id", "alice"]).status.success());
    }
}

/// What cannot be known before it is read: whose a text is that is no record.
#[test]
fn an_erasure_that_left_something_is_not_finished_and_keeps_the_user_out() {
    for layout in LAYOUTS {
        let volume = volume(layout);
        let unclear = volume.plant(&ALICE, "schedules", "unclear.json", r#"{"user_id":"#);
        for run in 0..2 {
            let output = erased(&volume, &["--user-id", "alice"]);
            let said = stderr(&output);
            assert_eq!(output.status.code(), Some(6), "{said}");
            assert!(
                said.contains("unclear.json") && said.contains("keeps the user out"),
                "{said}"
            );
            let receipt = &json_lines(&stdout(&output))[0]["erased"];
            assert_eq!(receipt["finished"], Value::Null, "{receipt}");
            assert_eq!([&receipt["records"], &receipt["left"]], [2, 1], "{receipt}");
            assert_eq!(marks(&volume.root()).len(), 1, "run {run}: the journal");
            let mountpoint = volume.base().join(format!("mnt{run}"));
            fs::create_dir(&mountpoint).unwrap();
            let refused = run_mount(&volume, &mountpoint);
            assert!(refused.contains("being erased"), "{refused}");
        }
        fs::remove_file(unclear).unwrap();
        let output = erased(&volume, &["--user-id", "alice"]);
        assert!(output.status.success(), "{}", stderr(&output));
        let receipt = &json_lines(&stdout(&output))[0]["erased"];
        assert!(receipt["finished"].is_string(), "{receipt}");
        assert_eq!(receipt["records"], 2, "of all runs: {receipt}");
        assert_eq!(marks(&volume.root()), [""; 0]);
        assert_alice_gets_in_and_sees(&volume, "");
    }
}

/// What a mount says that must not come to be.
fn run_mount(volume: &Volume, mountpoint: &Path) -> String {
    let output = run(volume.mount_command(mountpoint, &ALICE, &[]), "");
    assert!(!output.status.success());
    stderr(&output)
}

#[test]
fn of_a_directory_that_can_be_listed_and_not_entered_that_one_is_named_and_not_what_is_in_it() {
    for layout in LAYOUTS {
        let volume = volume(layout);
        let (from, to) = (layout.to_string(), other(layout).to_string());
        for (name, options) in [
            ("list", ["--user-id", "alice"].as_slice()),
            ("erase", &["--user-id", "alice", "--yes", "--socket", "/nowhere"]),
            ("migrate", &["--from", &from, "--to", &to]),
            ("verify", &[]),
        ] {
            let closed = Closed::new(tree(&volume));
            set_mode(&closed.path, 0o644);
            closed.assert_named_by(&ask(&volume, name, options), 6);
        }
        assert_alice_gets_in_and_sees(&volume, "./sub/x.json\n./y.json\n");
    }
}

#[test]
fn an_erasure_whose_journal_cannot_be_written_erases_nothing() {
    let volume = volume(Layout::default());
    set_mode(&volume.root(), 0o550);
    let output = erased(&volume, &["--user-id", "alice"]);
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("(EACCES)") && said.contains("correct its owner or mode"),
        "{said}"
    );
    assert!(said.contains(volume.root().to_str().unwrap()), "{said}");
    set_mode(&volume.root(), 0o750);
    assert_alice_gets_in_and_sees(&volume, "./sub/x.json\n./y.json\n");
}

#[test]
fn a_migration_that_cannot_begin_names_the_directory_and_keeps_nobody_out() {
    for layout in LAYOUTS {
        let (from, to) = (layout.to_string(), other(layout).to_string());
        let options = ["--from", &from, "--to", &to];
        for directory in [tree, home] {
            let volume = volume(layout);
            {
                let closed = Closed::new(directory(&volume));
                let output = ask(&volume, "migrate", &options);
                closed.assert_named_by(&output, 6);
                assert!(
                    stderr(&output).contains("nothing was moved"),
                    "{}",
                    stderr(&output)
                );
                assert!(stderr(&output).contains("EACCES"), "{}", stderr(&output));
            }
            assert_alice_gets_in_and_sees(&volume, "./sub/x.json\n./y.json\n");
            assert!(ask(&volume, "migrate", &options).status.success());
        }
    }
}

#[test]
fn a_migration_moves_a_directory_that_cannot_be_entered_with_the_one_it_is_in() {
    for layout in LAYOUTS {
        let mut volume = volume(layout);
        let closed = nested(&volume);
        set_mode(&closed, 0o000);
        let options = ["--from", &layout.to_string(), "--to", &other(layout).to_string()];
        let output = ask(&volume, "migrate", &options);
        assert!(output.status.success(), "{}", stderr(&output));
        volume.layout = other(layout);
        set_mode(&nested(&volume), 0o750);
        assert!(is_settled(&volume.root()));
        let mount = volume.mount(&ALICE);
        assert_eq!(
            mount.shell("cd schedules && find . -type f | sort"),
            "./sub/x.json\n./y.json\n"
        );
    }
}

#[test]
fn a_copy_to_another_volume_names_what_cannot_be_entered() {
    for layout in LAYOUTS {
        for directory in [tree, home, nested] {
            let volume = volume(layout);
            let target = volume.base().join("target");
            fs::create_dir(&target).unwrap();
            chown(&target, Some(SERVICE_UID), Some(SERVICE_UID)).unwrap();
            let layout = layout.to_string();
            let to = target.to_str().unwrap();
            let options = ["--from", &layout, "--to", &layout, "--to-volume", to];
            {
                let closed = Closed::new(directory(&volume));
                closed.assert_named_by(&ask(&volume, "migrate", &options), 6);
                // Whoever trusts the mark would miss what was not copied.
                assert!(!target.join(LAYOUT).exists());
            }
            assert!(ask(&volume, "migrate", &options).status.success());
            assert!(is_settled(&target));
        }
    }
}

#[test]
fn a_mount_names_what_cannot_be_entered_and_has_it_when_it_can_be() {
    for layout in LAYOUTS {
        // What is configured is wrong where nobody's can be entered; else it is this user's.
        for (is_tree, exit_code) in [(true, 2), (false, 1)] {
            let volume = volume(layout);
            let directory = if is_tree { tree } else { home };
            let mountpoint = volume.base().join("mnt");
            fs::create_dir(&mountpoint).unwrap();
            {
                let closed = Closed::new(directory(&volume));
                let output = run(volume.mount_command(&mountpoint, &ALICE, &[]), "");
                closed.assert_named_by(&output, exit_code);
            }
            assert_alice_gets_in_and_sees(&volume, "./sub/x.json\n./y.json\n");
        }
        let volume = volume(layout);
        let mount = {
            let _closed = Closed::new(nested(&volume));
            let mount = volume.mount(&ALICE);
            assert!(mount.read("schedules/y.json").contains("\"n\" : 1"));
            mount
        };
        assert!(mount.read("schedules/sub/x.json").contains("\"n\" : 2"));
    }
}

#[test]
fn a_link_where_a_users_directory_belongs_is_told_and_not_taken_for_nothing() {
    for layout in LAYOUTS {
        let volume = volume(layout);
        let elsewhere = volume.base().join("elsewhere");
        fs::rename(home(&volume), &elsewhere).unwrap();
        symlink(&elsewhere, home(&volume)).unwrap();
        let to = volume.base().join("out");
        let (from, other) = (layout.to_string(), other(layout).to_string());
        for (name, options) in [
            ("list", ["--user-id", "alice"].as_slice()),
            ("export", &["--user-id", "alice", "--to", to.to_str().unwrap()]),
            ("erase", &["--user-id", "alice", "--yes", "--socket", "/nowhere"]),
            ("migrate", &["--from", &from, "--to", &other]),
            ("removed", &["--user-id", "alice"]),
            ("drafts", &["--user-id", "alice"]),
        ] {
            let output = ask(&volume, name, options);
            let said = format!("{}{}", stdout(&output), stderr(&output));
            assert_eq!(output.status.code(), Some(6), "{name}: {said}");
            assert!(said.contains(ALICE.hash), "{name}: {said}");
            assert!(elsewhere.exists());
        }
        assert_eq!(marks(&volume.root()), [""; 0]);
    }
}

#[test]
fn a_record_that_cannot_be_read_is_listed_as_such_and_told() {
    let volume = volume(Layout::default());
    set_mode(&volume.path(&ALICE, "schedules", "y.json"), 0o000);
    let output = ask(&volume, "list", &["--user-id", "alice"]);
    assert_eq!(output.status.code(), Some(6), "{}", stderr(&output));
    assert!(
        stderr(&output).contains("y.json): Permission denied (EACCES)"),
        "{}",
        stderr(&output)
    );
    let listed = json_lines(&stdout(&output));
    assert_eq!([&listed[0]["valid"], &listed[1]["valid"]], [true, false]);
}

fn other(layout: Layout) -> Layout {
    match layout {
        Layout::ResourceFirst => Layout::UserFirst,
        Layout::UserFirst => Layout::ResourceFirst,
    }
}
