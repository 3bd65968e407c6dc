//! Filling the volume: one user has a quota and takes by every means what there is; the others save meanwhile, and never meet
//! a full disk.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::statvfs;

use crate::arena::{Arena, become_user, rounds, tell};
use crate::common::{ALICE, BOB, Layout, Volume, as_user, eventually, python, together};
use crate::disk::Disk;

const MIB: u64 = 1 << 20;

/// The disk, and what each user may have of it.
const DISK: u64 = 96;
const BYTES: u64 = 16 * MIB;
const FILES: u64 = 2000;

/// Those who write at once; what each has under way may be beyond the quota.
const WRITERS: u64 = 4;

/// What the file system keeps of its own for so many files: directories' names, extents, attributes.
const OVERHEAD: u64 = 4 * MIB;

/// The most that alice may have of the disk at any time.
const MOST: u64 = BYTES + WRITERS * MIB + OVERHEAD;

/// What the Python of these attacks begins with. `fill` does something until it is refused, again and again, and says what the
/// refusals were.
const PRELUDE: &str = r"
import ctypes, errno, mmap, os, sys, time
rounds, who = int(sys.argv[1]), sys.argv[2]
refused = {}

def fill(act, most=None):
    number = 0
    while most is None or number < most:
        try:
            act(number)
        except OSError as error:
            name = errno.errorcode[error.errno]
            refused[name] = refused.get(name, 0) + 1
            return number
        number += 1
    return number

def create(name, flags=0):
    return os.open(name, os.O_RDWR | os.O_CREAT | flags, 0o600)

def remove(root='.'):
    for above, directories, files in os.walk(root, topdown=False):
        for name in files:
            os.unlink(os.path.join(above, name))
        if above not in ('.', './results', './schedules'):
            os.rmdir(above)

def end():
    unexpected = set(refused) - {'EDQUOT', 'EFBIG', 'ENOTSUP', 'EINVAL', 'ENFILE', 'EMFILE', 'ENOSPC', 'ENOENT', 'EEXIST'}
    assert not unexpected, refused
    print(refused.get('EDQUOT', 0))
";

/// Each way to take space, as the body of a program; it leaves what it took.
const WAYS: [(&str, &str); 14] = [
    (
        "one large file",
        "file = create('results/large-' + who)\nfill(lambda n: os.write(file, b'x' * (1 << 20)))",
    ),
    (
        "appending",
        "file = create('results/append-' + who, os.O_APPEND)\nfill(lambda n: os.write(file, b'x' * 100_000))",
    ),
    (
        "holes that are written",
        "file = create('results/sparse-' + who)\n\
         fill(lambda n: os.ftruncate(file, (n + 1) << 22))\n\
         size = os.fstat(file).st_size\n\
         fill(lambda n: os.pwrite(file, b'x' * (1 << 20), n << 20), (size >> 20) + 8)\n\
         fill(lambda n: os.pwrite(file, b'x', n << 28))",
    ),
    (
        "a map of a hole",
        "file = create('results/map-' + who)\n\
         fill(lambda n: os.ftruncate(file, (n + 1) << 20))\n\
         size = os.fstat(file).st_size\n\
         if size:\n    with mmap.mmap(file, size) as mapped:\n        \
             for at in range(0, size, 1 << 16): mapped[at:at + (1 << 16)] = b'x' * (1 << 16)\n        mapped.flush()\n\
         assert os.fstat(file).st_size == size",
    ),
    (
        "fallocate",
        "libc = ctypes.CDLL(None, use_errno=True)\n\
         def allocate(file, mode, at, length):\n    \
             if libc.fallocate(file, mode, ctypes.c_long(at), ctypes.c_long(length)): raise OSError(ctypes.get_errno(), '')\n\
         for mode in (0, 1, 16, 17):\n    \
             file = create('results/allocated-%s-%d' % (who, mode))\n    \
             fill(lambda n: allocate(file, mode, n << 20, 1 << 20))\n    \
             fill(lambda n: allocate(file, mode, n << 32, 1 << 32), 4)",
    ),
    (
        "copies of a copy",
        "file = create('results/copy-' + who)\nos.write(file, b'x' * 65536)\n\
         fill(lambda n: os.copy_file_range(file, file, 65536, 0, (n + 1) << 16))",
    ),
    (
        "tiny files",
        "os.makedirs('results/tiny-' + who, exist_ok=True)\n\
         fill(lambda n: os.close(create('results/tiny-%s/%d' % (who, n))))",
    ),
    (
        "long names",
        "fill(lambda n: os.close(create('results/%s-%d-%s' % (who, n, 'x' * 200))))",
    ),
    (
        "directories, wide and deep",
        "fill(lambda n: os.mkdir('results/%s-%d' % (who, n)), 200)\n\
         os.chdir('results')\n\
         def deeper(n):\n    os.mkdir('d-' + who)\n    os.chdir('d-' + who)\n\
         fill(deeper, 400)\n",
    ),
    (
        "records",
        "def save(n):\n    \
             file = os.open('schedules/%s-%d.json' % (who, n), os.O_WRONLY | os.O_CREAT)\n    \
             try: os.write(file, b'{\"x\": \"' + b'x' * 300_000 + b'\"}'); os.fsync(file)\n    \
             finally:\n        \
                 try: os.close(file)\n        \
                 except OSError: pass\n\
         fill(save)",
    ),
    (
        "drafts",
        "def draft(n):\n    \
             file = os.open('schedules/draft-%s-%d.json' % (who, n), os.O_WRONLY | os.O_CREAT)\n    \
             os.write(file, b'{' + b'x' * 300_000)\n    \
             try: os.close(file)\n    \
             except OSError as error:\n        \
                 if error.errno != errno.EINVAL: raise\n\
         fill(draft)",
    ),
    (
        "what was removed",
        "def gone(n):\n    \
             name = 'schedules/gone-%s-%d.json' % (who, n)\n    \
             with open(name, 'w') as file: file.write('{\"x\": \"%s\"}' % ('x' * 200_000))\n    \
             os.unlink(name)\n\
         fill(gone, 30 * rounds)",
    ),
    (
        "what was removed and is open",
        "held = []\n\
         def hold(n):\n    \
             name = 'results/open-%s-%d' % (who, n)\n    held.append(create(name))\n    \
             os.write(held[-1], b'x' * 500_000)\n    os.unlink(name)\n    os.write(held[-1], b'x' * 500_000)\n\
         fill(hold)\n\
         fill(lambda n: os.write(held[0], b'x' * (1 << 20)))\n\
         time.sleep(.3)",
    ),
    (
        "records that are renamed",
        "def away(n):\n    \
             name = 'schedules/away-%s-%d.json' % (who, n)\n    \
             with open(name, 'w') as file: file.write('{\"x\": \"%s\"}' % ('x' * 100_000))\n    \
             os.rename(name, name + '~')\n\
         fill(away)\n\
         fill(lambda n: os.rename('results/nothing', 'results/else'))\n\
         try: os.open('results', os.O_TMPFILE | os.O_RDWR); raise SystemExit('O_TMPFILE is offered, and not tried')\n\
         except OSError as error: assert error.errno in (errno.EOPNOTSUPP, errno.EISDIR), error",
    ),
];

/// What the disk has of a user: bytes that are taken, and files.
fn taken(directory: &Path) -> (u64, u64) {
    let (mut bytes, mut files) = (0, 0);
    let Ok(entries) = fs::read_dir(directory) else {
        return (0, 0);
    };
    for entry in entries.filter_map(Result::ok) {
        let Ok(metadata) = entry.path().symlink_metadata() else {
            continue;
        };
        let below = match metadata.is_dir() {
            true => taken(&entry.path()),
            false => (0, 0),
        };
        bytes += metadata.blocks() * 512 + below.0;
        files += 1 + below.1;
    }
    (bytes, files)
}

/// What is taken of the whole disk, in bytes.
fn of_disk(volume: &Volume) -> u64 {
    let found = statvfs(volume.root()).unwrap();
    (found.f_blocks - found.f_bfree) * found.f_frsize
}

fn of_alice(volume: &Volume) -> (u64, u64) {
    let found = ["schedules", "results"].map(|resource| taken(&volume.directory(&ALICE, resource)));
    (found[0].0 + found[1].0, found[0].1 + found[1].1)
}

/// The most that is taken of the disk until told to stop, in bytes.
fn peak(volume: &Volume, stop: &AtomicBool) -> u64 {
    let mut peak = 0;
    while !stop.load(Ordering::Relaxed) {
        peak = peak.max(of_disk(volume));
        thread::sleep(Duration::from_millis(5));
    }
    peak
}

/// Stops bob, however the test ends.
struct Stopping<'a>(&'a AtomicBool);

impl Drop for Stopping<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Saves as bob until told to stop. Returns how long each took.
fn saves(place: &Path, stop: &AtomicBool) -> Vec<Duration> {
    let mut took = Vec::new();
    thread::scope(|scope| {
        let saving = scope.spawn(|| {
            become_user(BOB.uid);
            let mut took = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                let begun = Instant::now();
                let text = format!("{{\"saved\": {}, \"x\": \"{}\"}}", took.len(), "x".repeat(20_000));
                fs::write(place.join("results/saved.json"), &text).unwrap();
                fs::write(place.join("results/plot"), &text).unwrap();
                assert_eq!(
                    fs::read_to_string(place.join("results/saved.json")).unwrap(),
                    text
                );
                took.push(begun.elapsed());
                thread::sleep(Duration::from_millis(5));
            }
            took
        });
        took = saving.join().unwrap();
    });
    took.sort_unstable();
    took
}

#[test]
fn one_user_cannot_fill_the_volume_by_any_means() {
    let volume = Volume::new(Layout::ResourceFirst);
    let _disk = Disk::new(&volume, volume.base(), DISK);
    let quota = [BYTES.to_string(), FILES.to_string()];
    let options = ["--quota-bytes", &quota[0], "--quota-files", &quota[1]];
    let arena = Arena::with(&volume, &options);
    let empty = of_disk(&volume);
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let stopping = Stopping(&stop);
        let bob = scope.spawn(|| saves(&arena.bob, &stop));
        let peak = scope.spawn(|| peak(&volume, &stop));
        for (way, body) in WAYS {
            let count = rounds(1, 20).to_string();
            let (before, begun) = (arena.log.lines().len(), Instant::now());
            let refused = attack(&arena, body, &count);
            assert!(
                refused > 0 || way == "what was removed",
                "{way}: nothing was refused"
            );
            is_bounded(&volume, way, empty);
            arena.stands(way);
            // What could not be saved has its line, and nothing else.
            let other: Vec<_> = arena
                .log
                .like_from(before, "*")
                .into_iter()
                .filter(|line| line["op"] != "commit")
                .collect();
            assert!(other.is_empty(), "{way}: {other:#?}");
            println!("{way}: refused {refused} times in {:?}", begun.elapsed());
            gets_free(&arena, way);
        }
        drop(stopping);
        // Also of what had no name any more.
        let peak = peak.join().unwrap();
        assert!(
            peak <= empty + MOST + 4 * MIB,
            "{peak} bytes of the disk were taken, {empty} before"
        );
        let took = bob.join().unwrap();
        let at = |part: usize| took[(took.len() - 1) * part / 100];
        println!(
            "bob saved {} times meanwhile: median {:?}, p99 {:?}, at most {:?}",
            took.len(),
            at(50),
            at(99),
            at(100)
        );
        assert!(at(99) < Duration::from_secs(2), "{:?}", at(99));
    });
    tell(
        "filling",
        "ways to fill the volume, each by several at once",
        WAYS.len(),
    );
}

/// Several at once; returns how often they were refused for the quota.
fn attack(arena: &Arena<'_>, body: &str, count: &str) -> usize {
    let code = format!("{PRELUDE}fill(lambda n: exec(sys.argv[3], globals()), 1)\nend()");
    let commands = (0..WRITERS).map(|who| {
        let mut command = as_user(ALICE.uid, &arena.alice, "python3");
        command.args(["-B", "-c", &code, count, &who.to_string(), body]);
        command
    });
    let printed = together(commands.collect());
    printed
        .iter()
        .map(|printed| printed.lines().last().unwrap().parse::<usize>().unwrap())
        .sum()
}

fn is_bounded(volume: &Volume, way: &str, empty: u64) {
    let (bytes, files) = of_alice(volume);
    assert!(bytes <= MOST, "{way}: alice has {bytes} bytes on the disk");
    assert!(files <= FILES + 2 * WRITERS, "{way}: alice has {files} files");
    let disk = of_disk(volume);
    assert!(
        disk <= empty + MOST + 4 * MIB,
        "{way}: {disk} bytes of the disk are taken, {empty} before"
    );
}

/// Alice removes all she sees, and can save again at once: also what was kept of it goes, when it has to.
fn gets_free(arena: &Arena<'_>, way: &str) {
    let code = format!(
        "{PRELUDE}remove()\n\
         for n in range(40):\n    \
             with open('schedules/again-%d.json' % n, 'w') as file: file.write('{{\"x\": \"%s\"}}' % ('x' * 300_000))\n\
         remove()\n"
    );
    python(ALICE.uid, &arena.alice, &code, &["1", "0"]);
    arena.stands(way);
}

#[test]
fn who_logs_in_again_and_again_gets_no_more() {
    let volume = Volume::new(Layout::ResourceFirst);
    let _disk = Disk::new(&volume, volume.base(), DISK);
    let options = ["--quota-bytes", &BYTES.to_string(), "--quota-files", "500"].map(str::to_owned);
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    let arena = Arena::with(&volume, &options);
    let empty = of_disk(&volume);
    let count = rounds(5, 50);
    for round in 0..count {
        // At once: nothing is counted yet.
        let code = format!(
            "{PRELUDE}held = []\nfill(lambda n: held.append(create('results/round-{round}')), 1)\n\
             fill(lambda n: os.write(held[0], b'x' * (1 << 20)), 100 * len(held))\n\
             fill(lambda n: os.close(create('results/{round}-%d' % n)))\nend()"
        );
        python(ALICE.uid, &arena.alice, &code, &["1", "0"]);
        is_bounded(&volume, "logging in again", empty);
        let (_, files) = of_alice(&volume);
        assert!(files <= 502, "{files}");
        arena.daemon.asked(ALICE.uid, &["logout"], "");
        assert_eq!(arena.daemon.login(&ALICE), arena.alice);
    }
    // After a restart nothing is known: a part may be taken until all is counted.
    assert!(eventually(Duration::from_secs(10), || {
        let status = arena.daemon.json(ALICE.uid, &["status"], "");
        status["sessions"][0]["quota"]["counted"] == true
    }));
    tell("filling", "logins of somebody whose quota is used up", count);
}
