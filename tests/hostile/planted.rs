//! Planted on the volume beneath alice's directories, before her session or during it: nothing of it is followed, waited
//! for, shown or changed. `isolation_hidden.rs` tries every operation on each; here a daemon serves meanwhile.

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt as _, chown, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};
use rustix::mount::{MountFlags, UnmountFlags, mount, mount_bind, unmount};

use crate::arena::{Arena, Due, long, rounds, tell};
use crate::common::{
    ALICE, BOB, Conversation, Layout, OtherMount, SERVICE_UID, Volume, as_user, errno, python, set_mode,
    shell, success,
};

const OF_BOB: &str = r#"{"secret of": "bob", "user_id": "bob"}"#;

/// How long an answer may take about something that is of any size.
const BOUNDED: Duration = Duration::from_secs(20);

/// Alice and bob each have a record and an attachment.
fn volume() -> Volume {
    let volume = Volume::new(Layout::ResourceFirst);
    volume.plant(
        &ALICE,
        "results",
        "mine.json",
        r#"{"of": "alice", "user_id": "alice"}"#,
    );
    volume.plant(&ALICE, "results", "plot", "of alice");
    volume.plant(&BOB, "results", "theirs.json", OF_BOB);
    volume.plant(&BOB, "results", "plot", "secret of bob");
    volume
}

fn unchanged(volume: &Volume) {
    assert_eq!(volume.stored(&BOB, "results", "theirs.json"), OF_BOB);
    assert_eq!(volume.stored(&BOB, "results", "plot"), "secret of bob");
}

/// What can be put in the place of a name.
#[derive(Clone, Copy, Debug)]
enum Planted {
    LinkTo(&'static str),
    HardLinkTo(&'static str),
    Fifo,
    Socket,
    Device(FileType, u32, u32),
    Bound(&'static str),
    Tmpfs,
}

/// Something planted. Dropped, it is gone.
struct Guard {
    place: PathBuf,
    mounted: bool,
    _socket: Option<UnixListener>,
}

impl Planted {
    /// Puts it at `place`, where nothing is. Paths are from the volume's root on, unless they are absolute.
    fn at(self, volume: &Volume, place: &Path) -> Guard {
        let mut guard = Guard {
            place: place.to_owned(),
            mounted: matches!(self, Self::Bound(_) | Self::Tmpfs),
            _socket: None,
        };
        let special = |kind, device| {
            mknodat(CWD, place, kind, Mode::from_raw_mode(0o666), device).unwrap();
            chown(place, Some(SERVICE_UID), Some(SERVICE_UID)).unwrap();
        };
        match self {
            Self::LinkTo(target) => symlink(volume.root().join(target), place).unwrap(),
            Self::HardLinkTo(target) => fs::hard_link(volume.root().join(target), place).unwrap(),
            Self::Fifo => special(FileType::Fifo, 0),
            Self::Socket => {
                // The name that it is bound to has to be short.
                let bound = volume.base().join("socket");
                guard._socket = Some(UnixListener::bind(&bound).unwrap());
                fs::rename(bound, place).unwrap();
            }
            Self::Device(kind, major, minor) => special(kind, makedev(major, minor)),
            Self::Bound(source) => {
                let source = volume.root().join(source);
                match source.is_dir() {
                    true => fs::create_dir(place).unwrap(),
                    false => drop(File::create(place).unwrap()),
                }
                mount_bind(source, place).unwrap();
            }
            Self::Tmpfs => {
                fs::create_dir(place).unwrap();
                mount("tmpfs", place, "tmpfs", MountFlags::empty(), None).unwrap();
            }
        }
        guard
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if self.mounted {
            unmount(&self.place, UnmountFlags::DETACH).unwrap();
        }
        let _ = fs::remove_file(&self.place).or_else(|_| fs::remove_dir(&self.place));
    }
}

const BOBS_RECORD: &str = "results/81b637d8fcd2c6da/theirs.json";
const BOBS_PLOT: &str = "results/81b637d8fcd2c6da/plot";
const BOBS_DIRECTORY: &str = "results/81b637d8fcd2c6da";
const OWN_RECORD: &str = "results/2bd806c97f0e00af/mine.json";
const OWN_DIRECTORY: &str = "results/2bd806c97f0e00af";

const ANYTHING: [Planted; 16] = [
    Planted::LinkTo("/etc/passwd"),
    Planted::LinkTo("/"),
    Planted::LinkTo("/proc/self/fd/0"),
    Planted::LinkTo(BOBS_RECORD),
    Planted::LinkTo(BOBS_DIRECTORY),
    Planted::LinkTo(OWN_RECORD),
    Planted::LinkTo(OWN_DIRECTORY),
    Planted::HardLinkTo(BOBS_RECORD),
    Planted::HardLinkTo(BOBS_PLOT),
    Planted::Fifo,
    Planted::Socket,
    Planted::Device(FileType::CharacterDevice, 1, 5),
    Planted::Device(FileType::BlockDevice, 254, 0),
    Planted::Bound(BOBS_DIRECTORY),
    Planted::Bound(BOBS_RECORD),
    Planted::Tmpfs,
];

/// All of that, or where it is shortened one in so many.
fn some(one_in: usize) -> impl Iterator<Item = Planted> {
    ANYTHING.into_iter().step_by(rounds(one_in, 1))
}

#[test]
fn whatever_is_planted_under_a_name_is_hidden_with_a_line() {
    let volume = volume();
    let arena = Arena::new(&volume);
    let mut tried = 0;
    for (first, ending) in [".json", ""].into_iter().enumerate() {
        // Where it is shortened, one as a record, the next as an attachment, and two not.
        let skipped = if long() { 0 } else { first };
        for what in ANYTHING.into_iter().skip(skipped).step_by(rounds(4, 1)) {
            // Another name each time: what is all alike has one line.
            let name = format!("planted-{tried}{ending}");
            let guard = what.at(&volume, &volume.path(&ALICE, "results", &name));
            let met = |statement: &str| errno(ALICE.uid, &arena.alice, &statement.replace("NAME", &name));
            let hidden = format!("lookup results/{name} ENOENT");
            arena.case(&format!("{what:?} as {name}"), Due::Line(&hidden), || {
                for statement in [
                    "os.stat('results/NAME')",
                    "os.open('results/NAME', os.O_RDONLY | os.O_NONBLOCK)",
                ] {
                    assert_eq!(met(statement), "ENOENT", "{what:?}");
                }
                assert_eq!(shell(ALICE.uid, &arena.alice, "ls results"), "mine.json\nplot\n");
            });
            let taken = format!("create results/{name} EIO");
            arena.case(
                &format!("create over {what:?} as {name}"),
                Due::Line(&taken),
                || {
                    assert_eq!(met("open('results/NAME', 'w').write('{}')"), "EIO", "{what:?}");
                },
            );
            drop(guard);
            tried += 1;
        }
    }
    unchanged(&volume);
    tell("planted", "under a name", tried);
}

#[test]
fn a_directory_called_like_a_record_is_a_directory() {
    let volume = volume();
    volume.plant(&ALICE, "results", "x.json/theirs.json", OF_BOB);
    let arena = Arena::new(&volume);
    let met = |statement: &str| errno(ALICE.uid, &arena.alice, statement);
    let hidden = Due::Line("lookup results/x.json/theirs.json ENOENT");
    arena.case("a directory called x.json", hidden, || {
        assert_eq!(met("assert os.listdir('results/x.json') == []"), "ok");
        assert_eq!(met("open('results/x.json', 'w')"), "EISDIR");
        assert_eq!(met("os.unlink('results/x.json')"), "EISDIR");
        assert_eq!(met("os.rename('results/mine.json', 'results/x.json')"), "EISDIR");
        assert_eq!(
            met("open('results/y.json', 'w').write('{}'); open('results/x.json/y.json', 'w').write('{}')"),
            "ok"
        );
    });
    unchanged(&volume);
    tell("planted", "a directory called like a record", 1);
}

/// Writes a record, and closes it after something came in its place.
const WRITING: &str = "
import errno, os, sys
file = os.open('results/NAME', os.O_CREAT | os.O_RDWR)
os.write(file, b'{\"of\": \"alice, new\"}')
print('open', flush=True)
sys.stdin.readline()
try:
    os.close(file)
    print('ok', flush=True)
except OSError as error:
    print(errno.errorcode[error.errno], flush=True)
";

#[test]
fn what_comes_in_the_place_of_a_record_being_written_is_not_written_to() {
    let volume = volume();
    let arena = Arena::new(&volume);
    let mut tried = 0;
    for what in some(3) {
        tried += 1;
        let name = format!("draft-{tried}.json");
        let due = format!("commit results/{name} EIO");
        arena.case(&format!("{what:?} under a draft"), Due::Line(&due), || {
            let mut writing =
                Conversation::start_in(ALICE.uid, &arena.alice, &WRITING.replace("NAME", &name));
            assert_eq!(writing.next(), "open");
            let guard = what.at(&volume, &volume.path(&ALICE, "results", &name));
            assert_eq!(writing.next(), "EIO", "{what:?}");
            // What was typed waits until the way is free.
            drop(guard);
            let kept = shell(ALICE.uid, &arena.alice, &format!("cat results/{name}"));
            assert_eq!(kept, "{\"of\": \"alice, new\"}", "{what:?}");
        });
    }
    unchanged(&volume);
    tell("planted", "under a draft", tried);
}

#[test]
fn what_comes_in_the_place_of_a_directory_is_never_entered() {
    let volume = volume();
    let arena = Arena::new(&volume);
    let homes = [
        ("the hash directory", volume.directory(&ALICE, "results")),
        ("the resource directory", volume.root().join("results")),
    ];
    let mut tried = 0;
    for (which, place) in &homes {
        let aside = place.with_extension("aside");
        for what in some(3) {
            // Then bob's attachment would have two names, which hides it from him.
            if matches!(what, Planted::HardLinkTo(BOBS_PLOT)) {
                continue;
            }
            let case = format!("{what:?} in place of {which}");
            fs::rename(place, &aside).unwrap();
            // What is in the resource directory went aside with it.
            if matches!(what, Planted::HardLinkTo(_) | Planted::Bound(_))
                && !volume.root().join(BOBS_RECORD).exists()
            {
                fs::rename(&aside, place).unwrap();
                continue;
            }
            let guard = what.at(&volume, place);
            // The session that is there has the directory that it had.
            arena.case(&case, Due::Nothing, || {
                let seen = python(ALICE.uid, &arena.alice, SEEN, &[]);
                assert!(
                    !seen.contains("theirs") && !seen.contains("bob"),
                    "{case}: {seen}"
                );
            });
            // No other begins: at once, or with nothing in it.
            arena.case(&format!("login, {case}"), Due::Line("session_ends * *"), || {
                arena.daemon.asked(ALICE.uid, &["logout"], "");
                let begun = Instant::now();
                let output = arena.daemon.ask(ALICE.uid, &["login"], ALICE.api_key);
                assert!(begun.elapsed() < BOUNDED, "{case}");
                if output.status.success() {
                    let seen = python(ALICE.uid, &arena.alice, SEEN, &[]);
                    assert!(
                        !seen.contains("theirs") && !seen.contains("bob"),
                        "{case}: {seen}"
                    );
                    assert!(!seen.contains("root:"), "{case}: {seen}");
                    arena.daemon.asked(ALICE.uid, &["logout"], "");
                }
            });
            drop(guard);
            if place.exists() {
                fs::remove_dir_all(place).unwrap();
            }
            fs::rename(&aside, place).unwrap();
            arena.daemon.login(&ALICE);
            tried += 1;
        }
    }
    unchanged(&volume);
    tell("planted", "in place of a directory", tried);
}

/// Everything that can be seen.
const SEEN: &str = r"
import os
for directory, _, files in os.walk('.'):
    for file in files:
        print(file, open(os.path.join(directory, file), errors='replace').read(100))
";

#[test]
fn what_is_planted_as_our_own_files_is_not_followed() {
    let volume = volume();
    let arena = Arena::new(&volume);
    let marker = volume.path(&ALICE, "results", ".tenantfs-owner");
    let mut tried = 0;
    // The marker of a directory says whose it is: it is read at login, and written at the first change.
    shell(ALICE.uid, &arena.alice, "echo x > results/x");
    let text = fs::read(&marker).unwrap();
    for what in some(4) {
        fs::remove_file(&marker).unwrap();
        let guard = what.at(&volume, &marker);
        arena.case(
            &format!("{what:?} as the marker"),
            Due::Line("session_ends * *"),
            || {
                arena.daemon.asked(ALICE.uid, &["logout"], "");
                let begun = Instant::now();
                let output = arena.daemon.ask(ALICE.uid, &["login"], ALICE.api_key);
                assert!(!output.status.success() && begun.elapsed() < BOUNDED, "{what:?}");
            },
        );
        drop(guard);
        fs::write(&marker, &text).unwrap();
        chown(&marker, Some(SERVICE_UID), Some(SERVICE_UID)).unwrap();
        arena.daemon.login(&ALICE);
        tried += 1;
    }
    // A kept draft, by the name that one has.
    let refused = "f = os.open('results/d.json', os.O_CREAT | os.O_WRONLY); os.write(f, b'{'); os.close(f)";
    assert_eq!(errno(ALICE.uid, &arena.alice, refused), "EINVAL");
    let draft = fs::read_dir(volume.directory(&ALICE, "results"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.to_str().unwrap().contains(".tenantfs-draft-"))
        .unwrap();
    for what in some(4) {
        let _ = fs::remove_file(&draft);
        let guard = what.at(&volume, &draft);
        arena.case(
            &format!("{what:?} as a draft"),
            Due::Line("session_ends * *"),
            || {
                arena.daemon.asked(ALICE.uid, &["logout"], "");
                arena.daemon.login(&ALICE);
                let met = errno(ALICE.uid, &arena.alice, "os.stat('results/d.json')");
                assert_eq!(met, "ENOENT", "{what:?}");
                assert_eq!(
                    shell(ALICE.uid, &arena.alice, "ls results"),
                    "mine.json\nplot\nx\n"
                );
            },
        );
        drop(guard);
        tried += 1;
    }
    unchanged(&volume);
    tell("planted", "as our own files", tried);
}

#[test]
fn what_cannot_be_read_is_refused_and_comes_back() {
    let volume = volume();
    volume.plant(&ALICE, "results", "inner/plot", "of alice");
    let arena = Arena::new(&volume);
    let home = volume.directory(&ALICE, "results");
    let work = "cat results/mine.json results/plot results/inner/plot";
    let whole = shell(ALICE.uid, &arena.alice, work);
    let paths = ["mine.json", "", "plot", "inner"];
    for path in &paths[..rounds(2, 4)] {
        let place = home.join(path);
        let mode = fs::metadata(&place).unwrap().mode() & 0o7777;
        set_mode(&place, 0);
        // The kernel believes for a moment what it was told.
        std::thread::sleep(Duration::from_secs(1));
        arena.stands(&format!("mode 0000 of {path:?}"));
        let shown = if path.is_empty() { "mine.json" } else { *path };
        let use_it = format!("p = 'results/{shown}'; os.listdir(p) if os.path.isdir(p) else open(p).close()");
        let met = errno(ALICE.uid, &arena.alice, &use_it);
        assert!(["EACCES", "ENOENT"].contains(&met.as_str()), "{path:?}: {met}");
        set_mode(&place, mode);
        std::thread::sleep(Duration::from_secs(1));
        arena.case(&format!("{path:?} again"), Due::Nothing, || {
            assert_eq!(shell(ALICE.uid, &arena.alice, work), whole, "{path:?}");
        });
    }
    tell("planted", "mode 0000", rounds(2, 4));
}

/// Uses a file of enormous size in all ways that could be proportional to it.
const ENORMOUS: &str = r"
import os, sys, time
size, name = int(sys.argv[1]), 'results/sparse'
assert os.path.getsize(name) == size, os.path.getsize(name)
begun = time.monotonic()
file = os.open(name, os.O_RDWR)
assert os.pread(file, 100, size - 5) == b'\0' * 5 and os.pread(file, 100, size) == b''
assert os.lseek(file, 0, os.SEEK_END) == size
assert os.lseek(file, 0, os.SEEK_HOLE) == 0
os.statvfs('.')
os.listdir('results')
os.pwrite(file, b'x', 1)
other = os.open('results/copy', os.O_CREAT | os.O_RDWR)
copied = os.copy_file_range(file, other, 1 << 40, size // 2, 0)
assert 0 < copied <= 1 << 30, copied
os.ftruncate(file, size)
os.fsync(file)
os.close(file)
os.close(other)
os.unlink('results/copy')
for refused in ('results/sparse.json',):
    try:
        os.stat(refused)
        raise SystemExit('an enormous record is shown')
    except FileNotFoundError:
        pass
os.rename(name, 'results/moved')
os.unlink('results/moved')
print(time.monotonic() - begun)
";

fn enormous(arena: &Arena<'_>, volume: &Volume, sizes: &[u64]) {
    let (as_record, plain) = (
        volume.plant(&ALICE, "results", "sparse.json", ""),
        volume.plant(&ALICE, "results", "sparse", ""),
    );
    let resize = |path: &Path| {
        let file = File::options().write(true).open(path).unwrap();
        sizes
            .iter()
            .copied()
            .find(|size| file.set_len(*size).is_ok())
            .unwrap()
    };
    let size = resize(&plain);
    resize(&as_record);
    let name = format!("{size} bytes");
    arena.case(&name, Due::Line("lookup results/sparse.json ENOENT"), || {
        let took: f64 = python(ALICE.uid, &arena.alice, ENORMOUS, &[&size.to_string()])
            .trim()
            .parse()
            .unwrap();
        assert!(took < BOUNDED.as_secs_f64(), "{took} s");
    });
    tell(
        "planted",
        "GiB in a sparse file",
        usize::try_from(size >> 30).unwrap(),
    );
}

#[test]
fn a_sparse_file_of_any_size_costs_nothing() {
    // As large as the file system lets it be: ext4 has less than 16 TiB.
    let sizes: Vec<u64> = (30..=63).rev().map(|bits| (1 << bits) - (1 << 16)).collect();
    let volume = volume();
    let options = ["--max-attachment-size", "8000000TiB"];
    enormous(&Arena::with(&volume, &options), &volume, &sizes);
    // A tmpfs takes a petabyte and more.
    let volume = Volume::new(Layout::ResourceFirst);
    let _tmpfs = OtherMount::over(&volume.root(), "tmpfs");
    chown(volume.root(), Some(SERVICE_UID), Some(SERVICE_UID)).unwrap();
    set_mode(&volume.root(), 0o750);
    enormous(&Arena::with(&volume, &options), &volume, &[1 << 50]);
}

/// Lists a directory of very many entries, and looks at some.
const COUNT: &str = r"
import os, sys
count = 0
with os.scandir('results/many') as entries:
    for entry in entries:
        count += 1
assert os.stat('results/many/7').st_size == 0
print(count)
";

#[test]
fn very_many_entries_are_listed_in_bounded_memory() {
    let volume = volume();
    let arena = Arena::new(&volume);
    let count = rounds(1 << 13, 1 << 20);
    let many = volume.path(&ALICE, "results", "many");
    fs::create_dir(&many).unwrap();
    let mut touch = as_user(0, &many, "python3");
    touch.args([
        "-c",
        "import os, sys\nfor n in range(int(sys.argv[1])): os.close(os.open(str(n), os.O_CREAT))",
    ]);
    touch.arg(count.to_string());
    assert!(touch.status().unwrap().success());
    success(
        {
            let mut chown = Command::new("chown");
            chown
                .args(["-R", &format!("{SERVICE_UID}:{SERVICE_UID}")])
                .arg(&many);
            chown
        },
        "",
    );
    arena.case(&format!("{count} entries"), Due::Nothing, || {
        let mut list = as_user(ALICE.uid, &arena.alice, "python3");
        list.args(["-B", "-c", COUNT]);
        let output = list.output().unwrap();
        assert_eq!(
            String::from_utf8_lossy(&output.stdout).trim(),
            count.to_string(),
            "{output:?}"
        );
    });
    // 1.3 KiB for each entry, if the kernel were not made to forget; how soon it does is its own affair.
    let peak = crate::exhaustion::Figures::peak(&arena);
    let most = u64::try_from(rounds(128 << 10, 1 << 20)).unwrap();
    assert!(peak < most, "{count} entries took {peak} KiB");
    tell("planted", "entries in one directory", count);
}
