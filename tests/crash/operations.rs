//! What an operator does to a whole volume is killed at each call with which it changes it, and finished by another run.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};
use tenantfs::store::{ForeignDraft, LayoutMark, draft_limit};
use tenantfs::volume::Volume as Directories;
use zeroize::Zeroizing;

use crate::common::sealing::KEY;
use crate::common::{ALICE, BOB, LAYOUTS, Layout, SERVICE_UID, Volume, set_mode, success, tenantfs};
use crate::strace::{self, Fault, Point};
use crate::volume::{Reader, SECRET, files_below, leftovers, plant, sealing};
use crate::{is_long, report, tried};

/// How many points of each operation are tried in a short run.
const SAMPLE: usize = 4;

/// The key that is active after a rotation.
const NEXT_KEY: &str = "k2";

/// Alice's records, and what is in them.
const RECORDS: [&str; 3] = ["schedules/a.json", "schedules/b.json", "results/c.json"];
const TEXT: &str = r#"{"words": "of alice"}"#;
/// What the service saved in the new place of a record while a migration went on.
const LATER: &str = r#"{"words": "of alice, later"}"#;

/// Something that an operator does.
struct Operation {
    name: &'static str,
    layout: Layout,
    set: fn(&Volume),
    command: fn(&Volume) -> Command,
    /// What holds wherever it is killed.
    holds: fn(&Volume, &mut Reader),
    /// What holds when another run has finished it.
    done: fn(&Volume, &mut Reader),
}

fn operations() -> Vec<Operation> {
    let erase = |layout| Operation {
        name: "erase",
        layout,
        set: populate,
        command: |volume| {
            let who = ["--user-id", "alice", "--yes", "--socket", "/nowhere"];
            command(volume, "erase", &who)
        },
        holds: some_are_left,
        done: nothing_is_left,
    };
    let migrate = |layout| Operation {
        name: "migrate",
        layout,
        set: populate,
        command: |volume| migrate_to(volume, &[]),
        holds: nothing_is_lost,
        done: has_moved,
    };
    let merge = |layout| Operation {
        set: populate_both_places,
        done: has_moved_the_latest,
        ..migrate(layout)
    };
    vec![
        erase(Layout::ResourceFirst),
        erase(Layout::UserFirst),
        migrate(Layout::ResourceFirst),
        migrate(Layout::UserFirst),
        merge(Layout::ResourceFirst),
        merge(Layout::UserFirst),
        Operation {
            name: "migrate to another volume",
            layout: Layout::ResourceFirst,
            set: |volume| {
                populate(volume);
                std::fs::create_dir(target(volume)).unwrap();
                std::os::unix::fs::chown(target(volume), Some(SERVICE_UID), Some(SERVICE_UID)).unwrap();
                set_mode(&target(volume), 0o750);
            },
            command: |volume| migrate_to(volume, &["--to-volume", target(volume).to_str().unwrap()]),
            holds: is_being_copied,
            done: is_copied,
        },
        Operation {
            name: "reseal",
            layout: Layout::ResourceFirst,
            set: |volume| {
                populate(volume);
                keep_a_draft(volume);
                volume.has_keys(NEXT_KEY, &[KEY, NEXT_KEY]);
            },
            command: |volume| {
                let keys = volume.sealing_keys_file();
                command(volume, "reseal", &["--sealing-keys", keys.to_str().unwrap()])
            },
            holds: is_whole,
            done: is_resealed,
        },
    ]
}

#[test]
fn an_operation_that_is_killed_at_any_call_loses_nothing_and_is_finished_by_another_run() {
    if !strace::is_there() {
        return;
    }
    let mut killed: BTreeMap<&str, usize> = BTreeMap::new();
    let home = sealing(Layout::default());
    let mut reader = Reader::new(&home);
    for operation in operations() {
        let (name, layout) = (operation.name, operation.layout);
        let log = home.base().join("strace.log");
        let volume = sealing(layout);
        (operation.set)(&volume);
        let (status, calls) = strace::run(&(operation.command)(&volume), &log, None);
        assert!(status.success(), "{name}: {status}");
        (operation.done)(&volume, &mut reader);
        assert!(leftovers(&volume).is_empty(), "{name}: {:?}", leftovers(&volume));

        let points = Point::all(&calls, volume.base());
        assert!(points.len() > 20, "{name}: {}", points.len());
        for point in tried(points, SAMPLE) {
            let place = format!("{name}, {layout}, {}", point.describe());
            let volume = sealing(layout);
            (operation.set)(&volume);
            let (status, calls) =
                strace::run(&(operation.command)(&volume), &log, Some((&point, Fault::Kill)));
            assert!(strace::was_killed(status), "{place}: {status}");
            point.was_met(&calls, volume.base());
            eprintln!("killed: {place}");
            (operation.holds)(&volume, &mut reader);
            let left = leftovers(&volume).len();
            assert!(left <= 1, "{place}: {:?}", leftovers(&volume));
            success((operation.command)(&volume), "");
            (operation.done)(&volume, &mut reader);
            assert!(
                leftovers(&volume).len() <= left,
                "{place}: {:?}",
                leftovers(&volume)
            );
            *killed.entry(name).or_default() += 1;
        }
    }
    for (name, count) in killed {
        report(&format!("kill -9 of {name}, at as many system calls"), count);
        assert!(!is_long() || count >= 30, "{name}: {count}");
    }
}

fn command(volume: &Volume, name: &str, options: &[&str]) -> Command {
    let mut command = tenantfs();
    command
        .env("TENANTFS_LOG", "error")
        .arg(name)
        .arg("--volume")
        .arg(volume.root());
    if name != "migrate" {
        command.args(["--layout", &volume.layout.to_string()]);
    }
    command.args(options);
    command
}

fn other(layout: Layout) -> Layout {
    match layout {
        Layout::ResourceFirst => Layout::UserFirst,
        Layout::UserFirst => Layout::ResourceFirst,
    }
}

fn migrate_to(volume: &Volume, options: &[&str]) -> Command {
    let (from, to) = (volume.layout.to_string(), other(volume.layout).to_string());
    command(
        volume,
        "migrate",
        &[&["--from", &from, "--to", &to], options].concat(),
    )
}

fn target(volume: &Volume) -> PathBuf {
    volume.base().join("target")
}

/// Records of alice's, one of them in a directory of bob's, who has one, too.
fn populate(volume: &Volume) {
    for path in RECORDS {
        plant(volume, path, TEXT, true);
    }
    volume.plant(&ALICE, "results", "plot.svg", "a plot");
    volume.plant(&BOB, "schedules", "own.json", bobs().to_string());
}

fn bobs() -> Value {
    json!({"words": "of bob", "user_id": "bob"})
}

/// And one that the service saved in the new place already.
fn populate_both_places(volume: &Volume) {
    populate(volume);
    let mut service = volume.service_command(&["--follow", "save", "alice", "schedules", "a"]);
    let mark = json!({"layout": other(volume.layout).to_string(), "from": volume.layout.to_string()});
    std::fs::write(volume.root().join(".tenantfs-layout"), mark.to_string()).unwrap();
    service.env("PYTHONDONTWRITEBYTECODE", "1");
    success(service, LATER);
}

/// A draft as the mount keeps it, sealed under the key that is active now.
fn keep_a_draft(volume: &Volume) {
    let mount = volume.mount_sealing(&ALICE);
    let write =
        "f = os.open('schedules/draft.json', os.O_WRONLY | os.O_CREAT); os.write(f, b'{\"half'); os.close(f)";
    assert_eq!(mount.errno(write), "EINVAL");
    assert!(mount.unmount().success());
}

/// What the service finds of bob's does not change.
fn bob_is_whole(volume: &Volume, reader: &mut Reader, layouts: &[Layout]) {
    let found: Vec<_> = layouts
        .iter()
        .map(|layout| reader.records(&volume.root(), &layout.to_string(), BOB.user))
        .filter(|found| !found.is_empty())
        .collect();
    assert_eq!(
        found,
        [BTreeMap::from([("schedules/own.json".to_owned(), bobs())])]
    );
}

fn some_are_left(volume: &Volume, reader: &mut Reader) {
    bob_is_whole(volume, reader, &[volume.layout]);
    let left = reader.records(&volume.root(), &volume.layout.to_string(), ALICE.user);
    for (path, record) in left {
        assert!(RECORDS.contains(&path.as_str()), "{path}");
        assert_eq!(record["words"], "of alice");
    }
}

fn nothing_is_left(volume: &Volume, reader: &mut Reader) {
    bob_is_whole(volume, reader, &[volume.layout]);
    let left = files_below(&volume.root());
    assert_eq!(left, [volume.path(&BOB, "schedules", "own.json")]);
}

/// Each record is in the new place or in the old one.
fn nothing_is_lost(volume: &Volume, reader: &mut Reader) {
    bob_is_whole(volume, reader, &LAYOUTS);
    let mut found = reader.records(&volume.root(), &volume.layout.to_string(), ALICE.user);
    found.extend(reader.records(&volume.root(), &other(volume.layout).to_string(), ALICE.user));
    assert!(found.keys().eq(all_records()), "{found:?}");
    for record in found.values() {
        assert!(
            record["words"].as_str().unwrap().starts_with("of alice"),
            "{record}"
        );
    }
}

fn all_records() -> Vec<&'static str> {
    let mut all = RECORDS.to_vec();
    all.sort_unstable();
    all
}

fn has_moved(volume: &Volume, reader: &mut Reader) {
    let to = other(volume.layout);
    bob_is_whole(volume, reader, &[to]);
    assert_eq!(
        reader.records(&volume.root(), &volume.layout.to_string(), ALICE.user),
        BTreeMap::new()
    );
    let found = reader.records(&volume.root(), &to.to_string(), ALICE.user);
    assert!(found.keys().eq(all_records()), "{found:?}");
    let mark = LayoutMark::read(Directories::open(&volume.root()).unwrap().root())
        .unwrap()
        .unwrap();
    assert_eq!((mark.layout, mark.from), (to, None));
}

fn has_moved_the_latest(volume: &Volume, reader: &mut Reader) {
    has_moved(volume, reader);
    let found = reader.records(&volume.root(), &other(volume.layout).to_string(), ALICE.user);
    assert_eq!(found["schedules/a.json"]["words"], "of alice, later");
}

/// The old volume is as it was; what is on the new one is whole.
fn is_being_copied(volume: &Volume, reader: &mut Reader) {
    let all = reader.finds(volume, &RECORDS);
    assert!(all.keys().eq(all_records()), "{all:?}");
    let to = other(volume.layout).to_string();
    let old = reader.records(&volume.root(), &volume.layout.to_string(), ALICE.user);
    for (path, record) in reader.records(&target(volume), &to, ALICE.user) {
        assert_eq!(record, old[&path], "{path}");
    }
    let files = files_below(&target(volume));
    let records = files
        .iter()
        .filter(|path| path.extension().is_some_and(|end| end == "json"));
    for path in records {
        let _: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    }
}

fn is_copied(volume: &Volume, reader: &mut Reader) {
    is_being_copied(volume, reader);
    let to = other(volume.layout).to_string();
    let copied = reader.records(&target(volume), &to, ALICE.user);
    assert!(copied.keys().eq(all_records()), "{copied:?}");
    let bobs = reader.records(&target(volume), &to, BOB.user);
    assert_eq!(bobs.len(), 1, "{bobs:?}");
}

fn is_whole(volume: &Volume, reader: &mut Reader) {
    bob_is_whole(volume, reader, &[volume.layout]);
    let found = reader.finds(volume, &RECORDS);
    assert!(found.keys().eq(all_records()), "{found:?}");
    let sealer = volume.sealer(&ALICE);
    let files = files_below(&volume.root());
    let drafts = files
        .iter()
        .filter(|path| path.to_str().unwrap().contains(".tenantfs-draft-"));
    let texts: Vec<_> = drafts
        .map(|path| {
            let bytes = std::fs::read(path).unwrap();
            assert!((bytes.len() as u64) < draft_limit(1 << 20));
            let draft = ForeignDraft::parse(Zeroizing::new(bytes)).unwrap();
            String::from_utf8(draft.text(Some(&sealer)).unwrap().to_vec()).unwrap()
        })
        .collect();
    assert_eq!(texts, ["{\"half"]);
}

fn is_resealed(volume: &Volume, reader: &mut Reader) {
    is_whole(volume, reader);
    let sealer = volume.sealer(&ALICE);
    for (path, record) in reader.records(&volume.root(), &volume.layout.to_string(), ALICE.user) {
        let sealed = record["api_key"].as_str().unwrap();
        assert!(sealer.is_active(sealed), "{path}");
        assert_eq!(*sealer.open("api_key", sealed).unwrap(), *SECRET.as_bytes());
    }
}
