//! Every operation that a file system can be asked for, and the lines that the audit log has of it: each that can change
//! something leaves one, whether it went well or was refused.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use common::audit::{Log, SOON};
use common::auth::AuthService;
use common::daemon::{Daemon, reachable_program};
use common::{ALICE, BOB, Layout, Volume, as_user, errno, eventually, run, set_mode, shell};
use serde_json::Value;

/// What an operation has to do with the log.
enum Operation {
    /// It can change something, or opens what can be changed: these attempts are made, each of which leaves its line.
    Changes(&'static [Attempt]),
    /// What it changes is told by the line of another operation in the table.
    ToldBy(&'static str),
    /// It only looks, or gives back.
    Looks,
    /// It is not offered: the kernel, or the library, answers without asking.
    NotOffered,
}
use Operation::{Changes, Looks, NotOffered, ToldBy};

/// Something that a user does.
struct Attempt {
    /// Python, in the mount.
    does: &'static str,
    /// What it meets: `ok`, or an errno.
    meets: &'static str,
    /// `op path`.
    line: &'static str,
    /// What the line says of how it was done.
    how: &'static str,
}

const fn attempt(does: &'static str, meets: &'static str, line: &'static str, how: &'static str) -> Attempt {
    Attempt {
        does,
        meets,
        line,
        how,
    }
}

/// Every method of fuser's trait. Beneath `results/shut` the volume refuses every change.
#[rustfmt::skip] // A table: one row, one line.
const OPERATIONS: &[(&str, Operation)] = &[
    ("init", Looks),
    ("destroy", Looks),
    ("lookup", Looks),
    ("forget", Looks),
    ("batch_forget", Looks),
    ("getattr", Looks),
    ("setattr", Changes(&[
        attempt("os.truncate('results/a', 3)", "ok", "setattr results/a", "size 3"),
        attempt("os.ftruncate(os.open('results/a', os.O_RDWR), 5)", "ok", "setattr results/a", "size 5"),
        attempt("os.chmod('results/a', 0o640)", "ok", "setattr results/a", "mode 640"),
        attempt("os.chmod('schedules/x.json', 0o600)", "ok", "setattr schedules/x.json", "mode 600"),
        attempt("os.utime('results/a', (1, 1))", "ok", "setattr results/a", "times"),
        attempt("os.utime('results/d', (1, 1))", "ok", "setattr results/d", "times"),
        attempt("os.chown('results/a', os.getuid(), -1)", "ok", "setattr results/a", "owner"),
        attempt("os.chmod('results/a', 0o4755)", "EPERM", "setattr results/a", "mode 4755"),
        attempt("os.truncate('schedules/x.json', 1 << 40)", "EFBIG", "setattr schedules/x.json", "size 1099511627776"),
    ])),
    ("readlink", Looks),
    ("mknod", Changes(&[attempt("os.mkfifo('results/fifo')", "EPERM", "mknod results/fifo", "")])),
    ("mkdir", Changes(&[
        attempt("os.mkdir('results/made')", "ok", "mkdir results/made", ""),
        attempt("os.mkdir('results/made.json')", "EPERM", "mkdir results/made.json", ""),
        attempt("os.mkdir('results/shut/made')", "EACCES", "mkdir results/shut/made", ""),
    ])),
    ("unlink", Changes(&[
        attempt("os.unlink('results/gone')", "ok", "unlink results/gone", ""),
        attempt("os.unlink('results/shut/a')", "EACCES", "unlink results/shut/a", ""),
    ])),
    ("rmdir", Changes(&[
        attempt("os.rmdir('results/empty')", "ok", "rmdir results/empty", ""),
        attempt("os.rmdir('results/d')", "ENOTEMPTY", "rmdir results/d", ""),
        attempt("os.rmdir('results/shut/d')", "EACCES", "rmdir results/shut/d", ""),
    ])),
    ("symlink", Changes(&[attempt("os.symlink('x', 'results/symlink')", "EPERM", "symlink results/symlink", "")])),
    ("rename", Changes(&[
        attempt("os.rename('results/r', 'results/s')", "ok", "rename results/r", ""),
        attempt("exchange('results/s', 'results/a')", "ok", "rename results/s", "exchange"),
        attempt("exchange('results/s', 'results/new', 1)", "ok", "rename results/s", "no replace"),
        attempt("os.rename('results/a', 'results/shut/b')", "EACCES", "rename results/a", ""),
    ])),
    ("link", Changes(&[attempt("os.link('results/a', 'results/link')", "EPERM", "link results/link", "")])),
    ("open", Changes(&[
        attempt("os.open('results/a', os.O_RDONLY)", "ok", "open results/a", "read"),
        attempt("os.open('results/a', os.O_WRONLY)", "ok", "open results/a", "write"),
        attempt("os.open('results/a', os.O_RDWR | os.O_TRUNC)", "ok", "open results/a", "read write truncate"),
        attempt("os.open('results/a', os.O_WRONLY | os.O_APPEND)", "ok", "open results/a", "write append"),
        attempt("os.open('schedules/x.json', os.O_WRONLY)", "ok", "open schedules/x.json", "write"),
        attempt("os.open('results/closed', os.O_RDWR)", "EACCES", "open results/closed", "read write"),
    ])),
    ("read", Looks),
    ("write", ToldBy("open")),
    ("flush", Changes(&[
        attempt("save('schedules/f.json', '{}')", "ok", "commit schedules/f.json", ""),
        attempt("save('schedules/g.json', 'no json')", "EINVAL", "commit schedules/g.json", ""),
    ])),
    ("release", ToldBy("flush")),
    ("fsync", Changes(&[
        attempt("save('schedules/h.json', '{}', os.fsync)", "ok", "commit schedules/h.json", ""),
        attempt("save('schedules/i.json', 'no json', os.fsync)", "EINVAL", "commit schedules/i.json", ""),
    ])),
    ("opendir", Looks),
    ("readdir", Looks),
    ("readdirplus", Looks),
    ("releasedir", Looks),
    ("fsyncdir", Looks),
    ("statfs", Looks),
    ("setxattr", NotOffered),
    ("getxattr", NotOffered),
    ("listxattr", NotOffered),
    ("removexattr", NotOffered),
    ("access", NotOffered),
    ("create", Changes(&[
        attempt("open('results/c', 'xb')", "ok", "create results/c", "write"),
        attempt("open('schedules/c.json', 'w+')", "ok", "create schedules/c.json", "read write truncate"),
        attempt("open('results/shut/c', 'xb')", "EACCES", "create results/shut/c", "write"),
        attempt("open('schedules/bobs.json', 'xb')", "EIO", "create schedules/bobs.json", ""),
    ])),
    ("getlk", NotOffered),
    ("setlk", NotOffered),
    ("bmap", NotOffered),
    ("ioctl", NotOffered),
    ("poll", NotOffered),
    ("fallocate", Changes(&[
        attempt("os.posix_fallocate(os.open('results/a', os.O_RDWR), 0, 100)", "ok", "fallocate results/a", "extend"),
        attempt("os.posix_fallocate(os.open('schedules/x.json', os.O_RDWR), 0, 1 << 40)", "EFBIG", "fallocate schedules/x.json", "extend"),
    ])),
    ("lseek", Looks),
    ("copy_file_range", Changes(&[
        attempt("copy('results/b', 'results/a', 0)", "ok", "copy_file_range results/a", ""),
        attempt("copy('results/b', 'results/d/a', 1 << 60)", "EFBIG", "copy_file_range results/d/a", ""),
    ])),
    // Of macOS.
    ("setvolname", NotOffered),
    ("exchange", NotOffered),
    ("getxtimes", NotOffered),
];

/// What attempts are made with.
const TOOLS: &str = "
import ctypes
def exchange(one, other, flags=2):
    if ctypes.CDLL(None, use_errno=True).renameat2(-100, one.encode(), -100, other.encode(), flags):
        raise OSError(ctypes.get_errno(), 'renameat2')
def save(path, text, sync=None):
    file = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
    os.write(file, text.encode())
    if sync:
        sync(file)
    os.close(file)
def copy(source, target, offset):
    source, target = os.open(source, os.O_RDONLY), os.open(target, os.O_RDWR)
    os.copy_file_range(source, target, 10, 0, offset)
";

/// The methods of fuser's trait, from its own source.
fn methods() -> BTreeSet<String> {
    let mut command = Command::new(env!("CARGO"));
    command.args([
        "metadata",
        "--format-version",
        "1",
        "--offline",
        "--filter-platform",
    ]);
    // Nothing is downloaded for other platforms.
    command.arg(format!("{}-unknown-linux-gnu", std::env::consts::ARCH));
    let output = command.current_dir(env!("CARGO_MANIFEST_DIR")).output().unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    let fuser = packages
        .iter()
        .find(|package| package["name"] == "fuser")
        .unwrap();
    let manifest = PathBuf::from(fuser["manifest_path"].as_str().unwrap());
    let source = fs::read_to_string(manifest.with_file_name("src").join("lib.rs")).unwrap();
    let begin = source.find("pub trait Filesystem").unwrap();
    let methods = source[begin..].lines().take_while(|line| *line != "}");
    methods
        .filter_map(|line| line.strip_prefix("    fn ")?.split('(').next())
        .map(str::to_owned)
        .collect()
}

#[test]
fn every_operation_that_a_file_system_can_be_asked_for_is_in_the_table() {
    let methods = methods();
    assert!(methods.len() > 40, "{methods:?}");
    let table: BTreeSet<String> = OPERATIONS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(methods, table);
    for (name, operation) in OPERATIONS {
        match operation {
            Changes(attempts) => {
                let refused = |attempt: &&Attempt| attempt.meets != "ok";
                assert!(
                    attempts.iter().any(|attempt| refused(&attempt)),
                    "{name}: none is refused"
                );
                // There are no links and nodes to be made.
                let never = ["mknod", "symlink", "link"].contains(name);
                assert!(
                    never || !attempts.iter().all(|attempt| refused(&attempt)),
                    "{name}: none goes well"
                );
            }
            ToldBy(other) => {
                let told = OPERATIONS
                    .iter()
                    .any(|(name, is)| name == other && matches!(is, Changes(_)));
                assert!(told, "{name}");
            }
            Looks | NotOffered => {}
        }
    }
}

/// What the volume refuses the server, which has no capability.
fn shut(volume: &Volume) {
    let shut = volume.path(&ALICE, "results", "shut");
    set_mode(&shut, 0o500);
    set_mode(&volume.path(&ALICE, "results", "closed"), 0o400);
}

#[test]
fn every_operation_that_can_change_something_leaves_a_line_in_each_outcome() {
    let volume = Volume::new(Layout::ResourceFirst);
    let log = Log::of(&volume);
    volume.plant(&ALICE, "schedules", "x.json", r#"{"user_id":"alice"}"#);
    volume.plant(&ALICE, "schedules", "bobs.json", r#"{"user_id":"bob"}"#);
    for name in ["a", "b", "r", "gone", "closed", "d/a", "shut/a"] {
        volume.plant(&ALICE, "results", name, "0123456789");
    }
    let mount = volume.mount_with(&ALICE, &["--audit-log", log.path()]);
    // What the mount shows of a mode is the user's affair: so it is not the kernel that refuses.
    mount.shell("mkdir results/empty results/shut/d; chmod 700 results/shut; chmod 600 results/closed");
    shut(&volume);
    for (name, operation) in OPERATIONS {
        let Changes(attempts) = operation else { continue };
        for Attempt {
            does,
            meets,
            line,
            how,
        } in *attempts
        {
            let met = mount.errno(&format!("{TOOLS}{does}"));
            assert_eq!(met, *meets, "{name}: {does}");
            let pattern = format!("{line} {meets}");
            // The kernel may have a time changed with it.
            let also = format!("times {how}");
            let told = |line: &Value| {
                let said = line.get("how").and_then(Value::as_str).unwrap_or_default();
                said == *how || said == also
            };
            let there = eventually(SOON, || log.like(&pattern).iter().any(told));
            assert!(there, "{name}: {does} ({how}): {:#?}", log.like(&pattern));
        }
    }
    log.verify();
}

#[test]
fn what_is_asked_for_beside_the_mount_leaves_a_line_in_each_outcome() {
    let volume = Volume::new(Layout::ResourceFirst);
    let log = Log::of(&volume);
    let other = "another-key-of-alices-0123456789";
    let keys = [
        (ALICE.user, ALICE.api_key),
        (ALICE.user, other),
        (BOB.user, BOB.api_key),
    ];
    let service = AuthService::start(&keys);
    let daemon = Daemon::start(&volume, &["--auth-url", service.url(), "--audit-log", log.path()]);
    let place = daemon.login(&ALICE);
    daemon.asked(ALICE.uid, &["login"], other);
    let line = log.wait("session_rekeyed * ok");
    assert_eq!(
        (&line["user"], &line["uid"]),
        (&ALICE.hash.into(), &ALICE.uid.into())
    );
    let refused = daemon.ask(ALICE.uid, &["login"], BOB.api_key);
    assert!(!refused.status.success());
    let line = log.wait("login * EEXIST");
    assert_eq!(line["user"], ALICE.hash, "in her session");
    assert!(
        !log.text().contains(other) && !log.text().contains(BOB.hash),
        "{}",
        log.text()
    );

    let ask = |args: &[&str]| {
        let program = reachable_program(&volume);
        let mut command = as_user(ALICE.uid, &place, program.to_str().unwrap());
        command.args(args).arg("--socket").arg(&daemon.socket);
        run(command, "")
    };
    shell(
        ALICE.uid,
        &place,
        "printf '{}' > schedules/x.json; rm schedules/x.json",
    );
    assert!(ask(&["restore", "schedules/x.json"]).status.success());
    log.wait("create schedules/x.json ok");
    assert!(!ask(&["restore", "schedules/x.json"]).status.success());
    log.wait("create schedules/x.json EEXIST");
    assert!(!ask(&["restore", "schedules/none.json"]).status.success());
    log.wait("create schedules/none.json ENOENT");
    let draft = "with open('schedules/d.json', 'w') as file: file.write('[')";
    assert_eq!(errno(ALICE.uid, &place, draft), "EINVAL");
    assert!(ask(&["drafts", "--discard", "schedules/d.json"]).status.success());
    log.wait("unlink schedules/d.json ok");
    assert!(!ask(&["drafts", "--discard", "schedules/x.json"]).status.success());
    log.wait("unlink schedules/x.json ENOENT");
    log.verify();
}
