//! What becomes of records that are removed: they wait, and the next of their name gets their secrets.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tenantfs::clock::Timestamp;
use tenantfs::error::{Kind, Result};
use tenantfs::event::Event;
use tenantfs::layout::Layout;
use tenantfs::name::{EntryName, RecordId};
use tenantfs::store::{Attachment, Draft, Folder, Options, Store};
use tenantfs::volume::{Durability, Rename, Times};

use super::{Disk, Noted, SECRET, name, principal, replace};

/// A tenant's store, what was told of it, and its `schedules`.
pub(crate) struct Scene {
    pub(crate) disk: Disk,
    noted: Arc<Noted>,
    pub(crate) store: Store,
    pub(crate) folder: Folder,
}

impl Scene {
    pub(crate) fn new() -> Self {
        Self::with(|options| options)
    }

    pub(crate) fn with(change: impl FnOnce(Options) -> Options) -> Self {
        let disk = Disk::new(Layout::ResourceFirst);
        let noted = Arc::new(Noted::default());
        let options = change(disk.options());
        let observer = Arc::clone(&noted) as _;
        let store = Store::open(&disk.volume, &principal("alice"), options, observer).unwrap();
        let folder = store.folder("schedules").unwrap();
        Self {
            disk,
            noted,
            store,
            folder,
        }
    }

    pub(crate) fn keeping(keep_removed: Duration) -> Self {
        Self::with(|options| Options {
            keep_removed,
            ..options
        })
    }

    pub(crate) fn on_disk(&self, path: &str) -> PathBuf {
        self.disk.directory("alice", "schedules").join(path)
    }

    /// Puts a record with a secret on the volume, as the service does.
    pub(crate) fn plant(&self, path: &str) {
        let record = format!(r#"{{"user_id": "alice", "n": 1, "api_key": "{SECRET}"}}"#);
        replace(&self.on_disk(path), record.as_bytes());
    }

    pub(crate) fn has_secret(&self, path: &str) -> bool {
        fs::read_to_string(self.on_disk(path)).unwrap().contains(SECRET)
    }

    /// What was told of secrets, and of what came back.
    pub(crate) fn told(&self) -> Vec<String> {
        let mut told = Vec::new();
        for event in self.noted.events.lock().drain(..) {
            told.extend(match event {
                Event::SecretRestored { path } => Some(format!("secret restored {path}")),
                Event::SecretDropped { path } => Some(format!("secret dropped {path}")),
                Event::Restored { path } => Some(format!("restored {path}")),
                Event::DraftDiscarded { path } => Some(format!("discarded {path}")),
                _ => None,
            });
        }
        told
    }

    pub(crate) fn removed(&self) -> Vec<String> {
        let removed = self.store.removed(100, &|| true).found;
        removed.into_iter().map(|removed| removed.path).collect()
    }
}

fn kind<T>(result: Result<T>) -> Option<Kind> {
    result.err().map(|error| error.kind())
}

/// `rm -r` of a directory in another.
pub(crate) fn remove_all(parent: &Folder, directory: &EntryName) {
    let folder = parent.open_folder(directory).unwrap();
    for inner in folder.list().unwrap() {
        match folder.remove(&inner) {
            Err(error) if error.kind() == Kind::IsADirectory => remove_all(&folder, &inner),
            result => result.unwrap(),
        }
    }
    parent.remove_folder(directory).unwrap();
}

#[test]
fn a_removed_record_leaves_its_secret_to_the_next_of_its_name_and_nothing_else() {
    let scene = Scene::new();
    let record = name("x.json");
    scene.plant("x.json");
    scene.folder.record(&record).set_mode(0o640).unwrap();
    scene.folder.remove(&record).unwrap();
    assert_eq!(scene.folder.list().unwrap(), []);
    assert_eq!(kind(scene.folder.record(&record).open()), Some(Kind::NotFound));
    let names: Vec<_> = fs::read_dir(scene.on_disk("")).unwrap().collect();
    for entry in names {
        let entry = entry.unwrap().file_name().into_string().unwrap();
        assert!(!entry.ends_with(".json"), "{entry}");
    }

    let saved = scene.folder.record(&record).save(b"{\"m\":2}").unwrap();
    assert_eq!(*saved.view, *b"{\"m\":2}");
    assert_ne!(saved.attributes.mode, 0o640);
    let stored = fs::read_to_string(scene.on_disk("x.json")).unwrap();
    assert_eq!(stored, r#"{"m":2,"api_key":"sk-8f2e","user_id" :"alice"}"#);
    assert_eq!(scene.told(), ["secret restored schedules/x.json"]);
    assert_eq!(scene.removed(), [""; 0]);
    // It is there once.
    scene.folder.remove(&record).unwrap();
    scene.folder.record(&name("y.json")).save(b"{}").unwrap();
    assert!(!scene.has_secret("y.json"));
}

#[test]
fn a_removed_record_that_gets_a_secret_while_it_waits_leaves_that() {
    for gets_secret in [false, true] {
        let scene = Scene::new();
        let record = name("x.json");
        let record = scene.folder.record(&record);
        record.save(br#"{"n": 1}"#).unwrap();
        // The service has it open, and writes to it wherever it is by then.
        let service = File::options().write(true).open(scene.on_disk("x.json"));
        // As it is from now on, it is known by its attributes.
        thread::sleep(Duration::from_millis(80));
        record.remove().unwrap();
        assert_eq!(scene.removed(), ["schedules/x.json"]);
        if gets_secret {
            let text = format!(r#"{{"user_id": "alice", "api_key": "{SECRET}"}}"#);
            service.unwrap().write_all_at(text.as_bytes(), 0).unwrap();
        }
        record.save(br#"{"n": 2}"#).unwrap();
        assert_eq!(scene.has_secret("x.json"), gets_secret);
        assert_eq!(scene.removed(), [""; 0]);
    }
}

#[test]
fn an_explicit_null_is_final_whatever_was_removed_before() {
    let scene = Scene::new();
    let record = name("x.json");
    scene.plant("x.json");
    scene.folder.remove(&record).unwrap();
    scene.folder.record(&record).save(br#"{"api_key":null}"#).unwrap();
    assert_eq!(scene.told(), ["secret dropped schedules/x.json"]);
    scene.folder.remove(&record).unwrap();
    scene.folder.record(&record).save(b"{}").unwrap();
    assert!(!scene.has_secret("x.json"));

    // The service takes the key away while a record with one waits: the newer word counts.
    scene.plant("x.json");
    scene.folder.remove(&record).unwrap();
    replace(&scene.on_disk("x.json"), br#"{"user_id": "alice"}"#);
    scene.folder.remove(&record).unwrap();
    assert_eq!(scene.told(), ["secret dropped schedules/x.json"]);
    scene.folder.record(&record).save(b"{}").unwrap();
    assert!(!scene.has_secret("x.json"));
}

#[test]
fn a_text_with_its_own_secret_gets_no_other() {
    let scene = Scene::new();
    let record = name("x.json");
    scene.plant("x.json");
    scene.folder.remove(&record).unwrap();
    let own = br#"{"user_id": "alice", "api_key": "sk-new"}"#;
    replace(&scene.on_disk("y.json"), own);
    scene
        .folder
        .rename(&name("y.json"), &scene.folder, &record, Rename::Replace)
        .unwrap();
    assert!(!scene.has_secret("x.json"));
    assert_eq!(scene.told(), [""; 0]);
    assert_eq!(scene.removed(), [""; 0]);
}

#[test]
fn a_restored_record_has_its_content_its_secret_its_mode_and_its_times() {
    let scene = Scene::new();
    let record = name("x.json");
    scene.plant("x.json");
    scene.folder.record(&record).set_mode(0o640).unwrap();
    let mtime = Timestamp {
        seconds: 1_000_000_000,
        nanos: 7,
    };
    let times = Times {
        mtime: Some(mtime),
        ..Times::default()
    };
    scene.folder.record(&record).set_times(times).unwrap();
    let before = fs::read(scene.on_disk("x.json")).unwrap();
    scene.folder.remove(&record).unwrap();

    let [removed] = &scene.store.removed(100, &|| true).found[..] else {
        panic!("{:?}", scene.removed())
    };
    assert_eq!(removed.path, "schedules/x.json");
    assert!(removed.has_secret);
    assert_eq!(removed.until.millis_since(removed.removed), 3_600_000);
    let none = scene.store.removed(0, &|| true);
    assert!(none.found.is_empty() && none.more);

    scene.store.restore("schedules/x.json").unwrap();
    assert_eq!(fs::read(scene.on_disk("x.json")).unwrap(), before);
    let shown = scene.folder.lookup(&record).unwrap();
    assert_eq!(
        (shown.mode, shown.mtime, shown.size),
        (0o640, mtime, removed.size)
    );
    assert_eq!(scene.told(), ["restored schedules/x.json"]);
    assert_eq!(kind(scene.store.restore("schedules/x.json")), Some(Kind::Exists));
    for absent in [
        "schedules/y.json",
        "schedules/a/x.json",
        "x.json",
        "schedules/../x",
        "",
    ] {
        assert_eq!(
            kind(scene.store.restore(absent)),
            Some(Kind::NotFound),
            "{absent}"
        );
    }
}

#[test]
fn what_has_the_name_again_is_not_replaced_by_what_is_restored() {
    let scene = Scene::new();
    scene.plant("x.json");
    scene.folder.remove(&name("x.json")).unwrap();
    replace(&scene.on_disk("x.json"), br#"{"user_id": "alice", "n": 2}"#);
    assert_eq!(kind(scene.store.restore("schedules/x.json")), Some(Kind::Exists));
    // Of what is hidden its user learns nothing else than when it is created.
    replace(&scene.on_disk("x.json"), br#"{"user_id": "bob"}"#);
    assert_eq!(
        kind(scene.store.restore("schedules/x.json")),
        Some(Kind::NameTaken)
    );
    fs::remove_file(scene.on_disk("x.json")).unwrap();
    scene.store.restore("schedules/x.json").unwrap();
    assert!(scene.has_secret("x.json"));
}

#[test]
fn only_what_is_verified_to_be_the_tenants_own_waits() {
    let scene = Scene::new();
    let foreign = format!(r#"{{"user_id": "bob", "api_key": "{SECRET}"}}"#);
    replace(&scene.on_disk(".tenantfs-removed-x.json~"), foreign.as_bytes());
    assert_eq!(scene.removed(), [""; 0]);
    assert_eq!(
        kind(scene.store.restore("schedules/x.json")),
        Some(Kind::NotFound)
    );
    scene.folder.record(&name("x.json")).save(b"{}").unwrap();
    assert!(!scene.has_secret("x.json"));
    replace(&scene.on_disk("y.json"), foreign.as_bytes());
    assert_eq!(kind(scene.folder.remove(&name("y.json"))), Some(Kind::NotFound));
    assert!(scene.on_disk("y.json").exists());
}

#[test]
fn a_record_with_the_longest_name_waits_as_any_other() {
    let scene = Scene::new();
    let long = format!("{}.json", "x".repeat(250));
    scene.plant(&long);
    scene.folder.remove(&name(&long)).unwrap();
    assert_eq!(scene.removed(), [format!("schedules/{long}")]);
    scene.store.restore(&format!("schedules/{long}")).unwrap();
    assert!(scene.has_secret(&long));
    scene.folder.remove(&name(&long)).unwrap();
    scene.folder.record(&name(&long)).save(b"{}").unwrap();
    assert!(scene.has_secret(&long));
}

#[test]
fn a_removed_directory_is_made_again_with_the_secrets_that_wait_in_it() {
    let scene = Scene::new();
    let (sub, deep, record) = (name("sub"), name("deep"), name("x.json"));
    let make = || {
        let folder = scene.folder.make_folder(&sub, 0o750).unwrap();
        folder.make_folder(&deep, 0o700).unwrap()
    };
    make();
    scene.plant("sub/deep/x.json");
    scene.plant("sub/x.json");
    remove_all(&scene.folder, &sub);
    assert_eq!(scene.folder.list().unwrap(), []);
    assert_eq!(kind(scene.folder.open_folder(&sub)), Some(Kind::NotFound));
    let inner = make();
    let folder = scene.folder.open_folder(&sub).unwrap();
    assert_eq!(folder.list().unwrap(), std::slice::from_ref(&deep));
    assert_eq!(folder.attributes().unwrap().mode, 0o750);
    assert_eq!(inner.list().unwrap(), []);
    inner.record(&record).save(b"{}").unwrap();
    folder.record(&record).save(b"{}").unwrap();
    assert!(scene.has_secret("sub/deep/x.json") && scene.has_secret("sub/x.json"));
    let told = ["sub/deep/x.json", "sub/x.json"].map(|path| format!("secret restored schedules/{path}"));
    assert_eq!(scene.told(), told);
}

#[test]
fn a_record_is_restored_with_the_removed_directories_on_the_way() {
    let scene = Scene::new();
    let sub = name("sub");
    let folder = scene.folder.make_folder(&sub, 0o700).unwrap();
    folder.make_folder(&name("deep"), 0o700).unwrap();
    scene.plant("sub/deep/x.json");
    scene.plant("sub/y.json");
    remove_all(&scene.folder, &sub);
    let mut paths = scene.removed();
    paths.sort();
    assert_eq!(paths, ["schedules/sub/deep/x.json", "schedules/sub/y.json"]);
    // For what is not there, nothing is brought back.
    assert_eq!(
        kind(scene.store.restore("schedules/sub/deep/z.json")),
        Some(Kind::NotFound)
    );
    assert_eq!(scene.folder.list().unwrap(), []);
    scene.store.restore("schedules/sub/deep/x.json").unwrap();
    assert!(scene.has_secret("sub/deep/x.json"));
    let folder = scene.folder.open_folder(&sub).unwrap();
    assert_eq!(folder.list().unwrap(), [name("deep")]);
    assert_eq!(scene.removed(), ["schedules/sub/y.json"]);
}

#[test]
fn a_directory_that_gets_the_name_of_a_removed_one_takes_over_its_secrets() {
    for is_removed in [true, false] {
        let scene = Scene::new();
        let (old, new, inner) = (name("old"), name("new"), name("inner"));
        for directory in [&old, &new] {
            let folder = scene.folder.make_folder(directory, 0o700).unwrap();
            folder.make_folder(&inner, 0o700).unwrap();
            folder.record(&name("same.json")).save(b"{\"n\":2}").unwrap();
        }
        scene.plant("old/x.json");
        scene.plant("old/inner/y.json");
        let folder = scene.folder.open_folder(&new).unwrap();
        folder.record(&name("x.json")).save(b"{\"n\":2}").unwrap();
        match is_removed {
            true => remove_all(&scene.folder, &old),
            false => {
                // Emptied only: rename(2) replaces it.
                let folder = scene.folder.open_folder(&old).unwrap();
                for record in ["same.json", "x.json"] {
                    folder.remove(&name(record)).unwrap();
                }
                remove_all(&folder, &inner);
            }
        }
        let renamed = scene.folder.rename(&new, &scene.folder, &old, Rename::Replace);
        renamed.unwrap();
        assert!(scene.has_secret("old/x.json"), "{is_removed}");
        let folder = scene.folder.open_folder(&old).unwrap();
        let view = folder.record(&name("x.json")).open().unwrap().view;
        assert_eq!(*view, *b"{\"n\":2}");
        let inner = folder.open_folder(&inner).unwrap();
        inner.record(&name("y.json")).save(b"{}").unwrap();
        assert!(scene.has_secret("old/inner/y.json"), "{is_removed}");
        let dropped = scene.told().into_iter().find(|told| told.contains("dropped"));
        assert_eq!(dropped, None);
    }
}

#[test]
fn what_was_removed_waits_no_longer_than_it_is_kept() {
    let keep = Duration::from_millis(400);
    let scene = Scene::keeping(keep);
    let sub = name("sub");
    let folder = scene.folder.make_folder(&sub, 0o700).unwrap();
    folder.make_folder(&name("deep"), 0o700).unwrap();
    for path in ["x.json", "sub/deep/y.json"] {
        scene.plant(path);
    }
    scene.folder.remove(&name("x.json")).unwrap();
    remove_all(&scene.folder, &sub);
    thread::sleep(keep + Duration::from_millis(200));
    assert_eq!(scene.removed(), [""; 0]);
    assert_eq!(
        kind(scene.store.restore("schedules/x.json")),
        Some(Kind::NotFound)
    );
    scene.folder.names().unwrap();
    let left: Vec<_> = fs::read_dir(scene.on_disk("")).unwrap().collect();
    assert_eq!(left.len(), 1, "the marker");
    let mut told = scene.told();
    told.sort();
    assert_eq!(
        told,
        [
            "secret dropped schedules/sub/deep/y.json",
            "secret dropped schedules/x.json"
        ]
    );
    scene.folder.record(&name("x.json")).save(b"{}").unwrap();
    assert!(!scene.has_secret("x.json"));
}

#[test]
fn where_nothing_is_kept_a_removed_record_is_gone_at_once_and_its_secret_told() {
    let scene = Scene::keeping(Duration::ZERO);
    let sub = name("sub");
    scene.folder.make_folder(&sub, 0o700).unwrap();
    scene.plant("sub/x.json");
    // What was renamed away, though, is an editor's.
    scene.plant("sub/y.json");
    let folder = scene.folder.open_folder(&sub).unwrap();
    folder
        .rename(&name("y.json"), &folder, &name("y.json~"), Rename::Replace)
        .unwrap();
    folder.remove(&name("x.json")).unwrap();
    assert_eq!(scene.told(), ["secret dropped schedules/sub/x.json"]);
    folder.record(&name("y.json")).save(b"{}").unwrap();
    assert!(scene.has_secret("sub/y.json"));
    folder.remove(&name("y.json")).unwrap();
    folder.remove(&name("y.json~")).unwrap();
    scene.folder.remove_folder(&sub).unwrap();
    let left: Vec<_> = fs::read_dir(scene.on_disk("")).unwrap().collect();
    assert_eq!(left.len(), 1, "the marker");
}

#[test]
fn removing_a_refused_draft_leaves_the_record_beneath_it_restorable() {
    let scene = Scene::new();
    let record = name("x.json");
    scene.plant("x.json");
    let draft = Draft::new(b"{\"n\":".to_vec(), 1000);
    scene
        .folder
        .record(&record)
        .keep(&draft, Durability::Ordered)
        .unwrap();
    scene.folder.remove(&record).unwrap();
    assert_eq!(scene.folder.list().unwrap(), []);
    // Another refused one is typed and removed: the good one goes on waiting.
    scene
        .folder
        .record(&record)
        .keep(&draft, Durability::Ordered)
        .unwrap();
    scene.folder.remove(&record).unwrap();
    scene.store.restore("schedules/x.json").unwrap();
    assert!(scene.has_secret("x.json"));
    assert!(!scene.folder.lookup(&record).unwrap().kept_draft);
}

#[test]
fn what_goes_for_good_while_it_is_restored_is_told_as_that() {
    let scene = Scene::new();
    let record = name("x.json");
    let mut gone = 0;
    let mut rounds = 0..20_000_u64;
    while let Some(round) = rounds.next()
        && gone == 0
    {
        let sub = name(&format!("sub{round}"));
        let folder = scene.folder.make_folder(&sub, 0o700).unwrap();
        folder.record(&record).save(b"{\"n\":1}").unwrap();
        folder.remove(&record).unwrap();
        drop(folder);
        scene.folder.remove_folder(&sub).unwrap();
        let path = format!("schedules/{}/x.json", sub.as_str());
        let evicting = std::sync::Barrier::new(2);
        let restored = thread::scope(|scope| {
            scope.spawn(|| {
                let waiting = fs::read_dir(scene.on_disk("")).unwrap().flatten();
                let waiting: Vec<_> = waiting
                    .filter(|entry| {
                        entry
                            .file_name()
                            .to_str()
                            .unwrap()
                            .starts_with(".tenantfs-removed")
                    })
                    .collect();
                evicting.wait();
                waiting
                    .iter()
                    .for_each(|entry| drop(fs::remove_dir_all(entry.path())));
            });
            evicting.wait();
            // Sometimes before it is looked for, sometimes after, and sometimes in between.
            let begun = std::time::Instant::now();
            while begun.elapsed() < Duration::from_micros(round % 100) {}
            scene.store.restore(&path)
        });
        if let Err(error) = restored {
            let said = format!("{error:#}");
            assert!(
                said.contains("does not wait any more") || said.contains("gone for good"),
                "{said}"
            );
            gone += usize::from(said.contains("gone for good"));
        }
    }
    assert!(gone > 0, "none was gone while it was restored");
}

#[test]
fn a_discarded_draft_shows_the_record_as_it_was_last_committed() {
    let scene = Scene::new();
    let record = name("x.json");
    let folder = scene.folder.make_folder(&name("sub"), 0o700).unwrap();
    folder.record(&record).save(b"{\"n\":1}").unwrap();
    let draft = Draft::new(b"{\"n\":".to_vec(), 1000);
    folder.record(&record).keep(&draft, Durability::Ordered).unwrap();
    let [uncommitted] = &scene.store.uncommitted(10, &|| true).found[..] else {
        panic!("one draft")
    };
    scene.store.discard_draft(&uncommitted.path).unwrap();
    assert!(!folder.lookup(&record).unwrap().kept_draft);
    assert_eq!(*folder.record(&record).open().unwrap().view, *b"{\"n\":1}");
    assert_eq!(scene.told(), ["discarded schedules/sub/x.json"]);
    assert_eq!(
        kind(scene.store.discard_draft(&uncommitted.path)),
        Some(Kind::NotFound)
    );
}

#[test]
fn a_service_removes_a_record_for_good() {
    let scene = Scene::new();
    let collection = scene.store.collection("schedules").unwrap();
    let id = RecordId::new("x").unwrap();
    scene.plant("x.json");
    collection.delete(&id).unwrap();
    assert_eq!(scene.removed(), [""; 0]);
    // Also what its user removed before.
    scene.plant("x.json");
    scene.folder.remove(&name("x.json")).unwrap();
    assert_eq!(kind(collection.delete(&id)), Some(Kind::NotFound));
    assert_eq!(scene.removed(), [""; 0]);
    let dropped = "secret dropped schedules/x.json";
    assert_eq!(scene.told(), [dropped, dropped]);
}

#[test]
fn what_waits_is_counted_as_used() {
    let scene = Scene::new();
    let folder = scene.folder.make_folder(&name("sub"), 0o700).unwrap();
    folder.record(&name("x.json")).save(b"{\"n\":1}").unwrap();
    let before = scene.store.usage();
    assert_eq!((before.files, before.bytes), (2, 7));
    remove_all(&scene.folder, &name("sub"));
    let after = scene.store.usage();
    assert_eq!((after.files, after.bytes), (1, 7));
}

#[test]
fn a_record_that_could_not_be_read_back_is_refused_and_the_old_one_stays() {
    let scene = Scene::with(|options| Options {
        max_record: 100_000,
        ..options
    });
    let record = name("x.json");
    let secret = "k".repeat(70_000);
    let planted = format!(r#"{{"user_id": "alice", "api_key": "{secret}"}}"#);
    replace(&scene.on_disk("x.json"), planted.as_bytes());
    let view = scene.folder.record(&record).open().unwrap().view;
    // With the secret that is carried over, it is larger than what is ever read.
    let text = format!(r#"{{"x": "{}"}}"#, "x".repeat(99_000));
    let refused = scene.folder.record(&record).save(text.as_bytes());
    assert_eq!(kind(refused), Some(Kind::TooLarge));
    assert_eq!(scene.folder.record(&record).open().unwrap().view, view);
    scene
        .folder
        .record(&name("y.json"))
        .save(text.as_bytes())
        .unwrap();
}

#[test]
fn of_more_than_are_asked_for_the_last_removed_are_found() {
    let scene = Scene::new();
    let sub = scene.folder.make_folder(&name("sub"), 0o700).unwrap();
    // The directory that is looked at first has what was removed first.
    for (folder, numbers) in [(&scene.folder, 0..5), (&sub, 5..10), (&scene.folder, 10..13)] {
        for number in numbers {
            let record = name(&format!("{number}.json"));
            folder.record(&record).save(b"{}").unwrap();
            folder.remove(&record).unwrap();
            thread::sleep(Duration::from_millis(11));
        }
    }
    let survey = scene.store.removed(6, &|| true);
    let found: Vec<_> = survey.found.iter().map(|removed| removed.path.as_str()).collect();
    let last = ["12", "11", "10", "sub/9", "sub/8", "sub/7"].map(|path| format!("schedules/{path}.json"));
    assert_eq!(found, last);
    assert!(survey.more && survey.unreadable.is_empty());
    assert!(!scene.store.removed(13, &|| true).more);
}

/// At each level, one directory more than the one that leads on: all of them are still to be visited on the way back.
#[test]
fn drafts_and_removed_records_are_found_however_deep_they_are() {
    let scene = Scene::new();
    let (mut folder, levels) = (scene.folder.clone(), 150);
    let mut deepest = "schedules".to_owned();
    for _ in 0..levels {
        folder.make_folder(&name("beside"), 0o700).unwrap();
        folder = folder.make_folder(&name("on"), 0o700).unwrap();
        deepest.push_str("/on");
    }
    let draft = Draft::new(b"{".to_vec(), 1000);
    let kept = folder
        .record(&name("draft.json"))
        .keep(&draft, Durability::Ordered);
    kept.unwrap();
    folder.record(&name("x.json")).save(b"{}").unwrap();
    folder.remove(&name("x.json")).unwrap();
    Attachment::create(&folder, &name("n.txt"), 0o600).unwrap();
    let uncommitted = scene.store.uncommitted(10, &|| true).found;
    assert_eq!(uncommitted[0].path, format!("{deepest}/draft.json"));
    assert_eq!(scene.removed(), [format!("{deepest}/x.json")]);
    let usage = scene.store.usage();
    assert_eq!(usage.files, 2 * levels + 3);
    scene.store.restore(&format!("{deepest}/x.json")).unwrap();
}

#[test]
fn a_directory_that_only_looks_empty_cannot_be_removed_and_the_operator_is_told() {
    let scene = Scene::new();
    let sub = name("sub");
    scene.folder.make_folder(&sub, 0o700).unwrap();
    replace(&scene.on_disk("sub/x.json"), br#"{"user_id": "bob"}"#);
    assert_eq!(
        kind(scene.folder.remove_folder(&sub)),
        Some(Kind::DirectoryNotEmpty)
    );
    let events = scene.noted.events.lock();
    let told = events.iter().any(|event| {
        matches!(event, Event::Denied { path, kind, .. }
            if path == "schedules/sub" && *kind == Kind::DirectoryNotEmpty)
    });
    assert!(told, "{events:?}");
}
