//! fsx against records: random work on them through a mount, checked against a model there (`records_fsx.py`), and
//! on the volume after every commit.
//!
//! Some thousand operations; with TENANTFS_HOSTILE_LONG=1, and in `scripts/conformance`, more than 200,000. A failure
//! names its seed, and a run with TENANTFS_RECORDS_SEED=n repeats it.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use common::{ALICE, Conversation, Volume};
use serde_json::Value;
use tenantfs::identity::UserId;
use tenantfs::record::Lens;

const DRIVER: &str = include_str!("records_fsx.py");
/// What the service has kept in one of the records that are there from the beginning.
const SECRET: &str = "sk-of-the-first-record";

/// Names, each with a record's view and its secret, or nothing where there must be no record.
type Records = BTreeMap<String, Option<(String, Option<String>)>>;

/// What the driver tells.
#[derive(serde::Deserialize)]
struct Told {
    after: String,
    records: Records,
}

#[test]
fn records_are_like_their_model_under_random_work() {
    let long = std::env::var_os("TENANTFS_HOSTILE_LONG").is_some();
    let seeds: Vec<u64> = match std::env::var("TENANTFS_RECORDS_SEED") {
        Ok(seed) => vec![seed.parse().unwrap()],
        Err(_) => (1..=if long { 20 } else { 2 }).collect(),
    };
    let operations = if long { 10_500 } else { 1_000 };
    let (mut done, mut commits, mut looks) = (0, 0, 0);
    for seed in &seeds {
        let volume = Volume::new(common::LAYOUTS[(seed % 2) as usize]);
        // One in four waits for the disk at each close.
        let durability = if seed % 4 == 1 { "close" } else { "fsync" };
        let (committed, looked) = run(&volume, *seed, operations, durability);
        done += operations;
        commits += committed;
        looks += looked;
    }
    println!("records_fsx: {done} operations, {commits} states of the volume, {looks} looks at it meanwhile");
}

/// Runs the driver once; returns how many states of the volume were compared, and how many records were read meanwhile.
fn run(volume: &Volume, seed: u64, operations: u32, durability: &str) -> (usize, usize) {
    plant(volume);
    let mut expected = Records::new();
    let mut commits = 0;
    let looks;
    {
        let mount = volume.mount_with(&ALICE, &["--commit", durability]);
        let planted = format!("{{'a.json': '{SECRET}', 'b.json': None}}");
        let code = format!("SEED, OPERATIONS, PLANTED = {seed}, {operations}, {planted}\n{DRIVER}");
        let mut driver = Conversation::start(&mount, &code);
        let ended = AtomicBool::new(false);
        looks = thread::scope(|scope| {
            let reader = scope.spawn(|| read_along(volume, &ended));
            let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                loop {
                    let line = driver.next();
                    if line.starts_with("DONE") {
                        return;
                    }
                    assert!(line.starts_with('{'), "{line}\n{}", mount.log());
                    let told: Told = serde_json::from_str(&line).unwrap();
                    let context = format!("seed {seed}, {}", told.after);
                    let records = told.records.iter();
                    records.for_each(|(name, record)| compare(volume, name, record.as_ref(), &context));
                    commits += 1;
                    expected.extend(told.records);
                }
            }));
            ended.store(true, Ordering::Relaxed);
            let looks = reader.join();
            result.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            looks.unwrap()
        });
    }
    // What the last commit left is what another session finds.
    let mount = volume.mount(&ALICE);
    for (name, record) in expected {
        compare(
            volume,
            &name,
            record.as_ref(),
            &format!("seed {seed}, at the end"),
        );
        if let Some((view, _)) = record {
            assert_eq!(
                mount.read(&format!("schedules/{name}")),
                view,
                "seed {seed}, {name}"
            );
        }
    }
    (commits, looks)
}

fn plant(volume: &Volume) {
    let record = |secret: &str| {
        let pad = "x".repeat(3000);
        format!(r#"{{"n": 10001, "pad": "{pad}", "end": 10001{secret}, "user_id": "alice"}}"#)
    };
    let secret = format!(r#", "api_key": "{SECRET}""#);
    volume.plant(&ALICE, "schedules", "a.json", record(&secret));
    volume.plant(&ALICE, "schedules", "b.json", record(""));
}

/// What the volume has under a name: nothing, or the record with that view, its owner and its secret.
fn compare(volume: &Volume, name: &str, record: Option<&(String, Option<String>)>, context: &str) {
    let path = volume.path(&ALICE, "schedules", name);
    let Some((view, secret)) = record else {
        assert!(!path.exists(), "{context}: {name} is on the volume");
        return;
    };
    let stored = fs::read(&path).unwrap_or_else(|error| panic!("{context}: {name}: {error}"));
    let lens = Lens::new(UserId::new("alice").unwrap(), vec!["api_key".to_owned()], None);
    let shown = lens.view(&stored).unwrap().text;
    let same = shown
        .iter()
        .zip(view.as_bytes())
        .take_while(|(one, other)| one == other)
        .count();
    assert!(
        *shown == *view.as_bytes(),
        "{context}: {name} has {} bytes and {} were written; {same} are the same",
        shown.len(),
        view.len()
    );
    let object: Value = serde_json::from_slice(&stored).unwrap();
    assert_eq!(object["user_id"], "alice", "{context}: {name}");
    let found = object.get("api_key").and_then(Value::as_str);
    assert_eq!(found, secret.as_deref(), "{context}: the secret of {name}");
}

/// Another reader of the volume: whenever it looks, each record is whole, and has its owner. The two numbers in it are
/// written one after the other.
fn read_along(volume: &Volume, ended: &AtomicBool) -> usize {
    let mut looks = 0;
    while !ended.load(Ordering::Relaxed) {
        for entry in fs::read_dir(volume.directory(&ALICE, "schedules")).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_none_or(|extension| extension != "json") {
                continue;
            }
            // It may be gone by now.
            let Ok(text) = fs::read(&path) else { continue };
            let object: Value = serde_json::from_slice(&text)
                .unwrap_or_else(|error| panic!("{}: {error}: {text:?}", path.display()));
            assert_eq!(object["user_id"], "alice", "{}", path.display());
            assert_eq!(object["n"], object["end"], "{} is half new", path.display());
            looks += 1;
        }
        thread::sleep(std::time::Duration::from_millis(1));
    }
    looks
}
