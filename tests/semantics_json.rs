//! The mount's semantics, continued: what is a record's JSON. See `semantics.rs`.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use common::{ALICE, Volume, write};
use tenantfs::layout::Layout;

/// What Python and others write, and some readers refuse.
const REFUSED_BY_SOME: [&str; 7] = [
    "NaN",
    "Infinity",
    "-Infinity",
    "1e400",
    r#""cut emoji \ud83d""#,
    r#"{"\ude00": "\udfff\ud800"}"#,
    "[[[[1E+999]]]]",
];

fn deep(levels: usize) -> String {
    format!("{{\"a\":{}{}}}", "[".repeat(levels - 1), "]".repeat(levels - 1))
}

#[test]
fn what_is_certainly_the_users_is_shown_whatever_some_readers_refuse() {
    let volume = Volume::new(Layout::ResourceFirst);
    for (number, value) in REFUSED_BY_SOME.into_iter().enumerate() {
        let record = format!(r#"{{"user_id": "alice", "a": {value}}}"#);
        volume.plant(&ALICE, "schedules", &format!("{number}.json"), record);
    }
    let deepest = format!(r#"{{"user_id": "alice", {}"#, &deep(1000)[1..]);
    volume.plant(&ALICE, "schedules", "deep.json", &deepest);
    let deeper = format!(r#"{{"user_id": "alice", {}"#, &deep(1001)[1..]);
    volume.plant(&ALICE, "schedules", "deeper.json", deeper);
    for (name, record) in [
        ("name.json", r#"{"user_id": "alice", "user_id\ud83d": "bob"}"#),
        ("owner.json", r#"{"user_id": "alice\ud83d"}"#),
    ] {
        volume.plant(&ALICE, "schedules", name, record);
    }
    let mount = volume.mount(&ALICE);
    let listed = mount.shell("ls schedules");
    let shown: Vec<_> = listed.lines().collect();
    assert_eq!(
        shown,
        [
            "0.json",
            "1.json",
            "2.json",
            "3.json",
            "4.json",
            "5.json",
            "6.json",
            "deep.json"
        ]
    );
    for (number, value) in REFUSED_BY_SOME.into_iter().enumerate() {
        let record = format!(r#"{{"user_id": "alice", "a": {value}}}"#);
        assert_eq!(mount.read(&format!("schedules/{number}.json")), record);
    }
    assert_eq!(mount.read("schedules/deep.json"), deepest);
}

#[test]
fn what_rfc_8259_allows_can_be_saved() {
    let volume = Volume::new(Layout::ResourceFirst);
    let mount = volume.mount(&ALICE);
    for value in REFUSED_BY_SOME {
        let outcome = match value.contains("NaN") || value.contains("Infinity") {
            true => "EINVAL",
            false => "ok",
        };
        let text = format!(r#"{{"a": {value}}}"#);
        assert_eq!(write(&mount, "schedules/new.json", &text), outcome, "{value}");
        if outcome == "ok" {
            assert_eq!(mount.read("schedules/new.json"), text);
        }
    }
    let log = mount.log();
    assert!(
        log.contains("NaN and Infinity are no JSON, and cannot be saved"),
        "{log}"
    );
}

#[test]
fn two_owners_two_secrets_or_nesting_deeper_than_1_000_are_einval() {
    let volume = Volume::new(Layout::ResourceFirst);
    let mount = volume.mount(&ALICE);
    for (text, outcome) in [
        ("{\"user_id\": \"alice\", \"user\\u005fid\": \"alice\"}", "EINVAL"),
        ("{\"api_key\": null, \"api_key\": null}", "EINVAL"),
        ("{\"a\": 1, \"a\": 2}", "ok"),
        (&deep(1000), "ok"),
        (&deep(1001), "EINVAL"),
    ] {
        assert_eq!(write(&mount, "schedules/new.json", text), outcome, "{text}");
    }
}
