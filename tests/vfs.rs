//! The file system without a kernel: what it promises on inode numbers, handles and drafts can be asked of it directly.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tempfile::TempDir;
use tenantfs::auth::{ApiKey, StaticKeys, key_hash};
use tenantfs::error::Kind;
use tenantfs::event::LogObserver;
use tenantfs::name::EntryName;
use tenantfs::store::{Options, Store};
use tenantfs::vfs::{Changes, Ino, Limits, NodeInfo, OpenMode, PageCache, Pools, ROOT, Vfs};
use tenantfs::volume::{Rename, Volume};

const UID: u32 = 1000;
const ALICE: &str = "2bd806c97f0e00af";

const READ: OpenMode = OpenMode {
    write: false,
    append: false,
    truncate: false,
    exclusive: false,
    synchronous: false,
};
const WRITE: OpenMode = OpenMode { write: true, ..READ };

/// A kernel that notes what it is asked to keep.
#[derive(Default)]
struct Pages {
    filled: Mutex<Vec<(Ino, Vec<u8>)>>,
    /// The directories of which it was told that their listings are no longer so.
    noticed: Mutex<Vec<Ino>>,
}

impl PageCache for Pages {
    fn fill(&self, ino: Ino, content: &[u8]) -> bool {
        self.filled.lock().push((ino, content.to_vec()));
        true
    }

    fn drop_soon(&self, _: Ino) {}

    fn drop_attributes(&self, _: Ino) {}

    fn notice_soon(&self) {}

    fn drop_name(&self, _: Ino, _: &EntryName) {}

    fn drop_listing(&self, ino: Ino) {
        self.noticed.lock().push(ino);
    }
}

struct Mounted {
    vfs: Vfs,
    pages: Arc<Pages>,
    schedules: Ino,
    volume: TempDir,
}

impl Mounted {
    fn new() -> Self {
        Self::within(Pools::alone().limits())
    }

    fn within(limits: Limits) -> Self {
        let volume = TempDir::new().unwrap();
        let key = ApiKey::new("sesame").unwrap();
        let keys = format!(
            r#"{{"keys":[{{"sha256":"{}","user_id":"alice"}}]}}"#,
            key_hash(&key)
        );
        let alice = StaticKeys::parse(&keys).unwrap().authenticate(&key).unwrap();
        let observer = Arc::new(LogObserver::default());
        let opened = Volume::open(volume.path()).unwrap();
        let store = Store::open(&opened, &alice, Options::default(), observer).unwrap();
        let pages = Arc::new(Pages::default());
        let vfs = Vfs::new(store, UID, UID, Arc::clone(&pages) as _, limits);
        let schedules = vfs.lookup(ROOT, b"schedules", 1).unwrap().ino;
        Self {
            vfs,
            pages,
            schedules,
            volume,
        }
    }

    /// Where the volume has a record.
    fn path(&self, name: &str) -> PathBuf {
        self.volume.path().join("schedules").join(ALICE).join(name)
    }

    /// Replaces a record as the service does.
    fn replace(&self, name: &str, record: &str) {
        let temporary = self.path("temporary");
        fs::write(&temporary, record).unwrap();
        fs::rename(temporary, self.path(name)).unwrap();
    }

    fn lookup(&self, name: &str) -> NodeInfo {
        self.vfs.lookup(self.schedules, name.as_bytes(), 1).unwrap()
    }

    fn absent(&self, name: &str) -> bool {
        let result = self.vfs.lookup(self.schedules, name.as_bytes(), 1);
        result.is_err_and(|error| error.kind() == Kind::NotFound)
    }

    /// Writes a file as a program does: create, write, close.
    fn write(&self, name: &str, text: &str) {
        let me = std::process::id();
        let (node, opened) = self
            .vfs
            .create(self.schedules, name.as_bytes(), 0o644, WRITE, me)
            .unwrap();
        self.vfs.write(opened.fh, 0, text.as_bytes(), false).unwrap();
        self.vfs.flush(opened.fh, me).unwrap();
        self.vfs.release(opened.fh);
        self.vfs.forget(node.ino, 1);
    }

    fn read(&self, name: &str) -> String {
        let node = self.lookup(name);
        let opened = self.vfs.open(node.ino, READ, 1).unwrap();
        let text = self.vfs.read(opened.fh, 0, 1 << 20).unwrap();
        self.vfs.release(opened.fh);
        self.vfs.forget(node.ino, 1);
        String::from_utf8(text).unwrap()
    }
}

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

    let found = mounted.lookup("x.json");
    mounted.replace("x.json", &record(102));
    // It may look up twice before it opens.
    assert_eq!(mounted.lookup("x.json").ino, found.ino);
    mounted.replace("x.json", &record(103));
    let opened = mounted.vfs.open(found.ino, READ, 1).unwrap();
    let text = mounted.vfs.read(opened.fh, 0, 100).unwrap();
    assert_eq!(
        String::from_utf8(text).unwrap(),
        record(101),
        "what was looked up"
    );
    assert_eq!(found.attributes.size, record(101).len() as u64);
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
    let fh = mounted.vfs.opendir(mounted.schedules).unwrap().fh;
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
        mounted.vfs.unlink(mounted.schedules, gone.as_bytes()).unwrap();
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
        .rename((here, b"x.txt"), (here, b"x.json"), Rename::Replace)
        .unwrap();
    assert_eq!(mounted.lookup("x.json").ino, node.ino);
    assert_eq!(mounted.read("x.json"), r#"{"n":1}"#);
    assert_eq!(mounted.vfs.read(opened.fh, 0, 100).unwrap(), br#"{"n":1}"#);
    assert!(mounted.absent("x.txt"));
    mounted.vfs.release(opened.fh);

    mounted
        .vfs
        .rename((here, b"x.json"), (here, b"y.txt"), Rename::Replace)
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
    let pools = Pools::new(100, 1 << 30);
    let (one, other) = (Mounted::within(pools.limits()), Mounted::within(pools.limits()));
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
    let refused = one.vfs.opendir(one.schedules).unwrap_err();
    assert_eq!(refused.kind(), Kind::TooManyOpen);
    assert_eq!(other.read("x.json"), "{}");
    let directories: Vec<_> = (0..20)
        .map(|_| other.vfs.opendir(other.schedules).unwrap().fh)
        .collect();
    other.write("y.json", "{}");
    directories.into_iter().for_each(|fh| other.vfs.releasedir(fh));
    held.into_iter().for_each(|fh| one.vfs.release(fh));
    assert_eq!(one.vfs.open_handles() + other.vfs.open_handles(), 0);
    one.write("y.json", "{}");
}

#[test]
fn what_is_open_takes_no_more_memory_than_there_is_and_gives_it_back() {
    let pools = Pools::new(10_000, 4 << 20);
    let (one, other) = (Mounted::within(pools.limits()), Mounted::within(pools.limits()));
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
fn listings_are_counted_too() {
    let pools = Pools::new(10_000, 64 << 10);
    let mounted = Mounted::within(pools.limits());
    for number in 0..200 {
        mounted.write(&format!("{number}.json"), "{}");
    }
    let list = |fh| mounted.vfs.readdir(fh, 0, |_| true);
    let listings: Vec<_> = (0..20)
        .map(|_| mounted.vfs.opendir(mounted.schedules).unwrap().fh)
        .collect();
    let results: Vec<_> = listings.iter().map(|fh| list(*fh)).collect();
    let refused = results.into_iter().find_map(Result::err).unwrap();
    assert_eq!(refused.kind(), Kind::OutOfMemory);
    listings.into_iter().for_each(|fh| mounted.vfs.releasedir(fh));
    let fh = mounted.vfs.opendir(mounted.schedules).unwrap().fh;
    list(fh).unwrap();
    list(fh).unwrap();
}

#[test]
fn a_restored_record_is_listed_at_once() {
    let mounted = Mounted::new();
    mounted.write("x.json", "{}");
    mounted.vfs.unlink(mounted.schedules, b"x.json").unwrap();
    assert!(mounted.absent("x.json"));
    mounted.pages.noticed.lock().clear();
    mounted.vfs.restore("schedules/x.json").unwrap();
    mounted.vfs.notice_changes();
    assert!(mounted.pages.noticed.lock().contains(&mounted.schedules));
    assert_eq!(mounted.read("x.json"), "{}");
    let taken = mounted.vfs.restore("schedules/x.json").unwrap_err();
    assert_eq!(taken.kind(), Kind::Exists);
}

#[test]
fn a_discarded_draft_gives_its_number_back_to_the_record() {
    let mounted = Mounted::new();
    let draft = r#"{"api_key":"sk-plain"}"#;
    mounted.write("x.json", r#"{"n":1}"#);
    let number = mounted.lookup("x.json").ino;
    let refused = |name: &str| {
        let (node, opened) = mounted
            .vfs
            .create(mounted.schedules, name.as_bytes(), 0o644, WRITE, 1)
            .unwrap();
        mounted.vfs.write(opened.fh, 0, draft.as_bytes(), false).unwrap();
        assert!(mounted.vfs.flush(opened.fh, 1).is_err());
        assert_eq!(
            mounted
                .vfs
                .discard_draft(&format!("schedules/{name}"))
                .unwrap_err()
                .kind(),
            Kind::Busy
        );
        mounted.vfs.release(opened.fh);
        mounted.vfs.forget(node.ino, 1);
    };
    refused("x.json");
    assert_eq!(mounted.read("x.json"), draft);
    let reader = mounted.vfs.open(mounted.lookup("x.json").ino, READ, 1).unwrap();
    mounted.vfs.discard_draft("schedules/x.json").unwrap();
    assert_eq!(mounted.vfs.read(reader.fh, 0, 99).unwrap(), br#"{"n":1}"#);
    assert_eq!(mounted.lookup("x.json").ino, number);
    assert_eq!(mounted.read("x.json"), r#"{"n":1}"#);
    assert_eq!(
        mounted.vfs.discard_draft("schedules/x.json").unwrap_err().kind(),
        Kind::NotFound
    );
    assert!(mounted.vfs.uncommitted(9).unwrap().is_empty());

    // One that was never a record is gone.
    refused("y.json");
    mounted.vfs.discard_draft("schedules/y.json").unwrap();
    assert!(mounted.absent("y.json"));
    mounted.write("x.json", r#"{"n":2}"#);
    assert_eq!(mounted.read("x.json"), r#"{"n":2}"#);
}
