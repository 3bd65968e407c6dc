//! The mount's semantics, continued: open files. See `semantics.rs`.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use std::fs;
use std::time::Duration;

use common::{ALICE, Mount, Volume};
use tenantfs::layout::Layout;

/// A volume with a record and an attachment of alice's.
fn volume() -> Volume {
    let volume = Volume::new(Layout::ResourceFirst);
    volume.plant(
        &ALICE,
        "schedules",
        "monday.json",
        r#"{"day": 1, "user_id": "alice"}"#,
    );
    volume.plant(&ALICE, "results", "plot.csv", "x,y\n1,2\n");
    volume
}

/// Runs Python in alice's mount, with `both` as the files that it has to treat alike.
fn on_both(mount: &Mount<'_>, code: &str) {
    let prelude = "
import errno, fcntl, mmap, os, subprocess, sys
RECORD, ATTACHMENT = 'schedules/monday.json', 'results/plot.csv'

def fails(name, work, *arguments):
    try:
        work(*arguments)
    except OSError as error:
        assert errno.errorcode[error.errno] == name, (name, error)
    else:
        raise AssertionError(f'allowed, and not {name}')

def content(path):
    with open(path, 'rb') as file:
        return file.read()
";
    mount.python(&format!("{prelude}{code}"), &[]);
}

#[test]
fn o_append_writes_at_the_end_wherever_that_is_by_then() {
    let volume = volume();
    let mount = volume.mount(&ALICE);
    on_both(
        &mount,
        r#"
for path, start in (RECORD, b'{"n": ['), (ATTACHMENT, b'start '):
    with open(path, 'wb') as file:
        file.write(start)
        file.flush()
        one, two = (os.open(path, os.O_WRONLY | os.O_APPEND) for _ in range(2))
        for number in range(3):
            os.write(one, b'1,')
            os.write(two, b'2,')
        os.lseek(one, 0, os.SEEK_SET)
        os.write(one, b'3]}')
        assert content(path) == start + b'1,2,' * 3 + b'3]}', content(path)
    os.close(one)
    os.close(two)
    assert content(path) == start + b'1,2,' * 3 + b'3]}'
"#,
    );
    let stored = volume.stored(&ALICE, "schedules", "monday.json");
    assert_eq!(stored, r#"{"n": [1,2,1,2,1,2,3],"user_id" :"alice"}"#);
}

#[test]
fn o_excl_creates_only_what_is_not_there() {
    let volume = volume();
    let mount = volume.mount(&ALICE);
    on_both(
        &mount,
        "
flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
for path in RECORD, ATTACHMENT:
    before = content(path)
    fails('EEXIST', os.open, path, flags)
    assert content(path) == before
    new = path.replace('.', '-new.')
    os.close(os.open(new, flags))
    fails('EEXIST', os.open, new, flags)
",
    );
}

#[test]
fn o_trunc_empties_the_file_at_once() {
    let volume = volume();
    let mount = volume.mount(&ALICE);
    on_both(
        &mount,
        r#"
for path in RECORD, ATTACHMENT:
    before = content(path)
    descriptor = os.open(path, os.O_WRONLY | os.O_TRUNC)
    assert os.stat(path).st_size == 0 and content(path) == b''
    os.write(descriptor, b'{}')
    os.close(descriptor)
    assert content(path) == b'{}'
"#,
    );
}

#[test]
fn o_rdwr_reads_what_it_has_written() {
    let volume = volume();
    let mount = volume.mount(&ALICE);
    on_both(
        &mount,
        r#"
for path in RECORD, ATTACHMENT:
    with open(path, 'wb') as file:
        file.write(b'{"n": 100}')
    descriptor = os.open(path, os.O_RDWR)
    os.pwrite(descriptor, b'9', 6)
    assert os.pread(descriptor, 100, 0) == b'{"n": 900}'
    os.pwrite(descriptor, b'    ', 100)
    assert os.pread(descriptor, 200, 10) == bytes(90) + b'    '
    os.ftruncate(descriptor, 10)
    assert os.fstat(descriptor).st_size == 10
    os.close(descriptor)
    assert content(path) == b'{"n": 900}'
"#,
    );
}

#[test]
fn private_and_shared_maps_work() {
    let volume = volume();
    let mount = volume.mount(&ALICE);
    on_both(
        &mount,
        r#"
for path in RECORD, ATTACHMENT:
    with open(path, 'wb') as file:
        file.write(b'{"n": 100}')
    with open(path, 'r+b') as file:
        private = mmap.mmap(file.fileno(), 0, mmap.MAP_PRIVATE)
        private[6:7] = b'7'
        assert private[:] == b'{"n": 700}' and content(path) == b'{"n": 100}'
        private.close()
        shared = mmap.mmap(file.fileno(), 0, mmap.MAP_SHARED)
        shared[6:7] = b'8'
        shared.flush()
        assert content(path) == b'{"n": 800}', content(path)
        shared.close()
    assert content(path) == b'{"n": 800}', content(path)
"#,
    );
    assert!(volume.stored(&ALICE, "schedules", "monday.json").contains("800"));
    assert!(volume.stored(&ALICE, "results", "plot.csv").contains("800"));
}

#[test]
fn a_map_of_a_record_is_committed_by_msync_and_when_it_is_closed() {
    let volume = volume();
    let mount = volume.mount(&ALICE);
    let map = |after: &str| {
        let code = format!(
            "
with open(RECORD, 'r+b') as file:
    shared = mmap.mmap(file.fileno(), 0, mmap.MAP_SHARED)
at = shared.find(b':') + 2
shared[at:at + 1] = b'%d' % (int(shared[at:at + 1]) + 1)
{after}
"
        );
        on_both(&mount, &code);
    };
    let stored = || volume.stored(&ALICE, "schedules", "monday.json");
    map("shared.flush()\nos.kill(os.getpid(), 0)");
    assert!(stored().contains("\"day\": 2"), "{}", stored());
    map("shared.close()");
    let committed = common::eventually(Duration::from_secs(2), || stored().contains("\"day\": 3"));
    assert!(committed, "{}", stored());
}

#[test]
fn locks_hold_between_the_processes_of_the_mount() {
    let volume = volume();
    let mount = volume.mount(&ALICE);
    on_both(
        &mount,
        r#"
other = '''
import errno, fcntl, sys
with open(sys.argv[1], "r+b") as file:
    try:
        getattr(fcntl, sys.argv[2])(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        print(errno.errorcode[error.errno])
    else:
        print("locked")
'''
def other_says(path, kind):
    command = [sys.executable, '-c', other, path, kind]
    return subprocess.run(command, capture_output=True, check=True, text=True).stdout.strip()

for path in RECORD, ATTACHMENT:
    for kind in 'flock', 'lockf':
        with open(path, 'r+b') as file:
            getattr(fcntl, kind)(file, fcntl.LOCK_EX)
            assert other_says(path, kind) == 'EAGAIN', kind
            getattr(fcntl, kind)(file, fcntl.LOCK_UN)
            assert other_says(path, kind) == 'locked', kind
"#,
    );
}

#[test]
fn an_open_file_outlives_its_name_and_never_comes_back() {
    let volume = volume();
    {
        let mount = volume.mount(&ALICE);
        on_both(
            &mount,
            r#"
for path in RECORD, ATTACHMENT:
    before = content(path)
    with open(path, 'r+b', buffering=0) as file:
        os.unlink(path)
        assert not os.path.exists(path) and os.fstat(file.fileno()).st_nlink == 0
        assert file.read() == before
        file.seek(0)
        file.write(b'{"gone": 1}')
        file.truncate(11)
        os.fsync(file.fileno())
        file.seek(0)
        assert file.read() == b'{"gone": 1}'
        # The name is free, and what it leads to now is another file.
        with open(path, 'w') as new:
            new.write('{"new": 1}')
        file.write(b' ')
    assert content(path) == b'{"new": 1}'
    os.unlink(path)
    assert not os.path.exists(path)
"#,
        );
    }
    let mount = volume.mount(&ALICE);
    assert_eq!(mount.shell("ls -A schedules results"), "results:\n\nschedules:\n");
}

#[test]
fn attachments_have_holes_and_space_as_on_the_volume() {
    let volume = volume();
    let mount = volume.mount(&ALICE);
    on_both(
        &mount,
        "
with open('results/sparse', 'wb') as file:
    file.write(b'x' * 4096)
    file.seek(1 << 20)
    file.write(b'y' * 4096)
    file.flush()
    descriptor = file.fileno()
    assert os.lseek(descriptor, 0, os.SEEK_HOLE) == 4096
    assert os.lseek(descriptor, 4096, os.SEEK_DATA) == 1 << 20
    fails('ENXIO', os.lseek, descriptor, 2 << 20, os.SEEK_DATA)
    assert os.fstat(descriptor).st_blocks * 512 < 1 << 20
    os.posix_fallocate(descriptor, 0, 3 << 20)
    assert os.fstat(descriptor).st_size == 3 << 20
    assert os.fstat(descriptor).st_blocks * 512 >= 3 << 20
",
    );
    assert_eq!(
        mount.shell(
            "fallocate --punch-hole --offset 0 --length 4096 results/sparse && head -c 4096 results/sparse | tr -d '\\0'"
        ),
        ""
    );
}

#[test]
fn copy_file_range_copies_between_attachments() {
    let volume = volume();
    let mount = volume.mount(&ALICE);
    on_both(
        &mount,
        "
text = os.urandom(3 << 20)
with open('results/from', 'w+b') as source, open('results/to', 'w+b') as target:
    source.write(text)
    source.flush()
    left, at = len(text), 0
    while left:
        copied = os.copy_file_range(source.fileno(), target.fileno(), left, at, at)
        assert copied > 0
        left, at = left - copied, at + copied
assert content('results/to') == text
",
    );
    // From and to records cp falls back to reading and writing.
    mount.shell(
        "cp schedules/monday.json results/copy.json && cmp schedules/monday.json results/copy.json
        cp schedules/monday.json results/copy && cmp schedules/monday.json results/copy
        cp results/copy results/again.json && cmp results/copy results/again.json",
    );
}

#[test]
fn an_attachments_bytes_are_the_volumes() {
    let volume = volume();
    let mount = volume.mount(&ALICE);
    mount.shell("printf 'not { json' > results/note && printf '\\0\\377' >> results/note");
    let stored = fs::read(volume.path(&ALICE, "results", "note")).unwrap();
    assert_eq!(stored, b"not { json\0\xff");
    assert_eq!(mount.read("results/plot.csv"), "x,y\n1,2\n");
}

#[test]
fn fsync_works_on_files_and_on_directories() {
    let volume = volume();
    let mount = volume.mount(&ALICE);
    on_both(
        &mount,
        "
for path in RECORD, ATTACHMENT, '.', 'schedules', 'results':
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.fdatasync(descriptor)
    os.close(descriptor)
os.sync()
",
    );
}
