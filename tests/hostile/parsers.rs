//! Parsers: whatever bytes a record is made of, what is shown is what every JSON reader of the service that reads it at all takes
//! for a record of its user's. Python's json and serde_json are asked.

use std::collections::HashMap;
use std::fs;
use std::io::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use serde_json::value::RawValue;

use crate::arena::{Arena, Due, become_user, long, tell};
use crate::common::{ALICE, BOB, Layout, SERVICE_UID, Volume, python};

/// The most that the daemon may take while it is fed with the worst, in KiB, where records may have 16 MiB.
const MEMORY: u64 = 400 << 10;

/// How long bob may wait for a record meanwhile, on busy cores.
const BOBS_PATIENCE: Duration = Duration::from_secs(3);

/// A text, and what it is called.
type Text = (String, Vec<u8>);

/// The texts, each of which may be a record of alice's, of somebody else's, of two people's, or none.
fn texts() -> Vec<Text> {
    let mut texts: Vec<Text> = suite();
    let mut add = |name: &str, text: &[u8]| texts.push((name.to_owned(), text.to_vec()));
    let members = [
        (r#""user_id": "alice""#, "mine"),
        (r#""user_id": "bob""#, "bobs"),
        (r#""user\u005fid": "alice""#, "escaped-mine"),
        (r#""\u0075ser_id": "bob""#, "escaped-bobs"),
        (r#""User_id": "bob""#, "case-bobs"),
        (r#""USER_ID": "alice""#, "case-mine"),
        (r#""user_id\u0000": "bob""#, "nul-bobs"),
        (r#""user_id ": "bob""#, "space-bobs"),
        (r#""user_id": null"#, "null"),
        (r#""user_id": ["alice"]"#, "array"),
        (r#""user_id": {"user_id": "alice"}"#, "inner"),
        (r#""user_id" :"alice""#, "marked"),
        (r#""user_id\ud83d": "bob""#, "lone-bobs"),
        (r#""user_id": "alice\ud83d""#, "lone-value"),
        (r#""ufeff": 1"#, "other"),
    ];
    for (one, first) in members {
        add(&format!("only-{first}"), format!("{{{one}}}").as_bytes());
        for (other, second) in members {
            add(
                &format!("{first}-{second}"),
                format!("{{{one}, {other}}}").as_bytes(),
            );
        }
    }
    let value = |value: &[u8]| [br#"{"user_id": "alice", "x": "#, value, b"}"].concat();
    let values: [(&str, &[u8]); 22] = [
        ("lone-high", br#""\ud800""#),
        ("lone-low", br#""\udc00""#),
        ("swapped", br#""\udc00\ud800""#),
        ("pair", br#""\ud83d\ude00""#),
        ("lone-key", br#"{"\ud800": 1}"#),
        ("overlong", b"\"\xc0\xaf\""),
        ("surrogate-bytes", b"\"\xed\xa0\x80\""),
        ("beyond", b"\"\xf4\x90\x80\x80\""),
        ("cut", b"\"\xe2\x82\""),
        ("raw-nul", b"\"\0\""),
        ("nul", br#""\u0000""#),
        ("nan", b"NaN"),
        ("infinity", b"Infinity"),
        ("minus-infinity", b"-Infinity"),
        ("huge-exponent", b"1e999"),
        ("tiny-exponent", b"1e-999"),
        ("plus", b"+1"),
        ("hex", b"0x1"),
        ("octal", b"01"),
        ("dot", b".5"),
        ("true", b"True"),
        ("single-quotes", b"'x'"),
    ];
    for (name, text) in values {
        add(name, &value(text));
    }
    for digits in [308, 309, 4_300, 4_301, 100_000] {
        add(&format!("{digits}-digits"), &value("9".repeat(digits).as_bytes()));
    }
    for depth in [126, 128, 900, 999, 1_000, 1_000_000] {
        add(
            &format!("{depth}-arrays"),
            &value([b"[".repeat(depth), b"]".repeat(depth)].concat().as_slice()),
        );
        add(&format!("{depth}-arrays-open"), &value(&b"[".repeat(depth)));
        add(
            &format!("{depth}-objects"),
            &value(
                [br#"{"a":"#.repeat(depth), b"1".to_vec(), b"}".repeat(depth)]
                    .concat()
                    .as_slice(),
            ),
        );
    }
    let mine: &[u8] = br#"{"user_id": "alice"}"#;
    let around: [(&str, &[u8], &[u8]); 12] = [
        ("bom", b"\xef\xbb\xbf", b""),
        ("trailing-garbage", b"", b"x"),
        ("trailing-brace", b"", b"}"),
        ("trailing-nul", b"", b"\0"),
        ("two-records", b"", br#"{"user_id": "bob"}"#),
        ("two-lines", b"", b"\n{\"user_id\": \"bob\"}"),
        ("comment-before", b"/* */", b""),
        ("comment-after", b"", b"// x"),
        ("form-feed", b"\x0c", b""),
        ("no-break-space", b"\xc2\xa0", b""),
        ("spaces", b" \t\r\n", b" \t\r\n"),
        ("in-an-array", b"[", b"]"),
    ];
    for (name, before, after) in around {
        add(name, &[before, mine, after].concat());
    }
    add(
        "utf-16",
        &String::from_utf8_lossy(mine)
            .encode_utf16()
            .flat_map(u16::to_le_bytes)
            .collect::<Vec<_>>(),
    );
    add("positional", br#"["alice", 1]"#);
    add("comma-at-the-end", br#"{"user_id": "alice",}"#);
    let keys: String = (0..200_000).map(|n| format!(r#""k{n}": {n}, "#)).collect();
    add(
        "200000-keys",
        format!(r#"{{{keys}"user_id": "alice"}}"#).as_bytes(),
    );
    let owners = r#""user_id": "alice", "#.repeat(200_000);
    add(
        "200000-owners",
        format!(r#"{{{owners}"user_id": "bob"}}"#).as_bytes(),
    );
    let sizes: &[usize] = if long() { &[1, 15, 17, 64] } else { &[1, 17, 64] };
    for mebibytes in sizes {
        let filler = "x".repeat(mebibytes << 20);
        add(
            &format!("{mebibytes}-MiB"),
            &value(format!("\"{filler}\"").as_bytes()),
        );
    }
    add(
        "15-MiB-escaped",
        &value(format!("\"{}\"", r"\u0078".repeat((15 << 20) / 6)).as_bytes()),
    );
    add("15-MiB-brackets", &value(&b"[".repeat(15 << 20)));
    texts
}

/// The JSONTestSuite, each as a record and as a member of alice's record.
fn suite() -> Vec<Text> {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/json-test-suite");
    let mut texts = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if let Some(name) = name.strip_suffix(".json") {
            let text = fs::read(&path).unwrap();
            texts.push((
                format!("{name}-in-a-record"),
                [br#"{"x": "#, text.as_slice(), br#", "user_id": "alice"}"#].concat(),
            ));
            texts.push((name.to_owned(), text));
        }
    }
    assert!(texts.len() > 600);
    texts
}

/// What a reader says of a text.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Says {
    /// It is alice's.
    Hers,
    /// It is nobody's, or somebody else's.
    NotHers,
    /// It is no JSON, or too much of it.
    Refused,
}

/// What Python makes of files, one name on each line: the owner as who takes the first of two, and the last, or that it is no
/// record, or no JSON.
const PYTHON: &str = r#"
import json, os, sys
def first(pairs):
    return dict(reversed(pairs))
directory = sys.argv[1]
for name in sorted(os.listdir(directory)):
    if not name.endswith('.json'): continue
    try:
        text = open(os.path.join(directory, name), 'rb').read().decode()
        owners = [json.loads(text, object_pairs_hook=pairs)['user_id'] for pairs in [first, dict]]
    except (TypeError, KeyError): owners = []
    except (ValueError, RecursionError): owners = None
    print(json.dumps([name, owners]))
"#;

/// What Python says of the records, by name, whichever of two members it goes by.
fn said_by_python(volume: &Volume) -> HashMap<String, Says> {
    let directory = volume.directory(&ALICE, "schedules");
    let said = python(SERVICE_UID, volume.base(), PYTHON, &[directory.to_str().unwrap()]);
    said.lines()
        .map(|line| {
            // An owner with half a surrogate pair is one that Rust does not read, and not alice.
            let line = line.replace(r"\ud83d", "?");
            let (name, owners) = serde_json::from_str::<(String, Option<Vec<Value>>)>(&line).unwrap();
            let says = match owners.as_deref() {
                Some([first, last]) if first == "alice" && last == "alice" => Says::Hers,
                Some(_) => Says::NotHers,
                None => Says::Refused,
            };
            (name, says)
        })
        .collect()
}

/// What serde_json says of a text.
fn said_by_serde(text: &[u8]) -> Says {
    // Value, and not a struct: that would take an array too. RawValue first, which goes as deep as it is.
    let mut json = serde_json::Deserializer::from_slice(text);
    json.disable_recursion_limit();
    let whole = <&RawValue as serde::Deserialize>::deserialize(&mut json).is_ok() && json.end().is_ok();
    let deep = text.iter().filter(|byte| b"[{".contains(byte)).count();
    // What is deeper than a stack is nobody's, see above: Value is asked of what it can hold.
    if !whole || deep > 10_000 {
        return Says::Refused;
    }
    let mut json = serde_json::Deserializer::from_slice(text);
    json.disable_recursion_limit();
    match <Value as serde::Deserialize>::deserialize(&mut json) {
        Ok(record) if record.is_object() && record["user_id"] == "alice" => Says::Hers,
        Ok(_) => Says::NotHers,
        Err(_) => Says::Refused,
    }
}

/// Asserts that what is shown or saved for alice is hers to whoever reads it: to Python unless it is deeper, or has a longer
/// number, than Python takes; and to serde, which refuses what it has no type for.
fn assert_hers(name: &str, by_python: Option<&Says>, text: &[u8]) {
    let too_much = name.starts_with("999-") || name.ends_with("-digits.json");
    assert!(
        by_python == Some(&Says::Hers) || too_much && by_python == Some(&Says::Refused),
        "Python does not take {name} for hers"
    );
    assert_ne!(
        said_by_serde(text),
        Says::NotHers,
        "serde does not take {name} for hers"
    );
}

/// Reads every record in alice's view, or writes each text there; says for each the errno, and the hash of what it reads as.
const ALICE_DOES: &str = r#"
import errno, hashlib, json, os, sys
texts = sys.argv[1] if len(sys.argv) > 1 else None
def write(name):
    try:
        with open(os.path.join(texts, name), 'rb') as file: text = file.read()
        fd = os.open('schedules/' + name, os.O_CREAT | os.O_TRUNC | os.O_WRONLY)
        try:
            while text: text = text[os.write(fd, text):]
        finally: os.close(fd)
    except OSError as error: return errno.errorcode[error.errno]
    return 'ok'
def read(name):
    try: return hashlib.sha256(open('schedules/' + name, 'rb').read()).hexdigest()
    except OSError as error: return errno.errorcode[error.errno]
names = sorted(os.listdir(texts or 'schedules'))
for name in names:
    met = write(name) if texts else None
    print(json.dumps([name, met, read(name)]))
    if met not in (None, 'ok'):
        try: os.unlink('schedules/' + name)
        except FileNotFoundError: pass
"#;

fn alice_does(arena: &Arena<'_>, args: &[&str]) -> Vec<(String, Option<String>, String)> {
    let said = python(ALICE.uid, &arena.alice, ALICE_DOES, args);
    said.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// A record without its owner where that is spelled as only the mount spells it.
fn without_mark(text: &[u8]) -> Vec<u8> {
    let before = text.strip_suffix(br#""user_id" :"alice"}"#);
    match before.map(|before| before.strip_suffix(b",").unwrap_or(before)) {
        Some(view) if before != Some(view) || view == b"{" => [view, b"}"].concat(),
        _ => text.to_vec(),
    }
}

fn hash(text: &[u8]) -> String {
    use sha2::Digest as _;
    hex::encode(sha2::Sha256::digest(text))
}

/// The most memory that the daemon ever took, in KiB.
fn peak(arena: &Arena<'_>) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", arena.daemon.pid().as_raw_nonzero())).unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse().unwrap()
}

/// Does something of alice's while bob saves and reads a record over and over; returns the longest that he waited.
fn beside_bob<T>(arena: &Arena<'_>, work: impl FnOnce() -> T) -> (T, Duration) {
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let bob = scope.spawn(|| {
            become_user(BOB.uid);
            let (path, mut longest) = (arena.bob.join("results/meanwhile.json"), Duration::ZERO);
            while !over.load(Ordering::Relaxed) {
                let begun = Instant::now();
                let mut file = fs::File::create(&path).unwrap();
                file.write_all(b"{}").unwrap();
                drop(file);
                assert_eq!(fs::read(&path).unwrap(), b"{}");
                longest = longest.max(begun.elapsed());
                thread::sleep(Duration::from_millis(5));
            }
            longest
        });
        let done = work();
        over.store(true, Ordering::Relaxed);
        (done, bob.join().unwrap())
    })
}

fn assert_modest(name: &str, arena: &Arena<'_>, bob: Duration) {
    let peak = peak(arena);
    println!(
        "{name}: the daemon took {} MiB at most, bob waited {bob:?} at most",
        peak >> 10
    );
    assert!(peak < MEMORY, "{name}: the daemon took {} MiB", peak >> 10);
    assert!(bob < BOBS_PATIENCE, "{name}: bob waited {bob:?}");
}

#[test]
fn what_is_shown_is_what_every_reader_takes_for_the_users() {
    let volume = Volume::new(Layout::ResourceFirst);
    let texts = texts();
    for (name, text) in &texts {
        volume.plant(&ALICE, "schedules", &format!("{name}.json"), text);
    }
    let by_python = said_by_python(&volume);
    // What is broken and was written a moment ago is looked at several times.
    thread::sleep(Duration::from_secs(1));
    let arena = Arena::new(&volume);
    let (shown, bob) = arena.case(
        "planted",
        Due::Line("lookup schedules/two-records.json ENOENT"),
        || beside_bob(&arena, || alice_does(&arena, &[])),
    );
    assert_modest("planted", &arena, bob);
    let of = |name: &str| {
        let name = name.strip_suffix(".json").unwrap();
        &texts.iter().find(|(known, _)| known == name).unwrap().1
    };
    for (name, _, hashed) in &shown {
        let text = of(name);
        assert_hers(name, by_python.get(name), text);
        assert_eq!(*hashed, hash(&without_mark(text)), "{name}");
    }
    // Nothing that is certain is lost; Python and serde take some more, each for itself.
    let names: Vec<_> = shown.iter().map(|(name, ..)| name.as_str()).collect();
    for good in [
        "only-mine",
        "only-escaped-mine",
        "spaces",
        "pair",
        "nul",
        "200000-keys",
        "1-MiB",
        "999-arrays",
        "999-objects",
        "mine-case-bobs",
        "lone-high",
        "lone-key",
        "nan",
        "infinity",
        "minus-infinity",
        "huge-exponent",
    ] {
        assert!(
            names.contains(&format!("{good}.json").as_str()),
            "{good} is hidden"
        );
    }
    let by_python = by_python.values().filter(|says| **says == Says::Hers).count();
    println!(
        "{} texts, {} shown, {by_python} hers to Python",
        texts.len(),
        shown.len()
    );
    assert!(shown.len() > 100 && by_python > shown.len());
    tell(
        "parsers",
        "texts on the volume; all shown are hers to Python and to serde_json, where these read them",
        texts.len(),
    );
}

#[test]
fn what_is_written_is_the_users_to_every_reader_or_refused() {
    let volume = Volume::new(Layout::ResourceFirst);
    let arena = Arena::with(&volume, &["--commit", "fsync"]);
    let texts = texts();
    let directory = volume.home(ALICE.uid).join("texts");
    fs::create_dir(&directory).unwrap();
    for (name, text) in &texts {
        fs::write(directory.join(format!("{name}.json")), text).unwrap();
    }
    rustix::fs::chown(&directory, Some(rustix::fs::Uid::from_raw(ALICE.uid)), None).unwrap();
    let (met, bob) = arena.case(
        "written",
        Due::Lines("commit schedules/two-records.json EINVAL"),
        || beside_bob(&arena, || alice_does(&arena, &[directory.to_str().unwrap()])),
    );
    assert_modest("written", &arena, bob);
    assert_eq!(met.len(), texts.len());
    let by_python = said_by_python(&volume);
    let mut saved = 0;
    for (name, outcome, hashed) in &met {
        let stored = fs::read(volume.path(&ALICE, "schedules", name));
        let (_, text) = texts
            .iter()
            .find(|(known, _)| *name == format!("{known}.json"))
            .unwrap();
        match outcome.as_deref() {
            // No more than a draft, which is not on the volume under this name.
            Some("ok") if text.is_empty() => assert!(stored.is_err(), "{name}"),
            Some("ok") => {
                let stored = stored.unwrap();
                assert_hers(name, by_python.get(name), &stored);
                let overridden =
                    contains(text, b"user_id") || contains(text, b"\\u005f") || contains(text, b"\\u0075");
                assert!(
                    overridden || *hashed == hash(text),
                    "{name} is read otherwise than it was written"
                );
                saved += 1;
            }
            Some("EINVAL" | "EFBIG") => assert!(stored.is_err(), "{name} is refused, and stored"),
            other => panic!("{name}: {other:?}"),
        }
    }
    println!("{} texts, {saved} saved", texts.len());
    assert!(saved > 100);
    tell(
        "parsers",
        "texts written; all saved are hers to Python and to serde_json, where these read them",
        texts.len(),
    );
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}
