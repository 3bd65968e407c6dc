//! The power is cut, on a real ext4 in its default mode: it stops at once, and what its journal has is all there is.

use std::collections::BTreeMap;
use std::fs;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use crate::common::{ALICE, Conversation, Layout, as_user};
use crate::disk::Disk;
use crate::volume::{Reader, sealing};
use crate::{is_long, report};

/// Writes new records and old ones anew, and says which it has closed.
const WRITER: &str = r#"
import os
number = 0
try:
    while True:
        number += 1
        name = f'old-{number % 20}' if number % 2 else f'new-{number}'
        file = os.open(f'schedules/{name}.json', os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.write(file, b'{"n": %d, "x": "%s"}' % (number, b'x' * 3000))
        os.close(file)
        print(f'schedules/{name}.json', number, flush=True)
except OSError:
    pass
"#;

/// Has the journal written over and over: what is in memory only is not long so.
const NEIGHBOUR: &str = r"
import os
file = os.open('neighbour', os.O_WRONLY | os.O_CREAT)
print('begun', flush=True)
try:
    while True:
        os.utime(file)
        os.fsync(file)
except OSError:
    input()
";

#[test]
fn on_an_ext4_that_stops_at_once_each_record_is_whole_and_what_was_closed_stays() {
    for (commit, rounds) in [("close", 1), ("fsync", 2)] {
        let rounds = if is_long() { rounds * 15 } else { rounds };
        let (mut closed, mut found) = (0, 0);
        for round in 0..rounds {
            let place = format!("--commit {commit}, round {round}");
            let volume = sealing(Layout::default());
            let mut disk = Disk::new(&volume, volume.base(), 32);
            let mut reader = Reader::new(&volume);
            let mount = volume.mount_sealing_with(&ALICE, &["--commit", commit]);
            let mut neighbour = Conversation::start_in(0, &volume.root(), NEIGHBOUR);
            neighbour.next();
            let said = volume.base().join("said");
            let mut writer = writing(&mount.path, &said);
            thread::sleep(Duration::from_millis(300 + round * 37 % 200));
            disk.stop();
            writer.wait().unwrap();
            drop(neighbour);
            drop(mount);
            disk.mount_again();

            let records = reader.finds(&volume, &[]);
            found += records.len();
            let mut last: BTreeMap<String, u64> = BTreeMap::new();
            for line in fs::read_to_string(&said).unwrap().lines() {
                let (path, number) = line.split_once(' ').unwrap();
                last.insert(path.to_owned(), number.parse().unwrap());
            }
            assert!(last.len() > 3, "{place}: {last:?}");
            for (path, number) in last {
                closed += 1;
                let there = records.get(&path).map(|record| record["n"].as_u64().unwrap());
                assert!(
                    commit == "fsync" || there >= Some(number),
                    "{place}: {path}: {there:?}, not {number}"
                );
            }
        }
        // What was not closed durably may all be gone; that much of it is there shows that something was looked at.
        assert!(found > 0, "{commit}");
        report(
            &format!("records closed before an ext4 stopped, --commit {commit}"),
            closed,
        );
    }
}

fn writing(mountpoint: &std::path::Path, said: &std::path::Path) -> Child {
    let mut command: Command = as_user(ALICE.uid, mountpoint, "python3");
    command.args(["-B", "-c", WRITER]).stdin(Stdio::null());
    command.stdout(fs::File::create(said).unwrap()).spawn().unwrap()
}
