//! What the kernel forgets, the server forgets: however many names are looked up, it does not grow.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use std::fs::{self, OpenOptions};
use std::io::Write as _;

use common::{ALICE, Mount, Volume};
use tenantfs::layout::Layout;

/// Names in the directory.
const NAMES: usize = 2_000;
/// How often each of them is looked up and forgotten, and as many absent names are looked up.
const ROUNDS: usize = 30;
/// What may remain: the allocator's slack. A node of a hundred bytes for each lookup would be twice as much.
const SLACK_KIB: u64 = 5 << 10;

/// One round: every name is listed, looked up and read; as many others are not found; a few are made and removed.
const ROUND: &str = "
import os, sys
names, number = int(sys.argv[1]), sys.argv[2]
os.chdir('schedules')
assert len(list(os.scandir())) == names
for n in range(names):
    assert os.stat(f'{n}.json').st_size > 0
    assert not os.path.exists(f'absent-{number}-{n}.json')
for n in range(names // 10):
    with open(f'{number}-{n}.json', 'w') as file:
        file.write('{}')
    os.rename(f'{number}-{n}.json', f'{number}-{n}.txt')
    os.unlink(f'{number}-{n}.txt')
for n in range(0, names, 20):
    with open(f'{n}.json') as file:
        assert file.read()
";

#[test]
fn lookups_and_forgets_leave_nothing_behind() {
    let volume = Volume::new(Layout::ResourceFirst);
    for number in 0..NAMES {
        volume.plant(
            &ALICE,
            "schedules",
            &format!("{number}.json"),
            format!("{{\"n\":{number},\"user_id\":\"alice\"}}"),
        );
    }
    let mount = volume.mount_with(&ALICE, &["--commit", "fsync"]);
    if !forget() {
        common::skip("the kernel's caches cannot be dropped here");
        return;
    }
    // Caches that are bounded fill up first.
    let rounds = |range: std::ops::Range<usize>| {
        for number in range {
            mount.python(ROUND, &[&NAMES.to_string(), &number.to_string()]);
            forget();
        }
        resident_kib(&mount)
    };
    let before = rounds(0..ROUNDS / 5);
    let after = rounds(ROUNDS / 5..ROUNDS);
    let lookups = 2 * NAMES * (ROUNDS - ROUNDS / 5);
    assert!(
        after < before + SLACK_KIB,
        "{lookups} lookups: from {before} KiB resident to {after}"
    );
}

/// Has the kernel drop its entries and inodes, which it tells the server; false where that is not permitted.
fn forget() -> bool {
    let file = OpenOptions::new().write(true).open("/proc/sys/vm/drop_caches");
    file.and_then(|mut file| file.write_all(b"2\n")).is_ok()
}

/// The memory that the server holds.
fn resident_kib(mount: &Mount<'_>) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", mount.pid().as_raw_nonzero())).unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}
