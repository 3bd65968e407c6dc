//! What others do on the volume meanwhile: the kernel is told, and nothing stands still for it.

use std::fs;

use tenantfs::error::Kind;
use tenantfs::vfs::{Changes, Target};

use super::{Mounted, READ, WRITE};

const MODE: Changes = Changes {
    mode: Some(0o600),
    uid: None,
    gid: None,
    size: None,
    times: tenantfs::volume::Times {
        atime: None,
        mtime: None,
    },
};

/// Takes note of what changed on the volume, once the kernel has told of it.
fn notice(mounted: &Mounted) {
    std::thread::sleep(std::time::Duration::from_millis(200));
    mounted.vfs.notice_changes();
}

#[test]
fn directories_that_others_turn_inside_out_have_paths_that_end() {
    let mounted = Mounted::new();
    let outer = mounted
        .vfs
        .mkdir(mounted.schedules, b"outer", 0o700, 1)
        .unwrap()
        .ino;
    let inner = mounted.vfs.mkdir(outer, b"inner", 0o700, 1).unwrap().ino;
    assert!(mounted.vfs.lookup(inner, b"x.json", 1).is_err());
    fs::rename(mounted.path("outer/inner"), mounted.path("inner")).unwrap();
    fs::rename(mounted.path("outer"), mounted.path("inner/outer")).unwrap();
    // Of somebody who stands in the inner one.
    assert_eq!(mounted.vfs.lookup(inner, b"outer", 1).unwrap().ino, outer);
    mounted.vfs.path(Target::Inode(outer));
    // Everything that is remembered of open directories is let go.
    let here = mounted.schedules;
    mounted.write("x.txt", "text");
    mounted.lookup("x.txt");
    let how = tenantfs::volume::Rename::Replace;
    mounted
        .vfs
        .rename((here, b"x.txt"), (here, b"y.txt"), how, 1)
        .unwrap();
    let lost = mounted.vfs.lookup(outer, b"x.json", 1).unwrap_err();
    assert_eq!(lost.kind(), Kind::Stale);
    assert_eq!(mounted.lookup("inner").ino, inner);
    assert_eq!(mounted.vfs.path(Target::Inode(outer)), "schedules/inner/outer");
}

#[test]
fn an_attachment_that_others_rewrite_is_read_anew_whatever_was_written_here_before() {
    let mounted = Mounted::new();
    let (node, fh) = mounted.create("x.txt", WRITE);
    mounted.vfs.write(fh, 0, b"ours", false).unwrap();
    mounted.lookup("x.txt");
    notice(&mounted);
    mounted.pages.dropped.lock().clear();
    fs::write(mounted.path("x.txt"), "theirs, longer").unwrap();
    notice(&mounted);
    assert!(mounted.pages.dropped.lock().contains(&node));
}

#[test]
fn a_draft_that_another_session_keeps_is_told() {
    let mounted = Mounted::new();
    mounted.write("x.json", "{}");
    mounted.lookup("x.json");
    notice(&mounted);
    mounted.pages.dropped_names.lock().clear();
    let other = mounted.again();
    let fh = other.vfs.open(other.lookup("x.json").ino, WRITE, 1).unwrap().fh;
    other.vfs.write(fh, 0, b"n = 1", false).unwrap();
    assert!(other.vfs.flush(fh, 1).is_err());
    notice(&mounted);
    assert_eq!(*mounted.pages.dropped_names.lock(), ["x.json"]);
    assert_eq!(mounted.read("x.json"), "n = 1");
}

/// The kernel looks a stale name up once more, and no further time.
#[test]
fn what_is_replaced_again_and_again_can_be_changed() {
    let mounted = Mounted::new();
    let record = |number: u32| format!(r#"{{"n":{number},"user_id":"alice"}}"#);
    mounted.replace("x.json", &record(0));
    let found = mounted.lookup("x.json").ino;
    mounted.replace("x.json", &record(1));
    let stale = mounted.vfs.setattr(found, None, MODE, 1).unwrap_err();
    assert_eq!(stale.kind(), Kind::Stale);
    let found = mounted.lookup("x.json").ino;
    mounted.replace("x.json", &record(2));
    assert_eq!(
        mounted.vfs.setattr(found, None, MODE, 1).unwrap().attributes.mode,
        0o600
    );
    assert_eq!(mounted.lookup("x.json").attributes.mode, 0o600);
    assert_eq!(mounted.read("x.json"), record(2));
}

#[test]
fn an_attachment_that_was_replaced_can_be_changed() {
    let mounted = Mounted::new();
    mounted.replace("x.txt", "one");
    let found = mounted.lookup("x.txt").ino;
    mounted.replace("x.txt", "two, longer");
    let changed = mounted.vfs.setattr(found, None, MODE, 1).unwrap().attributes;
    assert_eq!((changed.mode, changed.size), (0o600, 11));
    assert_eq!(mounted.lookup("x.txt").ino, found);
}

#[test]
fn a_directory_is_not_taken_for_one_that_is_gone() {
    let mounted = Mounted::new();
    for round in 0..50 {
        fs::create_dir(mounted.path("sub")).unwrap();
        let node = mounted.lookup("sub").ino;
        let file = format!("sub/{round}.txt");
        fs::write(mounted.path(&file), "text").unwrap();
        let name = format!("{round}.txt");
        let found = mounted.vfs.lookup(node, name.as_bytes(), 1).unwrap().ino;
        mounted.vfs.forget(found, 1);
        mounted.vfs.forget(node, 1);
        fs::remove_dir_all(mounted.path("sub")).unwrap();
    }
    fs::create_dir(mounted.path("sub")).unwrap();
    let node = mounted.lookup("sub").ino;
    let fh = mounted.vfs.open(
        {
            fs::write(mounted.path("sub/x.txt"), "text").unwrap();
            mounted.vfs.lookup(node, b"x.txt", 1).unwrap().ino
        },
        READ,
        1,
    );
    assert!(fh.is_ok());
}
