//! What becomes of drafts: nothing that is typed is lost, and nothing is held that nobody needs.

use std::fs;

use tenantfs::error::Kind;
use tenantfs::vfs::{Capacity, Changes, OpenMode, Pools};
use tenantfs::volume::Rename;

use super::{Mounted, READ, WRITE, limits};

const TRUNCATE: OpenMode = OpenMode {
    truncate: true,
    ..WRITE
};

/// More than a record can have.
const TOO_LARGE: u64 = 1 << 40;

fn sized(size: u64) -> Changes {
    Changes {
        size: Some(size),
        ..Changes::default()
    }
}

#[test]
fn what_a_retried_open_found_does_not_undo_a_commit() {
    let mounted = Mounted::new();
    mounted.write("x.json", r#"{"n":0}"#);
    let found = mounted.lookup("x.json");
    mounted.replace("x.json", r#"{"n":1,"user_id":"alice"}"#);
    let stale = mounted.vfs.open(found.ino, READ, 1).unwrap_err();
    assert_eq!(stale.kind(), Kind::Stale);
    let found = mounted.lookup("x.json").ino;
    // Before it opens what it found, another thread writes that very file.
    let other = mounted.vfs.open(found, TRUNCATE, 2).unwrap();
    mounted.vfs.write(other.fh, 0, br#"{"n":2}"#, false).unwrap();
    mounted.vfs.flush(other.fh, 2).unwrap();

    let opened = mounted.vfs.open(found, READ, 1).unwrap();
    assert_eq!(mounted.vfs.read(opened.fh, 0, 100).unwrap(), br#"{"n":2}"#);
    assert_eq!(mounted.vfs.read(other.fh, 0, 100).unwrap(), br#"{"n":2}"#);
    mounted.vfs.write(other.fh, 7, b" ", false).unwrap();
    mounted.vfs.flush(other.fh, 2).unwrap();
    assert_eq!(mounted.read("x.json"), r#"{"n":2} "#);
}

#[test]
fn what_a_retried_lookup_found_is_not_told_after_a_commit() {
    let mounted = Mounted::new();
    mounted.write("x.json", r#"{"n":0}"#);
    let found = mounted.lookup("x.json");
    mounted.replace("x.json", r#"{"n":1,"user_id":"alice"}"#);
    assert!(mounted.vfs.open(found.ino, READ, 1).is_err());
    let found = mounted.lookup("x.json").ino;
    let other = mounted.vfs.open(found, TRUNCATE, 2).unwrap();
    mounted.vfs.write(other.fh, 0, br#"{"n":2}"#, false).unwrap();
    mounted.vfs.flush(other.fh, 2).unwrap();
    assert_eq!(mounted.lookup("x.json").attributes.size, 7);
}

#[test]
fn a_change_that_is_refused_leaves_no_draft() {
    let mounted = Mounted::new();
    mounted.write("x.json", "{}");
    let node = mounted.lookup("x.json").ino;
    let refused = mounted.vfs.setattr(node, None, sized(TOO_LARGE), 1).unwrap_err();
    assert_eq!(refused.kind(), Kind::TooLarge);
    mounted.replace("x.json", r#"{"n":1,"user_id":"alice"}"#);
    assert_eq!(mounted.read("x.json"), r#"{"n":1,"user_id":"alice"}"#);
    mounted.vfs.settle_all();
    assert_eq!(mounted.stored("x.json"), r#"{"n":1,"user_id":"alice"}"#);
    mounted.vfs.forget(node, 1);
    assert_eq!(mounted.vfs.known_inodes().len(), 2, "the root and the resource");
}

#[test]
fn a_change_that_is_refused_leaves_the_refusal_of_what_was_typed_before() {
    let mounted = Mounted::new();
    let (_, fh) = mounted.create("x.json", WRITE);
    mounted.vfs.write(fh, 0, b"n = 1", false).unwrap();
    assert_eq!(mounted.vfs.flush(fh, 1).unwrap_err().kind(), Kind::InvalidRecord);
    assert!(mounted.vfs.write(fh, TOO_LARGE, b"x", false).is_err());
    assert_eq!(mounted.vfs.flush(fh, 1).unwrap_err().kind(), Kind::InvalidRecord);
    mounted.vfs.release(fh);
    assert_eq!(mounted.read("x.json"), "n = 1");
}

#[test]
fn memory_that_a_refused_change_took_is_given_back() {
    let pools = Pools::new(Capacity::shared(100, 800 << 10));
    let mounted = Mounted::within(limits(&pools, "one"));
    let record = format!(r#"{{"a":"{}"}}"#, "x".repeat(300 << 10));
    mounted.write("x.json", &record);
    let node = mounted.lookup("x.json").ino;
    // There is room for what is read, and not for the draft beside it.
    let refused = mounted.vfs.setattr(node, None, sized(5), 1).unwrap_err();
    assert_eq!(refused.kind(), Kind::NoSpace);
    assert_eq!(pools.held(), 0);
}

#[test]
fn a_displaced_record_that_could_not_be_written_for_want_of_memory_is_forgotten() {
    let pools = Pools::new(Capacity::shared(100, 800 << 10));
    let mounted = Mounted::within(limits(&pools, "one"));
    let record = format!(r#"{{"a":"{}"}}"#, "x".repeat(300 << 10));
    mounted.write("x.json", &record);
    let node = mounted.lookup("x.json").ino;
    let opened = mounted.vfs.open(node, WRITE, 1).unwrap();
    mounted.replace("x.json", r#"{"n":1,"user_id":"alice"}"#);
    let other = mounted.lookup("x.json").ino;
    let refused = mounted.vfs.write(opened.fh, 0, b"{", false).unwrap_err();
    assert_eq!(refused.kind(), Kind::NoSpace);
    mounted.vfs.release(opened.fh);
    mounted.vfs.forget(node, 1);
    mounted.vfs.forget(other, 1);
    assert_eq!(mounted.vfs.known_inodes().len(), 2, "the root and the resource");
}

#[test]
fn a_draft_that_is_kept_after_the_last_close_takes_no_memory() {
    let pools = Pools::new(Capacity::shared(100, 1 << 20));
    let mounted = Mounted::within(limits(&pools, "one"));
    let (_, fh) = mounted.create("x.json", WRITE);
    mounted.vfs.write(fh, 0, b"n = 1", false).unwrap();
    mounted.vfs.release_without_commit(fh);
    assert_eq!(pools.held(), 5);
    mounted.vfs.settle_closed();
    assert_eq!(pools.held(), 0);
    assert_eq!(mounted.read("x.json"), "n = 1");
}

#[test]
fn truncating_by_path_what_others_replaced_looks_again() {
    let mounted = Mounted::new();
    mounted.write("x.json", r#"{"n":1}  "#);
    let old = mounted.lookup("x.json").ino;
    let reader = mounted.vfs.open(old, READ, 1).unwrap();
    let record = r#"{"n":2,"user_id":"alice"}"#;
    mounted.replace("x.json", record);
    let stale = mounted.vfs.setattr(old, None, sized(7), 1).unwrap_err();
    assert_eq!(stale.kind(), Kind::Stale);
    assert_eq!(mounted.stored("x.json"), record);
    assert_eq!(mounted.vfs.read(reader.fh, 0, 100).unwrap(), br#"{"n":1}  "#);
}

#[test]
fn what_is_open_and_removed_can_be_truncated_without_a_handle() {
    let mounted = Mounted::new();
    mounted.write("x.json", r#"{"n":1}  "#);
    let node = mounted.lookup("x.json").ino;
    let opened = mounted.vfs.open(node, WRITE, 1).unwrap();
    mounted.vfs.unlink(mounted.schedules, b"x.json", 1).unwrap();
    // As through /proc/self/fd.
    assert_eq!(
        mounted
            .vfs
            .setattr(node, None, sized(7), 1)
            .unwrap()
            .attributes
            .size,
        7
    );
    assert_eq!(mounted.vfs.read(opened.fh, 0, 100).unwrap(), br#"{"n":1}"#);
    mounted.vfs.flush(opened.fh, 1).unwrap();
    mounted.vfs.release(opened.fh);
    assert!(mounted.absent("x.json") && !mounted.path("x.json").exists());
}

/// The kernel sends a sync of its own after each write, and after nothing else.
#[test]
fn a_sync_that_no_write_brought_tells_what_is_wrong() {
    let mounted = Mounted::new();
    let synchronous = OpenMode {
        synchronous: true,
        ..WRITE
    };
    let (node, fh) = mounted.create("x.json", synchronous);
    mounted.vfs.write(fh, 0, br#"{"n":1}"#, false).unwrap();
    mounted.vfs.fsync(fh, false).unwrap();
    mounted.vfs.setattr(node, Some(fh), sized(5), 1).unwrap();
    assert_eq!(
        mounted.vfs.fsync(fh, false).unwrap_err().kind(),
        Kind::IncompleteRecord
    );
    assert!(mounted.vfs.write(fh, TOO_LARGE, b"x", false).is_err());
    assert_eq!(
        mounted.vfs.fsync(fh, false).unwrap_err().kind(),
        Kind::IncompleteRecord
    );
    mounted.vfs.write(fh, 5, b"2", false).unwrap();
    mounted.vfs.fsync(fh, false).unwrap();
    assert_eq!(
        mounted.vfs.fsync(fh, false).unwrap_err().kind(),
        Kind::IncompleteRecord
    );
}

#[test]
fn a_draft_with_a_secret_that_is_still_open_is_renamed_as_any_other() {
    let mounted = Mounted::new();
    let here = mounted.schedules;
    let (_, fh) = mounted.create("x.json", WRITE);
    mounted.vfs.write(fh, 0, br#"{"api_key":"typed""#, false).unwrap();
    mounted
        .vfs
        .rename((here, b"x.json"), (here, b"y.json"), Rename::Replace, 1)
        .unwrap();
    assert_eq!(mounted.read("y.json"), r#"{"api_key":"typed""#);
    assert!(mounted.absent("x.json"));
}

#[test]
fn the_mode_of_a_kept_draft_that_is_open_changes() {
    let mounted = Mounted::new();
    let (node, fh) = mounted.create("x.json", WRITE);
    mounted.vfs.write(fh, 0, b"n = 1", false).unwrap();
    assert!(mounted.vfs.flush(fh, 1).is_err());
    let mode = Changes {
        mode: Some(0o600),
        ..Changes::default()
    };
    assert_eq!(
        mounted.vfs.setattr(node, None, mode, 1).unwrap().attributes.mode,
        0o600
    );
    mounted.vfs.write(fh, 0, br#"{"n":1}"#, false).unwrap();
    mounted.vfs.flush(fh, 1).unwrap();
    assert_eq!(mounted.lookup("x.json").attributes.mode, 0o600);
}

#[test]
fn truncating_through_a_descriptor_that_only_reads_is_a_write() {
    let mounted = Mounted::new();
    mounted.write("x.json", "{}");
    let truncate = OpenMode {
        truncate: true,
        ..READ
    };
    let opened = mounted
        .vfs
        .open(mounted.lookup("x.json").ino, truncate, 1)
        .unwrap();
    assert!(!opened.no_flush);
    mounted.vfs.flush(opened.fh, 1).unwrap();
    mounted.vfs.release(opened.fh);
    // The volume has it: another session sees it, and so is what that one writes.
    assert_eq!(mounted.again().read("x.json"), "");
    mounted.again().write("x.json", r#"{"n":1}"#);
    assert_eq!(mounted.read("x.json"), r#"{"n":1}"#);
}

#[test]
fn a_draft_in_memory_is_in_the_way_of_a_rename_that_replaces_nothing_or_exchanges() {
    let mounted = Mounted::new();
    let here = mounted.schedules;
    mounted.write("x.json", r#"{"n":1}"#);
    let (_, fh) = mounted.create("y.json", WRITE);
    mounted.vfs.write(fh, 0, br#"{"api_key":"typed""#, false).unwrap();
    let rename = |how| {
        let renamed = mounted.vfs.rename((here, b"x.json"), (here, b"y.json"), how, 1);
        renamed.unwrap_err().kind()
    };
    assert_eq!(rename(Rename::NoReplace), Kind::Exists);
    assert_eq!(rename(Rename::Exchange), Kind::Busy);
    assert_eq!(mounted.read("y.json"), r#"{"api_key":"typed""#);
    assert_eq!(mounted.read("x.json"), r#"{"n":1}"#);
}

#[test]
fn a_rename_to_itself_changes_nothing() {
    let mounted = Mounted::new();
    let here = mounted.schedules;
    let (_, fh) = mounted.create("x.json", WRITE);
    mounted.vfs.write(fh, 0, br#"{"n":1}"#, false).unwrap();
    for how in [Rename::Replace, Rename::Exchange] {
        mounted
            .vfs
            .rename((here, b"x.json"), (here, b"x.json"), how, 1)
            .unwrap();
    }
    mounted.vfs.write(fh, 0, br#"{"n":2}"#, false).unwrap();
    mounted.vfs.flush(fh, 1).unwrap();
    assert_eq!(mounted.read("x.json"), r#"{"n":2}"#);
}

#[test]
fn a_draft_in_memory_is_removed_and_what_waits_goes_on_waiting() {
    let mounted = Mounted::new();
    mounted.replace("x.json", r#"{"n":1,"api_key":"sk","user_id":"alice"}"#);
    let here = mounted.schedules;
    mounted.lookup("x.json");
    mounted.vfs.unlink(here, b"x.json", 1).unwrap();
    let (_, fh) = mounted.create("x.json", WRITE);
    mounted.vfs.write(fh, 0, br#"{"n":2}"#, false).unwrap();
    mounted.vfs.unlink(here, b"x.json", 1).unwrap();
    mounted.vfs.release(fh);
    assert!(mounted.absent("x.json"));
    mounted.vfs.store().restore("schedules/x.json").unwrap();
    assert!(mounted.stored("x.json").contains("sk"));
    fs::remove_file(mounted.path("x.json")).unwrap();
}

#[test]
fn a_kept_draft_keeps_its_number_when_its_attributes_or_its_name_change() {
    let mode = Changes {
        mode: Some(0o600),
        ..Changes::default()
    };
    let times = Changes {
        times: tenantfs::volume::Times {
            mtime: Some(tenantfs::clock::now()),
            ..Default::default()
        },
        ..Changes::default()
    };
    for change in [Some(mode), Some(times), None] {
        let mounted = Mounted::new();
        let (_, fh) = mounted.create("x.json", WRITE);
        mounted.vfs.write(fh, 0, b"n = 1", false).unwrap();
        assert!(mounted.vfs.flush(fh, 1).is_err());
        mounted.vfs.release(fh);
        let (next, last) = (mounted.again(), mounted.again());
        let here = next.schedules;
        let number = next.lookup("x.json").ino;
        let name = match change {
            Some(change) => {
                next.vfs.setattr(number, None, change, 1).unwrap();
                "x.json"
            }
            None => {
                let renamed = next
                    .vfs
                    .rename((here, b"x.json"), (here, b"y.json"), Rename::Replace, 1);
                renamed.unwrap();
                "y.json"
            }
        };
        assert_eq!(last.lookup(name).ino, number, "{change:?}");
    }
}
