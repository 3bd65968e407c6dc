//! Side channels: what a user can learn of what is not theirs without reading a byte of it, by errnos, attributes, listings,
//! notifications, and by the clock.

use std::fmt::Write as _;
use std::fs::{self, File, FileTimes};
use std::os::linux::fs::MetadataExt as _;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use rustix::fs::{AtFlags, CWD, linkat};

use crate::arena::{Arena, Due, become_user, long, rounds, tell};
use crate::common::{ALICE, BOB, Conversation, Layout, Volume, python};

/// A record of bob's.
const OF_BOB: &str = r#"{"secret of": "bob", "user_id": "bob"}"#;

/// All that alice can see in her view, whether she knows the name of what is hidden in it or not; but for the times of the
/// directories, which are the volume's.
const LOOK: &str = r#"
import ctypes, errno, os, sys
os.chdir('schedules')
libc = ctypes.CDLL(None, use_errno=True)
class Entry(ctypes.Structure):
    _fields_ = [('ino', ctypes.c_uint64), ('off', ctypes.c_int64), ('length', ctypes.c_uint16), ('type', ctypes.c_uint8), ('name', ctypes.c_char * 256)]
libc.opendir.restype, libc.readdir.restype, libc.readdir.argtypes = ctypes.c_void_p, ctypes.POINTER(Entry), [ctypes.c_void_p]
def entries(path):
    directory = libc.opendir(path.encode())
    while entry := libc.readdir(directory):
        entry = entry.contents
        yield entry.name.decode(), entry.ino, entry.off, entry.type
def met(work):
    try: return work()
    except OSError as error: return errno.errorcode[error.errno]
def stat(path):
    said = os.lstat(path)
    directory = os.path.isdir(path)
    return [(name, getattr(said, name)) for name in dir(said) if name.startswith('st_') and not (directory and 'time' in name)]
for path in ['.', '..', 'dir']:
    print(path, sorted(entries(path)), os.listdir(path))
for path in ['.', '..', 'dir', 'mine.json', 'two.json', 'plot', 'hidden', 'hidden.json', 'linked.json', 'many.json']:
    said = os.statvfs('.')
    print(path, met(lambda: stat(path)), met(lambda: os.listxattr(path)), met(lambda: os.getxattr(path, 'user.tenantfs.mode')), said)
    for look in [os.listdir, os.readlink, os.rmdir, lambda path: os.open(path, os.O_RDWR), lambda path: os.open(path, os.O_PATH | os.O_NOFOLLOW) and 0,
                 lambda path: os.rename(path + '/x', 'y'), lambda path: os.link(path, 'x'), lambda path: os.stat(path + '/x')]:
        print(path, met(lambda: look(path)))
"#;

/// Alice's view has something of each kind.
fn furnished(volume: &Volume) {
    volume.plant(&ALICE, "schedules", "mine.json", r#"{"user_id": "alice"}"#);
    volume.plant(&ALICE, "schedules", "plot", "of alice");
    volume.plant(&ALICE, "schedules", "dir/inner.json", r#"{"user_id": "alice"}"#);
    let at = |name| volume.path(&ALICE, "schedules", name);
    // A record with a name outside: how many there are is nobody's business.
    volume.plant(&ALICE, "results", "two.json", r#"{"user_id": "alice"}"#);
    fs::hard_link(volume.path(&ALICE, "results", "two.json"), at("two.json")).unwrap();
    volume.plant(&BOB, "results", "theirs.json", OF_BOB);
    volume.plant(&BOB, "results", "plot", "of bob");
}

/// Since long ago, so that nobody waits whether a broken record is still being written.
fn settle(path: &Path) {
    let file = File::open(path).unwrap();
    file.set_times(FileTimes::new().set_modified(SystemTime::UNIX_EPOCH))
        .unwrap();
}

#[test]
fn with_something_hidden_a_view_is_as_without() {
    let volume = Volume::new(Layout::ResourceFirst);
    furnished(&volume);
    let arena = Arena::new(&volume);
    let look = || python(ALICE.uid, &arena.alice, LOOK, &[]);
    look();
    let before = look();
    let at = |name: &str| volume.path(&ALICE, "schedules", name);
    let plant = |name: &str, text: &str| settle(&volume.plant(&ALICE, "schedules", name, text));
    let theirs = volume.path(&BOB, "results", "theirs.json");
    let hidden: [(&str, &dyn Fn()); 7] = [
        ("hidden.json", &|| plant("hidden.json", OF_BOB)),
        ("hidden.json", &|| plant("hidden.json", "{")),
        ("hidden.json", &|| symlink(&theirs, at("hidden.json")).unwrap()),
        ("linked.json", &|| {
            fs::hard_link(&theirs, at("linked.json")).unwrap()
        }),
        ("hidden", &|| symlink("mine.json", at("hidden")).unwrap()),
        ("hidden", &|| {
            fs::hard_link(volume.path(&BOB, "results", "plot"), at("hidden")).unwrap();
        }),
        // So many that the directory itself becomes larger.
        ("many.json", &|| {
            plant("many.json", OF_BOB);
            for n in 0..2000 {
                fs::hard_link(at("many.json"), at(&format!("{n:0200}.json"))).unwrap();
            }
        }),
    ];
    for (index, (name, plant)) in hidden.into_iter().enumerate() {
        let case = format!("{name}, {index}");
        // The same file under many names is told of under the first.
        let lines = match name {
            "many.json" => "lookup * ENOENT".to_owned(),
            _ => format!("lookup schedules/{name} ENOENT"),
        };
        arena.case(&case, Due::Line(&lines), || {
            plant();
            // What was changed a moment ago is looked at each time.
            thread::sleep(Duration::from_millis(60));
            assert_same(&case, &before, &look());
        });
        for entry in fs::read_dir(volume.directory(&ALICE, "schedules")).unwrap() {
            let entry = entry.unwrap();
            let named = entry.file_name().into_string().unwrap();
            if named == name || named.len() > 200 {
                fs::remove_file(entry.path()).unwrap();
            }
        }
    }
    // Something to be seen is seen: the look is not blind.
    plant("hidden.json", r#"{"user_id": "alice"}"#);
    assert_ne!(before, look());
    tell(
        "side channels",
        "kinds of hidden things that change nothing to be seen",
        7,
    );
}

fn assert_same(case: &str, before: &str, after: &str) {
    for (before, after) in before.lines().zip(after.lines()) {
        assert_eq!(before, after, "{case}");
    }
    assert_eq!(before.lines().count(), after.lines().count(), "{case}");
}

#[test]
fn attributes_are_of_the_view_and_not_of_the_volume() {
    let volume = Volume::new(Layout::ResourceFirst);
    furnished(&volume);
    let arena = Arena::new(&volume);
    let stored = fs::metadata(volume.path(&ALICE, "schedules", "two.json")).unwrap();
    assert_eq!(stored.st_nlink(), 2);
    let said = "\
        import os\n\
        said = os.stat('schedules/two.json')\n\
        print(said.st_ino, said.st_dev, said.st_nlink, said.st_uid, said.st_gid, said.st_rdev, os.stat('schedules').st_nlink)";
    let numbers = |look: String| {
        look.split_whitespace()
            .map(|number| number.parse().unwrap())
            .collect::<Vec<u64>>()
    };
    let first = numbers(python(ALICE.uid, &arena.alice, said, &[]));
    let uid = u64::from(ALICE.uid);
    // 2, and one for the directory that can be seen in it.
    assert_eq!(first[2..], [1, uid, uid, 0, 3]);
    assert!(first[0] != stored.st_ino() && first[1] != stored.st_dev());
    // Numbers are made with a secret of the volume: the same in the next session, and nothing to be reckoned from outside.
    arena.daemon.asked(ALICE.uid, &["logout"], "");
    arena.daemon.login(&ALICE);
    assert_eq!(numbers(python(ALICE.uid, &arena.alice, said, &[]))[0], first[0]);
    let secret = fs::metadata(volume.root().join(".tenantfs-numbers")).unwrap();
    assert_eq!(secret.st_mode() & 0o777, 0o600);
}

#[test]
fn looking_leaves_no_trace_on_the_volume() {
    let volume = Volume::new(Layout::ResourceFirst);
    furnished(&volume);
    let paths = [
        volume.path(&BOB, "results", "theirs.json"),
        volume.path(&ALICE, "schedules", "mine.json"),
        volume.path(&ALICE, "schedules", "control.json"),
    ];
    fs::hard_link(&paths[0], volume.path(&ALICE, "schedules", "hidden.json")).unwrap();
    fs::copy(&paths[1], &paths[2]).unwrap();
    // Older than the last change: any read would move it, on a file system that keeps it at all.
    for path in &paths {
        let times = FileTimes::new().set_accessed(SystemTime::UNIX_EPOCH);
        File::open(path).unwrap().set_times(times).unwrap();
    }
    let accessed = |path: &PathBuf| fs::metadata(path).unwrap().st_atime();
    let arena = Arena::new(&volume);
    arena.case("atime", Due::Line("lookup schedules/hidden.json ENOENT"), || {
        let look = "import os\nopen('schedules/mine.json').read()\nos.listdir('schedules')\n\
            try: open('schedules/hidden.json')\nexcept FileNotFoundError: print('absent')";
        assert_eq!(python(ALICE.uid, &arena.alice, look, &[]), "absent\n");
    });
    assert_eq!([accessed(&paths[0]), accessed(&paths[1])], [0, 0]);
    fs::read(&paths[2]).unwrap();
    if accessed(&paths[2]) == 0 {
        crate::common::skip("the volume keeps no times of access");
    }
}

#[test]
fn nobody_is_notified_of_what_is_hidden() {
    let volume = Volume::new(Layout::ResourceFirst);
    furnished(&volume);
    let arena = Arena::new(&volume);
    let watch = r"
import ctypes, os, sys
libc = ctypes.CDLL(None)
watch = libc.inotify_init1(os.O_NONBLOCK)
assert libc.inotify_add_watch(watch, b'schedules', 0xfff) > 0
print('watching', flush=True)
for line in sys.stdin:
    try: print(len(os.read(watch, 65536)), flush=True)
    except BlockingIOError: print('nothing', flush=True)
";
    let mut alice = Conversation::start_in(ALICE.uid, &arena.alice, watch);
    assert_eq!(alice.next(), "watching");
    arena.case("inotify", Due::Nothing, || {
        for name in ["hidden.json", "hidden"] {
            let path = volume.plant(&ALICE, "schedules", name, OF_BOB);
            fs::hard_link(&path, volume.path(&ALICE, "schedules", "second")).unwrap();
            fs::remove_file(volume.path(&ALICE, "schedules", "second")).unwrap();
            if name.ends_with(".json") {
                fs::write(&path, "{").unwrap();
            }
            fs::remove_file(path).unwrap();
        }
        thread::sleep(Duration::from_millis(300));
        assert_eq!(alice.say("what?"), "nothing");
    });
    python(ALICE.uid, &arena.alice, "open('schedules/new', 'w').close()", &[]);
    assert_ne!(alice.say("what?"), "nothing", "the watch is blind");
}

/// The kinds of names that have nothing to show. The last is of names that no file can have: they are answered at once, which
/// tells nothing of any file, so they are measured but not compared.
const KINDS: [&str; 5] = ["absent", "foreign", "symlink", "malformed", "impossible"];

/// So far apart the medians of the slowest and the fastest kind may be: 10 % over the full 20,000 looks. A few thousand, beside other
/// tests, can only tell what would be seen without a clock that good: a file that is read each time, or a step that one kind skips.
fn most_apart() -> f64 {
    if long() { 1.1 } else { 1.5 }
}

/// How often the clock may be asked, when the machine was busy with something else.
const ATTEMPTS: usize = 5;

/// Names of each kind, planted: `names` of each.
fn plant_names(volume: &Volume, names: usize, round: usize) -> Vec<Vec<String>> {
    let at = |name: &str| volume.path(&ALICE, "schedules", name);
    let name = |kind: &str, n: usize| match kind {
        "impossible" => format!("{round}-{kind}-{n:05}\u{1}.json"),
        _ => format!("{round}-{kind}-{n:05}.json"),
    };
    for (kind, text) in [("foreign", OF_BOB), ("malformed", r#"{"user_id": "alice", "#)] {
        settle(&volume.plant(&ALICE, "schedules", &name(kind, 0), text));
    }
    symlink(
        volume.path(&BOB, "results", "theirs.json"),
        at(&name("symlink", 0)),
    )
    .unwrap();
    for kind in ["foreign", "symlink", "malformed"] {
        for n in 1..names {
            // One file under many names: each name is new to the kernel, and the file was looked at before.
            linkat(CWD, at(&name(kind, 0)), CWD, at(&name(kind, n)), AtFlags::empty()).unwrap();
        }
    }
    let all: Vec<Vec<String>> = KINDS
        .iter()
        .map(|kind| (0..names).map(|n| name(kind, n)).collect())
        .collect();
    // The volume's kernel knows each, also those that are not there.
    for name in all.iter().flatten() {
        let _ = at(name).symlink_metadata();
    }
    all
}

/// How long a look at each name took, by kind, in nanoseconds: one of each kind in turn, so that what slows one slows all.
fn time_looks(view: &Path, names: &[Vec<String>]) -> Vec<u64> {
    let mut took: Vec<Vec<u64>> = vec![Vec::new(); names.len()];
    for n in 0..names[0].len() {
        for turn in 0..names.len() {
            let kind = (turn + n) % names.len();
            let path = view.join("schedules").join(&names[kind][n]);
            let begun = Instant::now();
            let looked = path.symlink_metadata();
            took[kind].push(u64::try_from(begun.elapsed().as_nanos()).unwrap());
            assert_eq!(
                looked.unwrap_err().raw_os_error(),
                Some(libc::ENOENT),
                "{}",
                path.display()
            );
        }
    }
    took.into_iter()
        .map(|mut took| {
            took.sort_unstable();
            took[took.len() / 2]
        })
        .collect()
}

/// The looks are made by alice, on a thread of her own.
fn timed(view: &Path, names: &[Vec<String>]) -> Vec<u64> {
    thread::scope(|scope| {
        let alice = scope.spawn(|| {
            become_user(ALICE.uid);
            time_looks(view, names)
        });
        alice.join().unwrap()
    })
}

/// What the first look at a file takes, each name being a file of its own: it has to be read, which an absent one has not.
/// The README says so; nothing is asserted.
fn time_first_looks(volume: &Volume, view: &Path) {
    let each = 200;
    let names: Vec<Vec<String>> = KINDS
        .iter()
        .map(|kind| (0..each).map(|n| format!("first-{kind}-{n}.json")).collect())
        .collect();
    for name in &names[1] {
        settle(&volume.plant(&ALICE, "schedules", name, OF_BOB));
    }
    for name in &names[2] {
        symlink("mine.json", volume.path(&ALICE, "schedules", name)).unwrap();
    }
    for name in &names[3] {
        settle(&volume.plant(&ALICE, "schedules", name, "{"));
    }
    thread::sleep(Duration::from_millis(60));
    let medians = timed(view, &names);
    println!(
        "first looks: {:?}",
        KINDS
            .iter()
            .zip(&medians)
            .take(KINDS.len() - 1)
            .collect::<Vec<_>>()
    );
}

/// Measures until all kinds take the same time; says what each took.
fn assert_alike(case: &str, mut measure: impl FnMut(usize) -> Vec<u64>) {
    let mut said = String::new();
    for attempt in 0..ATTEMPTS {
        let medians = measure(attempt);
        let compared = &medians[..KINDS.len() - 1];
        let (least, most) = (compared.iter().min().unwrap(), compared.iter().max().unwrap());
        let apart = *most as f64 / *least as f64;
        let line: Vec<_> = KINDS
            .iter()
            .zip(&medians)
            .map(|(kind, median)| format!("{kind} {median} ns"))
            .collect();
        writeln!(said, "{case}: {}: {apart:.3} apart", line.join(", ")).unwrap();
        if apart <= most_apart() {
            println!("{said}");
            return;
        }
    }
    panic!("the kinds can be told apart by the clock\n{said}");
}

#[test]
fn names_with_nothing_to_show_take_the_same_time() {
    let volume = Volume::new(Layout::ResourceFirst);
    furnished(&volume);
    let arena = Arena::new(&volume);
    let each = rounds(800, 4_000);
    arena.case("new names", Due::Lines("lookup * ENOENT"), || {
        assert_alike("new names of what was looked at before", |round| {
            let names = plant_names(&volume, each, round);
            thread::sleep(Duration::from_millis(60));
            // The first look at the file itself is another matter: it has to be read.
            let first: Vec<_> = names.iter().map(|names| names[..1].to_vec()).collect();
            timed(&arena.alice, &first);
            let others: Vec<_> = names.iter().map(|names| names[1..].to_vec()).collect();
            timed(&arena.alice, &others)
        });
    });
    arena.case("the same names", Due::Lines("lookup * ENOENT"), || {
        assert_alike("the same names again and again", |round| {
            let names = plant_names(&volume, 4, 10 + round);
            thread::sleep(Duration::from_millis(60));
            timed(&arena.alice, &names);
            let again: Vec<Vec<_>> = names
                .iter()
                .map(|names| names.iter().cycle().take(each).cloned().collect())
                .collect();
            timed(&arena.alice, &again)
        });
    });
    arena.case("first looks", Due::Lines("lookup * ENOENT"), || {
        time_first_looks(&volume, &arena.alice);
    });
    tell(
        "side channels",
        "interleaved stats, medians alike",
        2 * KINDS.len() * each,
    );
}
