//! A web service in Python works on the volume beside live mounts: each sees what the other writes, and neither ever
//! meets a part of a record.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use common::{ALICE, BOB, LAYOUTS, Mount, SERVICE_UID, Volume, as_user, eventually, together};
use serde_json::{Value, json};

/// How soon the mount shows what others do to the volume.
const VISIBLE_WITHIN: Duration = Duration::from_secs(1);
/// How long writers and readers work on one record at the same time.
const CONTENTION: &str = "4";

fn json_of(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text:?}"))
}

/// Waits as long as the mount may take to show a change.
fn shows(mount: &Mount<'_>, what: &str, script: &str) {
    let holds = format!("if {script}; then echo yes; fi");
    let shown = eventually(VISIBLE_WITHIN, || mount.shell(&holds) == "yes\n");
    assert!(shown, "not shown within {VISIBLE_WITHIN:?}: {what}");
}

#[test]
fn what_the_service_saves_shows_up_in_the_mount() {
    for layout in LAYOUTS {
        let volume = Volume::new(layout);
        volume.service(&["save", "alice", "schedules", "first"], "{\"n\": 1}");
        let mount = volume.mount(&ALICE);
        // The mount knows the old state in every way before each change: listed, looked up in vain, read.
        let know =
            || mount.shell("ls -l schedules; cat schedules/* > /dev/null; test ! -e schedules/new.json");
        let save = |id: &str, record: &Value| {
            volume.service(&["save", "alice", "schedules", id], &record.to_string());
        };

        know();
        save("new", &json!({"n": "created", "api_key": "sk-1"}));
        shows(&mount, "a created record's name", "test -e schedules/new.json");
        shows(
            &mount,
            "a created record in a listing",
            "ls schedules | grep -qx new.json",
        );
        let seen = json_of(&mount.read("schedules/new.json"));
        assert_eq!(seen, json!({"n": "created", "user_id": "alice"}));

        mount.shell("stat schedules/*; cat schedules/*");
        save("new", &json!({"n": "rewritten and longer", "api_key": "sk-2"}));
        shows(&mount, "a rewritten record", "grep -q longer schedules/new.json");
        let size = mount.shell("stat -c %s schedules/new.json");
        assert_eq!(size.trim().parse(), Ok(mount.read("schedules/new.json").len()));

        mount.shell("stat schedules/*; cat schedules/*");
        std::fs::remove_file(volume.path(&ALICE, "schedules", "first.json")).unwrap();
        shows(&mount, "a deletion", "! test -e schedules/first.json");
        shows(
            &mount,
            "a deletion in a listing",
            "! ls schedules | grep -qx first.json",
        );

        mount.shell("stat schedules/*; cat schedules/*");
        let foreign = json!({"n": 1, "user_id": "bob"}).to_string();
        volume.plant(&ALICE, "schedules", "new.json", foreign);
        shows(
            &mount,
            "a record that now is another's",
            "! test -e schedules/new.json",
        );
    }
}

#[test]
fn what_the_service_saves_first_of_all_shows_up_in_the_mount() {
    for layout in LAYOUTS {
        let volume = Volume::new(layout);
        let mount = volume.mount(&ALICE);
        assert_eq!(
            mount.shell("ls -A . schedules results"),
            ".:\nresults\nschedules\n\nresults:\n\nschedules:\n"
        );
        volume.service(&["save", "alice", "results", "run"], "{\"n\": 1}");
        shows(
            &mount,
            "the first record of all",
            "grep -q '\"n\"' results/run.json",
        );
    }
}

#[test]
fn the_service_loads_and_lists_what_the_mount_writes() {
    for layout in LAYOUTS {
        let volume = Volume::new(layout);
        let mount = volume.mount(&ALICE);
        mount.shell(
            "printf '{\"n\": 1}' > schedules/a.json && cp schedules/a.json schedules/b.json
            mv schedules/b.json schedules/c.json && printf draft > schedules/c.json.bak && touch schedules/empty.json
            mkdir schedules/sub && printf '{}' > schedules/sub/deep.json",
        );
        assert_eq!(volume.service(&["list", "alice", "schedules"], ""), "a\nc\n");
        assert_eq!(volume.service(&["list", "bob", "schedules"], ""), "");
        let loaded = json_of(&volume.service(&["load", "alice", "schedules", "c"], ""));
        assert_eq!(loaded, json!({"n": 1, "user_id": "alice"}));

        // The service changes what the mount wrote, and the mount what the service wrote: nothing of either is lost.
        volume.service(
            &["save", "alice", "schedules", "a"],
            "{\"n\": 2, \"api_key\": \"sk-1\"}",
        );
        shows(&mount, "the service's change", "grep -q 2 schedules/a.json");
        mount.shell("sed -i 's/2/3/' schedules/a.json");
        let loaded = json_of(&volume.service(&["load", "alice", "schedules", "a"], ""));
        assert_eq!(loaded, json!({"n": 3, "api_key": "sk-1", "user_id": "alice"}));

        mount.shell("rm schedules/a.json");
        assert_eq!(volume.service(&["list", "alice", "schedules"], ""), "c\n");
        assert!(!volume.directory(&BOB, "schedules").join("c.json").exists());
    }
}

/// Python for a reader of the mount: reads one record for some seconds, in the given ways by turns, and says what it met.
const READER: &str = "
import json, mmap, os, sys, time
sys.path.insert(0, sys.argv[1])
from service import is_whole

def at_once(file):
    return os.read(file, 1 << 20)

def in_pieces(file):
    pieces = []
    while piece := os.read(file, 700):
        pieces.append(piece)
    return b''.join(pieces)

def mapped(file):
    with mmap.mmap(file, 0, access=mmap.ACCESS_READ) as data:
        return bytes(data)

met = {'reads': 0, 'revisions': set(), 'absent': 0}
deadline = time.monotonic() + float(sys.argv[2])
while time.monotonic() < deadline:
    for way in sys.argv[3:]:
        read = globals()[way]
        try:
            file = os.open('schedules/x.json', os.O_RDONLY)
        except FileNotFoundError:
            met['absent'] += 1
            continue
        try:
            data = read(file)
            record = json.loads(data)
            assert is_whole(record), 'revisions mixed'
        except Exception as error:
            sys.exit(f'{read.__name__}: {error!r} in {len(data)} bytes: {data[:60]} ... {data[-60:]}')
        finally:
            os.close(file)
        assert record.get('user_id', 'alice') == 'alice' and 'api_key' not in record
        met['reads'] += 1
        met['revisions'].add(record['revision'])
print(json.dumps({**met, 'revisions': len(met['revisions'])}))
";

fn reader(volume: &Volume, mount: &Mount<'_>, ways: &[&str]) -> Command {
    let mut command = mount.command("python3");
    command
        .args(["-B", "-c", READER])
        .arg(volume.base())
        .arg(CONTENTION)
        .args(ways);
    command
}

#[test]
fn the_mount_reads_whole_revisions_while_the_service_writes() {
    for layout in LAYOUTS {
        for in_place in [false, true] {
            let volume = Volume::new(layout);
            volume.service(
                &["save", "alice", "schedules", "x"],
                "{\"revision\": 0, \"rows\": [0], \"end\": 0}",
            );
            let mount = volume.mount(&ALICE);
            let options: &[&str] = if in_place { &["--in-place"] } else { &[] };
            let writer =
                volume.service_command(&[options, &["loop", "alice", "schedules", "x", CONTENTION]].concat());
            let reader = reader(&volume, &mount, &["at_once", "in_pieces", "mapped"]);
            let said = together(vec![reader, writer]);
            let met = json_of(&said[0]);
            let context = format!("{layout}, in place: {in_place}: read {met}, written {}", said[1]);
            assert!(
                met["reads"].as_u64() > Some(20) && met["revisions"].as_u64() > Some(2),
                "{context}"
            );
            assert!(in_place || met["absent"] == 0, "{context}");
        }
    }
}

/// Python for the service, as a reader of the volume: loads what its glob finds for some seconds.
const SERVICE_READER: &str = "
import json, sys, time
from pathlib import Path
from service import is_whole

directory, seconds = sys.argv[1:]
met = {'reads': 0, 'revisions': set(), 'names': set()}
deadline = time.monotonic() + float(seconds)
while time.monotonic() < deadline:
    for path in Path(directory).glob('*.json'):
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            # Renamed away since: the mount's user moves it, too.
            continue
        try:
            record = json.loads(data)
            assert record['user_id'] == 'alice', 'no owner'
            assert is_whole(record), 'revisions mixed'
        except Exception as error:
            sys.exit(f'{path.name}: {error!r} in {len(data)} bytes: {data[:60]} ... {data[-60:]}')
        met['reads'] += 1
        met['revisions'].add(record['revision'])
        met['names'].add(path.name)
print(json.dumps({'reads': met['reads'], 'revisions': len(met['revisions']), 'names': sorted(met['names'])}))
";

/// Python for a writer in the mount: saves revisions in the given ways by turns.
const WRITER: &str = "
import json, os, sys, time
sys.path.insert(0, sys.argv[1])
from service import revision

def truncated(text):
    with open('schedules/x.json', 'w') as file:
        file.write(text)

def in_pieces(text):
    file = os.open('schedules/x.json', os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for start in range(0, len(text), 700):
        os.write(file, text[start:start + 700].encode())
    os.close(file)

def replaced(text):
    with open('schedules/x.tmp', 'w') as file:
        file.write(text)
    os.replace('schedules/x.tmp', 'schedules/x.json')

def moved_aside(text):
    os.rename('schedules/x.json', 'schedules/x.json~')
    with open('schedules/x.json', 'x') as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())

number = 0
deadline = time.monotonic() + float(sys.argv[2])
while time.monotonic() < deadline:
    for way in sys.argv[3:]:
        number += 1
        record = revision(number)
        del record['api_key']
        globals()[way](json.dumps(record))
print(number)
";

fn writer(volume: &Volume, mount: &Mount<'_>, ways: &[&str]) -> Command {
    let mut command = mount.command("python3");
    command
        .args(["-B", "-c", WRITER])
        .arg(volume.base())
        .arg(CONTENTION)
        .args(ways);
    command
}

#[test]
fn the_service_reads_whole_owned_records_while_the_mount_writes() {
    for layout in LAYOUTS {
        let volume = Volume::new(layout);
        volume.service(
            &["save", "alice", "schedules", "x"],
            "{\"revision\": 0, \"rows\": [0], \"end\": 0, \"api_key\": \"sk-1\"}",
        );
        let mount = volume.mount_with(&ALICE, &["--commit", "fsync"]);
        let writer = writer(
            &volume,
            &mount,
            &["truncated", "in_pieces", "replaced", "moved_aside"],
        );
        let mut service = as_user(SERVICE_UID, volume.base(), "python3");
        service
            .args(["-B", "-c", SERVICE_READER])
            .arg(volume.directory(&ALICE, "schedules"))
            .arg(CONTENTION);

        let said = together(vec![service, writer]);
        let met = json_of(&said[0]);
        let written: u64 = said[1].trim().parse().unwrap();
        assert!(
            met["reads"].as_u64() > Some(20) && met["revisions"].as_u64() > Some(2),
            "{met}, {written} written"
        );
        assert_eq!(met["names"], json!(["x.json"]));
        let last = json_of(&volume.stored(&ALICE, "schedules", "x.json"));
        assert_eq!(
            (&last["revision"], &last["api_key"]),
            (&json!(written), &json!("sk-1"))
        );
        assert_no_temporary_files(&volume.directory(&ALICE, "schedules"));
    }
}

fn assert_no_temporary_files(directory: &Path) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(
            ["x.json", "x.json~", ".tenantfs-owner"].contains(&name.as_str()),
            "left on the volume: {name}"
        );
    }
}

#[test]
fn both_write_one_record_and_neither_reads_a_part_of_it() {
    let volume = Volume::new(common::Layout::ResourceFirst);
    volume.service(
        &["save", "alice", "schedules", "x"],
        "{\"revision\": 0, \"rows\": [0], \"end\": 0}",
    );
    let mount = volume.mount_with(&ALICE, &["--commit", "fsync"]);
    // In the mount a file that is written where it is shows its draft to everybody, as any file does.
    let in_mount = writer(&volume, &mount, &["replaced"]);
    let in_service = volume.service_command(&["loop", "alice", "schedules", "x", CONTENTION]);
    let mut service = as_user(SERVICE_UID, volume.base(), "python3");
    service
        .args(["-B", "-c", SERVICE_READER])
        .arg(volume.directory(&ALICE, "schedules"))
        .arg(CONTENTION);
    // Not mapped: a program learns the size first, and maps so much of a file that two others keep replacing.
    let reader = reader(&volume, &mount, &["at_once", "in_pieces"]);
    let said = together(vec![reader, service, in_mount, in_service]);
    assert_eq!(json_of(&said[0])["absent"], 0, "{said:?}");
    assert!(json_of(&said[1])["reads"].as_u64() > Some(20), "{said:?}");
}
