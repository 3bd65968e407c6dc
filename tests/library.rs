//! The library as a service in Rust uses it: authenticate, open a store, and save, load, list and delete records by id.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use serde_json::{Value, json};
use tempfile::TempDir;
use tenantfs::auth::{ApiKey, Authenticator as _, HttpService, ServiceOptions, StaticKeys, key_hash};
use tenantfs::error::{Kind, Result};
use tenantfs::event::LogObserver;
use tenantfs::identity::{Principal, UserId};
use tenantfs::layout::Layout;
use tenantfs::name::{EntryName, RecordId, Resource};
use tenantfs::record::{Hidden, Lens};
use tenantfs::seal::SealingKeys;
use tenantfs::store::{Attachment, Collection, Draft, Options, Store};
use tenantfs::volume::{Durability, Volume};

const LAYOUTS: [Layout; 2] = [Layout::ResourceFirst, Layout::UserFirst];

/// Part of every secret that these tests put on a volume, and of nothing else.
const SECRET: &str = "sk-5d1c";

/// A volume, and a service with or without keys that seal.
struct Service {
    root: TempDir,
    volume: Volume,
    layout: Layout,
    keys: Option<Arc<SealingKeys>>,
}

impl Service {
    fn new(layout: Layout) -> Self {
        let root = TempDir::new().unwrap();
        let volume = Volume::open(root.path()).unwrap();
        Self {
            root,
            volume,
            layout,
            keys: None,
        }
    }

    fn sealing(layout: Layout) -> Self {
        Self {
            keys: Some(Arc::new(sealing_keys())),
            ..Self::new(layout)
        }
    }

    fn store(&self, user: &str) -> Store {
        let options = Options {
            layout: self.layout,
            keys: self.keys.clone(),
            ..Options::default()
        };
        let observer = Arc::new(LogObserver::default());
        Store::open(&self.volume, &authenticate(user), options, observer).unwrap()
    }

    fn schedules(&self, user: &str) -> Collection {
        self.store(user).collection("schedules").unwrap()
    }

    /// Where the volume has a user's file, by the words of the layout alone.
    fn path(&self, user: &str, file: &str) -> PathBuf {
        let (hash, schedules) = (user_id(user).hash(), Resource::new("schedules").unwrap());
        let directory: PathBuf = self.layout.components(&schedules, &hash).iter().collect();
        self.root.path().join(directory).join(file)
    }
}

fn sealing_keys() -> SealingKeys {
    SealingKeys::parse(SealingKeys::generate().unwrap().text.as_bytes()).unwrap()
}

fn user_id(user: &str) -> UserId {
    UserId::new(user).unwrap()
}

/// Each user's key is `key-of-` and the user id.
fn static_keys() -> StaticKeys {
    let keys = ["alice", "bob"].map(|user| {
        let key = ApiKey::new(&format!("key-of-{user}")).unwrap();
        json!({"sha256": key_hash(&key), "user_id": user})
    });
    StaticKeys::parse(&json!({"keys": keys}).to_string()).unwrap()
}

fn authenticate(user: &str) -> Principal {
    let key = ApiKey::new(&format!("key-of-{user}")).unwrap();
    static_keys().authenticate(&key).unwrap()
}

fn id(text: &str) -> RecordId {
    RecordId::new(text).unwrap()
}

fn kind<T>(result: Result<T>) -> Kind {
    result.err().unwrap().kind()
}

#[test]
fn a_saved_record_has_its_owner_and_is_loaded_as_it_was_written() {
    for layout in LAYOUTS {
        let service = Service::new(layout);
        let schedules = service.schedules("alice");
        let written = "{ \"at\":\"02:00\",\n\t\"n\": 1.50 }\n";
        schedules.save(&id("nightly"), written.as_bytes()).unwrap();
        assert_eq!(schedules.load(&id("nightly")).unwrap(), written);
        assert_eq!(schedules.list().unwrap(), [id("nightly")]);
        let stored = fs::read_to_string(service.path("alice", "nightly.json")).unwrap();
        let stored: Value = serde_json::from_str(&stored).unwrap();
        assert_eq!(stored, json!({"at": "02:00", "n": 1.5, "user_id": "alice"}));

        // What a client says of the owner is not believed.
        schedules.save(&id("claimed"), br#"{"user_id":"bob"}"#).unwrap();
        assert_eq!(schedules.load(&id("claimed")).unwrap(), r#"{"user_id":"alice"}"#);

        // Another store of the same user, as the next request has it.
        assert_eq!(service.schedules("alice").load(&id("nightly")).unwrap(), written);
        assert_eq!(
            service
                .store("alice")
                .collection("results")
                .unwrap()
                .list()
                .unwrap(),
            []
        );
        assert_eq!(kind(service.store("alice").collection("users")), Kind::NotFound);
    }
}

#[test]
fn a_record_of_another_user_can_be_neither_loaded_nor_listed_nor_deleted() {
    for layout in LAYOUTS {
        let service = Service::new(layout);
        let (alices, bobs) = (service.schedules("alice"), service.schedules("bob"));
        alices.save(&id("nightly"), b"{}").unwrap();
        let absent = bobs.load(&id("absent")).unwrap_err().to_string();
        for refused in [bobs.load(&id("nightly")).map(drop), bobs.delete(&id("nightly"))] {
            let error = refused.unwrap_err();
            assert_eq!(
                (error.kind(), error.to_string()),
                (Kind::NotFound, absent.clone())
            );
        }
        assert_eq!(bobs.list().unwrap(), []);

        // Neither where it is bob's by its place.
        fs::copy(
            service.path("alice", "nightly.json"),
            service.path("bob", "nightly.json"),
        )
        .unwrap();
        assert_eq!(kind(bobs.load(&id("nightly"))), Kind::NotFound);
        assert_eq!(kind(bobs.delete(&id("nightly"))), Kind::NotFound);
        assert_eq!(kind(bobs.save(&id("nightly"), b"{}")), Kind::NameTaken);
        assert_eq!(bobs.list().unwrap(), []);
        assert!(service.path("bob", "nightly.json").exists());
        assert_eq!(alices.load(&id("nightly")).unwrap(), "{}");
    }
}

#[test]
fn what_is_no_record_of_the_user_is_absent() {
    for layout in LAYOUTS {
        let service = Service::new(layout);
        let schedules = service.schedules("alice");
        for (name, text) in [
            ("ownerless", r#"{"n":1}"#),
            ("malformed", r#"{"user_id":"alice""#),
            ("array", r#"["alice"]"#),
            ("two-owners", r#"{"user_id":"alice","user_id":"alice"}"#),
        ] {
            let path = service.path("alice", &format!("{name}.json"));
            fs::write(&path, text).unwrap();
            assert_eq!(kind(schedules.load(&id(name))), Kind::NotFound, "{name}");
            assert_eq!(kind(schedules.delete(&id(name))), Kind::NotFound, "{name}");
            assert!(path.exists(), "{name}");
        }
        fs::create_dir(service.path("alice", "directory.json")).unwrap();
        assert_eq!(kind(schedules.load(&id("directory"))), Kind::NotFound);
        assert_eq!(kind(schedules.delete(&id("directory"))), Kind::NotFound);

        // What the mount's user has beside the records: a file, a directory, a draft that is no record yet.
        let folder = service.store("alice").folder("schedules").unwrap();
        let entry = |name: &str| EntryName::parse(name.as_bytes()).unwrap();
        Attachment::create(&folder, &entry("plot.png"), 0o600).unwrap();
        folder.make_folder(&entry("sub"), 0o700).unwrap();
        let draft = Draft::new(b"{".to_vec(), 1 << 20);
        folder
            .record(&entry("draft.json"))
            .keep(&draft, Durability::Ordered)
            .unwrap();
        assert!(folder.lookup(&entry("draft.json")).is_ok());
        // A service that saves a record loses nothing of what the user has typed in its place.
        schedules.save(&id("both"), b"{}").unwrap();
        folder
            .record(&entry("both.json"))
            .keep(&draft, Durability::Ordered)
            .unwrap();
        schedules.save(&id("both"), br#"{"n":1}"#).unwrap();
        assert_eq!(schedules.load(&id("both")).unwrap(), r#"{"n":1}"#);
        let typed = folder.record(&entry("both.json")).load_draft().unwrap().unwrap();
        assert_eq!(typed.text(), b"{");
        schedules.delete(&id("both")).unwrap();
        assert_eq!(kind(schedules.load(&id("draft"))), Kind::NotFound);
        assert_eq!(kind(schedules.delete(&id("draft"))), Kind::NotFound);
        assert!(folder.lookup(&entry("draft.json")).is_ok());
        assert_eq!(schedules.list().unwrap(), []);
    }
}

#[test]
fn a_secret_is_sealed_and_never_loaded() {
    for layout in LAYOUTS {
        let service = Service::sealing(layout);
        let schedules = service.schedules("alice");
        let written = format!(r#"{{"at":"02:00","api_key":"{SECRET}"}}"#);
        schedules.save(&id("nightly"), written.as_bytes()).unwrap();
        assert_eq!(schedules.load(&id("nightly")).unwrap(), r#"{"at":"02:00"}"#);
        // It survives a record that does not mention it.
        schedules.save(&id("nightly"), br#"{"at":"03:00"}"#).unwrap();
        assert_eq!(schedules.load(&id("nightly")).unwrap(), r#"{"at":"03:00"}"#);

        let stored = fs::read_to_string(service.path("alice", "nightly.json")).unwrap();
        assert!(!stored.contains(SECRET), "{stored}");
        let stored: Value = serde_json::from_str(&stored).unwrap();
        let sealer = service.keys.as_ref().unwrap().sealer(&user_id("alice"));
        let opened = sealer
            .open("api_key", stored["api_key"].as_str().unwrap())
            .unwrap();
        assert_eq!(*opened, SECRET.as_bytes());
    }
}

#[test]
fn without_sealing_keys_a_secret_is_refused_and_nothing_stored() {
    let service = Service::new(Layout::ResourceFirst);
    let schedules = service.schedules("alice");
    schedules.save(&id("nightly"), b"{}").unwrap();
    let written = format!(r#"{{"api_key":"{SECRET}"}}"#);
    let refused = schedules.save(&id("nightly"), written.as_bytes()).unwrap_err();
    assert_eq!(refused.kind(), Kind::PlainSecret);
    assert!(!refused.to_string().contains(SECRET), "{refused}");
    assert_eq!(schedules.load(&id("nightly")).unwrap(), "{}");
}

#[test]
fn what_cannot_be_saved_says_why_and_changes_nothing() {
    let service = Service::new(Layout::UserFirst);
    let schedules = service.schedules("alice");
    schedules.save(&id("nightly"), br#"{"n":1}"#).unwrap();
    let large = format!(r#"{{"n":"{}"}}"#, "x".repeat(16 << 20));
    for (text, expected) in [
        ("", Kind::IncompleteRecord),
        (r#"{"n":"#, Kind::IncompleteRecord),
        ("[1]", Kind::InvalidRecord),
        ("{} {}", Kind::InvalidRecord),
        (&large, Kind::TooLarge),
    ] {
        assert_eq!(kind(schedules.save(&id("nightly"), text.as_bytes())), expected);
        assert_eq!(schedules.load(&id("nightly")).unwrap(), r#"{"n":1}"#);
    }
}

#[test]
fn what_was_deleted_is_gone_once() {
    for layout in LAYOUTS {
        let service = Service::sealing(layout);
        let schedules = service.schedules("alice");
        let written = format!(r#"{{"api_key":"{SECRET}"}}"#);
        schedules.save(&id("nightly"), written.as_bytes()).unwrap();
        schedules.delete(&id("nightly")).unwrap();
        assert_eq!(kind(schedules.delete(&id("nightly"))), Kind::NotFound);
        assert_eq!(kind(schedules.load(&id("nightly"))), Kind::NotFound);
        assert_eq!(schedules.list().unwrap(), []);
        // A record of the same name does not inherit anything.
        schedules.save(&id("nightly"), b"{}").unwrap();
        let stored = fs::read_to_string(service.path("alice", "nightly.json")).unwrap();
        assert!(!stored.contains("api_key"), "{stored}");
    }
}

#[test]
fn every_listed_id_loads() {
    let service = Service::new(Layout::ResourceFirst);
    let schedules = service.schedules("alice");
    let random = RecordId::random().unwrap();
    let mut ids = [
        id("a"),
        id("a-b"),
        id("ä b"),
        id(".x"),
        id(&"n".repeat(250)),
        random,
    ];
    for each in &ids {
        schedules.save(each, b"{}").unwrap();
    }
    ids.sort();
    assert_eq!(schedules.list().unwrap(), ids);
    for listed in schedules.list().unwrap() {
        assert_eq!(schedules.load(&listed).unwrap(), "{}");
        schedules.delete(&listed).unwrap();
    }
}

/// That nothing but an authenticator makes a [`Principal`] at all, the examples at its declaration hold the compiler to.
#[tokio::test]
async fn there_is_no_principal_without_a_key_that_is_accepted() {
    assert_eq!(authenticate("alice").user().as_str(), "alice");
    let guess = ApiKey::new("guess").unwrap();
    assert_eq!(
        kind(static_keys().authenticate(&guess)),
        Kind::AuthenticationRefused
    );
    // Nobody listens there: that is no yes.
    let nobody = HttpService::new("http://127.0.0.1:9/validate", ServiceOptions::default()).unwrap();
    let asked = nobody.validate(&ApiKey::new("key-of-alice").unwrap()).await;
    assert_eq!(kind(asked), Kind::AuthenticationUnreachable);
}

/// A record by which a reader can tell whether it is whole.
fn revision(writer: usize, number: usize) -> String {
    let rows = vec![number; 1 + (number * 997 + writer) % 3000];
    json!({"writer": writer, "rows": rows, "begin": [writer, number], "end": [writer, number]}).to_string()
}

fn is_whole(text: &str) -> bool {
    let record: Value = serde_json::from_str(text).unwrap();
    let (Some(writer), Some(number)) = (record["end"][0].as_u64(), record["end"][1].as_u64()) else {
        return false;
    };
    let expected = revision(usize::try_from(writer).unwrap(), usize::try_from(number).unwrap());
    let mut expected: Value = serde_json::from_str(&expected).unwrap();
    if let Some(owner) = record.get("user_id") {
        expected["user_id"] = owner.clone();
    }
    record == expected
}

#[test]
fn of_saves_at_the_same_time_each_reader_sees_one_whole() {
    const WRITERS: usize = 4;
    const SAVES: usize = 60;
    for layout in LAYOUTS {
        let service = Service::new(layout);
        let shared = service.schedules("alice");
        shared.save(&id("x"), revision(0, 0).as_bytes()).unwrap();
        let path = service.path("alice", "x.json");
        let done = AtomicBool::new(false);
        let reads = thread::scope(|scope| {
            let writers: Vec<_> = (0..WRITERS)
                .map(|writer| {
                    // Half of them share a store, half have one of their own.
                    let schedules = match writer % 2 {
                        0 => shared.clone(),
                        _ => service.schedules("alice"),
                    };
                    scope.spawn(move || {
                        for number in 1..=SAVES {
                            schedules
                                .save(&id("x"), revision(writer, number).as_bytes())
                                .unwrap();
                        }
                    })
                })
                .collect();
            let readers = [
                scope.spawn(|| {
                    let mut reads = 0;
                    while !done.load(Ordering::SeqCst) {
                        assert!(is_whole(&shared.load(&id("x")).unwrap()));
                        assert_eq!(shared.list().unwrap(), [id("x")]);
                        reads += 1;
                    }
                    reads
                }),
                scope.spawn(|| {
                    let mut reads = 0;
                    while !done.load(Ordering::SeqCst) {
                        assert!(is_whole(&fs::read_to_string(&path).unwrap()));
                        reads += 1;
                    }
                    reads
                }),
            ];
            // Joined one and all before any failure is reported: readers go on until they are told.
            let written: Vec<_> = writers.into_iter().map(|writer| writer.join()).collect();
            done.store(true, Ordering::SeqCst);
            let reads = readers.map(|reader| reader.join().unwrap());
            written.into_iter().for_each(|writer| writer.unwrap());
            reads
        });
        assert!(reads.iter().all(|reads| *reads > 10), "{reads:?}");
        assert!(is_whole(&shared.load(&id("x")).unwrap()));
        let left = fs::read_dir(path.parent().unwrap()).unwrap();
        let mut left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        left.retain(|name| name != ".tenantfs-owner");
        assert_eq!(left, ["x.json"]);
    }
}

/// A service that has its own way to its files takes the lens, the seal and the layout without the store.
#[test]
fn seal_lens_and_layout_work_on_their_own_and_agree_with_the_store() {
    for layout in LAYOUTS {
        let service = Service::sealing(layout);
        let keys = service.keys.as_ref().unwrap();
        let lens = |user| {
            Lens::new(
                user_id(user),
                vec!["api_key".to_owned()],
                Some(keys.sealer(&user_id(user))),
            )
        };
        let (alice, bob) = (lens("alice"), lens("bob"));
        let written = format!(r#"{{"at":"02:00","api_key":"{SECRET}"}}"#);
        let put = alice.put(None, written.as_bytes()).unwrap();
        assert_eq!(alice.view(&put.stored).unwrap().text, br#"{"at":"02:00"}"#);
        assert_eq!(bob.view(&put.stored).unwrap_err(), Hidden::Foreign);

        // Written by hand to where the layout says, it is a record of the store.
        let schedules = service.schedules("alice");
        fs::write(service.path("alice", "nightly.json"), &put.stored).unwrap();
        assert_eq!(schedules.load(&id("nightly")).unwrap(), r#"{"at":"02:00"}"#);

        // And a record of the store is read by hand.
        schedules.save(&id("other"), written.as_bytes()).unwrap();
        let stored = fs::read(service.path("alice", "other.json")).unwrap();
        assert_eq!(alice.view(&stored).unwrap().text, br#"{"at":"02:00"}"#);
    }
}

/// What an asynchronous service asks of the types: to be shared, and sent to the threads where disks are waited for.
#[test]
fn stores_go_to_other_threads() {
    fn shared<T: Send + Sync + Clone + 'static>() {}
    shared::<Store>();
    shared::<Collection>();
    shared::<Options>();
}
