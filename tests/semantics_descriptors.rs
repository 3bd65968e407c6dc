//! What a descriptor leads to after its file was renamed, replaced or removed: the same as on any file system.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use std::fs;
use std::time::Duration;

use common::{ALICE, Conversation, Mount, Volume, eventually};
use tenantfs::layout::Layout;

/// What takes a moment at most is waited for this long.
const PATIENCE: Duration = Duration::from_secs(20);

const RECORD: &str = r#"{"day": 1, "user_id": "alice"}"#;

/// What the Python of these tests begins with.
const PRELUDE: &str = r#"
import errno, mmap, os, sys

def met(call, *arguments):
    try:
        call(*arguments)
    except OSError as error:
        return errno.errorcode[error.errno]
    return 'ok'

def content(name='schedules/x.json'):
    with open(name, 'rb') as file:
        return file.read()
"#;

/// A volume with one record of alice's, `schedules/x.json`.
fn volume() -> Volume {
    let volume = Volume::new(Layout::ResourceFirst);
    volume.plant(&ALICE, "schedules", "x.json", RECORD);
    volume
}

/// With an audit log.
fn mounted(volume: &Volume) -> Mount<'_> {
    let log = volume.audit_log();
    volume.mount_with(&ALICE, &["--audit-log", log.to_str().unwrap()])
}

fn run(mount: &Mount<'_>, code: &str) {
    mount.python(&format!("{PRELUDE}{code}"), &[]);
}

fn stored(volume: &Volume) -> String {
    volume.stored(&ALICE, "schedules", "x.json")
}

/// The lines of the audit log that say that a program was told `errno` of `schedules/x.json`.
fn told(volume: &Volume, errno: &str) -> usize {
    let log = fs::read_to_string(volume.audit_log()).unwrap();
    let outcome = format!(r#""outcome":"{errno}""#);
    let lines = log.lines();
    lines
        .filter(|line| line.contains("schedules/x.json") && line.contains(&outcome))
        .count()
}

#[test]
fn a_descriptor_follows_its_file_as_on_any_file_system() {
    let volume = Volume::new(Layout::ResourceFirst);
    let mount = volume.mount(&ALICE);
    run(
        &mount,
        r#"
import ctypes, random, shutil

HERE, THERE = os.path.realpath('.'), os.path.expanduser('~/there')
NAMES = ['schedules/a.json', 'schedules/a.txt', 'schedules/b.json', 'schedules/b.txt', 'schedules/d/a.json',
         'schedules/d/a.txt', 'results/a.json', 'results/a.txt']
libc = ctypes.CDLL(None, use_errno=True)

def exchange(one, other):
    if libc.renameat2(-100, one.encode(), -100, other.encode(), 2):
        raise OSError(ctypes.get_errno(), 'renameat2')

def attempt(call, *arguments):
    try:
        return call(*arguments)
    except OSError as error:
        return errno.errorcode[error.errno]

class Side:
    """A directory, and what is open in it."""
    def __init__(self, root):
        self.root, self.open = root, {}

    def do(self, what, *arguments):
        os.chdir(self.root)
        return attempt(getattr(self, what), *arguments)

    def begin(self, slot, name, text):
        self.open[slot] = os.open(name, os.O_RDWR | os.O_CREAT)
        self.write(slot, text)

    def reopen(self, slot, name):
        self.open[slot] = os.open(name, os.O_RDWR)

    def write(self, slot, text):
        os.ftruncate(self.open[slot], 0)
        return os.pwrite(self.open[slot], text, 0)

    def append(self, slot):
        return os.pwrite(self.open[slot], b' ', os.fstat(self.open[slot]).st_size)

    def reserve(self, slot):
        size = os.fstat(self.open[slot]).st_size
        os.posix_fallocate(self.open[slot], 0, size + 1)
        return os.pwrite(self.open[slot], b'\n', size)

    def map(self, slot, digit):
        with mmap.mmap(self.open[slot], 0) as data:
            data[6:7] = digit
            data.flush()

    def sync(self, slot):
        os.fsync(self.open[slot])

    def inherit(self, slot):
        os.close(os.dup(self.open[slot]))

    def close(self, slot):
        os.close(self.open.pop(slot))

    def unlink(self, name):
        os.unlink(name)

    def rename(self, one, other):
        os.rename(one, other)

    def exchange(self, one, other):
        exchange(one, other)

    def move(self):
        os.rename('schedules/d', 'results/e')
        os.rename('results/e', 'schedules/d')

    def seen(self):
        os.chdir(self.root)
        shown = {name: attempt(content, name) for name in NAMES}
        shown.update({slot: os.pread(file, 1000, 0) for slot, file in self.open.items()})
        shown.update({-1 - slot: os.fstat(file).st_size for slot, file in self.open.items()})
        return shown

def kind(name):
    return name.endswith('.json')

def step(choose, slots):
    free = [slot for slot in range(4) if slot not in slots]
    text = b'{"n": %d}' % choose.randrange(1000)
    if free and choose.random() < 0.3:
        slot, name = choose.choice(free), choose.choice(NAMES)
        return choose.choice([('begin', slot, name, text), ('reopen', slot, name)])
    if slots and choose.random() < 0.55:
        slot = choose.choice(sorted(slots))
        return choose.choice([('write', slot, text), ('append', slot), ('reserve', slot), ('map', slot, b'%d' % choose.randrange(1, 10)),
                              ('sync', slot), ('inherit', slot), ('close', slot)])
    one, other = choose.sample(NAMES, 2)
    if choose.random() < 0.2:
        other = choose.choice([name for name in NAMES if kind(name) == kind(one) and name != one])
        return 'exchange', one, other
    return choose.choice([('rename', one, other)] * 4 + [('unlink', one), ('move',)])

crossed = 0
for seed in range(60):
    choose = random.Random(seed)
    sides = [Side(HERE), Side(THERE)]
    shutil.rmtree(THERE, ignore_errors=True)
    for side in sides:
        os.makedirs(side.root + '/results', exist_ok=True)
        os.makedirs(side.root + '/schedules/d', exist_ok=True)
    done = []
    for turn in range(60):
        done.append(step(choose, sides[1].open))
        held = {os.fstat(file).st_ino for file in sides[1].open.values()}
        crosses = done[-1][0] == 'rename' and kind(done[-1][1]) != kind(done[-1][2])
        crosses = crosses and os.path.exists(done[-1][1]) and os.stat(done[-1][1]).st_ino in held
        ours, theirs = (side.do(*done[-1]) for side in sides)
        assert ours == theirs, (seed, done, ours, theirs)
        crossed += crosses and ours is None
        ours, theirs = (side.seen() for side in sides)
        assert ours == theirs, (seed, done, {key: (ours[key], theirs[key]) for key in ours if ours[key] != theirs[key]})
    for side in sides:
        os.chdir(side.root)
        for file in side.open.values():
            os.close(file)
        for name in NAMES:
            attempt(os.unlink, name)
os.chdir(HERE)
assert crossed > 50, crossed
"#,
    );
}

#[test]
fn what_is_wrong_with_an_attachment_that_became_a_record_is_told_by_fsync_and_by_the_close() {
    let volume = volume();
    let mount = mounted(&volume);
    run(
        &mount,
        r#"
file = os.open('schedules/x.part', os.O_RDWR | os.O_CREAT)
os.write(file, b'{"n": 1}')
os.rename('schedules/x.part', 'schedules/x.json')
os.pwrite(file, b',', 7)
assert met(os.fsync, file) == met(os.fsync, file) == 'EINVAL'
os.pwrite(file, b'}', 7)
assert met(os.fsync, file) == 'ok'
os.pwrite(file, b'[', 0)
assert met(os.close, file) == 'EINVAL'
assert content() == b'["n": 1}'
"#,
    );
    assert_eq!(stored(&volume), r#"{"n": 1,"user_id" :"alice"}"#);
    assert!(eventually(PATIENCE, || told(&volume, "EINVAL") > 0));
}

#[test]
fn an_older_descriptor_does_not_replace_what_was_saved_in_the_mount_since() {
    let volume = volume();
    let mount = mounted(&volume);
    let code = r#"
first = os.open('schedules/x.json', os.O_RDWR)
print('open', flush=True)
sys.stdin.readline()
with open('schedules/x.json', 'w') as second:
    second.write('{"n": 2}')
assert met(os.pwrite, first, b'{', 0) == met(os.ftruncate, first, 0) == 'ESTALE'
os.close(first)
assert content() == b'{"n": 2}', content()
print('told', flush=True)
"#;
    let mut writer = Conversation::start(&mount, &format!("{PRELUDE}{code}"));
    assert_eq!(writer.next(), "open");
    volume.plant(&ALICE, "schedules", "x.json", r#"{"n": 5, "user_id": "alice"}"#);
    assert_eq!(writer.next(), "told");
    assert_eq!(stored(&volume), r#"{"n": 2,"user_id" :"alice"}"#);
    assert!(eventually(PATIENCE, || told(&volume, "ESTALE") > 0));
}
