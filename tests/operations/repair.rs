//! `tenantfs verify --repair`.

use std::fs;
use std::path::Path;

use super::{ask, audited, files, json_lines, record_of, stderr, stdout};
use crate::common::{ALICE, BOB, LAYOUTS, Volume};

#[test]
fn repairing_moves_records_home_and_removes_what_nobody_needs_and_nothing_else() {
    for layout in LAYOUTS {
        let volume = Volume::new(layout);
        volume.plant(&ALICE, "schedules", "own.json", record_of("alice", 1));
        volume.plant(&ALICE, "schedules", "sub/of-bob.json", record_of("bob", 2));
        volume.plant(&ALICE, "schedules", "copy.json", record_of("bob", 3));
        volume.plant(&BOB, "schedules", "copy.json", record_of("bob", 4));
        volume.plant(&ALICE, "schedules", "broken.json", "{");
        let before = files(&volume.root());
        let output = ask(&volume, "verify", &["--repair", "--json"]);
        assert_eq!(output.status.code(), Some(6), "{}", stderr(&output));
        let moved = volume.path(&BOB, "schedules", "sub/of-bob.json");
        assert_eq!(fs::read_to_string(&moved).unwrap(), record_of("bob", 2));
        assert!(!volume.path(&ALICE, "schedules", "sub/of-bob.json").exists());
        let mut after = files(&volume.root());
        let relative = |path: &Path| path.strip_prefix(volume.root()).unwrap().to_owned();
        let text = after.remove(&relative(&moved)).unwrap();
        after.insert(
            relative(&volume.path(&ALICE, "schedules", "sub/of-bob.json")),
            text,
        );
        assert_eq!(after, before, "nothing else has changed");
        let lines = json_lines(&stdout(&output));
        let repaired: Vec<_> = lines.iter().filter(|line| line["repaired"] == true).collect();
        assert_eq!(repaired.len(), 1);
        assert_eq!(audited(&volume, "repair").len(), 1);
        let mount = volume.mount(&BOB);
        assert!(mount.read("schedules/sub/of-bob.json").contains("\"n\" : 2"));
        let again = ask(&volume, "verify", &["--repair", "--json"]);
        let seen = json_lines(&stdout(&again)).pop().unwrap();
        assert_eq!(seen["verified"]["repaired"], 0);
    }
}
