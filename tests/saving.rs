//! Who hears what of a save: whatever tells a program that its record is saved says no until it is so, and nobody else
//! is troubled with it.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use std::fs;
use std::os::unix::fs::chown;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use common::daemon::Daemon;
use common::{ALICE, Conversation, Mount, OtherMount, SERVICE_UID, Volume, eventually, tool};
use tenantfs::layout::Layout;

const RECORD: &str = r#"{"day": 1, "user_id": "alice"}"#;
/// What takes seconds at most is waited for this long.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the Python of these tests begins with.
const PRELUDE: &str = r#"
import errno, mmap, os, subprocess, sys

def met(call, *arguments):
    try:
        call(*arguments)
    except OSError as error:
        return errno.errorcode[error.errno]
    return 'ok'

def begin(text, flags=0, name='schedules/x.json'):
    file = os.open(name, os.O_RDWR | os.O_CREAT | os.O_TRUNC | flags)
    while text:
        text = text[os.write(file, text):]
    return file

def content(name='schedules/x.json'):
    with open(name, 'rb') as file:
        return file.read()

WRONG = {
    'an array': b'[1]',
    'a comma too much': b'{"a": 1,}',
    'two owners': b'{"user_id": "a", "user_id": "b"}',
    'broken off': b'{"a":',
}
"#;

/// A volume with one record of alice's, `schedules/x.json`.
fn volume() -> Volume {
    let volume = Volume::new(Layout::ResourceFirst);
    volume.plant(&ALICE, "schedules", "x.json", RECORD);
    volume
}

fn run(mount: &Mount<'_>, code: &str) {
    mount.python(&format!("{PRELUDE}{code}"), &[]);
}

fn stored(volume: &Volume) -> String {
    volume.stored(&ALICE, "schedules", "x.json")
}

#[test]
fn a_refusal_is_told_by_whatever_says_that_the_record_is_saved_until_it_is() {
    let volume = volume();
    let mount = volume.mount(&ALICE);
    run(
        &mount,
        r#"
for what, text in WRONG.items():
    file = begin(text)
    reader = os.open('schedules/x.json', os.O_RDONLY)
    idle = os.open('schedules/x.json', os.O_RDWR)
    for turn in range(3):
        told = {
            'fsync': met(os.fsync, file),
            'fdatasync': met(os.fdatasync, file),
            'fsync of a reader': met(os.fsync, reader),
            'close of a duplicate': met(os.close, os.dup(file)),
        }
        assert set(told.values()) == {'EINVAL'}, (what, turn, told)
    assert met(os.close, os.dup(reader)) == met(os.close, reader) == 'ok', (what, 'a reader')
    assert met(os.close, os.dup(idle)) == met(os.close, idle) == 'ok', (what, 'it wrote nothing')
    assert met(os.close, file) == 'EINVAL', what

    later = os.open('schedules/x.json', os.O_RDWR)
    assert met(os.fsync, later) == 'EINVAL', (what, 'another descriptor, later')
    assert content() == text, what
    os.ftruncate(later, 0)
    os.pwrite(later, b'{"mended": 1}', 0)
    assert [met(os.fsync, later) for turn in range(2)] == ['ok', 'ok'], what
    assert met(os.close, os.dup(later)) == met(os.close, later) == 'ok', what
"#,
    );
    assert_eq!(stored(&volume), r#"{"mended": 1,"user_id" :"alice"}"#);
}

#[test]
fn while_a_refusal_is_told_the_volume_has_the_record_of_before() {
    let volume = volume();
    let mount = volume.mount(&ALICE);
    let code = r#"
for what, text in WRONG.items():
    file = begin(text)
    print(met(os.fsync, file), met(os.fsync, file), flush=True)
    sys.stdin.readline()
    print(met(os.close, file), flush=True)
    sys.stdin.readline()
"#;
    let mut writer = Conversation::start(&mount, &format!("{PRELUDE}{code}"));
    for _ in 0..4 {
        assert_eq!(writer.next(), "EINVAL EINVAL");
        assert_eq!(stored(&volume), RECORD);
        assert_eq!(writer.next(), "EINVAL");
        assert_eq!(stored(&volume), RECORD);
    }
}

#[test]
fn an_msync_of_a_mistake_says_so_each_time_until_it_is_mended() {
    let volume = volume();
    let mount = volume.mount(&ALICE);
    run(
        &mount,
        r#"
file = begin(b'{"a": 1 }')
assert met(os.fsync, file) == 'ok'
data = mmap.mmap(file, 0)
data[7:8] = b','
assert [met(data.flush) for turn in range(3)] == ['EINVAL'] * 3
assert met(os.fsync, file) == 'EINVAL'
assert content() == b'{"a": 1,}', content()
data[7:8] = b' '
assert met(data.flush) == met(data.flush) == met(os.fsync, file) == 'ok'
data[6:7] = b'2'
assert met(data.flush) == 'ok'
data.close()
assert met(os.close, file) == 'ok'
"#,
    );
    assert_eq!(stored(&volume), r#"{"a": 2,"user_id" :"alice" }"#);
}

#[test]
fn a_record_that_is_too_large_with_its_secret_is_told_each_time_until_it_is_smaller() {
    let volume = Volume::new(Layout::ResourceFirst);
    let secret = "k".repeat(70_000);
    let record = format!(r#"{{"user_id": "alice", "api_key": "{secret}"}}"#);
    volume.plant(&ALICE, "schedules", "x.json", &record);
    let mount = volume.mount_with(&ALICE, &["--max-size", "96KiB"]);
    let code = r#"
file = begin(b'{"x": "' + b'x' * 98_000 + b'"}')
told = [met(os.fsync, file), met(os.fdatasync, file), met(os.close, os.dup(file)), met(os.fsync, file)]
assert told == ['EFBIG'] * 4, told
print('told', flush=True)
sys.stdin.readline()
assert met(os.truncate, 'schedules/x.json', (96 << 10) + 1) == 'EFBIG'
os.ftruncate(file, 0)
os.pwrite(file, b'{"x": "small"}', 0)
print(met(os.fsync, file), met(os.close, file), flush=True)
"#;
    let mut writer = Conversation::start(&mount, &format!("{PRELUDE}{code}"));
    assert_eq!(writer.next(), "told");
    assert_eq!(stored(&volume), record);
    assert_eq!(writer.next(), "ok ok");
    let now = stored(&volume);
    assert!(now.contains(&secret) && now.contains("small"), "{now}");
}

/// Visual Studio Code, which notes an error of fdatasync for nobody to see, and shows one of close.
#[test]
fn an_editor_that_ignores_fdatasync_hears_of_a_mistake_from_close() {
    let volume = volume();
    let mount = volume.mount(&ALICE);
    run(
        &mount,
        r#"
for flush in True, False:
    file = begin(b'{"at": "02:00"}\n')
    flushed = met(os.fdatasync, file) if flush else 'ok'
    assert (flushed, met(os.close, file)) == ('ok', 'ok')
    file = begin(b'{"at": "03:00",}\n')
    if flush:
        met(os.fdatasync, file)
    assert met(os.close, file) == 'EINVAL', flush
"#,
    );
    if tool("node").is_none() {
        return;
    }
    let mut command = mount.command("node");
    let code = r#"
const fs = require('fs');
const save = (text, flush) => {
    const file = fs.openSync('schedules/x.json', 'w');
    fs.writeSync(file, text);
    try { if (flush) fs.fdatasyncSync(file) } catch (error) { }
    try { fs.closeSync(file); return 'saved' } catch (error) { return error.code }
};
console.log(save('{"at": "02:00"}', true), save('{"at": "03:00",}', true), save('{"at": "03:00",}', false));
"#;
    command.args(["-e", code]);
    assert_eq!(common::success(command, ""), "saved EINVAL EINVAL\n");
    assert_eq!(stored(&volume), r#"{"at": "02:00","user_id" :"alice"}"#);
}

#[test]
fn who_lets_a_child_write_hears_of_its_mistake_from_the_own_close() {
    let volume = volume();
    let mount = volume.mount(&ALICE);
    run(
        &mount,
        r#"
children = {
    'sh': ['sh', '-c', 'echo "[1, 2]"'],
    'python': [sys.executable, '-c', 'print("[1, 2]")'],
    'awk': ['awk', 'BEGIN { print "[1, 2]" }'],
    'printf': ['/usr/bin/printf', '[1, 2]'],
    'a pipe of two': ['sh', '-c', 'echo "[1, 2]" | cat'],
    'two, one after the other': ['sh', '-c', 'echo "[1, "; /usr/bin/printf "2]"'],
    'one that breaks off': ['sh', '-c', 'echo "{"'],
    'one that goes on in the background': ['sh', '-c', 'echo "[1, 2]" & wait'],
}
for what, child in children.items():
    file = open('schedules/x.json', 'w')
    subprocess.run(child, stdout=file, stderr=subprocess.DEVNULL)
    assert met(file.close) == 'EINVAL', what
    with open('schedules/x.json', 'w') as file:
        subprocess.run(['sh', '-c', 'echo "{}"'], stdout=file, check=True)
"#,
    );
    // jq is a child as well as any, and says itself what close said.
    if tool("jq").is_some() {
        mount.shell("! jq -nc '[1]' > schedules/x.json 2>/dev/null; jq -nc '{a: 1}' > schedules/x.json");
        assert_eq!(stored(&volume), "{\"a\":1,\"user_id\" :\"alice\"}\n");
    }
}

#[test]
fn who_inherits_the_descriptor_of_a_text_that_is_not_complete_yet_hears_nothing() {
    let volume = volume();
    let mount = volume.mount(&ALICE);
    let said = mount.shell(
        r#"exec 2>&1
        printf '{"a": [1,' > ~/a; printf '2]}' > ~/b
        (cat ~/a; cat ~/b) > schedules/x.json; echo $?
        (printf '{'; /usr/bin/printf '"a":'; sh -c 'echo 3'; echo '}') > schedules/y.json; echo $?"#,
    );
    assert_eq!(said, "0\n0\n");
    assert_eq!(stored(&volume), r#"{"a": [1,2],"user_id" :"alice"}"#);
    assert_eq!(mount.read("schedules/y.json"), "{\"a\":3\n}\n");
    assert!(volume.stored(&ALICE, "schedules", "y.json").contains("user_id"));
}

#[test]
fn what_is_written_through_o_sync_is_taken_as_it_comes_and_judged_at_the_end() {
    let volume = volume();
    let mount = volume.mount(&ALICE);
    let code = r#"
for flag in os.O_SYNC, os.O_DSYNC:
    file = begin(b'', flag)
    parts = b'{"a": [1,\n', b'2,\n', b'3]}\n'
    assert [os.write(file, part) for part in parts] == [10, 3, 4]
    assert content() == b''.join(parts)
    print('whole', flush=True)
    sys.stdin.readline()
    assert met(os.fsync, file) == met(os.close, file) == 'ok'

    file = begin(b'{"a": ', flag)
    assert met(os.fsync, file) == met(os.fdatasync, file) == met(os.fsync, file) == 'EINVAL'
    assert os.write(file, b'2}') == 2
    assert met(os.fsync, file) == met(os.close, file) == 'ok'
    assert content() == b'{"a": 2}'

    file = begin(b'{"a": 1}', flag)
    assert os.write(file, b',}') == 2
    assert met(os.close, os.dup(file)) == met(os.close, file) == 'EINVAL'
    assert met(os.unlink, 'schedules/x.json') == 'ok'
"#;
    let mut writer = Conversation::start(&mount, &format!("{PRELUDE}{code}"));
    for _ in 0..2 {
        assert_eq!(writer.next(), "whole");
        // On the volume when write returned, and not only after the close.
        assert_eq!(stored(&volume), "{\"a\": [1,\n2,\n3],\"user_id\" :\"alice\"}\n");
    }
    drop(writer);
    for flag in ["sync", "dsync"] {
        let said = mount.shell(&format!(
            "echo '{{\"dd\": \"{flag}\"}}' | dd of=schedules/x.json bs=3 oflag={flag} status=none 2>&1; echo $?"
        ));
        assert_eq!(said, "0\n");
        assert_eq!(
            mount.read("schedules/x.json"),
            format!("{{\"dd\": \"{flag}\"}}\n")
        );
        assert!(stored(&volume).contains(flag));
    }
}

/// A file system of half a megabyte in place of the volume's root.
fn small(volume: &Volume) -> (OtherMount, PathBuf) {
    let small = OtherMount::over(&volume.root(), "tmpfs");
    let mut command = Command::new("mount");
    command.args(["-o", "remount,size=512k"]).arg(&small.place);
    common::success(command, "");
    chown(&small.place, Some(SERVICE_UID), Some(SERVICE_UID)).unwrap();
    common::set_mode(&small.place, 0o750);
    let ballast = small.place.join("ballast");
    (small, ballast)
}

#[test]
fn what_a_full_volume_does_not_take_is_told_at_every_close_and_saved_by_itself_when_there_is_room() {
    let volume = Volume::new(Layout::ResourceFirst);
    let (small, ballast) = small(&volume);
    volume.plant(&ALICE, "schedules", "x.json", RECORD);
    let daemon = Daemon::start(&volume, &[]);
    let place = daemon.login(&ALICE);
    let code = r#"
big = b'{"x": "' + b'x' * 100_000 + b'"}'
print('ready', flush=True)
sys.stdin.readline()
file = begin(big)
told = [met(os.close, os.dup(file)), met(os.fsync, file), met(os.fdatasync, file), met(os.close, os.dup(file))]
told.append(met(os.close, file))
assert told == ['ENOSPC'] * 5, told
assert content() == big
file = os.open('schedules/x.json', os.O_RDWR)
assert met(os.fsync, file) == 'ENOSPC'
assert met(os.close, file) == 'ok', 'it wrote nothing'
print('told', flush=True)
sys.stdin.readline()
"#;
    let mut writer = Conversation::start_in(ALICE.uid, &place, &format!("{PRELUDE}{code}"));
    assert_eq!(writer.next(), "ready");
    fs::write(&ballast, vec![0; 1 << 20]).unwrap_err();
    assert_eq!(writer.next(), "told");
    assert_eq!(stored(&volume), RECORD);
    let status = daemon.asked(ALICE.uid, &["status"], "");
    assert!(
        status.contains("not saved")
            && status.contains("schedules/x.json: ")
            && status.contains("No space left"),
        "{status}"
    );

    // Nobody does anything in the mount any more.
    fs::remove_file(&ballast).unwrap();
    let saved = eventually(PATIENCE, || stored(&volume).contains(&"x".repeat(100_000)));
    assert!(saved, "{}", daemon.asked(ALICE.uid, &["status"], ""));
    let is_told = || !daemon.asked(ALICE.uid, &["status"], "").contains("not saved");
    assert!(eventually(PATIENCE, is_told));
    drop(writer);
    drop(daemon);
    drop(small);
}
