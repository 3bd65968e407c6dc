//! Whatever lies in a tenant's own directories on the volume that is not theirs, is broken, or is no plain file: each is
//! hidden in the same way, is never followed or waited for, and survives.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use std::fs;
use std::os::unix::fs::{chown, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use common::{ALICE, BOB, LAYOUTS, Mount, SERVICE_UID, Volume};
use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};
use rustix::mount::{MountFlags, UnmountFlags, mount, mount_bind, unmount};
use tenantfs::layout::Layout;

/// What alice has that she may see.
const VISIBLE: [&str; 3] = ["dir", "mine.json", "plot"];

fn volume(layout: Layout) -> Volume {
    let volume = Volume::new(layout);
    volume.plant(&ALICE, "results", "mine.json", r#"{"user_id": "alice"}"#);
    volume.plant(&ALICE, "results", "plot", "of alice");
    volume.plant(&ALICE, "results", "dir/plot", "of alice");
    volume.plant(
        &BOB,
        "results",
        "theirs.json",
        r#"{"secret of": "bob", "user_id": "bob"}"#,
    );
    volume.plant(&BOB, "results", "plot", "secret of bob");
    volume
}

/// What each operation on each of the names meets, which must be what it meets on a name that is not there, except that
/// nothing can be created.
const COMPARE: &str = r#"
import errno, os, shutil, signal, sys

signal.alarm(60)

def met(work):
    try:
        work()
    except OSError as error:
        return errno.errorcode[error.errno]
    return 'ok'

def create(path):
    os.close(os.open(path, os.O_CREAT | os.O_WRONLY))
    os.unlink(path)

def make(path):
    os.mkdir(path)
    os.rmdir(path)

def over(path):
    with open('dir/source', 'w') as file:
        file.write('x')
    os.rename('dir/source', path)

looks = {
    'stat': os.stat, 'lstat': os.lstat, 'access': lambda path: os.close(os.open(path, os.O_PATH)),
    'open': lambda path: os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK)),
    'write': lambda path: os.close(os.open(path, os.O_RDWR | os.O_NONBLOCK)),
    'below': lambda path: os.stat(path + '/x'), 'list': os.listdir, 'chdir': os.chdir, 'readlink': os.readlink,
    'unlink': os.unlink, 'rmdir': os.rmdir, 'truncate': lambda path: os.truncate(path, 0),
    'chmod': lambda path: os.chmod(path, 0o600), 'utime': os.utime, 'chown': lambda path: os.chown(path, -1, -1),
    'rename': lambda path: os.rename(path, 'elsewhere'), 'link': lambda path: os.link(path, 'elsewhere'),
}
creates = {'create': create, 'mkdir': make}
os.chdir('results')
expected = {what: met(lambda: look('absent.json')) for what, look in looks.items()}
assert set(expected.values()) == {'ENOENT'}, expected
for _ in range(2):
    for name in sys.argv[2:]:
        found = {what: met(lambda: look(name)) for what, look in looks.items()}
        assert found == expected, (name, found)
        for what, work in creates.items():
            if what == 'mkdir' and name.endswith('.json'):
                continue
            assert met(lambda: work(name)) == 'EIO', (name, what, met(lambda: work(name)))
        if not name.endswith('.json'):
            assert met(lambda: over(name)) == 'EIO', name
    listed = sorted(os.listdir('.'))
    assert listed == sys.argv[1].split(), listed
shutil.rmtree('dir/source', ignore_errors=True)
"#;

fn assert_hidden(mount: &Mount<'_>, names: &[&str]) {
    let visible = VISIBLE.join(" ");
    let mut arguments = vec![visible.as_str()];
    arguments.extend(names);
    mount.python(COMPARE, &arguments);
}

#[test]
fn records_that_are_not_provably_the_tenants_are_hidden() {
    let deep = format!(
        r#"{{"user_id": "alice", "x": {}{}}}"#,
        "[".repeat(1100),
        "]".repeat(1100)
    );
    let oversized = format!(r#"{{"user_id": "alice", "x": "{}"}}"#, "x".repeat(200 << 10));
    let records: &[(&str, &[u8])] = &[
        ("foreign.json", br#"{"secret of": "bob", "user_id": "bob"}"#),
        ("ownerless.json", br#"{"n": 1}"#),
        ("null-owner.json", br#"{"user_id": null}"#),
        ("number-owner.json", br#"{"user_id": 1}"#),
        ("object-owner.json", br#"{"user_id": {"user_id": "alice"}}"#),
        ("inner-owner.json", br#"{"inner": {"user_id": "alice"}}"#),
        ("two-owners.json", br#"{"user_id": "bob", "user_id": "alice"}"#),
        ("same-owners.json", br#"{"user_id": "alice", "user_id": "alice"}"#),
        (
            "escaped-owner.json",
            br#"{"user_id": "alice", "user\u005fid": "bob"}"#,
        ),
        ("case.json", br#"{"User_id": "alice"}"#),
        ("longer.json", br#"{"user_id": "alice\u0000"}"#),
        ("spaced.json", br#"{"user_id": " alice"}"#),
        ("prefix.json", br#"{"user_id": "alic"}"#),
        ("truncated.json", br#"{"user_id": "alice""#),
        ("trailing.json", br#"{"user_id": "alice"} x"#),
        ("array.json", br#"["alice"]"#),
        ("string.json", br#""alice""#),
        ("number.json", b"1"),
        ("empty.json", b""),
        ("spaces.json", b" \n"),
        ("nul.json", b"{\"user_id\": \"alice\"}\0"),
        ("latin1.json", b"{\"user_id\": \"alice\", \"x\": \"\xfc\"}"),
        ("bom.json", b"\xef\xbb\xbf{\"user_id\": \"alice\"}"),
        ("utf16.json", b"\xff\xfe{\0}\0"),
        ("comment.json", br#"{"user_id": "alice" /* mine */}"#),
        ("deep.json", deep.as_bytes()),
        ("oversized.json", oversized.as_bytes()),
        (".json", br#"{"user_id": "bob"}"#),
    ];
    for layout in LAYOUTS {
        let volume = volume(layout);
        for (name, text) in records {
            volume.plant(&ALICE, "results", name, text);
        }
        // What was written a moment ago is looked at several times before it is called malformed.
        std::thread::sleep(std::time::Duration::from_millis(1000));
        let mount = volume.mount_with(&ALICE, &["--max-size", "64KiB"]);
        let names: Vec<_> = records.iter().map(|(name, _)| *name).collect();
        assert_hidden(&mount, &names);
        for (name, text) in records {
            let stored = fs::read(volume.path(&ALICE, "results", name)).unwrap();
            assert_eq!(stored, *text, "{name}");
        }
        assert_server_lives(&mount);
    }
}

#[test]
fn what_is_no_plain_file_is_hidden_and_never_waited_for() {
    for layout in LAYOUTS {
        let volume = volume(layout);
        let directory = volume.directory(&ALICE, "results");
        let of_bob = volume.path(&BOB, "results", "theirs.json");
        let at = |name: &str| directory.join(name);
        let link = |target: &Path, name: &str| symlink(target, at(name)).unwrap();
        link(&of_bob, "to-bob.json");
        link(&volume.path(&BOB, "results", "plot"), "to-bob");
        link(&volume.directory(&BOB, "results"), "to-bobs-directory");
        link(Path::new("/etc/passwd"), "to-passwd");
        link(Path::new("/etc/passwd"), "to-passwd.json");
        link(Path::new("/nonexistent/x"), "dangling.json");
        link(Path::new("/nonexistent/x"), "dangling");
        link(Path::new("itself"), "itself");
        link(Path::new("mine.json"), "to-mine.json");
        link(Path::new("plot"), "to-plot");
        link(Path::new("dir"), "to-dir");
        link(Path::new(".."), "up");
        link(Path::new("/"), "root");
        let special = |name: &str, kind: FileType, device: u64| {
            mknodat(CWD, at(name), kind, Mode::from_raw_mode(0o666), device).unwrap();
            chown(at(name), Some(SERVICE_UID), Some(SERVICE_UID)).unwrap();
        };
        special("fifo", FileType::Fifo, 0);
        special("fifo.json", FileType::Fifo, 0);
        special("zero", FileType::CharacterDevice, makedev(1, 5));
        special("zero.json", FileType::CharacterDevice, makedev(1, 5));
        special("no-driver.json", FileType::CharacterDevice, makedev(240, 77));
        special("disk", FileType::BlockDevice, makedev(254, 0));
        let sockets = [at("socket"), at("socket.json")].map(|path| UnixListener::bind(path).unwrap());
        let names: Vec<String> = fs::read_dir(&directory)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| !VISIBLE.contains(&name.as_str()))
            .collect();
        assert_eq!(names.len(), 13 + 6 + 2);
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        let mount = volume.mount(&ALICE);
        assert_hidden(&mount, &names);
        for name in &names {
            assert!(at(name).symlink_metadata().is_ok(), "{name} is gone");
        }
        assert!(fs::read_to_string(&of_bob).unwrap().contains("secret of"));
        drop(sockets);
        assert_server_lives(&mount);
    }
}

#[test]
fn attachments_with_a_second_name_are_hidden_as_they_may_be_anybodys() {
    for layout in LAYOUTS {
        let volume = volume(layout);
        let at = |name: &str| volume.path(&ALICE, "results", name);
        fs::hard_link(volume.path(&BOB, "results", "plot"), at("linked")).unwrap();
        fs::hard_link(volume.path(&BOB, "results", "theirs.json"), at("linked.json")).unwrap();
        // A record of bob's under an attachment's name: seen as a second name of his record.
        fs::hard_link(volume.path(&BOB, "results", "theirs.json"), at("renamed")).unwrap();
        let mount = volume.mount(&ALICE);
        assert_hidden(&mount, &["linked", "linked.json", "renamed"]);
        assert_eq!(volume.stored(&BOB, "results", "plot"), "secret of bob");
        // A record with two names is verified like any other, and edited without touching the other name.
        fs::hard_link(at("mine.json"), at("second.json")).unwrap();
        mount.shell("cat results/second.json && echo '{\"n\": 2}' > results/second.json");
        assert_eq!(
            volume.stored(&ALICE, "results", "mine.json"),
            r#"{"user_id": "alice"}"#
        );
    }
}

#[test]
fn other_file_systems_mounted_in_a_tenants_directory_are_hidden() {
    let volume = volume(Layout::ResourceFirst);
    let at = |name: &str| volume.path(&ALICE, "results", name);
    for name in ["tmpfs", "bound"] {
        fs::create_dir(at(name)).unwrap();
    }
    for name in ["bound.json", "bound-file"] {
        volume.plant(&ALICE, "results", name, r#"{"user_id": "alice"}"#);
    }
    let _guards = [
        Mounted::new(at("tmpfs"), |path| {
            mount("tmpfs", path, "tmpfs", MountFlags::empty(), None)
        }),
        Mounted::new(at("bound"), |path| {
            mount_bind(volume.directory(&BOB, "results"), path)
        }),
        // Alice's own record, but reached through a mount: no way that is not the volume's.
        Mounted::new(at("bound.json"), |path| {
            mount_bind(volume.path(&ALICE, "results", "mine.json"), path)
        }),
        Mounted::new(at("bound-file"), |path| {
            mount_bind(volume.path(&BOB, "results", "plot"), path)
        }),
    ];
    let mount = volume.mount(&ALICE);
    assert_hidden(&mount, &["tmpfs", "bound", "bound.json", "bound-file"]);
    assert_server_lives(&mount);
}

/// A mount made by the test itself.
struct Mounted(PathBuf);

impl Mounted {
    fn new(path: PathBuf, mount: impl FnOnce(&Path) -> rustix::io::Result<()>) -> Self {
        mount(&path).unwrap();
        Self(path)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = unmount(&self.0, UnmountFlags::DETACH);
    }
}

#[test]
fn our_own_files_are_hidden_and_cannot_be_planted_through_the_mount() {
    for layout in LAYOUTS {
        let volume = volume(layout);
        for name in [
            ".tenantfs-owner-not",
            ".tenantfs.json",
            ".tenantfs-draft-00",
            ".tenantfs-away-00",
            ".tenantfs-secrets-00",
            ".tenantfs-moved-00~",
            ".tenantfs",
        ] {
            volume.plant(&ALICE, "results", name, r#"{"user_id": "alice"}"#);
        }
        let mount = volume.mount(&ALICE);
        assert_eq!(mount.shell("ls -A results"), VISIBLE.join("\n") + "\n");
        for name in [
            ".tenantfs.json",
            ".tenantfs-draft-00",
            ".tenantfs",
            ".tenantfs-owner",
            ".tenantfs-x",
        ] {
            for (statement, outcome) in [
                ("os.stat('results/NAME')", "ENOENT"),
                ("open('results/NAME')", "ENOENT"),
                ("os.unlink('results/NAME')", "ENOENT"),
                ("os.rename('results/NAME', 'results/x')", "ENOENT"),
                ("open('results/NAME', 'w')", "EPERM"),
                ("os.rename('results/plot', 'results/NAME')", "EPERM"),
            ] {
                let statement = statement.replace("NAME", name);
                assert_eq!(mount.errno(&statement), outcome, "{statement}");
            }
        }
    }
}

/// A draft that somebody else's session kept is not shown, wherever it is put.
#[test]
fn a_kept_draft_of_another_tenant_is_not_shown() {
    let volume = volume(Layout::ResourceFirst);
    {
        let bob = volume.mount(&BOB);
        assert_eq!(
            bob.errno("f = os.open('results/x.json', os.O_CREAT | os.O_WRONLY); os.write(f, b'{\"of\"'); os.close(f)"),
            "EINVAL"
        );
    }
    let draft = fs::read_dir(volume.directory(&BOB, "results"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.to_str().unwrap().contains(".tenantfs-draft-"))
        .unwrap();
    let target = volume.path(&ALICE, "results", draft.file_name().unwrap().to_str().unwrap());
    fs::copy(&draft, &target).unwrap();
    chown(&target, Some(SERVICE_UID), Some(SERVICE_UID)).unwrap();
    let mount = volume.mount(&ALICE);
    assert_eq!(mount.shell("ls -A results"), VISIBLE.join("\n") + "\n");
    assert_eq!(mount.errno("os.stat('results/x.json')"), "ENOENT");
    // Her own of the same name takes the place of what is nobody's there.
    mount.shell("echo '{}' > results/x.json");
    assert_eq!(mount.read("results/x.json"), "{}\n");
}

fn assert_server_lives(mount: &Mount<'_>) {
    assert_eq!(mount.read("results/mine.json"), r#"{"user_id": "alice"}"#);
    assert!(!mount.log().contains("panic"), "{}", mount.log());
}
