//! What is promised on inode numbers, handles, listings and memory.

use std::collections::BTreeSet;
use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

use tenantfs::error::Kind;
use tenantfs::vfs::{Capacity, Changes, Pools};
use tenantfs::volume::Rename;

use super::{Mounted, READ, WRITE, limits};

#[test]
fn nothing_is_left_of_a_million_lookups() {
    let mounted = Mounted::new();
    for number in 0..100 {
        mounted.write(&format!("{number}.json"), "{}");
        mounted.write(&format!("{number}.txt"), "text");
    }
    let before = mounted.vfs.known_inodes().len();
    assert_eq!(before, 2, "the root and the resource");
    let names: Vec<_> = (0..100)
        .flat_map(|number| {
            [
                format!("{number}.json"),
                format!("{number}.txt"),
                format!("{number}.absent"),
            ]
        })
        .collect();
    for _ in 0..10_000 / 3 + 1 {
        for name in &names {
            if let Ok(node) = mounted.vfs.lookup(mounted.schedules, name.as_bytes(), 1) {
                mounted.vfs.forget(node.ino, 1);
            }
        }
    }
    assert_eq!(mounted.vfs.known_inodes().len(), before);
}

#[test]
fn an_inode_keeps_its_number_when_it_is_saved_and_stays_known_as_often_as_it_was_looked_up() {
    let mounted = Mounted::new();
    mounted.write("x.json", "{}");
    let first = mounted.lookup("x.json");
    let again = mounted.lookup("x.json");
    assert_eq!(first.ino, again.ino);
    mounted.write("x.json", r#"{"n":1}"#);
    assert_eq!(mounted.lookup("x.json").ino, first.ino);
    mounted.vfs.forget(first.ino, 2);
    assert!(mounted.vfs.getattr(first.ino).is_ok());
    mounted.vfs.forget(first.ino, 1);
    let unknown = mounted.vfs.getattr(first.ino).unwrap_err();
    assert_eq!(unknown.kind(), Kind::Stale);
}

#[test]
fn who_has_a_record_open_reads_on_what_was_opened() {
    for in_place in [false, true] {
        let mounted = Mounted::new();
        mounted.write("x.json", r#"{"n":1}"#);
        let old = mounted.lookup("x.json");
        let opened = mounted.vfs.open(old.ino, READ, 1).unwrap();
        let record = r#"{"n":"rewritten, and longer","user_id":"alice"}"#;
        match in_place {
            true => fs::write(mounted.path("x.json"), record).unwrap(),
            false => mounted.replace("x.json", record),
        }
        assert_ne!(mounted.lookup("x.json").ino, old.ino);
        assert_eq!(mounted.read("x.json"), record);
        assert_eq!(mounted.vfs.read(opened.fh, 0, 100).unwrap(), br#"{"n":1}"#);
        assert_eq!(mounted.vfs.getattr(old.ino).unwrap().attributes.size, 7);
        mounted.vfs.release(opened.fh);
    }
}

#[test]
fn nothing_written_is_lost_to_a_replacement_meanwhile() {
    let mounted = Mounted::new();
    mounted.write("x.json", r#"{"n":1}"#);
    let node = mounted.lookup("x.json");
    let opened = mounted.vfs.open(node.ino, WRITE, 1).unwrap();
    mounted.replace("x.json", r#"{"n":2,"api_key":"sk","user_id":"alice"}"#);
    assert_ne!(mounted.lookup("x.json").ino, node.ino, "nothing is written yet");
    assert_eq!(mounted.read("x.json"), r#"{"n":2,"user_id":"alice"}"#);
    mounted.vfs.write(opened.fh, 0, br#"{"n":3}"#, false).unwrap();
    assert_eq!(mounted.lookup("x.json").ino, node.ino, "it is being written");
    mounted.vfs.flush(opened.fh, 1).unwrap();
    mounted.vfs.release(opened.fh);
    assert_eq!(mounted.read("x.json"), r#"{"n":3}"#);
    let stored = fs::read_to_string(mounted.path("x.json")).unwrap();
    assert_eq!(stored, r#"{"n":3,"api_key":"sk","user_id" :"alice"}"#);
}

#[test]
fn the_page_cache_is_filled_once_with_what_was_verified() {
    let mounted = Mounted::new();
    mounted.replace("x.json", r#"{"n":1,"api_key":"sk","user_id":"alice"}"#);
    let node = mounted.lookup("x.json");
    for _ in 0..3 {
        let opened = mounted.vfs.open(node.ino, READ, 1).unwrap();
        assert!(opened.keep_cache && opened.no_flush);
        mounted.vfs.release(opened.fh);
    }
    let view = br#"{"n":1,"user_id":"alice"}"#.to_vec();
    assert_eq!(*mounted.pages.filled.lock(), [(node.ino, view)]);
    // Another content is another inode.
    mounted.replace("x.json", r#"{"n":2,"user_id":"alice"}"#);
    assert_eq!(mounted.read("x.json"), r#"{"n":2,"user_id":"alice"}"#);
    assert_eq!(mounted.pages.filled.lock().len(), 2);
}

/// The kernel looks a stale name up once more, and no further time.
#[test]
fn a_record_that_is_replaced_again_and_again_can_be_opened() {
    let mounted = Mounted::new();
    mounted.write("x.json", r#"{"n":0}"#);
    let record = |number: u32| format!(r#"{{"n":{number},"user_id":"alice"}}"#);
    mounted.replace("x.json", &record(100));
    let found = mounted.lookup("x.json");
    mounted.replace("x.json", &record(101));
    let stale = mounted.vfs.open(found.ino, READ, 1).unwrap_err();
    assert_eq!(stale.kind(), Kind::Stale);

    let mut found = mounted.lookup("x.json");
    mounted.replace("x.json", &record(102));
    // It may look up twice before it opens, and has what it found last.
    let first = std::mem::replace(&mut found, mounted.lookup("x.json"));
    assert_ne!(first.ino, found.ino);
    mounted.replace("x.json", &record(103));
    let opened = mounted.vfs.open(found.ino, READ, 1).unwrap();
    let text = mounted.vfs.read(opened.fh, 0, 100).unwrap();
    assert_eq!(
        String::from_utf8(text).unwrap(),
        record(102),
        "what was looked up"
    );
    assert_eq!(found.attributes.size, record(102).len() as u64);
    mounted.vfs.release(opened.fh);

    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(mounted.read("x.json"), record(103));
}

#[test]
fn the_end_of_a_write_is_the_close_by_the_process_that_opened() {
    let mounted = Mounted::new();
    let mut other = Command::new("sleep")
        .arg("60")
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    let me = std::process::id();
    let (_, opened) = mounted
        .vfs
        .create(mounted.schedules, b"x.json", 0o644, WRITE, me)
        .unwrap();
    mounted.vfs.write(opened.fh, 0, br#"{"n":"#, false).unwrap();
    mounted.vfs.flush(opened.fh, other.id()).unwrap();
    assert!(!mounted.path("x.json").exists());

    // The kernel tells threads.
    let worker = std::thread::scope(|scope| {
        let close = || {
            let me = rustix::thread::gettid().as_raw_pid().cast_unsigned();
            mounted.vfs.flush(opened.fh, me).unwrap_err().kind()
        };
        scope.spawn(close).join().unwrap()
    });
    assert_eq!(
        worker,
        Kind::IncompleteRecord,
        "a thread of the opener's closes for the opener"
    );

    mounted.vfs.write(opened.fh, 5, b"1}", false).unwrap();
    mounted.vfs.flush(opened.fh, other.id()).unwrap();
    assert!(mounted.path("x.json").exists());
    other.kill().unwrap();
    other.wait().unwrap();
}

#[test]
fn a_listing_goes_on_where_it_was_while_names_come_and_go() {
    let mounted = Mounted::new();
    let names = |range: std::ops::Range<usize>| {
        range
            .map(|number| format!("{number:03}.json"))
            .collect::<BTreeSet<_>>()
    };
    for name in names(0..50) {
        mounted.write(&name, "{}");
    }
    let fh = mounted.vfs.opendir(mounted.schedules, 1).unwrap().fh;
    let mut seen = Vec::new();
    let mut offset = 0;
    for round in 0.. {
        let mut taken = 0;
        let mut last = offset;
        mounted
            .vfs
            .readdir(fh, offset, |listed| {
                if taken == 7 {
                    return false;
                }
                taken += 1;
                last = listed.next_offset;
                seen.push(listed.name.as_str().to_owned());
                true
            })
            .unwrap();
        if taken == 0 {
            break;
        }
        offset = last;
        // What was listed goes; what is new comes.
        let gone = seen.last().unwrap().clone();
        mounted.vfs.unlink(mounted.schedules, gone.as_bytes(), 1).unwrap();
        mounted.write(&format!("new-{round}.json"), "{}");
    }
    mounted.vfs.releasedir(fh);
    assert_eq!(seen[..2], [".", ".."]);
    let once: BTreeSet<_> = seen[2..].iter().cloned().collect();
    assert_eq!(once.len(), seen.len() - 2, "no name twice");
    assert!(
        once.is_superset(&names(0..50)),
        "every name that was there all the time, once"
    );
}

#[test]
fn a_file_that_changes_its_kind_keeps_its_number_and_its_open_handles() {
    let mounted = Mounted::new();
    mounted.write("x.txt", r#"{"n":1}"#);
    let node = mounted.lookup("x.txt");
    let opened = mounted.vfs.open(node.ino, READ, 1).unwrap();
    let here = mounted.schedules;
    mounted
        .vfs
        .rename((here, b"x.txt"), (here, b"x.json"), Rename::Replace, 1)
        .unwrap();
    assert_eq!(mounted.lookup("x.json").ino, node.ino);
    assert_eq!(mounted.read("x.json"), r#"{"n":1}"#);
    assert_eq!(mounted.vfs.read(opened.fh, 0, 100).unwrap(), br#"{"n":1}"#);
    assert!(mounted.absent("x.txt"));
    mounted.vfs.release(opened.fh);

    mounted
        .vfs
        .rename((here, b"x.json"), (here, b"y.txt"), Rename::Replace, 1)
        .unwrap();
    assert_eq!(mounted.lookup("y.txt").ino, node.ino);
    assert_eq!(mounted.read("y.txt"), r#"{"n":1}"#);
}

#[test]
fn drafts_cannot_take_all_memory() {
    let mounted = Mounted::new();
    let mut open = Vec::new();
    let refused = loop {
        let name = format!("{}.json", open.len());
        let (_, opened) = mounted
            .vfs
            .create(mounted.schedules, name.as_bytes(), 0o644, WRITE, 1)
            .unwrap();
        open.push(opened.fh);
        let grown = Changes {
            size: Some(16 << 20),
            ..Changes::default()
        };
        let ino = mounted.lookup(&name).ino;
        if let Err(error) = mounted.vfs.setattr(ino, Some(opened.fh), grown, 1) {
            break error;
        }
        assert!(open.len() < 1000);
    };
    assert_eq!(refused.kind(), Kind::NoSpace);
}

#[test]
fn a_flood_of_open_files_leaves_room_for_others_and_is_over_when_they_are_closed() {
    let pools = Pools::new(Capacity::shared(100, 1 << 30));
    let (one, other) = (
        Mounted::within(limits(&pools, "one")),
        Mounted::within(limits(&pools, "other")),
    );
    for mounted in [&one, &other] {
        mounted.write("x.json", "{}");
        mounted.write("x.txt", "text");
    }
    let (record, attachment) = (one.lookup("x.json").ino, one.lookup("x.txt").ino);
    let mut held = Vec::new();
    let refused = loop {
        match one.vfs.open([record, attachment][held.len() % 2], READ, 1) {
            Ok(opened) => held.push(opened.fh),
            Err(error) => break error,
        }
    };
    assert_eq!((refused.kind(), held.len()), (Kind::TooManyOpen, 50));
    let refused = one.vfs.opendir(one.schedules, 1).unwrap_err();
    assert_eq!(refused.kind(), Kind::TooManyOpen);
    assert_eq!(other.read("x.json"), "{}");
    let directories: Vec<_> = (0..20)
        .map(|_| other.vfs.opendir(other.schedules, 1).unwrap().fh)
        .collect();
    other.write("y.json", "{}");
    directories.into_iter().for_each(|fh| other.vfs.releasedir(fh));
    held.into_iter().for_each(|fh| one.vfs.release(fh));
    assert_eq!(one.vfs.open_handles() + other.vfs.open_handles(), 0);
    one.write("y.json", "{}");
}

#[test]
fn what_is_open_takes_no_more_memory_than_there_is_and_gives_it_back() {
    let pools = Pools::new(Capacity::shared(10_000, 4 << 20));
    let (one, other) = (
        Mounted::within(limits(&pools, "one")),
        Mounted::within(limits(&pools, "other")),
    );
    let record = format!("{{\"a\":\"{}\"}}", "x".repeat(100 << 10));
    for number in 0..30 {
        one.write(&format!("{number}.json"), &record);
    }
    other.write("x.json", &record);
    let opened: Vec<_> = (0..30)
        .map(|number| one.vfs.open(one.lookup(&format!("{number}.json")).ino, READ, 1))
        .collect();
    let held: Vec<_> = opened.iter().flatten().map(|opened| opened.fh).collect();
    assert_eq!(held.len(), 20, "half of four megabytes");
    let refused = opened.into_iter().find_map(Result::err).unwrap();
    assert_eq!(refused.kind(), Kind::OutOfMemory);
    // The same record once more takes nothing more.
    assert!(one.vfs.open(one.lookup("0.json").ino, READ, 1).is_ok());
    assert_eq!(other.read("x.json"), record);
    other.write("y.json", &record);

    held.into_iter().for_each(|fh| one.vfs.release(fh));
    assert_eq!(one.read("29.json"), record);
    // Records that are written and stay open count as they are read.
    let mut written = 0;
    while let Ok((_, opened)) = one.vfs.create(
        one.schedules,
        format!("w{written}.json").as_bytes(),
        0o644,
        WRITE,
        1,
    ) {
        if one.vfs.write(opened.fh, 0, record.as_bytes(), false).is_err()
            || one.vfs.flush(opened.fh, 1).is_err()
        {
            break;
        }
        written += 1;
    }
    assert!((10..=20).contains(&written), "{written}");
}

#[test]
fn what_the_kernel_is_kept_from_forgetting_is_counted_and_leaves_room_for_others() {
    let pools = Pools::new(Capacity {
        inodes: 1000,
        ..Capacity::shared(10_000, 1 << 30)
    });
    let (one, other) = (
        Mounted::within(limits(&pools, "one")),
        Mounted::within(limits(&pools, "other")),
    );
    for mounted in [&one, &other] {
        for number in 0..700 {
            mounted.replace(&format!("{number}.txt"), "text");
        }
    }
    let mut held = Vec::new();
    let refused = loop {
        let name = format!("{}.txt", held.len());
        match one.vfs.lookup(one.schedules, name.as_bytes(), 1) {
            Ok(info) => held.push(info.ino),
            Err(error) => break error,
        }
    };
    assert_eq!(refused.kind(), Kind::TooManyOpen);
    assert!((400..=500).contains(&held.len()), "{}", held.len());
    let again = one.vfs.lookup(one.schedules, b"0.txt", 1).unwrap();
    one.vfs.forget(again.ino, 1);
    other.read("0.txt");
    for ino in held {
        one.vfs.forget(ino, 1);
    }
    one.read("699.txt");
}

#[test]
fn listings_are_counted_too() {
    let pools = Pools::new(Capacity::shared(10_000, 64 << 10));
    let mounted = Mounted::within(limits(&pools, "one"));
    for number in 0..200 {
        mounted.write(&format!("{number}.json"), "{}");
    }
    let list = |fh| mounted.vfs.readdir(fh, 0, |_| true);
    let listings: Vec<_> = (0..20)
        .map(|_| mounted.vfs.opendir(mounted.schedules, 1).unwrap().fh)
        .collect();
    let results: Vec<_> = listings.iter().map(|fh| list(*fh)).collect();
    let refused = results.into_iter().find_map(Result::err).unwrap();
    assert_eq!(refused.kind(), Kind::OutOfMemory);
    listings.into_iter().for_each(|fh| mounted.vfs.releasedir(fh));
    let fh = mounted.vfs.opendir(mounted.schedules, 1).unwrap().fh;
    list(fh).unwrap();
    list(fh).unwrap();
}
