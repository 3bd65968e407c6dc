//! What a person can get wrong when mounting: each is one line on stderr that says what, and how to mend it, with the right
//! exit code; and nothing is mounted.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::fs::{chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use common::{ALICE, LAYOUTS, SERVICE_UID, Volume, as_user, is_mounted, run, set_mode};
use tenantfs::layout::Layout;

const FAILURE: i32 = 1;
const CONFIG: i32 = 2;
const REFUSED: i32 = 3;
const MOUNT_FAILED: i32 = 5;

struct Attempt {
    volume: Volume,
    mountpoint: PathBuf,
}

impl Attempt {
    fn new() -> Self {
        Self::in_layout(Layout::ResourceFirst)
    }

    fn in_layout(layout: Layout) -> Self {
        let volume = Volume::new(layout);
        let mountpoint = volume.base().join("mnt");
        fs::create_dir(&mountpoint).unwrap();
        Self { volume, mountpoint }
    }

    /// `tenantfs mount` as it would work, with further options.
    fn command(&self, options: &[&str]) -> Command {
        let mut command = self.volume.mount_command(&self.mountpoint, &ALICE, options);
        command.env_remove("TENANTFS_LOG");
        command
    }

    /// `tenantfs mount` with nothing but these arguments, the mountpoint, and alice's uid.
    fn bare(&self, arguments: &[&str]) -> Command {
        let mut command = common::tenantfs();
        command.arg("mount").arg(&self.mountpoint).args(arguments);
        command.env_remove("TENANTFS_LOG");
        command.env("TENANTFS_UID", ALICE.uid.to_string());
        command
    }

    fn refuses(&self, code: i32, what: &[&str], options: &[&str]) {
        self.fails(self.command(options), code, what);
    }

    /// Runs it: it must fail with `code`, and say each of `what` in one line.
    fn fails(&self, command: Command, code: i32, what: &[&str]) {
        let said = format!("{command:?}");
        let output = run(command, "");
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{said}\n{stderr}");
        assert!(output.stdout.is_empty(), "{said}");
        assert!(stderr.starts_with("tenantfs: "), "{stderr}");
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
        for part in what {
            assert!(stderr.contains(part), "{part:?} is not in {stderr:?}");
        }
        assert!(!stderr.contains(ALICE.api_key), "{stderr}");
        assert!(!is_mounted(&self.mountpoint), "{said}");
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(
            !mounts.contains(&format!("{} ", self.mountpoint.display())),
            "{mounts}"
        );
    }

    fn path(&self, name: &str) -> PathBuf {
        self.volume.base().join(name)
    }

    /// A file of root's with this content, private to it.
    fn file(&self, name: &str, content: &str) -> String {
        let path = self.path(name);
        fs::write(&path, content).unwrap();
        set_mode(&path, 0o600);
        path.to_str().unwrap().to_owned()
    }
}

#[test]
fn without_any_of_it_it_works() {
    let attempt = Attempt::new();
    attempt.volume.mount(&ALICE).shell("ls");
}

#[test]
fn a_volume_that_cannot_be_one() {
    let attempt = Attempt::new();
    let root = attempt.volume.root();
    let volume = |path: &Path| {
        let keys = attempt.volume.static_keys_file();
        let key = attempt.volume.api_key_file(&ALICE);
        let (path, keys, key) = (
            path.to_str().unwrap(),
            keys.to_str().unwrap(),
            key.to_str().unwrap(),
        );
        attempt.bare(&["--volume", path, "--static-keys", keys, "--api-key-file", key])
    };
    let missing = attempt.path("missing");
    attempt.fails(
        volume(&missing),
        CONFIG,
        &["the volume", "does not exist", "create it or correct --volume"],
    );
    attempt.fails(
        volume(Path::new("~/records")),
        CONFIG,
        &["the volume ~/records", "~ is not expanded"],
    );
    let file = attempt.file("file", "");
    attempt.fails(
        volume(Path::new(&file)),
        CONFIG,
        &["is not a directory", "correct --volume"],
    );
    set_mode(&root, 0o777);
    attempt.fails(
        volume(&root),
        CONFIG,
        &["is writable by others", "run: chmod o-w"],
    );
    set_mode(&root, 0o1777);
    attempt.fails(volume(&root), CONFIG, &["is writable by others"]);
    set_mode(&root, 0o000);
    attempt.fails(
        volume(&root),
        CONFIG,
        &["the volume", "61000", "correct its owner or mode"],
    );
    set_mode(&root, 0o750);
    let hidden = attempt.path("closed");
    fs::create_dir(&hidden).unwrap();
    set_mode(&hidden, 0o700);
    let below = hidden.join("volume");
    fs::create_dir(&below).unwrap();
    chown(&below, Some(SERVICE_UID), Some(SERVICE_UID)).unwrap();
    attempt.fails(volume(&below), CONFIG, &["may not be read by uid 61000"]);
    let keys = attempt.volume.static_keys_file();
    attempt.fails(
        attempt.bare(&["--static-keys", keys.to_str().unwrap()]),
        CONFIG,
        &["no volume is given", "--volume DIR"],
    );
}

#[test]
fn a_tenants_directory_that_cannot_be_one() {
    for layout in LAYOUTS {
        let attempt = Attempt::in_layout(layout);
        let directory = attempt.volume.directory(&ALICE, "schedules");
        // A file where the directory has to be.
        let path = attempt.volume.plant(&ALICE, "schedules", "x.json", "{}");
        fs::remove_file(path).unwrap();
        fs::remove_dir(&directory).unwrap();
        fs::write(&directory, "").unwrap();
        attempt.refuses(FAILURE, &["2bd806c97f0e00af", "volume"], &[]);
        fs::remove_file(&directory).unwrap();
        symlink("/etc", &directory).unwrap();
        attempt.refuses(FAILURE, &["2bd806c97f0e00af", "volume"], &[]);
        fs::remove_file(&directory).unwrap();
        // One that the server may not use.
        fs::create_dir(&directory).unwrap();
        set_mode(&directory, 0o700);
        attempt.refuses(FAILURE, &["2bd806c97f0e00af", "volume"], &[]);
    }
}

#[test]
fn an_owner_marker_that_cannot_be_understood() {
    let attempt = Attempt::new();
    attempt
        .volume
        .plant(&ALICE, "schedules", ".tenantfs-owner", "bob");
    attempt.refuses(REFUSED, &["hash_collision"], &[]);
    let marker = attempt.volume.path(&ALICE, "schedules", ".tenantfs-owner");
    fs::remove_file(&marker).unwrap();
    symlink("/etc/passwd", &marker).unwrap();
    attempt.refuses(FAILURE, &["marker", ".tenantfs-owner"], &[]);
}

#[test]
fn an_unknown_layout() {
    let attempt = Attempt::new();
    // The command line's own errors have lines on usage below the first.
    let output = run(attempt.bare(&["--volume", "/", "--layout", "flat"]), "");
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(CONFIG));
    assert!(
        stderr.contains("unknown layout \"flat\": use resource-first or user-first"),
        "{stderr}"
    );
    let config = attempt.file("config.toml", "[volume]\npath = \"/\"\nlayout = \"flat\"\n");
    attempt.fails(
        attempt.bare(&["--config", &config]),
        CONFIG,
        &["unknown layout \"flat\": use resource-first or user-first"],
    );
}

#[test]
fn a_mountpoint_that_cannot_be_one() {
    let attempt = Attempt::new();
    let at = |path: &Path| {
        let mut command = attempt.volume.mount_command(path, &ALICE, &[]);
        command.env_remove("TENANTFS_LOG");
        command
    };
    let missing = attempt.path("missing");
    attempt.fails(
        at(&missing),
        MOUNT_FAILED,
        &["does not exist", "create it: mkdir"],
    );
    assert!(!missing.exists());

    let file = attempt.file("file", "content");
    attempt.fails(at(Path::new(&file)), MOUNT_FAILED, &["is not a directory"]);
    assert_eq!(fs::read_to_string(&file).unwrap(), "content");

    let link = attempt.path("link");
    symlink(&attempt.mountpoint, &link).unwrap();
    attempt.fails(
        at(&link),
        MOUNT_FAILED,
        &["is a symbolic link", "give the directory"],
    );
    symlink("nowhere", attempt.path("dangling")).unwrap();
    attempt.fails(
        at(&attempt.path("dangling")),
        MOUNT_FAILED,
        &["is a symbolic link"],
    );

    let full = attempt.path("full");
    fs::create_dir(&full).unwrap();
    fs::write(full.join("precious"), "").unwrap();
    attempt.fails(
        at(&full),
        MOUNT_FAILED,
        &["is not empty", "use an empty directory"],
    );
    assert!(full.join("precious").exists());

    // Where the mounter, which has no right to pass through private directories, cannot get.
    let private = attempt.path("private");
    fs::create_dir_all(private.join("mnt")).unwrap();
    chown(&private, Some(ALICE.uid), Some(ALICE.uid)).unwrap();
    set_mode(&private, 0o700);
    attempt.fails(
        at(&private.join("mnt")),
        MOUNT_FAILED,
        &["cannot be reached", "/run/tenantfs/mnt"],
    );
}

#[test]
fn a_mountpoint_with_something_mounted_on_it() {
    let attempt = Attempt::new();
    let first = attempt.volume.mount(&ALICE);
    let mut second = attempt.volume.mount_command(&first.path, &ALICE, &[]);
    second.env_remove("TENANTFS_LOG");
    attempt.fails(
        second,
        MOUNT_FAILED,
        &["something is mounted on", "already", "unmount it"],
    );
    // The first goes on.
    first.shell("ls");
    let mut proc = attempt.volume.mount_command(Path::new("/proc"), &ALICE, &[]);
    proc.env_remove("TENANTFS_LOG");
    attempt.fails(proc, MOUNT_FAILED, &["something is mounted on /proc already"]);
}

#[test]
fn a_static_keys_file_that_cannot_be_one() {
    let attempt = Attempt::new();
    let refuses = |path: &str, what: &[&str]| {
        let key = attempt.volume.api_key_file(&ALICE);
        let root = attempt.volume.root();
        let command = attempt.bare(&[
            "--volume",
            root.to_str().unwrap(),
            "--static-keys",
            path,
            "--api-key-file",
            key.to_str().unwrap(),
        ]);
        attempt.fails(command, CONFIG, what);
    };
    let missing = attempt.path("missing");
    refuses(
        missing.to_str().unwrap(),
        &["the static keys file", "No such file", "correct --static-keys"],
    );
    refuses(
        attempt.mountpoint.to_str().unwrap(),
        &["the static keys file", "is not a regular file"],
    );
    let hash = "0".repeat(64);
    for (content, what) in [
        ("", "not a static keys file"),
        ("{\"keys\"", "not a static keys file"),
        ("[]", "not a static keys file"),
        ("{\"keys\": [{\"sha256\": \"HASH\"}]}", "user_id"),
        (
            "{\"keys\": [{\"sha256\": \"HASH\", \"user_id\": \"a\", \"uid\": 1}]}",
            "uid",
        ),
        (
            "{\"keys\": [{\"sha256\": \"xyz\", \"user_id\": \"a\"}]}",
            "entry 1: sha256 must be 64 hex digits",
        ),
        (
            "{\"keys\": [{\"sha256\": \"HASH\", \"user_id\": \"\"}]}",
            "entry 1: the user id is empty",
        ),
        (
            "{\"keys\": [{\"sha256\": \"HASH\", \"user_id\": \"a\"}, {\"sha256\": \"HASH\", \"user_id\": \"b\"}]}",
            "entry 2: this key is listed twice",
        ),
    ] {
        let path = attempt.file("keys.json", &content.replace("HASH", &hash));
        refuses(&path, &["keys.json", what]);
    }
    let path = attempt.file("keys.json", "{\"keys\": []}");
    set_mode(Path::new(&path), 0o666);
    refuses(&path, &["keys.json", "chmod"]);

    let root = attempt.volume.root();
    attempt.fails(
        attempt.bare(&["--volume", root.to_str().unwrap()]),
        CONFIG,
        &["no way to authenticate is given", "--static-keys FILE"],
    );
}

#[test]
fn a_key_that_is_none_or_nobodys() {
    let attempt = Attempt::new();
    let with = |content: &str| {
        let path = attempt.file("key", content);
        let (root, keys) = (attempt.volume.root(), attempt.volume.static_keys_file());
        let (root, keys) = (root.to_str().unwrap(), keys.to_str().unwrap());
        attempt.bare(&["--volume", root, "--static-keys", keys, "--api-key-file", &path])
    };
    attempt.fails(with("nobodys-key\n"), REFUSED, &["key"]);
    // Nearly alice's.
    attempt.fails(with(&ALICE.api_key[1..]), REFUSED, &["key"]);
    attempt.fails(with(&ALICE.api_key.to_uppercase()), REFUSED, &["key"]);
    for (content, what) in [
        ("", "is empty"),
        ("\n", "is empty"),
        ("two words", "characters that a key cannot have"),
        ("two\nlines", "characters that a key cannot have"),
    ] {
        attempt.fails(with(content), CONFIG, &["the API key", what]);
    }
    attempt.fails(with(&"x".repeat(4097)), CONFIG, &["longer than 4096"]);
    let mut missing = with("x");
    missing.args(["--read-only"]);
    fs::remove_file(attempt.path("key")).unwrap();
    attempt.fails(
        missing,
        CONFIG,
        &["the API key file", "No such file", "correct --api-key-file"],
    );
}

#[test]
fn an_option_or_a_config_file_that_is_wrong() {
    let attempt = Attempt::new();
    attempt.refuses(
        CONFIG,
        &["\"1.5GB\" is not a size", "16MiB"],
        &["--max-size", "1.5GB"],
    );
    attempt.refuses(
        CONFIG,
        &["\"0\" is not a size that a file can have", "16MiB"],
        &["--max-attachment-size", "0"],
    );
    attempt.refuses(
        CONFIG,
        &["\"10GB\" is not a quota", "10GiB", "--quota-bytes"],
        &["--quota-bytes", "10GB"],
    );
    attempt.refuses(
        CONFIG,
        &[
            "the quota file /absent/quota",
            "No such file",
            "correct --quota-users",
        ],
        &["--quota-users", "/absent/quota"],
    );
    attempt.refuses(
        CONFIG,
        &["\"a/b\" cannot name a resource"],
        &["--resources", "a/b"],
    );
    attempt.refuses(CONFIG, &["\"a\" is given twice"], &["--resources", "a,b,a"]);
    attempt.refuses(
        CONFIG,
        &["user_id", "--secret-fields"],
        &["--secret-fields", "user_id"],
    );
    attempt.refuses(
        CONFIG,
        &["no account \"nobody-here\""],
        &["--server-user", "nobody-here"],
    );
    for (content, what) in [
        ("[volume]\npaht = \"/x\"\n", "paht"),
        ("[volumes]\n", "volumes"),
        ("volume = 7\n", "volume"),
        ("[volume\n", "config.toml"),
        ("[mounts]\nread_only = \"yes\"\n", "read_only"),
    ] {
        let path = attempt.file("config.toml", content);
        attempt.fails(
            attempt.bare(&["--config", &path]),
            CONFIG,
            &["the config file", "config.toml", what],
        );
    }
    let missing = attempt.path("missing.toml");
    attempt.fails(
        attempt.bare(&["--config", missing.to_str().unwrap()]),
        CONFIG,
        &[
            "the config file that --config names",
            "missing.toml",
            "No such file",
        ],
    );
}

fn arguments(command: &Command) -> Vec<OsString> {
    command.get_args().map(OsStr::to_owned).collect()
}

#[test]
fn no_fuse_device() {
    let attempt = Attempt::new();
    // A /dev without it, in a mount namespace of its own.
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-ec"]);
    command.arg("mount -t tmpfs none /dev; mknod -m 666 /dev/null c 1 3; exec \"$0\" \"$@\"");
    command.arg(env!("CARGO_BIN_EXE_tenantfs"));
    command.args(arguments(&attempt.command(&[])));
    attempt.fails(command, MOUNT_FAILED, &["there is no /dev/fuse", "modprobe fuse"]);
}

#[test]
fn no_privilege() {
    let attempt = Attempt::new();
    for path in [
        attempt.volume.static_keys_file(),
        attempt.volume.api_key_file(&ALICE),
    ] {
        chown(path, Some(SERVICE_UID), Some(SERVICE_UID)).unwrap();
    }
    let mount = arguments(&attempt.command(&[]));
    // As the volume's own account, which may serve and not mount.
    let mut command = as_user(SERVICE_UID, Path::new("/"), env!("CARGO_BIN_EXE_tenantfs"));
    command.args(&mount);
    attempt.fails(
        command,
        MOUNT_FAILED,
        &["mounting needs CAP_SYS_ADMIN", "as root"],
    );
    // As somebody else.
    for path in [
        attempt.volume.static_keys_file(),
        attempt.volume.api_key_file(&ALICE),
    ] {
        chown(path, Some(ALICE.uid), Some(ALICE.uid)).unwrap();
    }
    set_mode(&attempt.volume.root(), 0o755);
    let mut command = as_user(ALICE.uid, Path::new("/"), env!("CARGO_BIN_EXE_tenantfs"));
    command.args(&mount);
    attempt.fails(command, CONFIG, &["the volume belongs to uid 61000", "as root"]);
}

#[test]
fn in_the_background_errors_are_said_before_it_returns() {
    let attempt = Attempt::new();
    let missing = attempt.path("missing");
    let mut command = attempt.volume.mount_command(&missing, &ALICE, &["-d"]);
    command.env_remove("TENANTFS_LOG");
    attempt.fails(command, MOUNT_FAILED, &["does not exist"]);
}

#[test]
fn key_hash_refuses_what_is_no_key() {
    for (input, code) in [("sesame\n", 0), ("sesame", 0), ("", CONFIG), ("a b\n", CONFIG)] {
        let mut command = common::tenantfs();
        command.arg("key-hash").env_remove("TENANTFS_LOG");
        let output = run(command, input);
        assert_eq!(output.status.code(), Some(code), "{input:?}");
        let stdout = String::from_utf8(output.stdout).unwrap();
        match code {
            0 => assert_eq!(
                stdout,
                "d0c04f4b1951e4aeaaec8223ed2039e542f3aae805a6fa7f6d794e5afff5d272\n"
            ),
            _ => assert!(stdout.is_empty()),
        }
    }
}

#[test]
fn key_files_that_would_hang_or_that_others_own() {
    let attempt = Attempt::new();
    let (root, keys) = (attempt.volume.root(), attempt.volume.static_keys_file());
    let (key, fifo) = (attempt.volume.api_key_file(&ALICE), attempt.path("fifo"));
    rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, rustix::fs::Mode::from_raw_mode(0o600)).unwrap();
    let refuses = |keys: &Path, key: &Path, what: &[&str]| {
        let mut command = attempt.bare(&[]);
        command.arg("--volume").arg(&root);
        command
            .arg("--static-keys")
            .arg(keys)
            .arg("--api-key-file")
            .arg(key);
        attempt.fails(command, CONFIG, what);
    };
    refuses(&fifo, &key, &["static keys file", "not a regular file"]);
    refuses(&keys, &fifo, &["API key file", "not a regular file"]);
    chown(&keys, Some(ALICE.uid), None).unwrap();
    refuses(&keys, &key, &["belongs to uid 61001", "chown root"]);
}

#[test]
fn a_view_is_never_roots() {
    let attempt = Attempt::new();
    for (uid, gid, said) in [
        ("0", "0", "say whose it is: --uid UID"),
        ("4294967295", "61001", "is no uid and no gid"),
        ("61001", "4294967295", "is no uid and no gid"),
    ] {
        let mut command = attempt.bare(&["--gid", gid, "--api-key-file"]);
        command.arg(attempt.volume.api_key_file(&ALICE));
        command.arg("--volume").arg(attempt.volume.root());
        command
            .arg("--static-keys")
            .arg(attempt.volume.static_keys_file());
        command.env("TENANTFS_UID", uid).env_remove("SUDO_UID");
        attempt.fails(command, CONFIG, &[said]);
    }
}

#[test]
fn a_mountpoint_whose_name_has_lines_or_is_too_long_is_one_line() {
    let attempt = Attempt::new();
    for (name, said) in [
        ("a\nb\n".repeat(20), "has control characters"),
        ("d/".repeat(6000), "longer than 4095 bytes"),
    ] {
        let mountpoint = attempt.path("x").join(name);
        let mut command = attempt.volume.mount_command(&mountpoint, &ALICE, &[]);
        command.env_remove("TENANTFS_LOG");
        attempt.fails(command, MOUNT_FAILED, &[said]);
    }
}
