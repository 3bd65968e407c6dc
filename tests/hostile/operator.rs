//! What the operator's commands meet where users of the host are at work: directories that are theirs, what they put there, trees as
//! deep and files as large as they like to make, and names and records that speak to terminals.

mod inputs;
mod large;
mod words;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::thread;

use crate::arena::{become_user, rounds, tell};
use crate::common::{ALICE, BOB, Layout, SERVICE_UID, Volume, run, set_mode, shell, tenantfs};

const OF_BOB: &str = r#"{"plan": "of bob alone", "user_id": "bob"}"#;

/// An operator's command, not started.
fn command(volume: &Volume, args: &[&str]) -> Command {
    let mut command = tenantfs();
    command.env("TENANTFS_LOG", "warn").args(args);
    command.args(["--audit-log", volume.audit_log().to_str().unwrap(), "--volume"]);
    command.arg(volume.root());
    if args[0] != "migrate" {
        command.args(["--layout", &volume.layout.to_string()]);
    }
    command
}

fn ask(volume: &Volume, args: &[&str]) -> Output {
    run(command(volume, args), "")
}

fn said(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// It must end so.
fn ends(output: &Output, code: i32) -> String {
    let said = said(output);
    assert_eq!(output.status.code(), Some(code), "{said}");
    said
}

fn export(volume: &Volume, to: &Path) -> Output {
    ask(
        volume,
        &["export", "--user-id", "bob", "--to", to.to_str().unwrap()],
    )
}

fn directory(path: &Path, (uid, gid): (u32, u32), mode: u32) -> PathBuf {
    fs::create_dir(path).unwrap();
    chown(path, Some(uid), Some(gid)).unwrap();
    set_mode(path, mode);
    path.to_owned()
}

/// Everything below a directory: whose it is, its mode, and what is in it.
fn tree(directory: &Path) -> BTreeMap<PathBuf, (u32, u32, Vec<u8>)> {
    let mut tree = BTreeMap::new();
    let mut pending = vec![directory.to_owned()];
    while let Some(next) = pending.pop() {
        for entry in fs::read_dir(&next).unwrap() {
            let path = entry.unwrap().path();
            let metadata = path.symlink_metadata().unwrap();
            let content = match metadata.is_file() {
                true => fs::read(&path).unwrap(),
                false => Vec::new(),
            };
            if metadata.is_dir() {
                pending.push(path.clone());
            }
            tree.insert(path, (metadata.uid(), metadata.mode(), content));
        }
    }
    tree
}

fn volume_of_bob() -> Volume {
    let volume = Volume::new(Layout::ResourceFirst);
    volume.plant(&BOB, "schedules", "plan.json", OF_BOB);
    volume.plant(&BOB, "results", "plot.csv", "data of bob alone\n");
    volume
}

#[test]
fn an_export_goes_nowhere_that_others_can_change() {
    let volume = volume_of_bob();
    let base = volume.base();
    let (alice, root) = ((ALICE.uid, ALICE.uid), (0, 0));
    let of_alice = directory(&base.join("of-alice"), alice, 0o755);
    let of_group = directory(&base.join("of-group"), (0, ALICE.uid), 0o775);
    let of_all = directory(&base.join("of-all"), root, 0o777);
    let mine = directory(&base.join("mine"), root, 0o755);
    let below = directory(&of_alice.join("roots"), root, 0o755);
    let sticky = directory(&base.join("sticky"), root, 0o1777);
    let alices_in_sticky = directory(&sticky.join("alices"), alice, 0o755);
    shell(ALICE.uid, &sticky, &format!("ln -s {} lead", mine.display()));
    symlink(&of_alice, mine.join("into-alices")).unwrap();
    let before = tree(&mine);
    let places = [&of_alice, &of_group, &of_all, &below, &alices_in_sticky];
    let linked = [sticky.join("lead"), mine.join("into-alices")];
    let mut tried = 0;
    for place in places.into_iter().chain(&linked) {
        for name in ["bob.tar.zst", "bob"] {
            let said = ends(&export(&volume, &place.join(name)), 2);
            assert!(
                said.contains("who could put something else in its place"),
                "{said}"
            );
            assert!(
                said.contains("run: chmod go-w '") || said.contains("name another place"),
                "{said}"
            );
            tried += 1;
        }
    }
    // A directory that is there is looked at itself, too: what is in it could be anybody's.
    for place in [&of_alice, &of_group, &of_all, &sticky.join("lead")] {
        ends(&export(&volume, place), 2);
        tried += 1;
    }
    assert_eq!(tree(&mine), before);
    assert_eq!(fs::read_dir(&of_alice).unwrap().count(), 1);
    tell("operator", "exports to places that others can change", tried);

    // Where only the name is anybody's, as in /tmp, and the way there is not, it is nobody else's.
    for place in [&mine, &sticky] {
        ends(&export(&volume, &place.join("bob.tar.zst")), 0);
        ends(&export(&volume, &place.join("bob")), 0);
        let [archive, copy] = ["bob.tar.zst", "bob"].map(|name| place.join(name).metadata().unwrap());
        assert_eq!(archive.mode() & 0o7777, 0o600);
        assert_eq!((copy.mode() & 0o7777, copy.uid()), (0o700, SERVICE_UID));
        assert!(place.join("bob/schedules/plan.json").exists());
        // Nothing of it is in anybody's way: no part, no temporary name.
        let names = fs::read_dir(place)
            .unwrap()
            .map(|entry| entry.unwrap().file_name());
        assert!(
            names
                .into_iter()
                .all(|name| !name.to_str().unwrap().starts_with('.'))
        );
        // A second one does not replace the first.
        ends(&export(&volume, &place.join("bob.tar.zst")), 2);
        ends(&export(&volume, &place.join("bob")), 2);
    }
}

#[test]
fn an_archive_takes_nothing_over_that_is_there_already() {
    let volume = volume_of_bob();
    let sticky = directory(&volume.base().join("sticky"), (0, 0), 0o1777);
    let private = volume.base().join("private");
    fs::write(&private, "").unwrap();
    set_mode(&private, 0o600);
    let script = format!(
        "umask 0; : > empty.tar.zst; ln -s {} link.tar.zst; ln -s nowhere dangling.tar.zst; mkfifo fifo.tar.zst
         mkdir directory.tar.zst; mkdir mine; ln -s {} linked",
        private.display(),
        volume.base().display(),
    );
    shell(ALICE.uid, &sticky, &script);
    let before = tree(&sticky);
    for name in ["empty", "link", "dangling", "fifo", "directory"] {
        let to = sticky.join(format!("{name}.tar.zst"));
        let said = ends(&export(&volume, &to), 2);
        assert!(said.contains("there is something already"), "{name}: {said}");
    }
    for name in ["mine", "linked"] {
        ends(&export(&volume, &sticky.join(name)), 2);
    }
    assert_eq!(tree(&sticky), before);
    assert_eq!(fs::read(&private).unwrap(), b"");
    tell("operator", "things of others where an export is to be", 7);
}

/// A directory that is trusted when it is looked at, while its owner swaps what is beside it and its own name: what is not hers cannot
/// be swapped, and what is hers is refused.
#[test]
fn while_a_user_swaps_what_is_on_the_way_an_export_is_refused_or_where_it_was_said() {
    let volume = volume_of_bob();
    let sticky = directory(&volume.base().join("sticky"), (0, 0), 0o1777);
    let stop = std::sync::atomic::AtomicBool::new(false);
    let before = tree(&volume.root());
    let rounds = rounds(8, 100);
    thread::scope(|scope| {
        scope.spawn(|| {
            become_user(ALICE.uid);
            let (target, way) = (volume.root(), sticky.join("way"));
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                let _ = fs::create_dir(&way);
                let _ = fs::remove_dir(&way);
                let _ = symlink(target.join("results").join(BOB.hash), &way);
                let _ = fs::remove_file(&way);
            }
        });
        for round in 0..rounds {
            let output = export(&volume, &sticky.join(format!("way/bob-{round}")));
            ends(&output, 2);
            let output = export(&volume, &sticky.join("way"));
            // If nothing had the name at that moment, it is root's from then on.
            let code = output.status.code();
            assert!(matches!(code, Some(0 | 2)), "{}", said(&output));
            if code == Some(0) {
                fs::remove_dir_all(sticky.join("way")).unwrap();
            }
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    assert_eq!(tree(&volume.root()), before);
    tell("operator", "exports while the way is swapped", rounds);
}

#[test]
fn keys_sockets_and_logs_are_made_nowhere_that_others_can_change() {
    let volume = volume_of_bob();
    let of_alice = directory(&volume.base().join("of-alice"), (ALICE.uid, ALICE.uid), 0o755);
    let keys = of_alice.join("keys.json");
    for words in [["keys", "generate"], ["keys", "rotate"]] {
        let mut command = tenantfs();
        command.args(words).arg(&keys);
        let said = ends(&run(command, ""), 2);
        assert!(
            said.contains("who could put something else in its place"),
            "{said}"
        );
    }
    let socket = of_alice.join("control.sock");
    let mut daemon = tenantfs();
    daemon.arg("daemon").arg("--volume").arg(volume.root());
    daemon.arg("--static-keys").arg(volume.static_keys_file());
    daemon.arg("--socket").arg(&socket).arg("--mounts");
    daemon.arg(volume.base().join("mnt/{uid}"));
    let said = ends(&run(daemon, ""), 2);
    assert!(
        said.contains("who could put something else in its place"),
        "{said}"
    );
    assert_eq!(fs::read_dir(&of_alice).unwrap().count(), 0);
}
