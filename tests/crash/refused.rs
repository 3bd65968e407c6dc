//! Calls that fail: a full disk, and one that breaks. Nothing is lost, the user is told, and it goes on when it can.

use std::fs;
use std::process::Command;

use crate::common::sealing::KEY;
use crate::common::{ALICE, Layout, OtherMount, Volume, run, success, tenantfs};
use crate::disk::Disk;
use crate::scene::every_point;
use crate::strace::{self, Fault};
use crate::volume::{Reader, leftovers, plant, sealing};
use crate::{report, tried};

/// How many points are tried in a short run.
const SAMPLE: usize = 10;

#[test]
fn a_call_that_fails_is_told_and_nothing_is_lost() {
    if !strace::is_there() {
        return;
    }
    let home = sealing(Layout::default());
    let mut reader = Reader::new(&home);
    let all = every_point(Layout::default(), &mut reader);
    let each = [("ENOSPC", "EIO"), ("EIO", "ENOSPC")].into_iter().cycle();
    let all = all.into_iter().zip(each).collect();
    let mut failed = 0;
    for ((scene, point), (first, second)) in tried(all, SAMPLE) {
        let errnos = if crate::is_long() {
            &[first, second][..]
        } else {
            &[first][..]
        };
        for errno in errnos {
            let place = format!("{errno} at {}", point.describe());
            let volume = sealing(Layout::default());
            scene.set(&volume);
            let mount = scene.mount(&volume);
            let played = scene.play(&volume, &mount, Some((&point, Fault::Error(errno))));
            point.was_met(&played.calls, &volume.root());
            scene.is_whole(&volume, &mut reader, &place);
            // What is not worth an error, such as a hint to the kernel, is none; a draft's own error can come first.
            assert!(
                [*errno, "ok", scene.says].contains(&played.said.as_str()),
                "{}: {place}: {}",
                scene.name,
                played.said
            );
            if played.said == *errno {
                scene.recovers(&volume, &mut reader, &mount, &place);
            }
            // A temporary file whose very removal failed is left to be swept.
            let left = leftovers(&volume);
            assert!(
                left.len() <= usize::from(point.name() == "unlinkat"),
                "{}: {place}: {left:?}",
                scene.name
            );
            drop(mount);
            failed += 1;
        }
    }
    report("ENOSPC and EIO, each at as many system calls", failed);
}

const OLD: &str = r#"{"day": 1}"#;

#[test]
fn on_a_full_disk_everything_says_so_and_goes_on_when_there_is_space() {
    let volume = sealing(Layout::default());
    let disk = Disk::new(&volume, volume.base(), 8);
    let mut reader = Reader::new(&volume);
    for name in ["a", "b", "c"] {
        plant(&volume, &format!("schedules/{name}.json"), OLD, true);
    }
    let before = reader.finds(&volume, &[]);
    let mount = volume.mount_sealing(&ALICE);
    mount.shell("echo text > schedules/note");
    let ballast = disk.fill();
    let new = format!(r#"{{"day": 2, "x": "{}"}}"#, "x".repeat(5000));
    let write = |path: &str, text: &str| {
        format!(
            "f = os.open('{path}', os.O_WRONLY | os.O_CREAT | os.O_TRUNC); os.write(f, b'''{text}'''); os.close(f)"
        )
    };
    let mut cases = 0;
    for (statement, expected) in [
        (write("schedules/a.json", &new), "ENOSPC"),
        (write("schedules/new.json", &new), "ENOSPC"),
        (
            write("schedules/b.json", &format!("{{\"half\": \"{}", "x".repeat(5000))),
            "ENOSPC",
        ),
        ("os.mkdir('schedules/below')".to_owned(), "ENOSPC"),
        (
            "f = os.open('schedules/note', os.O_WRONLY); os.pwrite(f, bytes(9000), 0)".to_owned(),
            "ENOSPC",
        ),
        ("os.chmod('schedules/c.json', 0o600)".to_owned(), "ok"),
        (
            "for names in 'cd', 'dc': os.rename(*[f'schedules/{name}.json' for name in names])".to_owned(),
            "ok",
        ),
    ] {
        assert_eq!(
            mount.errno(&statement),
            expected,
            "{}",
            &statement[..60.min(statement.len())]
        );
        assert_eq!(
            reader.finds(
                &volume,
                &["schedules/a.json", "schedules/b.json", "schedules/c.json"]
            ),
            before
        );
        cases += 1;
    }
    assert!(leftovers(&volume).is_empty());
    // What was typed is there, and is saved when there is room.
    assert_eq!(mount.read("schedules/a.json"), new);
    for (name, options) in [
        (
            "erase",
            &["--user-id", "alice", "--yes", "--socket", "/nowhere"][..],
        ),
        ("migrate", &["--from", "resource-first", "--to", "user-first"][..]),
        (
            "reseal",
            &["--sealing-keys", volume.sealing_keys_file().to_str().unwrap()][..],
        ),
    ] {
        volume.has_keys("k2", &[KEY, "k2"]);
        let output = run(operation(&volume, name, options), "");
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        assert!(!output.status.success(), "{name}: {said}");
        assert!(said.contains("No space left"), "{name}: {said}");
        assert_eq!(
            reader.finds(
                &volume,
                &["schedules/a.json", "schedules/b.json", "schedules/c.json"]
            ),
            before,
            "{name}"
        );
        cases += 1;
    }
    fs::remove_file(ballast).unwrap();
    for name in ["a", "new"] {
        let retried = mount.errno(&format!(
            "os.fsync(os.open('schedules/{name}.json', os.O_WRONLY))"
        ));
        assert_eq!(retried, "ok", "{name}");
    }
    assert_eq!(
        mount.errno("os.fsync(os.open('schedules/b.json', os.O_WRONLY))"),
        "EINVAL"
    );
    let after = reader.finds(
        &volume,
        &["schedules/a.json", "schedules/b.json", "schedules/c.json"],
    );
    assert_eq!(
        (
            &after["schedules/a.json"]["day"],
            &after["schedules/new.json"]["day"]
        ),
        (&2.into(), &2.into())
    );
    assert!(mount.unmount().success());
    let keys = volume.sealing_keys_file();
    success(
        operation(&volume, "reseal", &["--sealing-keys", keys.to_str().unwrap()]),
        "",
    );
    success(
        operation(
            &volume,
            "migrate",
            &["--from", "resource-first", "--to", "user-first"],
        ),
        "",
    );
    success(
        operation(
            &volume,
            "migrate",
            &["--from", "user-first", "--to", "resource-first"],
        ),
        "",
    );
    assert_eq!(reader.finds(&volume, &["schedules/a.json"]), after);
    success(
        operation(
            &volume,
            "erase",
            &["--user-id", "alice", "--yes", "--socket", "/nowhere"],
        ),
        "",
    );
    assert!(reader.finds(&volume, &[]).is_empty());
    report("cases on a full ext4", cases);
}

fn operation(volume: &Volume, name: &str, options: &[&str]) -> Command {
    let mut command = tenantfs();
    command
        .env("TENANTFS_LOG", "error")
        .arg(name)
        .arg("--volume")
        .arg(volume.root())
        .args(options);
    command
}

#[test]
fn on_a_disk_that_breaks_the_last_record_is_whole_when_it_is_mended() {
    let volume = sealing(Layout::default());
    let beneath = volume.base().join("beneath");
    fs::create_dir(&beneath).unwrap();
    let mut command = Command::new("mount");
    command
        .args(["-t", "tmpfs", "-o", "size=64m", "beneath"])
        .arg(&beneath);
    success(command, "");
    let beneath = OtherMount { place: beneath };
    // The disk has room; what is beneath it has none, and so its writes fail.
    let mut disk = Disk::new(&volume, &beneath.place, 32);
    let mut reader = Reader::new(&volume);
    plant(&volume, "schedules/a.json", OLD, true);
    let before = reader.finds(&volume, &["schedules/a.json"]);
    let mount = volume.mount_sealing(&ALICE);
    mount.read("schedules/a.json");
    rustix::fs::sync();
    let mut ballast = fs::File::create(beneath.place.join("ballast")).unwrap();
    while std::io::Write::write_all(&mut ballast, &[0xAA; 4096]).is_ok() {}
    let new = format!(r#"{{"day": 2, "x": "{}"}}"#, "x".repeat(100_000));
    let statement = r#"f = os.open('schedules/a.json', os.O_WRONLY | os.O_TRUNC)
os.write(f, b'{"day": 2, "x": "' + b'x' * 100_000 + b'"}')
os.close(f)"#;
    let said = mount.errno(statement);
    assert!(["EIO", "ENOSPC", "EROFS"].contains(&said.as_str()), "{said}");
    assert_eq!(reader.finds(&volume, &["schedules/a.json"]), before);
    // What was typed is shown as long as the session lasts.
    assert_eq!(mount.read("schedules/a.json"), new);
    assert!(leftovers(&volume).is_empty());
    drop(mount);
    fs::remove_file(beneath.place.join("ballast")).unwrap();
    drop(ballast);
    disk.mount_again();
    assert_eq!(reader.finds(&volume, &["schedules/a.json"]), before);
    let mount = volume.mount_sealing(&ALICE);
    assert_eq!(mount.errno(statement), "ok");
    assert_eq!(mount.read("schedules/a.json"), new);
    drop(mount);
    report("cases on an ext4 whose disk fails", 1);
}
