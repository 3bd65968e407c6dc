//! Where bytes end up that are written through an open descriptor, after its file got another name, or lost its name: at
//! what the descriptor leads to under that name, or the write fails. Never nowhere, but for a file without a name.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tempfile::TempDir;
use tenantfs::error::{Kind, Result};
use tenantfs::event::{Event, Observer, Op};
use tenantfs::store::Options;
use tenantfs::vfs::{Changes, Fh, Ino, OpenMode, Pools};
use tenantfs::volume::Rename;

use super::{Mounted, READ, WRITE};

/// As long as what must not happen is waited for.
const A_WHILE: Duration = Duration::from_millis(200);

const NEW: &str = r#"{"n":2}"#;

fn rename(mounted: &Mounted, from: &str, to: &str) {
    let here = mounted.schedules;
    let (from, to) = ((here, from.as_bytes()), (here, to.as_bytes()));
    mounted.vfs.rename(from, to, Rename::Replace, 1).unwrap();
}

fn open(mounted: &Mounted, name: &str, mode: OpenMode) -> (Ino, Fh) {
    let ino = mounted.lookup(name).ino;
    (ino, mounted.vfs.open(ino, mode, 1).unwrap().fh)
}

fn rewrite(mounted: &Mounted, ino: Ino, fh: Fh, text: &str) -> Result<()> {
    let empty = Changes {
        size: Some(0),
        ..Changes::default()
    };
    mounted.vfs.setattr(ino, Some(fh), empty, 1)?;
    mounted.vfs.write(fh, 0, text.as_bytes(), false)
}

fn content(mounted: &Mounted, fh: Fh) -> String {
    String::from_utf8(mounted.vfs.read(fh, 0, 1 << 20).unwrap()).unwrap()
}

#[test]
fn what_is_written_into_a_record_that_got_an_attachments_name_is_in_the_attachment() {
    for change in ["write", "append", "resize", "allocate", "from the cache"] {
        let mounted = Mounted::new();
        mounted.write("x.json", r#"{"n":1}"#);
        let append = OpenMode {
            append: change == "append",
            ..WRITE
        };
        let (ino, fh) = open(&mounted, "x.json", append);
        let (_, reader) = open(&mounted, "x.json", READ);
        rename(&mounted, "x.json", "x.json.bak");
        let zero = tenantfs::store::Allocate::Extend;
        let size = Changes {
            size: Some(4),
            ..Changes::default()
        };
        let vfs = &mounted.vfs;
        let expected = match change {
            "write" => vfs.write(fh, 5, b"3, ", false).map(|()| r#"{"n":3, "#),
            "append" => vfs.write(fh, 0, b" more", false).map(|()| r#"{"n":1} more"#),
            "resize" => vfs.setattr(ino, Some(fh), size, 1).map(|_| r#"{"n""#),
            "allocate" => vfs.allocate(fh, zero, 0, 9).map(|()| "{\"n\":1}\0\0"),
            _ => vfs.write(fh, 5, b"4", true).map(|()| r#"{"n":4}"#),
        }
        .unwrap();
        vfs.fsync(fh, false).unwrap();
        assert_eq!(mounted.stored("x.json.bak"), expected, "{change}");
        assert_eq!(
            content(&mounted, reader),
            expected,
            "{change}: another descriptor"
        );
        assert_eq!(mounted.read("x.json.bak"), expected, "{change}: another open");
        assert_eq!(vfs.getattr(ino).unwrap().attributes.size, expected.len() as u64);
        vfs.flush(fh, 1).unwrap();
        vfs.release(fh);
        vfs.release(reader);
        assert!(
            mounted.absent("x.json") && !mounted.path("x.json").exists(),
            "{change}"
        );
    }
}

#[test]
fn what_is_written_into_an_attachment_that_got_a_records_name_is_in_the_record() {
    let mounted = Mounted::new();
    let (ino, fh) = mounted.create("x.part", WRITE);
    mounted.vfs.write(fh, 0, br#"{"n":1}"#, false).unwrap();
    let (_, reader) = open(&mounted, "x.part", READ);
    rename(&mounted, "x.part", "x.json");
    assert_eq!(content(&mounted, fh), r#"{"n":1}"#);
    mounted.vfs.write(fh, 6, b", \"m\": ", false).unwrap();
    assert_eq!(
        mounted.read("x.json"),
        r#"{"n":1, "m": "#,
        "a draft, to be seen at once"
    );
    assert_eq!(
        mounted.vfs.fsync(fh, false).unwrap_err().kind(),
        Kind::IncompleteRecord
    );
    assert_eq!(
        mounted.stored("x.json"),
        r#"{"n":1,"user_id" :"alice"}"#,
        "what was saved last"
    );
    mounted.vfs.write(fh, 13, b"2}", false).unwrap();
    mounted.vfs.fsync(fh, false).unwrap();
    assert_eq!(mounted.stored("x.json"), r#"{"n":1, "m": 2,"user_id" :"alice"}"#);
    assert_eq!(content(&mounted, reader), r#"{"n":1, "m": 2}"#);
    rewrite(&mounted, ino, fh, NEW).unwrap();
    mounted.vfs.release(fh);
    assert_eq!(
        mounted.stored("x.json"),
        r#"{"n":2,"user_id" :"alice"}"#,
        "with the last close"
    );
    mounted.vfs.release(reader);
    assert_eq!(mounted.read("x.json"), NEW);
}

#[test]
fn an_empty_attachment_that_got_a_records_name_is_its_draft_and_written_on() {
    let mounted = Mounted::new();
    let (_, fh) = mounted.create("x.part", WRITE);
    rename(&mounted, "x.part", "x.json");
    assert_eq!(mounted.read("x.json"), "");
    mounted.vfs.write(fh, 0, NEW.as_bytes(), false).unwrap();
    mounted.vfs.release(fh);
    assert_eq!(mounted.stored("x.json"), r#"{"n":2,"user_id" :"alice"}"#);
}

#[test]
fn what_an_attachment_that_became_a_record_cannot_be_is_kept_as_a_draft_and_told() {
    let told = Arc::new(Told::default());
    let mounted = told.mounted();
    let (_, fh) = mounted.create("x.part", WRITE);
    mounted.vfs.write(fh, 0, br#"{"n":1}"#, false).unwrap();
    rename(&mounted, "x.part", "x.json");
    mounted.vfs.write(fh, 0, b"n", false).unwrap();
    mounted.vfs.release(fh);
    assert_eq!(
        mounted.again().read("x.json"),
        r#"n"n":1}"#,
        "another session has it"
    );
    let kept = |event: &Event| matches!(event, Event::DraftKept { path, .. } if path == "schedules/x.json");
    assert!(told.events.lock().unwrap().iter().any(kept));
}

#[test]
fn a_descriptor_follows_its_file_to_and_fro_and_holds_one_file_of_the_volume_only() {
    let mounted = Mounted::new();
    mounted.write("x.json", r#"{"n":1}"#);
    let (ino, fh) = open(&mounted, "x.json", WRITE);
    let descriptors = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let mut before = 0;
    for round in 0..200 {
        rename(&mounted, "x.json", "x.txt");
        rewrite(&mounted, ino, fh, &format!(r#"{{"n":{round}}}"#)).unwrap();
        assert_eq!(mounted.stored("x.txt"), format!(r#"{{"n":{round}}}"#));
        rename(&mounted, "x.txt", "x.json");
        rewrite(&mounted, ino, fh, &format!(r#"{{"m":{round}}}"#)).unwrap();
        mounted.vfs.flush(fh, 1).unwrap();
        assert_eq!(
            mounted.stored("x.json"),
            format!(r#"{{"m":{round},"user_id" :"alice"}}"#)
        );
        if round == 0 {
            before = descriptors();
        }
    }
    // Other tests of this process open files, too.
    assert!(descriptors() < before + 100);
    mounted.vfs.release(fh);
    mounted.vfs.forget(ino, 1);
    assert_eq!(mounted.vfs.known_inodes().len(), 2, "the root and the resource");
}

#[test]
fn a_write_that_waits_for_a_rename_to_the_other_kind_of_name_is_in_the_renamed_file() {
    let told = Arc::new(Told::default());
    let mounted = told.mounted();
    let (ino, fh) = mounted.create("x.part", WRITE);
    mounted.vfs.write(fh, 0, br#"{"n":1}"#, false).unwrap();
    let blocked = told.block_commits();
    std::thread::scope(|scope| {
        scope.spawn(|| rename(&mounted, "x.part", "x.json"));
        blocked.reached();
        // The rename has read the text by now.
        let writer = scope.spawn(|| rewrite(&mounted, ino, fh, NEW));
        std::thread::sleep(A_WHILE);
        blocked.go_on();
        writer.join().unwrap().unwrap();
    });
    mounted.vfs.release(fh);
    assert_eq!(mounted.read("x.json"), NEW);
}

#[test]
fn a_record_whose_removal_waits_for_its_commit_is_removed() {
    let told = Arc::new(Told::default());
    let mounted = told.mounted();
    let (_, fh) = mounted.create("x.json", WRITE);
    mounted.vfs.write(fh, 0, NEW.as_bytes(), false).unwrap();
    let blocked = told.block_commits();
    std::thread::scope(|scope| {
        let commit = scope.spawn(|| mounted.vfs.flush(fh, 1));
        blocked.reached();
        let unlink = scope.spawn(|| mounted.vfs.unlink(mounted.schedules, b"x.json", 1));
        std::thread::sleep(A_WHILE);
        blocked.go_on();
        commit.join().unwrap().unwrap();
        unlink.join().unwrap().unwrap();
    });
    assert!(mounted.absent("x.json") && !mounted.path("x.json").exists());
    mounted.vfs.write(fh, 0, b"x", false).unwrap();
    mounted.vfs.flush(fh, 1).unwrap();
    mounted.vfs.release(fh);
    assert!(
        !mounted.path("x.json").exists(),
        "what has no name is gone with its last close"
    );
}

#[test]
fn a_record_that_is_removed_while_it_is_committed_is_gone() {
    let mounted = Mounted::new();
    for round in 0..500 {
        let (ino, fh) = mounted.create("x.json", WRITE);
        mounted.vfs.write(fh, 0, NEW.as_bytes(), false).unwrap();
        let barrier = std::sync::Barrier::new(2);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                barrier.wait();
                mounted.vfs.flush(fh, 1).unwrap();
                mounted.vfs.release(fh);
            });
            barrier.wait();
            mounted.vfs.unlink(mounted.schedules, b"x.json", 1).unwrap();
        });
        assert!(!mounted.path("x.json").exists(), "round {round}: on the volume");
        assert!(mounted.absent("x.json"), "round {round}: in the mount");
        mounted.vfs.forget(ino, 1);
    }
}

#[test]
fn a_record_whose_rename_waits_for_its_commit_is_renamed_with_what_was_committed() {
    for to in ["y.json", "y.txt"] {
        let told = Arc::new(Told::default());
        let mounted = told.mounted();
        let (_, fh) = mounted.create("x.json", WRITE);
        mounted.vfs.write(fh, 0, NEW.as_bytes(), false).unwrap();
        let blocked = told.block_commits();
        std::thread::scope(|scope| {
            let commit = scope.spawn(|| mounted.vfs.flush(fh, 1));
            blocked.reached();
            let renamed = scope.spawn(|| rename(&mounted, "x.json", to));
            std::thread::sleep(A_WHILE);
            blocked.go_on();
            commit.join().unwrap().unwrap();
            renamed.join().unwrap();
        });
        assert!(mounted.absent("x.json") && !mounted.path("x.json").exists());
        assert_eq!(mounted.read(to), NEW);
        mounted.vfs.write(fh, 5, b"3", false).unwrap();
        mounted.vfs.release(fh);
        assert_eq!(mounted.read(to), r#"{"n":3}"#);
    }
}

/// The first has what others removed, the second what was made in its place.
#[test]
fn of_two_writers_of_a_name_the_later_record_is_not_replaced_by_the_earlier() {
    let mounted = Mounted::new();
    mounted.write("x.json", r#"{"n":1}"#);
    let (old, first) = open(&mounted, "x.json", WRITE);
    std::fs::remove_file(mounted.path("x.json")).unwrap();
    assert!(mounted.absent("x.json"));
    let (new, second) = mounted.create("x.json", WRITE);
    mounted.vfs.write(second, 0, NEW.as_bytes(), false).unwrap();
    mounted.vfs.flush(second, 1).unwrap();
    let lost = rewrite(&mounted, old, first, r#"{"n":3}"#).unwrap_err();
    assert_eq!(lost.kind(), Kind::Stale);
    mounted.vfs.flush(first, 1).unwrap();
    mounted.vfs.release(second);
    mounted.vfs.forget(new, 1);
    let lost = mounted.vfs.write(first, 0, b"{", false).unwrap_err();
    assert_eq!(
        lost.kind(),
        Kind::Stale,
        "also once nobody knows the second any more"
    );
    mounted.vfs.release(first);
    assert_eq!(mounted.read("x.json"), NEW);
    assert_eq!(mounted.stored("x.json"), r#"{"n":2,"user_id" :"alice"}"#);
}

#[test]
fn who_types_into_what_others_put_there_keeps_its_name() {
    let mounted = Mounted::new();
    mounted.write("x.json", r#"{"n":1}"#);
    let (old, first) = open(&mounted, "x.json", WRITE);
    mounted.replace("x.json", r#"{"n":5,"user_id":"alice"}"#);
    let (new, second) = open(&mounted, "x.json", WRITE);
    rewrite(&mounted, new, second, NEW).unwrap();
    mounted.vfs.flush(second, 1).unwrap();
    let lost = rewrite(&mounted, old, first, r#"{"n":3}"#).unwrap_err();
    assert_eq!(lost.kind(), Kind::Stale);
    assert_eq!(mounted.read("x.json"), NEW);
}

#[test]
fn who_is_first_to_type_after_others_replaced_a_record_keeps_its_name() {
    let mounted = Mounted::new();
    mounted.write("x.json", r#"{"n":1}"#);
    let (old, first) = open(&mounted, "x.json", WRITE);
    mounted.replace("x.json", r#"{"n":5,"user_id":"alice"}"#);
    let (new, second) = open(&mounted, "x.json", WRITE);
    rewrite(&mounted, old, first, NEW).unwrap();
    mounted.vfs.flush(first, 1).unwrap();
    mounted.vfs.release(first);
    let lost = rewrite(&mounted, new, second, r#"{"n":3}"#).unwrap_err();
    assert_eq!(lost.kind(), Kind::Stale);
    assert_eq!(mounted.read("x.json"), NEW);
}

#[test]
fn a_record_that_is_removed_here_does_not_come_back_through_what_others_replaced() {
    let mounted = Mounted::new();
    mounted.write("x.json", r#"{"n":1}"#);
    let (old, fh) = open(&mounted, "x.json", WRITE);
    mounted.replace("x.json", r#"{"n":5,"user_id":"alice"}"#);
    mounted.lookup("x.json");
    mounted.vfs.unlink(mounted.schedules, b"x.json", 1).unwrap();
    let lost = rewrite(&mounted, old, fh, NEW).unwrap_err();
    assert_eq!(lost.kind(), Kind::Stale);
    mounted.vfs.release(fh);
    assert!(mounted.absent("x.json") && !mounted.path("x.json").exists());
}

#[test]
fn a_directory_with_a_draft_that_only_memory_has_is_not_replaced() {
    let mounted = Mounted::new();
    let here = mounted.schedules;
    mounted.vfs.mkdir(here, b"new", 0o755, 1).unwrap();
    let old = mounted.vfs.mkdir(here, b"old", 0o755, 1).unwrap().ino;
    let (_, opened) = mounted.vfs.create(old, b"x.json", 0o644, WRITE, 1).unwrap();
    mounted.vfs.write(opened.fh, 0, NEW.as_bytes(), false).unwrap();
    let replace = || {
        mounted
            .vfs
            .rename((here, b"new"), (here, b"old"), Rename::Replace, 1)
    };
    assert_eq!(replace().unwrap_err().kind(), Kind::DirectoryNotEmpty);
    mounted.vfs.flush(opened.fh, 1).unwrap();
    mounted.vfs.release(opened.fh);
    assert!(mounted.stored("old/x.json").contains("user_id"));
}

#[test]
fn an_open_record_is_saved_where_its_directory_was_renamed_to() {
    let mounted = Mounted::new();
    let here = mounted.schedules;
    let directory = mounted.vfs.mkdir(here, b"sub", 0o755, 1).unwrap().ino;
    let (_, opened) = mounted.vfs.create(directory, b"x.json", 0o644, WRITE, 1).unwrap();
    mounted.vfs.write(opened.fh, 0, NEW.as_bytes(), false).unwrap();
    rename(&mounted, "sub", "moved");
    mounted.vfs.flush(opened.fh, 1).unwrap();
    mounted.vfs.release(opened.fh);
    assert!(mounted.stored("moved/x.json").contains("user_id"));
}

/// Notes what it is told, and can hold commits up.
#[derive(Default)]
struct Told {
    events: Mutex<Vec<Event>>,
    gate: Mutex<Option<(Sender<()>, Receiver<()>)>>,
}

/// The next commit, which waits.
struct Blocked {
    reached: Receiver<()>,
    go_on: Sender<()>,
}

impl Blocked {
    fn reached(&self) {
        self.reached.recv().unwrap();
    }

    fn go_on(&self) {
        self.go_on.send(()).unwrap();
    }
}

impl Told {
    fn mounted(self: &Arc<Self>) -> Mounted {
        let limits = crate::limits(&Pools::alone(), "one");
        let volume = Arc::new(TempDir::new().unwrap());
        let max_record = Options::default().max_record;
        Mounted::observed(volume, limits, Arc::clone(self) as _, max_record)
    }

    /// The next commit waits until it may go on.
    fn block_commits(&self) -> Blocked {
        let (tell, reached) = channel();
        let (go_on, wait) = channel();
        *self.gate.lock().unwrap() = Some((tell, wait));
        Blocked { reached, go_on }
    }

    fn pass(&self) {
        let gate = self.gate.lock().unwrap().take();
        if let Some((tell, wait)) = gate {
            tell.send(()).unwrap();
            wait.recv().unwrap();
        }
    }
}

impl Observer for Told {
    fn observe(&self, event: &Event) {
        if matches!(event, Event::Committed { .. }) {
            self.pass();
        }
        self.events.lock().unwrap().push(event.clone());
    }

    fn admit(&self, op: Op) -> Result<()> {
        if op == Op::Commit {
            self.pass();
        }
        Ok(())
    }
}
