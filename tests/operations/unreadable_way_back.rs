//! What is said of removed records and drafts when a part of the volume cannot be read.

use std::path::PathBuf;

use super::unreadable::{Closed, home, nested, tree, volume};
use super::{ask, json_lines, stderr, stdout};
use crate::common::daemon::Daemon;
use crate::common::{ALICE, LAYOUTS, Layout, Volume};

/// One removed record and one draft in each of alice's directories.
fn with_a_way_back(layout: Layout) -> Volume {
    let volume = volume(layout);
    let mount = volume.mount(&ALICE);
    mount.shell(
        "for d in schedules schedules/sub results; do
             echo '{}' > $d/gone.json; rm $d/gone.json; echo '{' > $d/draft.json || true
         done",
    );
    drop(mount);
    volume
}

#[test]
fn what_was_removed_and_drafts_name_what_cannot_be_entered_and_have_the_rest() {
    for layout in LAYOUTS {
        for (directory, listed) in [
            // Of user-first, everything is in it.
            (tree as fn(&Volume) -> PathBuf, [1, 0]),
            (home, [1, 0]),
            (nested, [2, 2]),
        ] {
            let volume = with_a_way_back(layout);
            let listed = listed[usize::from(layout == Layout::UserFirst)];
            let closed = Closed::new(directory(&volume));
            for (name, list) in [("removed", "records"), ("drafts", "drafts")] {
                let output = ask(&volume, name, &["--user-id", "alice"]);
                closed.assert_named_by(&output, 6);
                assert!(!stderr(&output).contains("nothing that was removed"));
                assert!(!stderr(&output).contains("everything is saved"));
                let lines = stdout(&output).lines().count();
                assert_eq!(lines, if listed > 0 { listed + 1 } else { 0 }, "{name}");

                let output = ask(&volume, name, &["--user-id", "alice", "--json"]);
                closed.assert_named_by(&output, 6);
                let reply = &json_lines(&stdout(&output))[0][name];
                assert_eq!(reply[list].as_array().unwrap().len(), listed, "{reply}");
                assert!(!reply["unreadable"].as_array().unwrap().is_empty(), "{reply}");
            }
        }
    }
}

#[test]
fn restoring_and_discarding_name_the_directory_on_the_way_that_cannot_be_entered() {
    for layout in LAYOUTS {
        for directory in [tree, home, nested] {
            let volume = with_a_way_back(layout);
            let (removed, draft) = ("schedules/sub/gone.json", "schedules/sub/draft.json");
            {
                let closed = Closed::new(directory(&volume));
                for options in [["restore", removed].as_slice(), &["drafts", "--discard", draft]] {
                    let output = ask(
                        &volume,
                        options[0],
                        &[&options[1..], &["--user-id", "alice"]].concat(),
                    );
                    closed.assert_named_by(&output, 6);
                }
            }
            let restored = ask(&volume, "restore", &[removed, "--user-id", "alice"]);
            assert!(restored.status.success(), "{}", stderr(&restored));
        }
    }
}

#[test]
fn a_user_is_told_that_a_directory_cannot_be_looked_at_and_not_where_it_is() {
    let volume = with_a_way_back(Layout::default());
    let daemon = Daemon::start(&volume, &[]);
    daemon.login(&ALICE);
    let closed = Closed::new(nested(&volume));
    for name in ["removed", "drafts"] {
        let output = daemon.ask(ALICE.uid, &[name], "");
        assert_eq!(output.status.code(), Some(6), "{}", stderr(&output));
        assert_eq!(stdout(&output).lines().count(), 3);
        let said = stderr(&output);
        assert!(
            said.contains("\"schedules/sub\": ") && said.contains("Permission denied"),
            "{said}"
        );
        assert!(!said.contains(volume.root().to_str().unwrap()), "{said}");
    }
    drop(closed);
    let log = daemon.log();
    assert!(log.contains(nested(&volume).to_str().unwrap()), "{log}");
}
