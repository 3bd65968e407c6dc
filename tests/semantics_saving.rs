//! The mount's semantics: who hears what of a save, and what a new open finds.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use std::fs;
use std::os::unix::fs::FileExt as _;

use common::{ALICE, Conversation, Volume};
use tenantfs::layout::Layout;

fn volume() -> Volume {
    let volume = Volume::new(Layout::ResourceFirst);
    volume.plant(
        &ALICE,
        "schedules",
        "monday.json",
        r#"{"day": 1, "user_id": "alice"}"#,
    );
    volume
}

#[test]
fn a_refusal_is_told_at_every_fsync_and_close_until_it_is_mended() {
    let volume = volume();
    let mount = volume.mount(&ALICE);
    mount.python(
        "
import errno, os

def met(call, *arguments):
    try:
        call(*arguments)
    except OSError as error:
        return errno.errorcode[error.errno]
    return 'ok'

for text in (b'[1]', b'{\"a\":1,}', b'{\"user_id\":\"a\",\"user_id\":\"b\"}', b'{\"a\":'):
    file = os.open('schedules/monday.json', os.O_RDWR | os.O_TRUNC)
    os.write(file, text)
    idle = os.open('schedules/monday.json', os.O_RDWR)
    told = [met(os.fsync, file), met(os.fdatasync, file), met(os.close, os.dup(file)), met(os.fsync, file)]
    assert told == ['EINVAL'] * 4, (text, told)
    assert met(os.close, idle) == 'ok', 'it wrote nothing'
    os.ftruncate(file, 0)
    os.pwrite(file, b'{}', 0)
    assert met(os.fsync, file) == 'ok'
    os.pwrite(file, text, 0)
    assert met(os.close, file) == 'EINVAL', text
",
        &[],
    );
}

#[test]
fn a_write_through_an_o_sync_descriptor_need_not_be_complete() {
    let volume = volume();
    let mount = volume.mount(&ALICE);
    mount.python(
        "
import errno, os
for flag in (os.O_SYNC, os.O_DSYNC):
    file = os.open('schedules/sync.json', os.O_WRONLY | os.O_CREAT | os.O_TRUNC | flag)
    written = [os.write(file, part) for part in (b'{\"a\": [1,\\n', b'2,\\n', b'3]}\\n')]
    os.close(file)
    assert written == [10, 3, 4], written
    assert open('schedules/sync.json').read() == '{\"a\": [1,\\n2,\\n3]}\\n'
    file = os.open('schedules/sync.json', os.O_WRONLY | os.O_TRUNC | flag)
    os.write(file, b'{\"a\": ')
    for last in (os.fsync, os.close):
        try:
            last(file)
            raise SystemExit('what is wrong with it is not told')
        except OSError as error:
            assert error.errno == errno.EINVAL, error
",
        &[],
    );
}

#[test]
fn a_new_open_finds_what_was_there_when_it_began() {
    let volume = volume();
    let mount = volume.mount(&ALICE);
    let stored = volume.path(&ALICE, "schedules", "monday.json");
    // The one before stays open, as an editor keeps it.
    let code = "
import sys
held = None
print('ready', flush=True)
for line in sys.stdin:
    file = open('schedules/monday.json')
    print(file.read(), flush=True)
    held = file
";
    let mut reader = Conversation::start(&mount, code);
    assert_eq!(reader.next(), "ready");
    for round in 0..100 {
        let text = format!(r#"{{"day": {}, "user_id": "alice"}}"#, 100 + round);
        match round % 2 {
            0 => fs::write(&stored, &text).unwrap(),
            _ => {
                let new = stored.with_extension("new");
                fs::write(&new, &text).unwrap();
                fs::rename(&new, &stored).unwrap();
            }
        }
        assert_eq!(reader.say("read"), text, "round {round}");
    }
}

#[test]
fn a_map_of_an_attachment_shows_what_others_write() {
    let volume = volume();
    let mount = volume.mount(&ALICE);
    mount.shell("printf 'before after' > schedules/plot.txt");
    let code = "
import mmap, sys, time
file = open('schedules/plot.txt', 'rb')
data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
print(data[:6].decode(), flush=True)
sys.stdin.readline()
deadline = time.monotonic() + 20
while data[:6] == b'before' and time.monotonic() < deadline:
    time.sleep(0.01)
print(data[:6].decode(), flush=True)
";
    let mut reader = Conversation::start(&mount, code);
    assert_eq!(reader.next(), "before");
    let stored = fs::File::options()
        .write(true)
        .open(volume.path(&ALICE, "schedules", "plot.txt"))
        .unwrap();
    stored.write_all_at(b"behind", 0).unwrap();
    assert_eq!(reader.say("look"), "behind");
}

#[test]
fn inode_numbers_stay_the_same_while_a_file_is_unchanged() {
    let volume = volume();
    let show = "stat -c '%n %i' . schedules schedules/* results";
    let before = {
        let mount = volume.mount(&ALICE);
        mount.shell("echo '{}' > schedules/own.json; echo '{\"day\": 2}' > schedules/monday.json");
        mount.shell("echo x > schedules/plot.txt; mv schedules/own.json schedules/moved.json; touch schedules/moved.json");
        mount.shell(show)
    };
    assert_eq!(volume.mount(&ALICE).shell(show), before);
}
