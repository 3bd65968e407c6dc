//! However a program saves a record, the volume gets it once, whole and owned, and with the secret it had: editors
//! truncate it, rename it away and recreate it, or rename another file over it.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;

use common::{ALICE, LAYOUTS, Mount, Volume, tool};
use rustix::fs::inotify;
use rustix::io::Errno;
use serde_json::{Value, json};
use tenantfs::layout::Layout;

/// What the service keeps in the record, and the mount never shows.
const SECRET: &str = "sk-planted-by-the-service";
/// The record as the service writes it: the secret is neither first nor last.
const STORED: &str =
    "{\n  \"n\": \"old\",\n  \"api_key\": \"sk-planted-by-the-service\",\n  \"user_id\": \"alice\"\n}\n";

/// Saves `schedules/x.json` by `save`, which replaces the word `old` in it by `new`, and checks what that leaves.
///
/// `backups` are the files that the program keeps beside the record.
fn saves_once(save: impl Fn(&Mount<'_>), backups: &[&str]) {
    for layout in LAYOUTS {
        saves_once_in(layout, &save, backups);
    }
}

fn saves_once_in(layout: Layout, save: impl Fn(&Mount<'_>), backups: &[&str]) {
    let volume = Volume::new(layout);
    volume.plant(&ALICE, "schedules", "x.json", STORED);
    saves_once_on(&volume, &volume.mount(&ALICE), SECRET, &save, backups);
    drop(volume);

    // The same of a secret that the user wrote, and that is sealed.
    let volume = Volume::new(layout);
    let mount = volume.mount_sealing(&ALICE);
    let code = format!("open('schedules/x.json', 'w').write({STORED:?})");
    mount.python(&code, &[]);
    let stored: Value = serde_json::from_str(&volume.stored(&ALICE, "schedules", "x.json")).unwrap();
    let sealed = stored["api_key"].as_str().unwrap();
    assert!(sealed.starts_with("tfs1."), "{sealed}");
    saves_once_on(&volume, &mount, sealed, &save, backups);
    let opened = volume.opened(&ALICE, "schedules", "x.json", "api_key");
    assert_eq!(opened.as_deref(), Some(SECRET));
}

/// The record is there, and `secret` is what the volume has as its secret.
fn saves_once_on(
    volume: &Volume,
    mount: &Mount<'_>,
    secret: &str,
    save: impl Fn(&Mount<'_>),
    backups: &[&str],
) {
    let before = mount.read("schedules/x.json");
    let commits = Commits::watch(&volume.directory(&ALICE, "schedules"));

    save(mount);

    assert_eq!(mount.read("schedules/x.json"), before.replace("old", "new"));
    let stored: Value = serde_json::from_str(&volume.stored(&ALICE, "schedules", "x.json")).unwrap();
    assert_eq!(stored, json!({"n": "new", "api_key": secret, "user_id": "alice"}));
    assert_eq!(commits.of("x.json"), 1, "the record is to be replaced once");

    let mut expected: Vec<_> = backups
        .iter()
        .chain(&["x.json"])
        .map(|name| (*name).to_owned())
        .collect();
    expected.sort_unstable();
    assert_eq!(names(volume), expected, "files on the volume");
    assert_eq!(
        mount.shell("ls -A schedules").lines().collect::<Vec<_>>(),
        expected,
        "files in the mount"
    );
    for backup in backups {
        assert_eq!(mount.read(&format!("schedules/{backup}")), before);
        assert!(
            !volume.stored(&ALICE, "schedules", backup).contains(secret),
            "the secret is in {backup}"
        );
    }
    mount.shell(&format!("! grep -ra -e {SECRET} -e {secret} ."));
    // The service meets a record like any other, and finds its secret when it saves the next time.
    let loaded: Value =
        serde_json::from_str(&volume.service(&["load", "alice", "schedules", "x"], "")).unwrap();
    assert_eq!(loaded, stored);
}

/// The names in the directory of schedules, without the owner marker.
fn names(volume: &Volume) -> Vec<String> {
    let mut names: Vec<_> = std::fs::read_dir(volume.directory(&ALICE, "schedules"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name != ".tenantfs-owner")
        .collect();
    names.sort_unstable();
    names
}

/// Counts how often a name in a directory of the volume comes to stand for another file.
struct Commits(OwnedFd);

impl Commits {
    fn watch(directory: &Path) -> Self {
        let events = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK).unwrap();
        let new_file =
            inotify::WatchFlags::CREATE | inotify::WatchFlags::MOVED_TO | inotify::WatchFlags::MODIFY;
        inotify::add_watch(&events, directory, new_file).unwrap();
        Self(events)
    }

    fn of(&self, name: &str) -> usize {
        let mut buffer = [const { MaybeUninit::uninit() }; 4096];
        let mut events = inotify::Reader::new(&self.0, &mut buffer);
        let mut commits = 0;
        loop {
            match events.next() {
                Ok(event)
                    if event
                        .file_name()
                        .is_some_and(|file| file.to_bytes() == name.as_bytes()) =>
                {
                    let rewritten = event.events().contains(inotify::ReadFlags::MODIFY);
                    assert!(
                        !rewritten,
                        "{name} was written in place, where a reader can meet a part of it"
                    );
                    commits += 1;
                }
                Ok(_) => {}
                Err(Errno::AGAIN) => return commits,
                Err(error) => panic!("inotify: {error}"),
            }
        }
    }
}

#[test]
fn shell_redirection() {
    saves_once(
        |mount| {
            mount.shell("sed 's/old/new/' schedules/x.json > ~/new && cat ~/new > schedules/x.json");
        },
        &[],
    );
}

#[test]
fn several_writers_of_one_redirection() {
    saves_once(
        |mount| {
            mount.shell(
                "sed 's/old/new/' schedules/x.json > ~/new && head -c 9 ~/new > ~/a && tail -c +10 ~/new > ~/b
                (cat ~/a; cat ~/b) > schedules/x.json",
            );
        },
        &[],
    );
}

#[test]
fn dd_in_small_blocks() {
    saves_once(
        |mount| {
            mount.shell(
                "sed 's/old/new/' schedules/x.json > ~/new
                { head -c 5 ~/new; tail -c +6 ~/new; } | dd of=schedules/x.json bs=3 status=none",
            );
        },
        &[],
    );
}

#[test]
fn cp_over_the_record() {
    saves_once(
        |mount| {
            mount.shell("sed 's/old/new/' schedules/x.json > ~/new && cp ~/new schedules/x.json");
        },
        &[],
    );
}

#[test]
fn rsync() {
    if tool("rsync").is_none() {
        return;
    }
    let save = |mount: &Mount<'_>, option: &str| {
        mount.shell(&format!(
            "mkdir -p ~/new && sed 's/old/new/' schedules/x.json > ~/new/x.json
            rsync -a --ignore-times {option} ~/new/x.json schedules/"
        ));
    };
    for option in ["", "--inplace"] {
        saves_once(|mount| save(mount, option), &[]);
    }
}

#[test]
fn sed_in_place() {
    saves_once(
        |mount| {
            mount.shell("sed -i 's/old/new/' schedules/x.json");
        },
        &[],
    );
    saves_once(
        |mount| {
            mount.shell("sed -i.bak 's/old/new/' schedules/x.json");
        },
        &["x.json.bak"],
    );
}

#[test]
fn jq_and_mv() {
    if tool("jq").is_none() {
        return;
    }
    saves_once(
        |mount| {
            mount.shell("cd schedules && jq '.n = \"new\"' x.json > t && mv t x.json");
        },
        &[],
    );
}

#[test]
fn vim() {
    if tool("vim").is_none() {
        return;
    }
    for (settings, backups) in [
        ("backupcopy=auto", &[][..]),
        ("backupcopy=yes", &[]),
        ("backupcopy=no", &[]),
        ("backupcopy=yes nowritebackup", &[]),
        ("backupcopy=no noswapfile nofsync", &[]),
        ("backup backupcopy=auto", &["x.json~"]),
        ("backup backupcopy=yes", &["x.json~"]),
        ("backup backupcopy=no", &["x.json~"]),
        ("backup patchmode=.orig", &["x.json.orig"]),
    ] {
        // The layouts hold alike for one setting; one of them a setting is enough.
        let save = |mount: &Mount<'_>| {
            mount.shell(&format!(
                "vim -es -u NONE -i NONE -N -c 'set {settings} backupdir=.' -c '%s/old/new/' -c wq schedules/x.json"
            ));
        };
        saves_once_in(Layout::ResourceFirst, save, backups);
    }
}

#[test]
fn vim_saves_twice_in_one_session() {
    if tool("vim").is_none() {
        return;
    }
    let volume = Volume::new(Layout::ResourceFirst);
    volume.plant(&ALICE, "schedules", "x.json", STORED);
    let mount = volume.mount(&ALICE);
    let commits = Commits::watch(&volume.directory(&ALICE, "schedules"));
    mount.shell(
        "vim -es -u NONE -i NONE -N -c 'set backupcopy=no' -c '%s/old/newer/' -c w -c '%s/newer/newest/' -c wq schedules/x.json",
    );
    let stored: Value = serde_json::from_str(&volume.stored(&ALICE, "schedules", "x.json")).unwrap();
    assert_eq!(
        stored,
        json!({"n": "newest", "api_key": SECRET, "user_id": "alice"})
    );
    assert_eq!(
        (commits.of("x.json"), names(&volume)),
        (2, vec!["x.json".to_owned()])
    );
}

#[test]
fn emacs() {
    if tool("emacs").is_none() {
        return;
    }
    let edit = |mount: &Mount<'_>, settings: &str| {
        let code = format!(
            "(progn {settings} (goto-char (point-min)) (search-forward \"old\") (replace-match \"new\") (save-buffer))"
        );
        let mut command = mount.command("emacs");
        command.args(["--batch", "-Q", "schedules/x.json", "--eval", &code]);
        common::success(command, "");
    };
    saves_once(|mount| edit(mount, ""), &["x.json~"]);
    for (settings, backups) in [
        ("(setq backup-by-copying t)", &["x.json~"][..]),
        ("(setq make-backup-files nil write-region-inhibit-fsync nil)", &[]),
        ("(setq make-backup-files nil file-precious-flag t)", &[]),
    ] {
        saves_once_in(Layout::ResourceFirst, |mount| edit(mount, settings), backups);
    }
}

#[test]
fn nano() {
    if tool("nano").is_none() {
        return;
    }
    saves_once(
        |mount| {
            mount.python(include_str!("nano.py"), &["schedules/x.json", "old", "new"]);
        },
        &[],
    );
}

#[test]
fn python_writes_where_the_record_is() {
    for mode in ["w", "r+"] {
        let code = format!(
            "import json\n\
             text = open('schedules/x.json').read().replace('old', 'new')\n\
             with open('schedules/x.json', '{mode}') as file:\n    file.write(text)"
        );
        saves_once(|mount| drop(mount.python(&code, &[])), &[]);
    }
}

#[test]
fn python_replaces_the_record() {
    let code = "
import os, tempfile
text = open('schedules/x.json').read().replace('old', 'new')
with tempfile.NamedTemporaryFile('w', dir='schedules', delete=False) as file:
    file.write(text)
    file.flush()
    os.fsync(file.fileno())
os.replace(file.name, 'schedules/x.json')
directory = os.open('schedules', os.O_DIRECTORY)
os.fsync(directory)
";
    saves_once(|mount| drop(mount.python(code, &[])), &[]);
}

/// JetBrains' IDEs save so: the old file is moved aside before the new one takes its name.
#[test]
fn ide_safe_write() {
    let code = "
import os
text = open('schedules/x.json').read().replace('old', 'new')
with open('schedules/x.json___jb_tmp___', 'w') as file:
    file.write(text)
os.rename('schedules/x.json', 'schedules/x.json___jb_old___')
os.rename('schedules/x.json___jb_tmp___', 'schedules/x.json')
os.unlink('schedules/x.json___jb_old___')
";
    saves_once(|mount| drop(mount.python(code, &[])), &[]);
}

/// As `tar x`, `git checkout` and `install` do.
#[test]
fn remove_and_write_anew() {
    let code = "
import os
text = open('schedules/x.json').read().replace('old', 'new')
os.unlink('schedules/x.json')
with open('schedules/x.json', 'x') as file:
    file.write(text)
";
    saves_once(|mount| drop(mount.python(code, &[])), &[]);
}
