//! What the store promises, one by one.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tenantfs::error::Kind;
use tenantfs::event::{Event, Op};
use tenantfs::layout::Layout;
use tenantfs::store::{Attachment, Draft, Folder, NodeKind, Options, Store};
use tenantfs::volume::{Access, Durability, Rename};

use super::{Disk, Noted, SECRET, name, principal, replace};

const LAYOUTS: [Layout; 2] = [Layout::ResourceFirst, Layout::UserFirst];

/// Two user ids whose directories have the same name: found by search.
const COLLIDING: [&str; 2] = ["u28e7627cc5ab20b0", "u8c0ca16042c103c3"];

/// Alice's schedules on a volume of their own.
fn schedules() -> (Disk, Folder) {
    let disk = Disk::new(Layout::ResourceFirst);
    let folder = disk.open("alice").folder("schedules").unwrap();
    (disk, folder)
}

fn record_of(owner: &str, rest: &str) -> Vec<u8> {
    format!(r#"{{"user_id": "{owner}"{rest}}}"#).into_bytes()
}

fn view(folder: &Folder, entry: &str) -> String {
    String::from_utf8(folder.record(&name(entry)).open().unwrap().view.to_vec()).unwrap()
}

#[test]
fn a_record_is_owned_on_the_volume_and_as_written_in_the_store() {
    for layout in LAYOUTS {
        let disk = Disk::new(layout);
        let folder = disk.open("alice").folder("results").unwrap();
        let saved = folder.record(&name("x.json")).save(b"{\"n\": 1}\n").unwrap();
        assert_eq!(*saved.view, *b"{\"n\": 1}\n");
        assert_eq!(view(&folder, "x.json"), "{\"n\": 1}\n");
        let stored = fs::read_to_string(disk.directory("alice", "results").join("x.json")).unwrap();
        assert_eq!(stored, "{\"n\": 1,\"user_id\" :\"alice\"}\n");
        // The length and the space of the view: the rest would tell how long the hidden part is.
        let attributes = folder.lookup(&name("x.json")).unwrap();
        assert_eq!((attributes.size, attributes.blocks), (9, 1));
    }
}

#[test]
fn what_another_tenant_has_is_absent() {
    for layout in LAYOUTS {
        let disk = Disk::new(layout);
        let bobs = disk.open("bob").folder("schedules").unwrap();
        bobs.record(&name("x.json")).save(b"{}").unwrap();
        Attachment::create(&bobs, &name("plot.png"), 0o600).unwrap();
        let alices = disk.open("alice").folder("schedules").unwrap();
        assert_eq!(alices.list().unwrap(), []);
        assert_eq!(
            alices.record(&name("x.json")).open().unwrap_err().kind(),
            Kind::NotFound
        );
        alices.record(&name("x.json")).save(br#"{"n":1}"#).unwrap();
        assert_eq!(view(&bobs, "x.json"), "{}");
    }
}

#[test]
fn a_colliding_user_is_refused_and_cannot_be_second() {
    for layout in LAYOUTS {
        let disk = Disk::new(layout);
        let stores = COLLIDING.map(|user| disk.open(user));
        let folders = stores.map(|store| store.folder("schedules").unwrap());
        folders[0].record(&name("x.json")).save(b"{}").unwrap();
        let late = folders[1].record(&name("y.json")).save(b"{}").unwrap_err();
        assert_eq!(late.kind(), Kind::HashCollision);
        assert_eq!(folders[1].list().unwrap(), []);
        let again = disk.open_with(COLLIDING[1], disk.options()).err().unwrap();
        assert_eq!(again.kind(), Kind::HashCollision);
        assert!(again.to_string().contains("hash_collision"), "{again}");
        disk.open(COLLIDING[0]);
    }
}

#[test]
fn the_owner_marker_holds_the_full_hash() {
    for layout in LAYOUTS {
        let disk = Disk::new(layout);
        let store = disk.open("alice");
        store
            .folder("schedules")
            .unwrap()
            .record(&name("x.json"))
            .save(b"{}")
            .unwrap();
        let resource = disk.directory("alice", "schedules");
        let hash_directory = match layout {
            Layout::ResourceFirst => resource.as_path(),
            Layout::UserFirst => resource.parent().unwrap(),
        };
        let marker = fs::read_to_string(hash_directory.join(".tenantfs-owner")).unwrap();
        assert_eq!(marker, principal("alice").user().full_hash());
    }
}

#[test]
fn a_read_only_store_changes_nothing() {
    for layout in LAYOUTS {
        let disk = Disk::new(layout);
        let read_only = || Options {
            read_only: true,
            ..disk.options()
        };
        let nobody = disk.open_with("alice", read_only()).unwrap();
        assert_eq!(nobody.folder("schedules").unwrap_err().kind(), Kind::NotFound);
        assert_eq!(
            fs::read_dir(disk.root.path()).unwrap().count(),
            0,
            "directories were made"
        );

        let directory = disk.directory("alice", "schedules");
        fs::create_dir_all(directory.join("sub")).unwrap();
        fs::write(directory.join("x.json"), record_of("alice", "")).unwrap();
        fs::write(directory.join("n.txt"), "n").unwrap();
        let folder = disk
            .open_with("alice", read_only())
            .unwrap()
            .folder("schedules")
            .unwrap();
        assert_eq!(folder.list().unwrap(), ["n.txt", "sub", "x.json"].map(name));
        let (record, attachment) = (name("x.json"), name("n.txt"));
        let draft = Draft::new(b"{".to_vec(), 10);
        let refusals = [
            folder.record(&record).save(b"{}").map(drop),
            folder.record(&record).keep(&draft, Durability::Ordered).map(drop),
            Attachment::create(&folder, &name("new"), 0o600).map(drop),
            Attachment::open(&folder, &attachment, Access::ReadWrite).map(drop),
            folder.make_folder(&name("new"), 0o700).map(drop),
            folder.remove_folder(&name("sub")),
            folder.remove(&record),
            folder
                .rename(&record, &folder, &name("y.json"), Rename::Replace)
                .map(drop),
            folder.record(&record).set_mode(0o600),
            folder.record(&record).set_times(Default::default()),
            folder.set_own_mode(0o700),
            folder.set_own_times(Default::default()),
            folder.record(&record).discard_draft().map(drop),
        ];
        for (index, refusal) in refusals.into_iter().enumerate() {
            assert_eq!(refusal.unwrap_err().kind(), Kind::ReadOnly, "refusal {index}");
        }
        let left: BTreeSet<_> = fs::read_dir(&directory)
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert_eq!(left, ["n.txt", "sub", "x.json"].map(Into::into).into());
    }
}

#[test]
fn whatever_is_no_file_of_the_tenant_is_hidden_and_in_the_way() {
    let disk = Disk::new(Layout::ResourceFirst);
    let noted = Arc::new(Noted::default());
    let store = Store::open(
        &disk.volume,
        &principal("alice"),
        disk.options(),
        Arc::clone(&noted) as _,
    )
    .unwrap();
    let folder = store.folder("schedules").unwrap();
    let directory = disk.directory("alice", "schedules");
    let outside = disk.root.path().join("outside");
    fs::write(&outside, record_of("alice", "")).unwrap();

    let fifo = |path: &Path| rustix::fs::mkfifoat(rustix::fs::CWD, path, 0o600.into()).unwrap();
    type Plant<'p> = (&'p str, &'p dyn Fn(&Path));
    let plants: [Plant<'_>; 9] = [
        ("symlink", &|path| {
            std::os::unix::fs::symlink(&outside, path).unwrap()
        }),
        ("dangling", &|path| {
            std::os::unix::fs::symlink("nowhere", path).unwrap()
        }),
        ("fifo", &fifo),
        ("socket", &|path| drop(UnixListener::bind(path).unwrap())),
        ("foreign", &|path| fs::write(path, record_of("bob", "")).unwrap()),
        ("ownerless", &|path| fs::write(path, "{}").unwrap()),
        ("two-owners", &|path| {
            fs::write(path, record_of("alice", r#","user\u005fid":"alice""#)).unwrap()
        }),
        ("list", &|path| fs::write(path, r#"["alice"]"#).unwrap()),
        ("large", &|path| {
            fs::File::create(path).unwrap().set_len(1 << 40).unwrap();
        }),
    ];
    for (what, plant) in plants {
        let entry = name(&format!("{what}.json"));
        plant(&directory.join(entry.as_str()));
        let begin = Instant::now();
        let absent = [
            folder.lookup(&entry).map(drop),
            folder.record(&entry).open().map(drop),
            folder.open_folder(&entry).map(drop),
            Attachment::open(&folder, &entry, Access::Read).map(drop),
            folder.remove(&entry),
            folder.remove_folder(&entry),
            folder
                .rename(&entry, &folder, &name("y.json"), Rename::Replace)
                .map(drop),
            folder.record(&entry).set_mode(0o600),
        ];
        for (index, result) in absent.into_iter().enumerate() {
            assert_eq!(result.unwrap_err().kind(), Kind::NotFound, "{what} {index}");
        }
        assert_eq!(folder.list().unwrap(), [], "{what}");
        noted.events.lock().clear();
        assert_eq!(
            folder.record(&entry).save(b"{}").unwrap_err().kind(),
            Kind::NameTaken,
            "{what}"
        );
        let told = noted
            .events
            .lock()
            .iter()
            .any(|event| matches!(event, Event::Denied { op: Op::Commit, .. }));
        assert!(told, "{what}: the observer was not told");
        assert!(
            begin.elapsed() < Duration::from_secs(2),
            "{what} took {:?}",
            begin.elapsed()
        );
    }
    // The same under names of attachments, where only the kind of file counts.
    for what in ["symlink", "fifo", "socket"] {
        let (entry, other) = (name(what), name(&format!("{what}.json")));
        fs::rename(directory.join(other.as_str()), directory.join(entry.as_str())).unwrap();
        assert_eq!(folder.lookup(&entry).unwrap_err().kind(), Kind::NotFound);
        assert_eq!(
            Attachment::create(&folder, &entry, 0o600).unwrap_err().kind(),
            Kind::NameTaken
        );
        assert_eq!(
            folder.make_folder(&entry, 0o700).unwrap_err().kind(),
            Kind::NameTaken
        );
    }
    fs::hard_link(&outside, directory.join("linked")).unwrap();
    assert_eq!(folder.lookup(&name("linked")).unwrap_err().kind(), Kind::NotFound);
}

#[test]
fn names_that_the_mount_cannot_have_are_not_listed() {
    use std::os::unix::ffi::OsStrExt as _;
    let (disk, folder) = schedules();
    let directory = disk.directory("alice", "schedules");
    for odd in [
        &b"bell\x07.json"[..],
        b"latin\xe9.json",
        b".tenantfs-mine",
        b"new\nline",
    ] {
        fs::write(
            directory.join(std::ffi::OsStr::from_bytes(odd)),
            record_of("alice", ""),
        )
        .unwrap();
    }
    assert_eq!(folder.list().unwrap(), []);
}

#[test]
fn a_record_may_be_as_large_as_max_record_and_no_larger() {
    let disk = Disk::new(Layout::ResourceFirst);
    let options = Options {
        max_record: 100,
        ..disk.options()
    };
    let folder = disk
        .open_with("alice", options)
        .unwrap()
        .folder("schedules")
        .unwrap();
    let text = |len: usize| format!(r#"{{"x":"{}"}}"#, "x".repeat(len - 8));
    folder.record(&name("x.json")).save(text(100).as_bytes()).unwrap();
    assert_eq!(view(&folder, "x.json"), text(100));
    let error = folder
        .record(&name("x.json"))
        .save(text(101).as_bytes())
        .unwrap_err();
    assert_eq!(error.kind(), Kind::TooLarge);
    assert_eq!(view(&folder, "x.json"), text(100));
}

#[test]
fn bad_text_leaves_the_record_and_the_draft() {
    let (disk, folder) = schedules();
    let entry = name("x.json");
    let file = disk.directory("alice", "schedules").join("x.json");
    folder.record(&entry).save(b"{\"n\":1}").unwrap();
    let before = fs::read(&file).unwrap();
    for (text, kind) in [
        ("{", Kind::IncompleteRecord),
        ("[1]", Kind::InvalidRecord),
        ("", Kind::IncompleteRecord),
        (r#"{"api_key":"k"}"#, Kind::PlainSecret),
    ] {
        assert_eq!(
            folder.record(&entry).save(text.as_bytes()).unwrap_err().kind(),
            kind,
            "{text}"
        );
        assert_eq!(fs::read(&file).unwrap(), before);
    }
    let mut draft = Draft::new(b"{\"n\":2".to_vec(), 1000);
    draft.mode = Some(0o640);
    let shown = folder.record(&entry).keep(&draft, Durability::Ordered).unwrap();
    assert_eq!((shown.kind, shown.size, shown.mode), (NodeKind::Record, 6, 0o640));
    // It is there after a new login, and gone when it is completed.
    let folder = disk.open("alice").folder("schedules").unwrap();
    let mut draft = folder.record(&entry).load_draft().unwrap().unwrap();
    assert_eq!((draft.text(), draft.mode), (&b"{\"n\":2"[..], Some(0o640)));
    draft.append(b"}").unwrap();
    let snapshot = folder.record(&entry).commit(&draft, Durability::Durable).unwrap();
    assert_eq!(
        (&*snapshot.view, snapshot.attributes.mode),
        (&b"{\"n\":2}"[..], 0o640)
    );
    assert!(folder.record(&entry).load_draft().unwrap().is_none());
    assert!(!folder.lookup(&entry).unwrap().kept_draft);
}

#[test]
fn a_kept_draft_never_puts_a_secret_on_the_volume() {
    let (disk, folder) = schedules();
    for text in [r#"{"api_key": "sk-8f2e""#, r#"{"api\u005fkey": "sk-8f2e"}"#] {
        let draft = Draft::new(text.as_bytes().to_vec(), 1000);
        let kept = folder.record(&name("x.json")).keep(&draft, Durability::Ordered);
        assert_eq!(kept.unwrap_err().kind(), Kind::PlainSecret, "{text}");
        for entry in fs::read_dir(disk.directory("alice", "schedules")).unwrap() {
            let content = fs::read_to_string(entry.unwrap().path()).unwrap();
            assert!(!content.contains(SECRET), "{text}");
        }
    }
}

/// Each is how some editor saves; see `tests/editors.rs` for the editors themselves.
#[test]
fn a_secret_outlives_every_way_of_saving() {
    let (backup, temporary, record) = (name("x.json~"), name("x.tmp"), name("x.json"));
    let in_place = |folder: &Folder| folder.record(&record).save(b"{\"n\":2}").map(drop);
    let backup_first = |folder: &Folder| {
        folder.rename(&record, folder, &backup, Rename::Replace)?;
        folder.record(&record).save(b"{\"n\":2}").map(drop)
    };
    let from_attachment = |folder: &Folder| {
        Attachment::create(folder, &temporary, 0o600)?.write(0, b"{\"n\":2}")?;
        folder
            .rename(&temporary, folder, &record, Rename::Replace)
            .map(drop)
    };
    let from_record = |folder: &Folder| {
        folder.record(&name("t.json")).save(b"{\"n\":2}")?;
        folder
            .rename(&name("t.json"), folder, &record, Rename::Replace)
            .map(drop)
    };
    type Way<'w> = &'w dyn Fn(&Folder) -> tenantfs::error::Result<()>;
    let ways: [Way<'_>; 4] = [&in_place, &backup_first, &from_attachment, &from_record];
    for (index, way) in ways.into_iter().enumerate() {
        let (disk, folder) = schedules();
        let file = disk.directory("alice", "schedules").join("x.json");
        fs::write(&file, record_of("alice", r#", "n":1, "api_key": "sk-8f2e""#)).unwrap();
        way(&folder).unwrap();
        assert_eq!(view(&folder, "x.json"), "{\"n\":2}", "way {index}");
        let stored = fs::read_to_string(&file).unwrap();
        assert_eq!(
            stored, r#"{"n":2,"api_key":"sk-8f2e","user_id" :"alice"}"#,
            "way {index}"
        );
        for entry in folder
            .list()
            .unwrap()
            .into_iter()
            .filter(|entry| !entry.is_record())
        {
            let content = Attachment::open(&folder, &entry, Access::Read)
                .unwrap()
                .read(0, 1000)
                .unwrap();
            assert!(
                !String::from_utf8(content).unwrap().contains(SECRET),
                "way {index}"
            );
        }
    }
}

#[test]
fn a_secret_that_was_renamed_away_is_not_revived_over_a_newer_record() {
    let (disk, folder) = schedules();
    let file = disk.directory("alice", "schedules").join("x.json");
    fs::write(&file, record_of("alice", r#", "api_key": "sk-8f2e""#)).unwrap();
    folder
        .rename(&name("x.json"), &folder, &name("old"), Rename::Replace)
        .unwrap();
    // The service takes the key away.
    replace(&file, &record_of("alice", ""));
    folder
        .rename(&name("x.json"), &folder, &name("older"), Rename::Replace)
        .unwrap();
    folder.record(&name("x.json")).save(b"{}").unwrap();
    assert!(!fs::read_to_string(&file).unwrap().contains(SECRET));
}

#[test]
fn a_foreign_owner_is_replaced_and_the_observer_told() {
    let disk = Disk::new(Layout::ResourceFirst);
    let noted = Arc::new(Noted::default());
    let store = Store::open(
        &disk.volume,
        &principal("alice"),
        disk.options(),
        Arc::clone(&noted) as _,
    )
    .unwrap();
    let folder = store.folder("schedules").unwrap();
    let saved = folder
        .record(&name("x.json"))
        .save(&record_of("bob", ""))
        .unwrap();
    assert_eq!(*saved.view, *record_of("alice", ""));
    let path = || "schedules/x.json".to_owned();
    let expected = [
        Event::Committed { path: path() },
        Event::OwnerOverridden { path: path() },
    ];
    assert_eq!(*noted.events.lock(), expected);
}

#[test]
fn new_files_belong_to_whom_their_directory_or_predecessor_does() {
    if !rustix::process::geteuid().is_root() {
        eprintln!(
            "SKIPPED: new_files_belong_to_whom_their_directory_or_predecessor_does: needs root to change owners"
        );
        return;
    }
    let (disk, folder) = schedules();
    let directory = disk.directory("alice", "schedules");
    chown(&directory, Some(4321), Some(8765)).unwrap();
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o2770)).unwrap();
    let expect = |path: &Path, uid, gid, mode| {
        let metadata = fs::metadata(path).unwrap();
        assert_eq!(
            (metadata.uid(), metadata.gid(), metadata.mode() & 0o7777),
            (uid, gid, mode),
            "{path:?}"
        );
    };
    folder.record(&name("x.json")).save(b"{}").unwrap();
    expect(&directory.join("x.json"), 4321, 8765, 0o660);
    Attachment::create(&folder, &name("n.txt"), 0o600).unwrap();
    expect(&directory.join("n.txt"), 4321, 8765, 0o660);
    assert_eq!(
        folder.lookup(&name("n.txt")).unwrap().mode,
        0o600,
        "as the user asked"
    );
    folder.make_folder(&name("sub"), 0o700).unwrap();
    expect(&directory.join("sub"), 4321, 8765, 0o2770);

    chown(directory.join("x.json"), Some(1111), Some(2222)).unwrap();
    fs::set_permissions(directory.join("x.json"), fs::Permissions::from_mode(0o640)).unwrap();
    folder.record(&name("x.json")).save(b"{\"n\":1}").unwrap();
    expect(&directory.join("x.json"), 1111, 2222, 0o640);
}

/// Runs `work` on a thread of its own for as long as `meanwhile` takes.
fn beside(work: impl Fn(u64) + Sync, meanwhile: impl FnOnce()) {
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let worker = scope.spawn(|| {
            (0..)
                .take_while(|_| !done.load(Ordering::Relaxed))
                .for_each(&work)
        });
        meanwhile();
        done.store(true, Ordering::Relaxed);
        worker.join().unwrap();
    });
}

#[test]
fn a_race_never_shows_what_is_not_ours() {
    let (disk, folder) = schedules();
    let file = disk.directory("alice", "schedules").join("x.json");
    let contents = [
        record_of("alice", r#","n":1"#),
        record_of("bob", r#","secret":1"#),
    ];
    replace(&file, &contents[0]);
    let mut seen = [0, 0];
    // Half of the time by renaming, half of the time in place.
    beside(
        |round| match round % 2000 < 1000 {
            true => replace(&file, &contents[round as usize % 2]),
            false => fs::write(&file, &contents[round as usize % 2]).unwrap(),
        },
        || {
            let begin = Instant::now();
            // On a slow volume longer, until both were met.
            let lasts = |seen: [u32; 2]| match seen.iter().all(|seen| *seen > 10) {
                true => Duration::from_secs(1),
                false => Duration::from_secs(30),
            };
            while begin.elapsed() < lasts(seen) {
                match folder.record(&name("x.json")).open() {
                    Ok(snapshot) => {
                        assert_eq!(*snapshot.view, *contents[0]);
                        seen[0] += 1;
                    }
                    Err(error) => {
                        assert_eq!(error.kind(), Kind::NotFound);
                        seen[1] += 1;
                    }
                }
            }
        },
    );
    assert!(seen[0] > 10 && seen[1] > 10, "the race did not happen: {seen:?}");
}

#[test]
fn another_reader_of_the_volume_never_meets_a_part_of_a_record() {
    let (disk, folder) = schedules();
    let directory = disk.directory("alice", "schedules");
    let texts = [40_000, 10].map(|len| format!(r#"{{"x":"{}"}}"#, "x".repeat(len)));
    let mut read = 0;
    beside(
        |round| {
            let entry = name(["x.json", "y.json"][round as usize % 2]);
            folder
                .record(&entry)
                .save(texts[round as usize / 2 % 2].as_bytes())
                .unwrap();
            if round % 5 == 4 {
                folder.remove(&entry).unwrap();
            }
        },
        || {
            let begin = Instant::now();
            while begin.elapsed() < Duration::from_secs(1) {
                for entry in fs::read_dir(&directory)
                    .unwrap()
                    .map(|entry| entry.unwrap().path())
                {
                    if entry.extension().is_some_and(|extension| extension == "json")
                        && let Ok(text) = fs::read(&entry)
                    {
                        let value: serde_json::Value = serde_json::from_slice(&text).unwrap();
                        assert_eq!(value["user_id"], "alice");
                        read += 1;
                    }
                }
            }
        },
    );
    assert!(read > 100, "only {read} reads");
}

#[test]
fn two_commits_at_once_leave_one_of_them() {
    let (disk, folder) = schedules();
    let directory = disk.directory("alice", "schedules");
    for round in 0..50 {
        let entry = name(&format!("{round}.json"));
        thread::scope(|scope| {
            for writer in ["1", "2"] {
                let (folder, entry) = (folder.clone(), &entry);
                scope.spawn(move || folder.record(entry).save(writer_text(writer).as_bytes()).unwrap());
            }
        });
        let shown = view(&folder, entry.as_str());
        assert!(["1", "2"].map(writer_text).contains(&shown), "{shown}");
    }
    let left = fs::read_dir(&directory).unwrap().count();
    assert_eq!(left, 50 + 1, "50 records and the marker");
}

fn writer_text(writer: &str) -> String {
    format!(r#"{{"writer":{writer}}}"#)
}
