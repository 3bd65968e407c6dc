//! The laws of the lens, on generated texts and on the JSONTestSuite.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod documents;
#[path = "../laws/record.rs"]
mod laws;
mod sealing;

use std::io::Write as _;
use std::process::{Command, Stdio};

use documents::{PLAIN, STORED, WILD, WRITTEN, object};
use laws::{Members, SECRET, SEPARATOR, check, check_input, lens_of};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use tenantfs::error::Kind;
use tenantfs::record::{Hidden, Lens};

fn lens() -> Lens {
    lens_of("alice")
}

/// All that must hold whatever is on the volume and whatever a user writes.
fn check_any(stored: Option<&[u8]>, written: &[u8]) {
    check(&lens(), stored, written);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn what_is_written_is_what_is_read(stored in option::of(object(WILD)), text in object(PLAIN)) {
        let put = lens().put(stored.as_deref().map(str::as_bytes), text.as_bytes()).unwrap();
        let view = lens().view(&put.stored).unwrap();
        prop_assert_eq!(String::from_utf8(view.text).unwrap(), text);
        prop_assert!(!put.owner_overridden);
    }

    #[test]
    fn what_is_written_back_changes_nothing(stored in object(STORED)) {
        check_any(Some(stored.as_bytes()), b"");
    }

    #[test]
    fn the_owner_is_ours_and_the_rest_is_theirs(stored in option::of(object(WILD)), text in object(WRITTEN)) {
        let stored = stored.as_deref().map(str::as_bytes);
        let put = lens().put(stored, text.as_bytes()).unwrap();
        let before = Members::read(text.as_bytes()).unwrap();
        let overridden = before.all("user_id").any(|owner| owner != "alice");
        prop_assert_eq!(put.owner_overridden, overridden);
        prop_assert_eq!(Members::read(&put.stored).unwrap().plain(), before.plain());
        check_any(stored, text.as_bytes());
    }

    #[test]
    fn secrets_stay_until_they_are_set_to_null(stored in object(STORED), text in object(WRITTEN)) {
        let put = lens().put(Some(stored.as_bytes()), text.as_bytes()).unwrap();
        let [old, new, after] =
            [stored.as_bytes(), text.as_bytes(), &put.stored].map(|text| Members::read(text).unwrap());
        let mut has_secret = false;
        for name in ["api_key", "token"] {
            let written_back = lens().view(stored.as_bytes()).unwrap().text == text.as_bytes();
            let kept = new.all(name).next().is_none();
            let expected = old.all(name).next_back().filter(|_| kept);
            prop_assert_eq!(after.all(name).next_back(), expected);
            prop_assert!(written_back || after.all(name).count() <= 1);
            has_secret |= after.all(name).any(|value| !value.is_null());
        }
        prop_assert_eq!(lens().view(&put.stored).unwrap().has_secret, has_secret);
    }

    #[test]
    fn no_text_breaks_a_law(stored in option::of(object(WILD)), text in object(WILD)) {
        check_any(stored.as_deref().map(str::as_bytes), text.as_bytes());
    }

    #[test]
    fn no_bytes_break_a_law(stored: Vec<u8>, text: Vec<u8>) {
        check_input(&[stored, text].join(&SEPARATOR));
    }

    #[test]
    fn no_damage_breaks_a_law(text in object(WILD), at: Index, byte: u8, deleted in 0..4_usize, inserted: bool) {
        let mut damaged = text.into_bytes();
        let at = at.index(damaged.len());
        damaged.drain(at..(at + deleted).min(damaged.len()));
        if inserted {
            damaged.insert(at.min(damaged.len()), byte);
        }
        check_any(Some(&damaged), &damaged);
    }
}

proptest! {
    #[test]
    fn a_beginning_is_incomplete_and_a_whole_is_not(text in object(PLAIN)) {
        let whole = text.trim_end().len();
        for end in 0..text.len() {
            let put = lens().put(None, &text.as_bytes()[..end]);
            let incomplete = put.is_err_and(|error| error.kind() == Kind::IncompleteRecord);
            prop_assert_eq!(incomplete, end < whole, "at {} of {:?}", end, &text);
        }
    }
}

#[test]
fn the_stored_spelling_is_the_documented_one() {
    let cases = [
        // What is stored now, what is written, what is stored then.
        ("", r#"{"a":1}"#, r#"{"a":1,"user_id" :"alice"}"#),
        ("", "{ }\n", "{\"user_id\" :\"alice\" }\n"),
        (
            "",
            "{\n  \"a\": 1\n}\n",
            "{\n  \"a\": 1,\"user_id\" :\"alice\"\n}\n",
        ),
        (
            "",
            r#"{"user_id": "alice", "a": 1}"#,
            r#"{"user_id": "alice", "a": 1}"#,
        ),
        ("", r#"{"user_id":"bob"}"#, r#"{"user_id":"alice"}"#),
        ("", r#"{"user_id":7,"a":1}"#, r#"{"user_id":"alice","a":1}"#),
        (
            "",
            r#"{"a":1,"user_id" :"alice"}"#,
            r#"{"a":1,"user_id"  :"alice"}"#,
        ),
        ("", r#"{"user_id"   :"bob"}"#, r#"{"user_id"    :"alice"}"#),
        ("", r#"{"a":1, "api_key": null}"#, r#"{"a":1,"user_id" :"alice"}"#),
        (
            "",
            r#"{"api_key": null , "a":1}"#,
            r#"{ "a":1,"user_id" :"alice"}"#,
        ),
        ("", r#"{ "api_key": null }"#, r#"{"user_id" :"alice"  }"#),
        (
            r#"{"api_key": "k", "user_id": "alice"}"#,
            r#"{"a":1}"#,
            r#"{"a":1,"api_key":"k","user_id" :"alice"}"#,
        ),
        (
            r#"{"token": "t", "api_key": "k", "user_id": "alice"}"#,
            "{}",
            r#"{"api_key":"k","token":"t","user_id" :"alice"}"#,
        ),
        (
            r#"{"api_key": "k", "user_id": "alice"}"#,
            r#"{"a":1,"user_id" :"alice"}"#,
            r#"{"a":1,"user_id" :"alice","api_key":"k"}"#,
        ),
        (
            r#"{"api_key": "k", "user_id": "alice"}"#,
            r#"{"api_key":null}"#,
            r#"{"user_id" :"alice"}"#,
        ),
        (
            r#"{"api_key": "k", "user_id": "bob"}"#,
            "{}",
            r#"{"user_id" :"alice"}"#,
        ),
        (
            r#"{"api_key":1,"api_key":2,"user_id":"alice"}"#,
            "{}",
            r#"{"api_key":2,"user_id" :"alice"}"#,
        ),
    ];
    for (stored, written, expected) in cases {
        let put = lens().put(Some(stored.as_bytes()), written.as_bytes()).unwrap();
        assert_eq!(
            String::from_utf8(put.stored).unwrap(),
            expected,
            "{written} over {stored}"
        );
    }
}

#[test]
fn the_views_spelling_is_the_documented_one() {
    let cases = [
        (
            r#"{"api_key":"k" , "a":1,"user_id":"alice"}"#,
            r#"{ "a":1,"user_id":"alice"}"#,
        ),
        (
            r#"{"a":1 , "api_key":"k" ,"user_id":"alice"}"#,
            r#"{"a":1  ,"user_id":"alice"}"#,
        ),
        (r#"{"api_key":"k","token":2,"user_id" :"alice" }"#, "{ }"),
        (r#"{"a":1,"user_id" :"\u0061lice"}"#, r#"{"a":1}"#),
        (r#"{"a":1,"user_id"  :"alice"}"#, r#"{"a":1,"user_id" :"alice"}"#),
        // Not the mark: a space after the colon, around the comma, another blank, an escape, not the last.
        (r#"{"a":1,"user_id" : "alice"}"#, r#"{"a":1,"user_id" : "alice"}"#),
        (r#"{"a":1, "user_id" :"alice"}"#, r#"{"a":1, "user_id" :"alice"}"#),
        (r#"{"a":1 ,"user_id" :"alice"}"#, r#"{"a":1 ,"user_id" :"alice"}"#),
        (
            "{\"a\":1,\"user_id\"\t:\"alice\"}",
            "{\"a\":1,\"user_id\"\t:\"alice\"}",
        ),
        (
            r#"{"a":1,"user\u005fid" :"alice"}"#,
            r#"{"a":1,"user\u005fid" :"alice"}"#,
        ),
        (r#"{"user_id" :"alice","a":1}"#, r#"{"user_id" :"alice","a":1}"#),
        (r#"{"user_id" :"alice","api_key":1}"#, r#"{"user_id" :"alice"}"#),
    ];
    for (stored, expected) in cases {
        let view = lens().view(stored.as_bytes()).unwrap();
        assert_eq!(String::from_utf8(view.text).unwrap(), expected, "{stored}");
    }
}

#[test]
fn refusals_say_why_and_never_quote() {
    let cases: [(&[u8], Kind, &str); 12] = [
        (
            br#"{"api_key":"sk-8f2e"}"#,
            Kind::PlainSecret,
            "\"api_key\" is a secret",
        ),
        (
            br#"{"user_id":"bob","user\u005fid":"alice"}"#,
            Kind::InvalidRecord,
            "\"user_id\" appears twice",
        ),
        (
            br#"{"token":null,"token":null}"#,
            Kind::InvalidRecord,
            "\"token\" appears twice",
        ),
        (br#""sk-8f2e""#, Kind::InvalidRecord, "does not begin with {"),
        (b"[1", Kind::InvalidRecord, "does not begin with {"),
        (br#"{"a":"sk-8f2e" 1}"#, Kind::InvalidRecord, "line 1 column 16"),
        (br#"{"a":1} {"#, Kind::InvalidRecord, "trailing"),
        (br#"{"a":1e999}"#, Kind::InvalidRecord, "out of range"),
        (br#"{"\ud800":1}"#, Kind::InvalidRecord, "name"),
        (
            b"{\"a\":\"\xc3(\"}",
            Kind::InvalidRecord,
            "not UTF-8 from byte 6 on",
        ),
        (b"{\xc3", Kind::InvalidRecord, "not UTF-8 from byte 1 on"),
        (b"{\"a\":\"\xc3", Kind::IncompleteRecord, "breaks off"),
    ];
    for (written, kind, part) in cases {
        let error = lens().put(None, written).unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains(part), "{error}");
        assert!(!error.to_string().contains(SECRET), "{error}");
    }
    let put = lens()
        .put(Some(br#"{"api_key":"sk-8f2e","user_id":"alice"}"#), b"{}")
        .unwrap();
    let shown = format!("{:?} {:?} {:?}", lens(), put, lens().view(&put.stored).unwrap());
    assert!(!shown.contains(SECRET) && !shown.contains("alice"), "{shown}");
}

#[test]
fn nesting_ends_at_128_levels() {
    for (open, close) in [("[", "]"), (r#"{"a":"#, "}")] {
        let nested = |levels: usize| {
            let core = if open == "[" { "" } else { "1" };
            format!(
                r#"{{"a":{}{core}{}}}"#,
                open.repeat(levels - 1),
                close.repeat(levels - 1)
            )
        };
        let put = lens().put(None, nested(128).as_bytes()).unwrap();
        assert_eq!(lens().view(&put.stored).unwrap().text, nested(128).as_bytes());
        let error = lens().put(None, nested(129).as_bytes()).unwrap_err();
        assert_eq!(error.kind(), Kind::InvalidRecord);
        assert!(error.to_string().contains("128 levels"), "{error}");
        let stored = format!(r#"{{"user_id":"alice",{}"#, &nested(129)[1..]);
        assert_eq!(lens().view(stored.as_bytes()).unwrap_err(), Hidden::Malformed);
        // Far more than any stack has.
        lens().put(None, open.repeat(1_000_000).as_bytes()).unwrap_err();
    }
}

#[test]
fn a_record_may_be_wide_but_not_a_riddle() {
    let wide = |member: &str| format!("{{{}\"n\":1}}", format!("{member} , ").repeat(1_000_000));
    let put = lens().put(None, wide(r#""n": 0"#).as_bytes()).unwrap();
    assert_eq!(
        lens().view(&put.stored).unwrap().text,
        wide(r#""n": 0"#).as_bytes()
    );
    let riddle = wide(r#""token":0"#);
    let error = lens().put(None, riddle.as_bytes()).unwrap_err();
    assert_eq!(error.kind(), Kind::InvalidRecord);
    assert_eq!(lens().view(riddle.as_bytes()).unwrap_err(), Hidden::Malformed);
}

/// The cases of the JSONTestSuite by name.
fn suite() -> Vec<(String, Vec<u8>)> {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/json-test-suite");
    let mut cases: Vec<_> = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .map(|path| {
            (
                path.file_name().unwrap().to_string_lossy().into_owned(),
                std::fs::read(&path).unwrap(),
            )
        })
        .collect();
    cases.sort();
    assert!(cases.len() > 300);
    cases
}

/// A value as a member of alice's record.
fn wrapped(value: &[u8]) -> Vec<u8> {
    [br#"{"a":"#, value, br#","user_id":"alice"}"#].concat()
}

#[test]
fn the_json_test_suite_agrees() {
    for (name, text) in suite() {
        let accepted = lens().view(&wrapped(&text)).is_ok();
        let is_object = text.trim_ascii_start().starts_with(b"{");
        let written = lens().put(None, &text).is_ok();
        match name.as_bytes()[0] {
            b'y' => assert!(accepted && (written == is_object), "{name} is refused"),
            b'n' => assert!(!accepted && !written, "{name} is accepted"),
            _ => assert_eq!(written, accepted && is_object, "{name}"),
        }
    }
}

/// Python's reader, strict, on one text per line in hex: prints the owner, or nothing when it refuses.
const PYTHON_READER: &str = r#"
import json, sys
def refuse(constant): raise ValueError(constant)
for line in sys.stdin:
    try:
        print(json.dumps(json.loads(bytes.fromhex(line).decode(), parse_constant=refuse)["user_id"]))
    except ValueError as error:
        print("refused:", error)
"#;

#[test]
fn python_reads_whatever_is_accepted_with_the_same_owner() {
    let mut texts: Vec<_> = suite()
        .into_iter()
        .flat_map(|(_, text)| [wrapped(&text), text])
        .collect();
    let mut runner = TestRunner::deterministic();
    for _ in 0..1000 {
        texts.push(object(WILD).new_tree(&mut runner).unwrap().current().into_bytes());
        texts.push(
            object(PLAIN)
                .new_tree(&mut runner)
                .unwrap()
                .current()
                .into_bytes(),
        );
    }
    let visible = texts.iter().filter(|text| lens().view(text).is_ok()).cloned();
    let stored = texts
        .iter()
        .filter_map(|text| Some(lens().put(None, text).ok()?.stored));
    let accepted: Vec<_> = visible.chain(stored).collect();
    assert!(accepted.len() > 1000);

    let python = Command::new("python3")
        .args(["-c", PYTHON_READER])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn();
    let Ok(mut python) = python else {
        eprintln!(
            "SKIPPED: python_reads_whatever_is_accepted_with_the_same_owner: no python3 (apt install python3)"
        );
        return;
    };
    let mut input = python.stdin.take().unwrap();
    let lines: String = accepted.iter().map(|text| hex::encode(text) + "\n").collect();
    let writer = std::thread::spawn(move || input.write_all(lines.as_bytes()));
    let output = python.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    let answers = String::from_utf8(output.stdout).unwrap();
    assert_eq!(answers.lines().count(), accepted.len());
    for (answer, text) in answers.lines().zip(&accepted) {
        assert_eq!(answer, r#""alice""#, "{}", String::from_utf8_lossy(text));
    }
}
