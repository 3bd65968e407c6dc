//! Quotas: what is counted as it is done is what is there, whatever is done, and never more than may be had.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use proptest::prelude::*;
use proptest::sample::{Index, select};
use tenantfs::error::{Kind, Result};
use tenantfs::event::Event;
use tenantfs::layout::Layout;
use tenantfs::quota::{Amount, Limits, Quotas, Users};
use tenantfs::seal::SealingKeys;
use tenantfs::store::{Allocate, Attachment, Draft, Folder, Options, Store};
use tenantfs::volume::{Access, Durability, Rename};

use super::{Disk, Noted, name, principal, replace};

const KIB: u64 = 1 << 10;

/// What is done once takes at most so much.
const REQUEST: u64 = 40 * KIB;

const NAMES: [&str; 6] = ["a.json", "b.json", "n.txt", "m", "sub", "long"];

#[derive(Clone, Debug)]
enum Act {
    Save(usize),
    Keep(usize),
    Discard,
    Create,
    /// Opens it, and leaves it open.
    Open,
    /// Closes the one that has been open longest.
    Close,
    Write(u64, usize),
    Append(usize),
    Resize(u64),
    Allocate(Allocate, u64, u64),
    Copy(&'static str, usize),
    SetMode,
    MakeFolder,
    RemoveFolder,
    Remove,
    Restore,
    Rename(Index, &'static str, Rename),
}

#[derive(Clone, Debug)]
struct Step {
    session: Index,
    folder: Index,
    name: &'static str,
    act: Act,
}

fn acts() -> impl Strategy<Value = Act> {
    let size = || 0..REQUEST;
    let len = || (0..REQUEST).prop_map(|len| usize::try_from(len).unwrap());
    let how = select(vec![
        Allocate::Extend,
        Allocate::KeepSize,
        Allocate::PunchHole,
        Allocate::ZeroRange,
    ]);
    let rename = select(vec![Rename::Replace, Rename::NoReplace, Rename::Exchange]);
    prop_oneof![
        4 => len().prop_map(Act::Save),
        2 => len().prop_map(Act::Keep),
        1 => Just(Act::Discard),
        4 => Just(Act::Create),
        2 => Just(Act::Open),
        1 => Just(Act::Close),
        4 => (0..REQUEST / 2, 0..20_000usize).prop_map(|(at, len)| Act::Write(at, len)),
        2 => (0..20_000usize).prop_map(Act::Append),
        2 => size().prop_map(Act::Resize),
        2 => (how, 0..REQUEST / 2, 1..REQUEST / 2).prop_map(|(how, at, len)| Act::Allocate(how, at, len)),
        1 => (select(&NAMES[..]), len()).prop_map(|(to, len)| Act::Copy(to, len)),
        1 => Just(Act::SetMode),
        2 => Just(Act::MakeFolder),
        1 => Just(Act::RemoveFolder),
        4 => Just(Act::Remove),
        1 => Just(Act::Restore),
        4 => (any::<Index>(), select(&NAMES[..]), rename).prop_map(|(folder, to, how)| Act::Rename(folder, to, how)),
    ]
}

fn steps() -> impl Strategy<Value = Step> {
    (any::<Index>(), any::<Index>(), select(&NAMES[..]), acts()).prop_map(|(session, folder, name, act)| {
        Step {
            session,
            folder,
            name,
            act,
        }
    })
}

/// What is below a directory, but for the mark of whose it is.
fn there(directory: &Path) -> Amount {
    let mut amount = Amount::NONE;
    for entry in fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        let metadata = entry.metadata().unwrap();
        if entry.file_name() == ".tenantfs-owner" {
            continue;
        }
        amount += match metadata.is_dir() {
            true => Amount::directory() + there(&entry.path()),
            false => Amount::file(metadata.len()),
        };
    }
    amount
}

struct Scene {
    disk: Disk,
    quotas: Arc<Quotas>,
    keys: Arc<SealingKeys>,
}

impl Scene {
    fn new(limits: Limits) -> Self {
        let keys = SealingKeys::generate().unwrap().text;
        Self {
            disk: Disk::new(Layout::ResourceFirst),
            quotas: Quotas::new(Users::everybody(limits), None),
            keys: Arc::new(SealingKeys::parse(keys.as_bytes()).unwrap()),
        }
    }

    fn open(&self) -> Store {
        let options = Options {
            quotas: Some(Arc::clone(&self.quotas)),
            keys: Some(Arc::clone(&self.keys)),
            ..self.disk.options()
        };
        let store = self.disk.open_with("alice", options).unwrap();
        let is_counted = (0..1000).any(|_| {
            thread::sleep(Duration::from_millis(1));
            store.standing().unwrap().is_counted
        });
        assert!(is_counted);
        store
    }

    fn there(&self) -> Amount {
        let resources = ["schedules", "results"];
        let there = resources.map(|resource| there(&self.disk.directory("alice", resource)));
        there[0] + there[1]
    }
}

/// Every directory that can be seen.
fn folders(store: &Store) -> Vec<Folder> {
    let mut all: Vec<Folder> = store.roots().filter_map(|(_, folder)| folder.cloned()).collect();
    let mut at = 0;
    while let Some(folder) = all.get(at).cloned() {
        let names = folder.list().unwrap();
        all.extend(names.iter().filter_map(|name| folder.open_folder(name).ok()));
        at += 1;
    }
    all
}

fn text(len: usize) -> Vec<u8> {
    // Some with a secret, which is left wherever they are removed or renamed.
    let secret = if len.is_multiple_of(3) {
        r#", "api_key": "sk-1""#
    } else {
        ""
    };
    format!("{{\"x\": \"{}\"{secret}}}", "x".repeat(len)).into_bytes()
}

fn run(store: &Store, step: &Step, open: &mut Vec<Attachment>) -> Result<()> {
    let folders = folders(store);
    let folder = step.folder.get(&folders);
    let name = name(step.name);
    let writable = || Attachment::open(folder, &name, Access::ReadWrite);
    let record = folder.record(&name);
    match &step.act {
        Act::Save(len) => record.save(&text(*len)).map(drop),
        Act::Keep(len) => {
            let draft = Draft::new(vec![b'x'; *len], 1 << 20);
            record.keep(&draft, Durability::Ordered).map(drop)
        }
        Act::Discard => record.discard_draft().map(drop),
        Act::Create => Attachment::create(folder, &name, 0o600).map(drop),
        Act::Open => writable().map(|attachment| open.push(attachment)),
        Act::Close => {
            if !open.is_empty() {
                open.remove(0);
            }
            Ok(())
        }
        Act::Write(at, len) => match open.last() {
            // Perhaps without a name by now.
            Some(attachment) => attachment.write(*at, &vec![1; *len]),
            None => writable()?.write(*at, &vec![1; *len]),
        },
        Act::Append(len) => writable()?.append(&vec![1; *len]),
        Act::Resize(size) => writable()?.resize(*size),
        Act::Allocate(how, at, len) => writable()?.allocate(*how, *at, *len),
        Act::Copy(to, len) => {
            let target = Attachment::open(folder, &super::name(to), Access::ReadWrite)?;
            writable()?.copy_to(0, &target, 0, *len).map(drop)
        }
        Act::SetMode => writable()?.set_mode(0o1777),
        Act::MakeFolder => folder.make_folder(&name, 0o755).map(drop),
        Act::RemoveFolder => folder.remove_folder(&name),
        Act::Remove => folder.remove(&name),
        Act::Restore => store.restore(&folder.path_of(&name)),
        Act::Rename(other, to, how) => {
            let target = other.get(&folders);
            folder.rename(&name, target, &super::name(to), *how).map(drop)
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, max_shrink_time: 30_000, ..ProptestConfig::default() })]

    #[test]
    fn what_is_counted_as_it_is_done_is_what_is_there(
        steps in proptest::collection::vec(steps(), 1..60),
        makes_room in any::<bool>(),
    ) {
        let limits = Limits { bytes: Some(200 * KIB), files: Some(9) };
        let scene = Scene::new(limits);
        let sessions = [scene.open(), scene.open()];
        let mut open = Vec::new();
        for step in &steps {
            let store = step.session.get(&sessions);
            let _ = match makes_room {
                true => store.within_quota(|| run(store, step, &mut open)),
                false => run(store, step, &mut open),
            };
            let used = sessions[0].standing().unwrap().used;
            prop_assert_eq!(used, sessions[1].standing().unwrap().used);
            // What has no name any more counts as long as it is open.
            prop_assert!(used.bytes >= scene.there().bytes, "{:?} {:?}", used, scene.there());
            if open.is_empty() {
                prop_assert_eq!(used, scene.there(), "after {:?}", step);
            }
            let most = 200 * KIB + 2 * REQUEST;
            prop_assert!(used.bytes() <= most && used.files() <= 9 + 2, "{:?}", used);
        }
        open.clear();
        prop_assert_eq!(sessions[0].standing().unwrap().used, scene.there());
    }
}

fn is_refused<T>(result: Result<T>) -> bool {
    match result {
        Err(error) if error.kind() == Kind::QuotaExceeded => true,
        Err(error) => panic!("{error:#}"),
        Ok(_) => false,
    }
}

#[test]
fn the_previous_record_stays_and_one_as_large_can_take_its_place() {
    let scene = Scene::new(Limits {
        bytes: Some(20 * KIB),
        files: None,
    });
    let store = scene.open();
    let schedules = store.folder("schedules").unwrap();
    let (full, other) = (name("full.json"), name("other.json"));
    schedules.record(&full).save(&text(18_001)).unwrap();
    assert!(is_refused(schedules.record(&full).save(&text(25_000))));
    assert!(is_refused(schedules.record(&other).save(b"{}")));
    assert!(is_refused(Attachment::create(&schedules, &name("plot"), 0o600)));
    assert!(is_refused(schedules.make_folder(&name("sub"), 0o700)));
    assert!(*schedules.record(&full).open().unwrap().view == *text(18_001));
    schedules.record(&full).save(&text(19_000)).unwrap();
    schedules.record(&full).save(b"{}").unwrap();
    schedules.record(&other).save(b"{}").unwrap();
}

#[test]
fn what_was_removed_goes_for_good_before_anything_new_is_refused_and_the_oldest_first() {
    let scene = Scene::new(Limits {
        bytes: None,
        files: Some(3),
    });
    let store = scene.open();
    let schedules = store.folder("schedules").unwrap();
    let save = |entry: &str| store.within_quota(|| schedules.record(&name(entry)).save(b"{\"a\": 1}"));
    for entry in ["one.json", "two.json", "three.json"] {
        save(entry).unwrap();
    }
    assert!(is_refused(save("four.json")));
    schedules.remove(&name("one.json")).unwrap();
    thread::sleep(Duration::from_millis(20));
    schedules.remove(&name("two.json")).unwrap();
    save("four.json").unwrap();
    let waiting: Vec<String> = store
        .removed(9, &|| true)
        .found
        .into_iter()
        .map(|removed| removed.path)
        .collect();
    assert_eq!(waiting, ["schedules/two.json"]);
    // What its name waits for takes no more than it.
    save("two.json").unwrap();
    assert_eq!(store.removed(9, &|| true).found, []);
    assert!(is_refused(save("five.json")));
}

#[test]
fn what_waits_from_before_the_session_goes_too() {
    let scene = Scene::new(Limits {
        bytes: None,
        files: Some(2),
    });
    {
        let before = scene.disk.open("alice");
        let schedules = before.folder("schedules").unwrap();
        let sub = schedules.make_folder(&name("sub"), 0o700).unwrap();
        sub.record(&name("a.json")).save(b"{}").unwrap();
        sub.remove(&name("a.json")).unwrap();
        schedules.remove_folder(&name("sub")).unwrap();
    }
    let store = scene.open();
    assert_eq!(store.standing().unwrap().used.files(), 2);
    let schedules = store.folder("schedules").unwrap();
    store
        .within_quota(|| schedules.record(&name("new.json")).save(b"{}"))
        .unwrap();
    assert_eq!(scene.there(), Amount::file(2));
}

#[test]
fn what_the_service_writes_is_counted_and_never_refused() {
    let scene = Scene::new(Limits {
        bytes: Some(64 * KIB),
        files: None,
    });
    let store = scene.open();
    let schedules = scene.disk.directory("alice", "schedules");
    let big = format!("{{\"user_id\": \"alice\", \"x\": \"{}\"}}", "x".repeat(100 << 10));
    replace(&schedules.join("service.json"), big.as_bytes());
    let is_noticed = (0..300).any(|_| {
        thread::sleep(Duration::from_millis(100));
        store.standing().unwrap().used == Amount::file(big.len() as u64)
    });
    assert!(is_noticed, "{:?}", store.standing());
    let folder = store.folder("schedules").unwrap();
    assert!(is_refused(folder.record(&name("mine.json")).save(b"{}")));
    // What is there can be made smaller, and be removed.
    folder.record(&name("service.json")).save(b"{}").unwrap();
    folder.record(&name("mine.json")).save(b"{}").unwrap();
}

/// Makes, writes, renames and removes, until told to stop.
fn works(store: &Store, who: usize, stop: &AtomicBool) {
    let schedules = store.folder("schedules").unwrap();
    let results = store.folder("results").unwrap();
    let mut round = 0;
    while !stop.load(Ordering::Relaxed) {
        round += 1;
        let of = |what: &str| name(&format!("{what}-{who}-{}", round % 7));
        let record = name(&format!("{who}-{}.json", round % 5));
        let _ = schedules.record(&record).save(&text(round * 997 % 30_000));
        if let Ok(plot) = Attachment::create(&results, &of("plot"), 0o600) {
            plot.write(0, &vec![1; round * 131 % 50_000]).unwrap();
            let _ = results.rename(&of("plot"), &schedules, &of("moved"), Rename::Replace);
            plot.append(&[1; 9000]).unwrap();
            plot.resize(20_000).unwrap();
        }
        if round % 11 == 0 {
            let _ = results.make_folder(&of("sub"), 0o700);
            let _ = results.rename(&of("sub"), &schedules, &of("sub"), Rename::Replace);
            let _ = schedules.remove_folder(&of("sub"));
        }
        if round % 3 == 0 {
            let _ = schedules.remove(&of("moved"));
            let _ = schedules.remove(&record);
        }
    }
}

#[test]
fn a_count_while_the_user_works_makes_nothing_wrong() {
    let scene = Scene::new(Limits::default());
    let sessions = [scene.open(), scene.open()];
    let (stop, counts) = (AtomicBool::new(false), AtomicBool::new(true));
    thread::scope(|scope| {
        for (who, store) in sessions.iter().chain(&sessions).enumerate() {
            let stop = &stop;
            scope.spawn(move || works(store, who, stop));
        }
        // Each session that begins has all counted at once.
        let counting = scope.spawn(|| {
            while counts.load(Ordering::Relaxed) {
                drop(scene.open());
                thread::sleep(Duration::from_millis(5));
            }
        });
        thread::sleep(Duration::from_secs(3));
        counts.store(false, Ordering::Relaxed);
        counting.join().unwrap();
        // The last count is over long before they stop.
        thread::sleep(Duration::from_millis(500));
        stop.store(true, Ordering::Relaxed);
    });
    assert_eq!(sessions[0].standing().unwrap().used, scene.there());
}

#[test]
fn secrets_that_go_for_want_of_room_are_told_and_so_is_a_rename_that_leaves_none() {
    let scene = Scene::new(Limits {
        bytes: None,
        files: Some(2),
    });
    let noted = Arc::new(Noted::default());
    let options = Options {
        quotas: Some(Arc::clone(&scene.quotas)),
        keys: Some(Arc::clone(&scene.keys)),
        ..scene.disk.options()
    };
    let store = Store::open(&scene.disk.volume, &principal("alice"), options, noted.clone()).unwrap();
    let schedules = store.folder("schedules").unwrap();
    let secret = br#"{"api_key": "sk-1"}"#;
    let save = |entry: &str| store.within_quota(|| schedules.record(&name(entry)).save(secret));
    save("a.json").unwrap();
    schedules.remove(&name("a.json")).unwrap();
    save("b.json").unwrap();
    save("c.json").unwrap();
    let path = "schedules/a.json".to_owned();
    assert!(noted.events.lock().contains(&Event::SecretDropped { path }));
    // Nothing waits any more, and files can be renamed all the same.
    let rename = || schedules.rename(&name("b.json"), &schedules, &name("d.json"), Rename::NoReplace);
    store.within_quota(rename).unwrap();
    let is_told = |event: &Event| matches!(event, Event::Denied { kind: Kind::QuotaExceeded, path, .. } if path == "schedules/b.json");
    assert!(noted.events.lock().iter().any(is_told));
    assert_eq!(scene.there().files, 2);
}
