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
mod readers;
mod sealing;

use documents::{PLAIN, STORED, WILD, WRITTEN, object};
use laws::{Members, Reader, SECRET, SEPARATOR, check, check_input, lens_of};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::Index;
use tenantfs::error::Kind;
use tenantfs::record::{Hidden, Lens, owner};

fn lens() -> Lens {
    lens_of("alice")
}

fn members(text: &[u8]) -> Members {
    Members::read(text, Reader::Python).unwrap()
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
        let before = members(text.as_bytes());
        let overridden = before.all("user_id").any(|owner| owner.string().as_deref() != Some("alice"));
        prop_assert_eq!(put.owner_overridden, overridden);
        prop_assert_eq!(members(&put.stored).plain(), before.plain());
        check_any(stored, text.as_bytes());
    }

    #[test]
    fn secrets_stay_until_they_are_set_to_null(stored in object(STORED), text in object(WRITTEN)) {
        let put = lens().put(Some(stored.as_bytes()), text.as_bytes()).unwrap();
        let [old, new, after] =
            [stored.as_bytes(), text.as_bytes(), &put.stored].map(members);
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

/// Asserts of what error each text is refused with, and what that says.
fn refused(cases: &[(&[u8], Kind, &str)]) {
    for (written, kind, part) in cases {
        let error = lens().put(None, written).unwrap_err();
        assert_eq!(error.kind(), *kind, "{error}");
        assert!(error.to_string().contains(part), "{error}");
        assert!(!error.to_string().contains(SECRET), "{error}");
    }
}

#[test]
fn refusals_say_why_and_never_quote() {
    refused(&[(
        br#"{"api_key":"sk-8f2e"}"#,
        Kind::PlainSecret,
        "\"api_key\" is a secret",
    )]);
    let invalid: [(&[u8], &str); 13] = [
        (
            br#"{"user_id":"bob","user\u005fid":"alice"}"#,
            "\"user_id\" appears twice",
        ),
        (br#"{"token":null,"token":null}"#, "\"token\" appears twice"),
        (br#""sk-8f2e""#, "does not begin with {"),
        (b"[1", "does not begin with {"),
        (br#"{"a":"sk-8f2e" 1}"#, "line 1 column 16"),
        (br#"{"a":1} {"#, "trailing characters, at line 1 column 9"),
        (b"{\"a\":1}\n{", "trailing characters, at line 2 column 1"),
        (
            b"{\n\"a\": NaN}",
            "NaN and Infinity are no JSON, and cannot be saved, at line 2 column 6",
        ),
        (br#"{"a":[1, -Infinity]}"#, "cannot be saved, at line 1 column 10"),
        (br#"{"user\ud800_id":1}"#, "a lone surrogate, at line 1 column 2"),
        (
            b"{\"a\":\"\t\"}",
            "a control character that is not escaped, at line 1 column 7",
        ),
        (b"{\"a\":\"\xc3(\"}", "not UTF-8 from byte 6 on"),
        (b"{\xc3", "not UTF-8 from byte 1 on"),
    ];
    refused(&invalid.map(|(text, part)| (text, Kind::InvalidRecord, part)));
    let put = lens()
        .put(Some(br#"{"api_key":"sk-8f2e","user_id":"alice"}"#), b"{}")
        .unwrap();
    let shown = format!("{:?} {:?} {:?}", lens(), put, lens().view(&put.stored).unwrap());
    assert!(!shown.contains(SECRET) && !shown.contains("alice"), "{shown}");
}

#[test]
fn a_text_that_breaks_off_is_incomplete_where_more_would_mend_it() {
    let cases: [&[u8]; 9] = [
        b"{\"a\":\"\xc3",
        br#"{"a":"\"#,
        br#"{"a":"\ud8"#,
        br#"{"a":"\ud800"#,
        br#"{"user\ud800_id"#,
        br#"{"a":1e"#,
        br#"{"a":-"#,
        br#"{"a":nul"#,
        br#"{"a":[{"#,
    ];
    refused(&cases.map(|text| (text, Kind::IncompleteRecord, "breaks off")));
    let cases: [(&[u8], &str); 4] = [
        (b"{\"a\":\"\\\xc3", "not UTF-8 from byte 7 on"),
        (br#"{"a":Na"#, "not true, false or null"),
        (br#"{"a":-Inf"#, "not true, false or null"),
        (br#"{"user_id\ud800":"#, "a lone surrogate"),
    ];
    refused(&cases.map(|(text, part)| (text, Kind::InvalidRecord, part)));
}

/// A record's text with objects or arrays on so many levels.
fn nested(open: &str, levels: usize) -> String {
    let (core, close) = if open == "[" { ("", "]") } else { ("1", "}") };
    let levels = levels - 1;
    format!(r#"{{"a":{}{core}{}}}"#, open.repeat(levels), close.repeat(levels))
}

#[test]
fn nesting_ends_at_1000_levels_and_takes_no_stack() {
    let check = || {
        for open in ["[", r#"{"a":"#] {
            let deepest = nested(open, 1000);
            let put = lens().put(None, deepest.as_bytes()).unwrap();
            assert_eq!(lens().view(&put.stored).unwrap().text, deepest.as_bytes());
            let deeper = nested(open, 1001);
            let error = lens().put(None, deeper.as_bytes()).unwrap_err();
            assert_eq!(error.kind(), Kind::InvalidRecord);
            assert!(error.to_string().contains("1000 levels"), "{error}");
            let stored = format!(r#"{{"user_id":"alice",{}"#, &deeper[1..]);
            assert_eq!(lens().view(stored.as_bytes()).unwrap_err(), Hidden::Malformed);
            // Far more than any stack has.
            lens().put(None, open.repeat(1_000_000).as_bytes()).unwrap_err();
        }
    };
    let small = std::thread::Builder::new().stack_size(64 << 10);
    small.spawn(check).unwrap().join().unwrap();
}

#[test]
fn what_some_readers_refuse_is_shown_as_it_is() {
    for value in [
        "NaN",
        "Infinity",
        "[-Infinity]",
        "1e400",
        "-1E+999",
        r#""cut emoji \ud83d""#,
        r#"{"\udc00\ud800":"\ud800"}"#,
    ] {
        for stored in [
            format!(r#"{{"user_id": "alice", "a": {value}}}"#),
            format!(r#"{{"a": {value}, "user_id": "alice"}}"#),
            format!(r#"{{"\ud83d": {value}, "user_id": "\u0061lice"}}"#),
        ] {
            assert_eq!(lens().view(stored.as_bytes()).unwrap().text, stored.as_bytes());
            assert_eq!(owner(stored.as_bytes()).unwrap().as_str(), "alice");
            // As it is it stays; changed, it must be JSON.
            assert_eq!(
                lens()
                    .put(Some(stored.as_bytes()), stored.as_bytes())
                    .unwrap()
                    .stored,
                stored.as_bytes()
            );
            let changed = format!("{stored}\n");
            let put = lens().put(Some(stored.as_bytes()), changed.as_bytes());
            match ["NaN", "Infinity"].iter().any(|word| value.contains(word)) {
                true => assert_eq!(put.unwrap_err().kind(), Kind::InvalidRecord, "{value}"),
                false => assert_eq!(put.unwrap().stored, changed.as_bytes()),
            }
            assert!(lens().put(Some(stored.as_bytes()), br#"{"a": null}"#).is_ok());
        }
    }
}

#[test]
fn what_makes_the_owner_doubtful_is_hidden() {
    let doubtful = |member: &str| {
        let stored = format!(r#"{{"user_id":"alice",{member}}}"#);
        lens().view(stored.as_bytes()).map(|_| ()).unwrap_err()
    };
    for (member, why) in [
        // To who drops the surrogate, this is another's.
        (r#""user_id\ud83d":"bob""#, Hidden::Malformed),
        (r#""\ude00us\u0065r_id\ud83d":"bob""#, Hidden::Malformed),
        (r#""api\ud83d_key":"sk-8f2e""#, Hidden::Malformed),
        (r#""user_id":"alice\ud83d""#, Hidden::TwoOwners),
        (r#""a":NaN"user_id":"bob""#, Hidden::Malformed),
        (r#""a":nan"#, Hidden::Malformed),
        (r#""a":-NaN"#, Hidden::Malformed),
        (r#""a":+Infinity"#, Hidden::Malformed),
        (r#""a":Infinit"#, Hidden::Malformed),
        (r#"NaN:1"#, Hidden::Malformed),
        ("\"a\":\"\t\"", Hidden::Malformed),
        (r#""a":'b'"#, Hidden::Malformed),
        (r#""a":1/**/"#, Hidden::Malformed),
    ] {
        assert_eq!(doubtful(member), why, "{member}");
    }
    for (stored, why) in [
        (r#"{"user_id":"alice\ud83d"}"#, Hidden::Malformed),
        (r#"{"user_id":NaN}"#, Hidden::Ownerless),
        (r#"{"user_id\ud83d":"alice"}"#, Hidden::Malformed),
        ("\u{feff}{\"user_id\":\"alice\"}", Hidden::Malformed),
        (r#"{"user_id":"alice"}NaN"#, Hidden::Malformed),
    ] {
        assert_eq!(lens().view(stored.as_bytes()).unwrap_err(), why, "{stored}");
        assert_eq!(owner(stored.as_bytes()).unwrap_err(), why, "{stored}");
    }
    // U+FFFD is what many read in place of a surrogate; with such a name, that is nobody's all the same.
    let replaced = lens_of("al\u{fffd}");
    assert_eq!(
        replaced.view(br#"{"user_id":"al\ud83d"}"#).unwrap_err(),
        Hidden::Malformed
    );
    // Of who writes it, it is no more than a name that is not theirs.
    let put = lens().put(None, br#"{"user_id":"alice\ud83d"}"#).unwrap();
    assert_eq!(
        (put.stored.as_slice(), put.owner_overridden),
        (&br#"{"user_id":"alice"}"#[..], true)
    );
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
    let mut shown = Vec::new();
    for (name, text) in suite() {
        let accepted = lens().view(&wrapped(&text)).is_ok();
        let is_object = text.trim_ascii_start().starts_with(b"{");
        let put = lens().put(None, &text);
        // What can be no record of its own may be part of one.
        let in_a_record = [br#"{"a":"#, text.as_slice(), b"}"].concat();
        let saved = lens().put(None, &in_a_record).is_ok();
        match name.as_bytes()[0] {
            b'y' => assert!(accepted && saved && put.is_ok() == is_object, "{name} is refused"),
            b'n' => assert!(put.is_err() && !saved, "{name} is saved"),
            _ => assert!(
                put.is_ok() == (accepted && is_object) && saved == accepted,
                "{name}"
            ),
        }
        if let (b'y', Ok(put)) = (name.as_bytes()[0], put) {
            assert_eq!(lens().view(&put.stored).unwrap().text, text, "{name}");
        }
        if accepted && name.starts_with('n') {
            shown.push(name);
        }
    }
    let known = [
        "n_number_NaN.json",
        "n_number_infinity.json",
        "n_number_minus_infinity.json",
    ];
    assert_eq!(shown, known, "no JSON, and shown");
}
