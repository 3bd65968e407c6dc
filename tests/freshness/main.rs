//! A new open finds what was there when it began: whoever wrote it, in whatever way, and whatever the reader, or the machine,
//! is busy with.
//!
//! The writer has finished before the reader is told to open, so there is no doubt about what was there. Five hundred
//! rounds of each; ten thousand with TENANTFS_HOSTILE_LONG=1.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

#[path = "../common/mod.rs"]
mod common;
mod directories;

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{FileExt as _, chown};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use common::{ALICE, Conversation, Layout, SERVICE_UID, Volume};
use serde_json::{Value, json};

/// The record that is read in turn with its being written, as in the mount.
const RECORD: &str = "schedules/x.json";
const ATTACHMENT: &str = "results/plot.csv";

/// Opens a file whenever it is told to, and says what read, a map and fstat show of it: `NAME keep` holds the descriptor
/// until the next one is open, as an editor or `less` does, and `NAME close` does not.
const READER: &str = "
import json, mmap, os, sys

held = None
print('ready', flush=True)
for line in sys.stdin:
    name, keeps = line.split()
    try:
        file = os.open(name, os.O_RDONLY)
        size, read = os.fstat(file).st_size, b''
        while part := os.read(file, 1 << 20):
            read += part
        with mmap.mmap(file, 0, prot=mmap.PROT_READ) as data:
            mapped = data[:]
        print(json.dumps([read.decode(), mapped.decode(), size]), flush=True)
    except (OSError, ValueError) as error:
        print(json.dumps(repr(error)), flush=True)
    else:
        if held is not None:
            os.close(held)
        held = file if keeps == 'keep' else os.close(file)
";

/// Writes through a mount of its own whatever it is told to, and says when it has closed it.
const WRITER: &str = "
import json, os, sys

print('ready', flush=True)
for line in sys.stdin:
    name, text, how = json.loads(line)
    target = name + '.tmp' if how == 'rename' else name
    with open(target, 'w') as file:
        file.write(text)
    if how == 'rename':
        os.rename(target, name)
    print('closed', flush=True)
";

/// A line of the table that `scripts/test --hostile-long` ends with.
fn report(what: &str, count: usize) {
    let line = format!("HOSTILE: freshness | {what} | {count}\n");
    // Not eprintln!: the test runner would swallow it.
    std::io::stderr().write_all(line.as_bytes()).unwrap();
}

fn rounds() -> usize {
    match std::env::var_os("TENANTFS_HOSTILE_LONG") {
        Some(_) => 10_000,
        None => 500,
    }
}

/// A text of a record for each round, as it is on the volume: shorter, longer, and as long as the one before.
fn text(round: usize) -> String {
    let pad = "p".repeat([0, 0, 3_000, 17, 17, 9_000, 200][round % 7]);
    format!(
        r#"{{"round": {}, "pad": "{pad}", "user_id": "alice"}}"#,
        100_000 + round
    )
}

/// Replaces a file of the service's by another, in one step.
fn rename_over(path: &Path, text: &str) {
    let new = path.with_extension("tmp");
    fs::write(&new, text).unwrap();
    chown(&new, Some(SERVICE_UID), Some(SERVICE_UID)).unwrap();
    fs::rename(&new, path).unwrap();
}

/// Reads what is in `path` after each of `rounds`, by whoever holds the descriptor of before and by whoever does not. `write`
/// does what the round does, and returns what is there then, as the mount shows it.
fn each_open_finds(volume: &Volume, path: &str, rounds: usize, mut write: impl FnMut(usize) -> String) {
    let mount = volume.mount(&ALICE);
    for keeps in ["keep", "close"] {
        let mut reader = Conversation::start(&mount, READER);
        assert_eq!(reader.next(), "ready");
        let mut stale = Vec::new();
        for round in 0..rounds {
            let text = write(round);
            let found: Value = serde_json::from_str(&reader.say(&format!("{path} {keeps}"))).unwrap();
            if found != json!([text, text, text.len()]) {
                stale.push(format!(
                    "{round}: {:.200} instead of {text:.80}",
                    found.to_string()
                ));
            }
        }
        let count = stale.len();
        stale.truncate(5);
        assert_eq!(count, 0, "{keeps}: {count} of {rounds} are stale: {stale:#?}\n");
    }
    let what = format!("opens of {path}, each after a change");
    report(&what, 2 * rounds);
}

/// Runs `work` while the machine has something else to do: a processor, and a disk with other records of the same directory.
fn beside_other_work(volume: &Volume, work: impl FnOnce()) {
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            for number in 0_usize.. {
                if is_over.load(Ordering::Relaxed) {
                    return;
                }
                let name = format!("other-{}.json", number % 50);
                let path = volume.path(&ALICE, "schedules", &name);
                match number % 3 {
                    0 => rename_over(&path, &text(number)),
                    1 => fs::write(&path, text(number)).unwrap(),
                    _ => _ = fs::remove_file(&path),
                }
            }
        });
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                std::hint::spin_loop();
            }
        });
        // Ended also when the work fails.
        let _ends = Ends(&is_over);
        work();
    });
}

struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn volume() -> Volume {
    let volume = Volume::new(Layout::ResourceFirst);
    volume.plant(&ALICE, "schedules", "x.json", text(0));
    volume.plant(&ALICE, "results", "plot.csv", "x,y\n");
    volume
}

/// Each round replaces the record by another file.
fn renamed(volume: &Volume) {
    let path = volume.path(&ALICE, "schedules", "x.json");
    each_open_finds(volume, RECORD, rounds(), |round| {
        rename_over(&path, &text(round));
        text(round)
    });
}

/// Each round writes where the record is.
fn rewritten(volume: &Volume) {
    let path = volume.path(&ALICE, "schedules", "x.json");
    each_open_finds(volume, RECORD, rounds(), |round| {
        match round % 2 {
            0 => fs::write(&path, text(round)).unwrap(),
            // Without truncating it first, and with a size that may be that of before.
            _ => {
                let text = text(round);
                let file = fs::File::options().write(true).open(&path).unwrap();
                file.write_all_at(text.as_bytes(), 0).unwrap();
                file.set_len(text.len() as u64).unwrap();
            }
        }
        text(round)
    });
}

/// Each round saves the record through another mount of the same user's.
fn saved_elsewhere(volume: &Volume) {
    let other = volume.mount_again(&ALICE);
    let mut writer = Conversation::start(&other, WRITER);
    assert_eq!(writer.next(), "ready");
    each_open_finds(volume, RECORD, rounds(), |round| {
        let how = ["write", "rename"][round % 2];
        let said = writer.say(&json!([RECORD, text(round), how]).to_string());
        assert_eq!(said, "closed");
        text(round)
    });
}

#[test]
fn a_new_open_finds_the_record_that_was_renamed_over_the_one_before() {
    renamed(&volume());
}

#[test]
fn a_new_open_finds_what_was_written_where_the_record_is() {
    rewritten(&volume());
}

#[test]
fn a_new_open_finds_what_was_saved_through_another_mount() {
    saved_elsewhere(&volume());
}

#[test]
fn a_new_open_finds_it_on_a_machine_that_is_busy_with_other_records_too() {
    let volume = volume();
    for written in [renamed, rewritten, saved_elsewhere] {
        beside_other_work(&volume, || written(&volume));
    }
}

#[test]
fn a_new_open_of_an_attachment_finds_what_was_appended_cut_off_or_replaced() {
    let volume = volume();
    let path = volume.path(&ALICE, "results", "plot.csv");
    each_open_finds(&volume, ATTACHMENT, rounds(), |round| {
        let line = format!("{round},{}\n", "y".repeat(round % 300));
        match round % 4 {
            0 => rename_over(&path, &line),
            3 => {
                let file = fs::File::options().write(true).open(&path).unwrap();
                let half = file.metadata().unwrap().len() / 2 + 1;
                file.set_len(half).unwrap();
            }
            _ => {
                let mut file = fs::File::options().append(true).open(&path).unwrap();
                file.write_all(line.as_bytes()).unwrap();
            }
        }
        fs::read_to_string(&path).unwrap()
    });
}

#[test]
fn a_new_open_finds_the_record_that_was_removed_and_made_again() {
    let volume = volume();
    let path = volume.path(&ALICE, "schedules", "x.json");
    each_open_finds(&volume, RECORD, rounds(), |round| {
        fs::remove_file(&path).unwrap();
        fs::write(&path, text(round)).unwrap();
        text(round)
    });
}

#[test]
fn a_map_of_an_attachment_follows_what_the_service_writes_within_a_second() {
    let volume = volume();
    let path = volume.path(&ALICE, "results", "plot.csv");
    fs::write(&path, format!("{}\n", "0".repeat(100_000))).unwrap();
    let mount = volume.mount(&ALICE);
    // In the middle and on the last page, neither of which is read again.
    let code = "
import mmap, os, sys, time
data = mmap.mmap(os.open('results/plot.csv', os.O_RDONLY), 0, prot=mmap.PROT_READ)
print('mapped', data[50_000:50_001].decode(), data[99_999:100_000].decode(), flush=True)
for line in sys.stdin:
    new, since = line.strip().encode(), time.monotonic()
    while data[50_000:50_001] + data[99_999:100_000] != new * 2 and time.monotonic() < since + 60:
        time.sleep(0.005)
    print(time.monotonic() - since, flush=True)
";
    let mut reader = Conversation::start(&mount, code);
    assert_eq!(reader.next(), "mapped 0 0");
    let file = fs::File::options().write(true).open(&path).unwrap();
    let mut took: Vec<f64> = (1..=5)
        .map(|round| {
            let digit = round.to_string();
            file.write_all_at(digit.as_bytes(), 50_000).unwrap();
            file.write_all_at(digit.as_bytes(), 99_999).unwrap();
            if round == 3 {
                file.write_all_at(b"and it grows", 200_000).unwrap();
            }
            reader.say(&digit).parse().unwrap()
        })
        .collect();
    took.sort_by(f64::total_cmp);
    // A busy machine may be late once or twice, and not more often than it is in time.
    assert!(took[4] < 60.0 && took[2] < 3.0, "{took:?}");
}
