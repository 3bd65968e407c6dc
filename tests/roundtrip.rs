//! What is written is what is read back, byte for byte, however strange the JSON; and what the volume holds is the
//! same record with its owner.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::chown;

use common::{ALICE, Volume, as_user, success};
use tenantfs::layout::Layout;

const RECORDS: usize = 1_000;
const SEED: u64 = 0x74_65_6e_61_6e_74;
/// Values this far from the deepest they may be go on nesting.
const DEEP: usize = 6;

/// Compares each stored record with what was written, the way another program on the volume reads them.
const COMPARE: &str = r#"
import json, sys
from pathlib import Path

written, stored = map(Path, sys.argv[1:])
as_pairs = lambda path: json.loads(path.read_bytes().decode(), object_pairs_hook=lambda pairs: ("object", pairs))
names = sorted(path.name for path in written.iterdir())
assert names == sorted(path.name for path in stored.glob("*.json"))
appended = 0
for name in names:
    kind, members = as_pairs(written / name)
    owned = [value for key, value in members if key == "user_id"]
    if not owned:
        members = members + [("user_id", "alice")]
        text = (stored / name).read_bytes().rstrip(b" \t\r\n").removesuffix(b"}").rstrip(b" \t\r\n")
        assert text.endswith(b'"user_id" :"alice"'), (name, text[-80:])
        appended += 1
    assert as_pairs(stored / name) == (kind, members), name
    with open(stored / name, encoding="utf-8") as file:
        assert json.load(file)["user_id"] == "alice", name
print(len(names), appended)
"#;

#[test]
fn a_thousand_random_records_come_back_as_they_were_written() {
    let volume = Volume::new(Layout::ResourceFirst);
    let written = volume.home(ALICE.uid).join("written");
    fs::create_dir(&written).unwrap();
    let mut random = Random(SEED);
    for number in 0..RECORDS {
        let path = written.join(format!(
            "{number:04}{}.json",
            random.pick(&["", " ", "ü", "-'\"$", ".json", "~", "🗓"])
        ));
        fs::write(&path, record(&mut random)).unwrap();
        chown(&path, Some(ALICE.uid), Some(ALICE.uid)).unwrap();
    }
    let mount = volume.mount(&ALICE);
    mount.shell("cp ~/written/* schedules/");
    let compare = "for record in ~/written/*; do cmp \"$record\" \"schedules/${record##*/}\"; done";
    mount.shell(compare);
    mount.unmount();
    // Nothing of that was a cache's: another session reads the same from the volume.
    volume.mount(&ALICE).shell(compare);

    let mut service = as_user(0, volume.base(), "python3");
    service
        .args(["-B", "-c", COMPARE])
        .arg(&written)
        .arg(volume.directory(&ALICE, "schedules"));
    let said = success(service, "");
    let mut counts = said
        .split_whitespace()
        .map(|count| count.parse::<usize>().unwrap());
    assert_eq!(counts.next(), Some(RECORDS));
    let appended = counts.next().unwrap();
    assert!(
        appended > RECORDS / 2 && appended < RECORDS,
        "with the owner appended: {appended}"
    );
    let listed = volume.service(&["list", "alice", "schedules"], "");
    assert_eq!(listed.lines().count(), RECORDS);
}

/// SplitMix64: the same records on every machine.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    /// A number below `end`.
    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(end).unwrap()).unwrap()
    }

    fn one_in(&mut self, chances: usize) -> bool {
        self.below(chances) == 0
    }

    fn pick<'a>(&mut self, choices: &[&'a str]) -> &'a str {
        choices[self.below(choices.len())]
    }
}

/// The text of a record as nobody would write it, but the grammar allows.
fn record(random: &mut Random) -> String {
    let mut text = String::new();
    space(random, &mut text);
    let depth = if random.one_in(50) {
        100
    } else {
        1 + random.below(4)
    };
    object(random, &mut text, depth, true);
    // The final newline, or none, or more.
    text.push_str(random.pick(&["", "\n", "\n", "\r\n", "\n\n \t", " "]));
    text
}

fn object(random: &mut Random, text: &mut String, depth: usize, is_record: bool) {
    text.push('{');
    space(random, text);
    let members = match depth {
        _ if is_record && random.one_in(12) => 0,
        DEEP.. => 1 + random.below(3),
        _ => random.below(7),
    };
    let owner_at = (is_record && members > 0 && random.one_in(4)).then(|| random.below(members));
    for member in 0..members {
        if member > 0 {
            text.push(',');
            space(random, text);
        }
        if owner_at == Some(member) {
            text.push_str(random.pick(&["\"user_id\"", "\"user\\u005fid\"", "\"\\u0075ser_id\""]));
        } else if random.one_in(9) {
            // Names that are nearly those that mean something; deeper down, they mean nothing.
            let near = [
                "User_id",
                "user_id ",
                "user_id\\u0000",
                "userid",
                "API_KEY",
                "api-key",
                "api_key\\n",
                "__proto__",
            ];
            let _ = write!(text, "\"{}\"", random.pick(&near));
        } else if !is_record && random.one_in(9) {
            text.push_str("\"user_id\"");
        } else {
            key(random, text, is_record);
        }
        space(random, text);
        text.push(':');
        space(random, text);
        if owner_at == Some(member) {
            text.push_str(random.pick(&["\"alice\"", "\"\\u0061lice\"", "\"alic\\u0065\""]));
        } else {
            value(random, text, if member == 0 { depth } else { depth.min(2) });
        }
        space(random, text);
    }
    text.push('}');
}

fn value(random: &mut Random, text: &mut String, depth: usize) {
    match random.below(if depth >= DEEP { 2 } else { 9 }) {
        0 if depth > 0 => object(random, text, depth - 1, false),
        1 if depth > 0 => array(random, text, depth - 1),
        2 => string(random, text),
        3 => text.push_str(random.pick(&["true", "false", "null"])),
        _ => number(random, text),
    }
}

fn array(random: &mut Random, text: &mut String, depth: usize) {
    text.push('[');
    space(random, text);
    // Beyond what fits a page or a request, now and then.
    let items = match depth {
        DEEP.. => 1,
        _ if random.one_in(100) => 2_000,
        _ => random.below(5),
    };
    for item in 0..items {
        if item > 0 {
            text.push(',');
            space(random, text);
        }
        value(random, text, if item == 0 { depth } else { 0 });
    }
    space(random, text);
    text.push(']');
}

fn number(random: &mut Random, text: &mut String) {
    let spellings = [
        "0",
        "-0",
        "-0.0",
        "0e0",
        "0E-7",
        "1.50",
        "1e2",
        "1E+2",
        "100.000e-2",
        "12345678901234567890123",
        "-9223372036854775809",
        "18446744073709551616",
        "0.1000000000000000055511151231257827",
        "-1e-400",
        "5e-324",
    ];
    if random.one_in(2) {
        text.push_str(random.pick(&spellings));
    } else {
        let _ = write!(text, "{}", random.next().cast_signed() >> random.below(64));
    }
}

/// Any string; in a record itself none of those that mean something.
fn key(random: &mut Random, text: &mut String, is_record: bool) {
    let start = text.len();
    string(random, text);
    if is_record && ["\"user_id\"", "\"api_key\""].contains(&&text[start..]) {
        text.insert(start + 1, ' ');
    }
}

fn string(random: &mut Random, text: &mut String) {
    let pieces = [
        "a",
        "Z",
        "0",
        " ",
        "'",
        "/",
        "\\/",
        "\\\\",
        "\\\"",
        "\\b",
        "\\f",
        "\\n",
        "\\r",
        "\\t",
        "\\u0000",
        "\\u001f",
        "\\u007F",
        "\\u00e9",
        "\\u00E9",
        "\\ud83d\\uDE00",
        "\\u2028",
        "é",
        "e\u{301}",
        "ß",
        "日本",
        "🗓",
        "\u{7f}",
        "\u{2028}",
        "\u{feff}",
        "\u{202e}",
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "user_id",
        "api_key",
        ",\\\"user_id\\\" :\\\"bob\\\"",
    ];
    text.push('"');
    for _ in 0..random.below(12) {
        text.push_str(random.pick(&pieces));
    }
    text.push('"');
}

fn space(random: &mut Random, text: &mut String) {
    while random.one_in(3) {
        text.push_str(random.pick(&[" ", "\t", "\n", "\r\n", "    "]));
    }
}
