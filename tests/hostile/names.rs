//! Names: whatever a name is, it is refused with the errno of the table and leaves nothing, or comes back exactly.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt as _;

use crate::arena::{Arena, Due, long, rounds, tell};
use crate::common::{ALICE, BOB, Conversation, Layout, Volume, errno, python, success};

/// The most names that are tried at once.
const BATCH: usize = 1 << 13;

/// No durability is tried here.
const OPTIONS: [&str; 2] = ["--commit", "fsync"];

/// What a name that may not be created meets; none when it may.
fn refusal(name: &[u8]) -> Option<&'static str> {
    if name.len() > 255 {
        return Some("ENAMETOOLONG");
    }
    match std::str::from_utf8(name) {
        Ok(name) if !name.chars().any(char::is_control) => None,
        _ => Some("EINVAL"),
    }
}

/// What looking for a name that is not there meets.
fn absence(name: &[u8]) -> &'static str {
    match name.len() {
        ..=255 => "ENOENT",
        _ => "ENAMETOOLONG",
    }
}

/// Tries each of the names of a file in hexadecimal digits, and says what it met; when it is told to, removes what it made.
const TRY: &str = r#"
import errno, os, sys
os.mkdir('results/names')
os.chdir(b'results/names')
content = b'{"n": 1}'

def met(work):
    try:
        work()
    except OSError as error:
        return errno.errorcode[error.errno]
    return 'ok'

def write(name):
    file = os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
    os.write(file, content)
    os.close(file)

def refuse(name, how):
    os.close(os.open(b'source', os.O_CREAT | os.O_WRONLY))
    makes = [met(lambda: os.rename(b'source', name))]
    if not name.endswith(b'.json'):
        makes.append(met(lambda: os.mkdir(name)))
    assert makes == [how] * len(makes), (name, makes)
    os.unlink(b'source')

names = [bytes.fromhex(line) for line in open(sys.argv[1])]
accepted, outcomes = [], []
for name in names:
    absent = {met(lambda: work(name)) for work in (os.stat, os.unlink, os.rmdir, lambda name: os.rename(name, b'x'))}
    created = met(lambda: write(name))
    outcomes.append(' '.join([*sorted(absent), created]))
    if created != 'ok':
        refuse(name, created)
        continue
    accepted.append(name)
    # There and back again.
    other = b'other.json' if name.endswith(b'.json') else b'other'
    os.rename(name, other)
    assert met(lambda: os.stat(name)) == 'ENOENT', name
    os.rename(other, name)
    with open(name, 'rb') as file:
        assert file.read() == content, name
assert sorted(os.listdir(b'.')) == sorted(accepted)
print(';'.join(outcomes), flush=True)
sys.stdin.readline()
for name in accepted:
    os.unlink(name)
assert os.listdir(b'.') == []
os.chdir(b'../..')
os.rmdir(b'results/names')
print('removed', flush=True)
"#;

/// Tries names as alice; the volume has what was accepted, and nothing else. None of them is one of ours.
fn try_names(volume: &Volume, arena: &Arena<'_>, names: &BTreeSet<Vec<u8>>) {
    let others = others(volume);
    let list = volume.base().join("names");
    let digits: Vec<_> = names.iter().map(hex::encode).collect();
    fs::write(&list, digits.join("\n")).unwrap();
    let code = TRY.replace("sys.argv[1]", &format!("'{}'", list.display()));
    arena.case(&format!("{} names", names.len()), Due::Nothing, || {
        let mut trying = Conversation::start_in(ALICE.uid, &arena.alice, &code);
        let outcomes = trying.next();
        let outcomes: Vec<_> = outcomes.split(';').collect();
        assert_eq!(outcomes.len(), names.len());
        for (name, outcome) in names.iter().zip(outcomes) {
            let expected = format!("{} {}", absence(name), refusal(name).unwrap_or("ok"));
            assert_eq!(outcome, expected, "{:?}", String::from_utf8_lossy(name));
        }
        let stored: BTreeSet<Vec<u8>> = fs::read_dir(volume.path(&ALICE, "results", "names"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_vec())
            .filter(|name| !name.starts_with(b".tenantfs"))
            .collect();
        let accepted: BTreeSet<_> = names
            .iter()
            .filter(|name| refusal(name).is_none())
            .cloned()
            .collect();
        assert_eq!(stored, accepted);
        assert_eq!(trying.next(), "removed");
        assert!(!volume.path(&ALICE, "results", "names").exists());
    });
    assert_eq!(self::others(volume), others);
}

/// Every path of the volume that is not alice's.
fn others(volume: &Volume) -> String {
    let mut find = std::process::Command::new("find");
    find.arg(volume.root()).args([
        "-not",
        "-path",
        &format!("*/{}/*", ALICE.hash),
        "-printf",
        "%P %y %m %U\n",
    ]);
    success(find, "")
}

/// Every byte that a name can have: not NUL, which ends it, nor the slash, which parts it.
fn bytes() -> impl Iterator<Item = u8> {
    (1..=u8::MAX).filter(|byte| *byte != b'/')
}

fn all_but_dots(names: impl IntoIterator<Item = Vec<u8>>) -> BTreeSet<Vec<u8>> {
    let dots: [&[u8]; 2] = [b".", b".."];
    names
        .into_iter()
        .filter(|name| !dots.contains(&&name[..]))
        .collect()
}

#[test]
fn every_byte_is_refused_or_kept_alone_and_inside_a_name() {
    let volume = Volume::new(Layout::ResourceFirst);
    let arena = Arena::with(&volume, &OPTIONS);
    let names = bytes().flat_map(|byte| {
        let alone = vec![byte];
        let record = [&[byte][..], b".json"].concat();
        [
            alone,
            vec![b'a', byte, b'z'],
            vec![byte, b'x'],
            vec![b'x', byte],
            record,
        ]
    });
    let names = all_but_dots(names);
    try_names(&volume, &arena, &names);
    tell("names", "with each byte", names.len());
}

#[test]
fn every_two_bytes_are_refused_or_kept() {
    let volume = Volume::new(Layout::ResourceFirst);
    let arena = Arena::with(&volume, &OPTIONS);
    // The first bytes of a character of two bytes, of three and four, what follows them, and what never comes first.
    let first: Vec<u8> = match long() {
        true => bytes().collect(),
        false => vec![b'.', 0xc3],
    };
    let names = all_but_dots(
        first
            .iter()
            .flat_map(|first| bytes().map(|second| vec![*first, second])),
    );
    let all: Vec<_> = names.into_iter().collect();
    for batch in all.chunks(BATCH) {
        try_names(&volume, &arena, &batch.iter().cloned().collect());
    }
    tell("names", "of two bytes", all.len());
}

#[test]
fn every_length_is_refused_or_kept() {
    let volume = Volume::new(Layout::ResourceFirst);
    let arena = Arena::with(&volume, &OPTIONS);
    let step = rounds(7, 1);
    let lengths =
        (1..=4095).filter(|length| length % step == 0 || (250..260).contains(length) || *length > 4090);
    let names: BTreeSet<_> = lengths.map(|length| vec![b'n'; length]).collect();
    try_names(&volume, &arena, &names);
    tell("names", "of each length", names.len());
    arena.case("paths", Due::Nothing, || {
        let said = python(ALICE.uid, &arena.alice, PATHS, &[&rounds(16, 1).to_string()]);
        tell("names", "paths of each length", said.trim_end().parse().unwrap());
    });
}

/// Makes a file at a path of each length.
const PATHS: &str = r"
import errno, os, sys
os.chdir('results')
step, part = int(sys.argv[1]), 'p' * 249 + '/'
os.mkdir('top')
os.chdir('top')
top = os.open('.', os.O_RDONLY)
for _ in range(16):
    os.mkdir(part)
    os.chdir(part)
os.fchdir(top)
lengths = [length for length in range(1, 4096) if length % step == 0 or length > 4090]
for length in lengths:
    path = part * (length // 250) + 'q' * (length % 250)
    assert len(path) == length
    if path.endswith('/'):
        os.stat(path)
        continue
    with open(path, 'x') as file:
        file.write(path)
    assert open(path).read() == path and os.path.getsize(path) == length
    os.rename(path, 'moved')
    os.rename('moved', path)
    os.unlink(path)
try:
    os.stat(part * 16 + 'q' * 96)
    raise SystemExit('a path of 4096 bytes')
except OSError as error:
    assert error.errno == errno.ENAMETOOLONG, error
for depth in range(16, 0, -1):
    os.rmdir(part * depth)
assert os.listdir('.') == []
os.rmdir('../top')
print(len(lengths))
";

#[test]
fn peculiar_names_are_refused_or_kept() {
    let volume = Volume::new(Layout::ResourceFirst);
    let arena = Arena::with(&volume, &OPTIONS);
    let text = [
        // Dots, spaces, and what shells and other systems make something of.
        "...",
        "....",
        "..x",
        "x..",
        ".x",
        "x.",
        "x ",
        " x",
        " ",
        "  ",
        "x.json ",
        "x.json.",
        "x .json",
        ".json",
        "..json",
        "-",
        "--",
        "-rf",
        "*",
        "?",
        "~",
        "$(id)",
        "`id`",
        "a;b",
        "a|b",
        "a\\b",
        "\\",
        "a:b",
        "nul",
        "con.json",
        "%2e%2e",
        "%00",
        "lost+found",
        ".git",
        ".Trash-0",
        ".fuse_hidden0001",
        ".nfs0001",
        ".snapshot",
        "users",
        "schedules",
        "profile.json",
        "2bd806c97f0e00af",
        "81b637d8fcd2c6da",
        // Nearly ours.
        ".tenantf",
        "tenantfs",
        ".TENANTFS-owner",
        " .tenantfs",
        "x.tenantfs",
        ".Tenantfs",
        "․tenantfs",
        // Kinds are told by the last five bytes, exactly.
        "x.JSON",
        "x.Json",
        "x.jsoN",
        "x.json5",
        "xjson",
        "json",
        "x.json.json",
        "x.jsоn",
        "x.ｊson",
        // One letter in two normal forms, which are two names; letters that are alike in another case.
        "\u{e9}",
        "e\u{301}",
        "\u{e9}.json",
        "e\u{301}.json",
        "\u{212b}",
        "\u{c5}",
        "A\u{30a}",
        "ß",
        "SS",
        "ı",
        "İ",
        "K",
        "\u{212a}",
        // What is not seen, what turns the text around, and what ends a line elsewhere.
        "\u{200b}",
        "x\u{200b}",
        "\u{202e}nosj.x",
        "\u{feff}x",
        "\u{2028}",
        "\u{2029}",
        "\u{ad}",
        "\u{fffd}",
        "\u{fffe}",
        "\u{10ffff}",
        "\u{ff0f}",
        "\u{2215}",
        "\u{1f4a9}",
        "\u{e000}",
        // Control characters of more than one byte.
        "\u{80}",
        "\u{85}",
        "x\u{9f}",
        "\u{9b}31m",
        "\u{1b}[31m",
        "a\nb",
        "a\tb.json",
    ];
    let invalid: [&[u8]; 9] = [
        b"\xc0\xaf",
        b"\xc0\xae\xc0\xae",
        b"\xe0\x80\xaf",
        b"\xed\xa0\x80",
        b"\xed\xb0\x80",
        b"\xf4\x90\x80\x80",
        b"\xff\xfe",
        b"x\xe9.json",
        b"\xe2\x82",
    ];
    let long = [
        ("n".repeat(250), ".json"),
        ("n".repeat(251), ".json"),
        ("ö".repeat(127), "n"),
        ("ö".repeat(128), ""),
    ];
    let long = long.map(|(name, ending)| format!("{name}{ending}").into_bytes());
    let text = text.into_iter().map(|name| name.as_bytes().to_vec());
    let names: BTreeSet<_> = text.chain(invalid.map(<[u8]>::to_vec)).chain(long).collect();
    try_names(&volume, &arena, &names);
    tell("names", "peculiar", names.len());
}

#[test]
fn our_own_names_are_refused_with_a_line() {
    let volume = Volume::new(Layout::ResourceFirst);
    let arena = Arena::new(&volume);
    let ours = [
        ".tenantfs",
        ".tenantfsx",
        ".tenantfs.json",
        ".tenantfs-owner",
        ".tenantfs-owner.json",
        ".tenantfs-layout",
        ".tenantfs-tmp-0123456789abcdef",
        ".tenantfs-draft-0123456789abcdef",
        ".tenantfs-away-0123456789abcdef",
        ".tenantfs-secrets-x.json~",
        ".tenantfs-moved-sub~",
        ".tenantfs-erasure-0",
    ];
    python(ALICE.uid, &arena.alice, "open('results/x', 'w').write('x')", &[]);
    let stored = || -> BTreeSet<OsString> {
        let entries = fs::read_dir(volume.directory(&ALICE, "results")).unwrap();
        entries.map(|entry| entry.unwrap().file_name()).collect()
    };
    let before = stored();
    let mut tried = 0;
    for name in ours.into_iter().step_by(rounds(3, 1)) {
        tried += 1;
        for (op, statement) in [
            ("create", "open('results/NAME', 'w')"),
            ("mkdir", "os.mkdir('results/NAME')"),
            ("rename", "os.rename('results/x', 'results/NAME')"),
        ] {
            let path = if op == "rename" { "x" } else { name };
            let line = format!("{op} results/{path} EPERM");
            // Renames are all alike but for where they lead.
            arena.case(&format!("{op} {name}"), Due::Line(&line), || {
                let statement = statement.replace("NAME", name);
                assert_eq!(errno(ALICE.uid, &arena.alice, &statement), "EPERM", "{statement}");
            });
        }
        for statement in [
            "os.stat('results/NAME')",
            "os.unlink('results/NAME')",
            "os.rename('results/NAME', 'results/y')",
        ] {
            let statement = statement.replace("NAME", name);
            assert_eq!(
                errno(ALICE.uid, &arena.alice, &statement),
                "ENOENT",
                "{statement}"
            );
        }
    }
    assert_eq!(stored(), before);
    tell("names", "of our own", tried);
}

#[test]
fn the_root_has_two_names_and_no_other() {
    let volume = Volume::new(Layout::ResourceFirst);
    let arena = Arena::new(&volume);
    let others = others(&volume);
    let names = [
        "x",
        "x.json",
        "users",
        "..x",
        "Schedules",
        "schedules ",
        "schedules.json",
        ALICE.hash,
        BOB.hash,
        ".tenantfs-layout",
    ];
    let mut tried = 0;
    for name in names.into_iter().step_by(rounds(4, 1)) {
        tried += 1;
        arena.case(name, Due::Line("create * EPERM"), || {
            let met = |statement: &str| errno(ALICE.uid, &arena.alice, &statement.replace("NAME", name));
            assert_eq!(met("os.stat('NAME')"), "ENOENT", "{name}");
            assert_eq!(met("open('NAME', 'w')"), "EPERM", "{name}");
        });
    }
    assert_eq!(self::others(&volume), others);
    tell("names", "in the root", tried);
}

/// Makes directories, each in the one before, and works in the deepest.
const DEEP: &str = r#"
import errno, os, sys
depth, name = int(sys.argv[1]), sys.argv[2]
os.chdir('results')
for number in range(depth):
    os.mkdir(name)
    os.chdir(name)
try:
    os.symlink('x', 'refused')
    raise SystemExit('a link was made')
except OSError as error:
    assert error.errno == errno.EPERM, error
with open('x.json', 'w') as file:
    file.write('{"deep": 1}')
# Which makes the server forget the directories that it has open.
os.rename('x.json', 'y.json')
assert open('y.json').read() == '{"deep": 1}'
assert os.listdir('.') == ['y.json']
with open('plot', 'w') as file:
    file.write('deep')
os.rename('plot', 'moved')
assert open('moved').read() == 'deep'
for file in os.listdir('.'):
    os.unlink(file)
for number in range(depth):
    os.chdir('..')
    os.rmdir(name)
"#;

#[test]
fn directories_are_nested_deeper_than_any_path_is_long() {
    let volume = Volume::new(Layout::ResourceFirst);
    let arena = Arena::new(&volume);
    for (depth, name) in [(500, "d".repeat(255)), (rounds(400, 3_000), "d".to_owned())] {
        // The way is longer than a line of the log: it has the end of it.
        arena.case(
            &format!("{depth} directories"),
            Due::Line("symlink * EPERM"),
            || {
                let mut deep = crate::common::as_user(ALICE.uid, &arena.alice, "python3");
                deep.args(["-B", "-c", DEEP, &depth.to_string(), &name]);
                assert!(deep.status().unwrap().success());
            },
        );
        arena.log.verify();
        tell("names", "directories in each other", depth);
    }
}
