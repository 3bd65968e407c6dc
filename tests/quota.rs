//! Quotas on real mounts: what a program hears, what `df` and the operator see, and how a user gets free again.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use common::daemon::Daemon;
use common::{
    ALICE, BOB, LAYOUTS, Mount, Volume, errno, eventually, python, set_mode, shell, success, tenantfs, tool,
};
use tenantfs::layout::Layout;

/// What takes a second at most is waited for this long.
const PATIENCE: Duration = Duration::from_secs(30);

/// What the Python of these tests begins with.
const PRELUDE: &str = r#"
import errno, mmap, os, ctypes

def met(call, *arguments):
    try:
        call(*arguments)
    except OSError as error:
        return errno.errorcode[error.errno]
    return 'ok'

def df():
    found = os.statvfs('.')
    return (found.f_blocks - found.f_bfree) * found.f_frsize, found.f_bavail * found.f_frsize, found.f_files - found.f_ffree, found.f_favail

def fallocate(file, mode, offset, length):
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.fallocate(file, mode, ctypes.c_long(offset), ctypes.c_long(length)) != 0:
        raise OSError(ctypes.get_errno(), 'fallocate')

K = 1024
"#;

fn run(mount: &Mount<'_>, code: &str) -> String {
    mount.python(&format!("{PRELUDE}{code}"), &[])
}

fn volume() -> Volume {
    Volume::new(Layout::ResourceFirst)
}

/// Alice's mount with these quotas, when all is counted.
fn mount<'v>(volume: &'v Volume, bytes: &str, files: &str) -> Mount<'v> {
    volume.mount_with(&ALICE, &["--quota-bytes", bytes, "--quota-files", files])
}

#[test]
fn whatever_takes_more_than_may_be_had_is_edquot_and_changes_nothing() {
    let volume = volume();
    let mount = mount(&volume, "128KiB", "8");
    run(
        &mount,
        r#"
file = os.open('results/full', os.O_RDWR | os.O_CREAT)
assert os.write(file, b'x' * 100 * K) == 100 * K
assert df() == (100 * K, 28 * K, 1, 7), df()
other = os.open('results/other', os.O_RDWR | os.O_CREAT)
append = os.open('results/other', os.O_WRONLY | os.O_APPEND)
assert df()[1] == 24 * K
assert met(os.write, other, b'x' * 29 * K) == 'EDQUOT'
assert met(os.write, append, b'x' * 29 * K) == 'EDQUOT'
assert met(os.pwrite, file, b'x' * 5 * K, 120 * K) == 'EDQUOT'
assert met(os.pwrite, other, b'x', 10 << 40) == 'EFBIG'
assert met(os.pwrite, other, b'x', 1 << 30) == 'EDQUOT'
assert met(os.truncate, 'results/other', 29 * K) == 'EDQUOT'
assert met(os.ftruncate, other, 1 << 30) == 'EDQUOT'
assert met(fallocate, other, 0, 0, 29 * K) == 'EDQUOT'
assert met(fallocate, other, 0, 28 * K, 1 * K) == 'EDQUOT'
# Beyond the end: nobody could see what it takes.
assert met(fallocate, other, 1, 0, 4 * K) == 'ENOTSUP'
assert met(os.copy_file_range, file, other, 29 * K, 0, 0) == 'EDQUOT'
assert os.fstat(other).st_size == 0
assert df() == (104 * K, 24 * K, 2, 6), df()
# What is there can be written again, copied and mapped.
os.pwrite(file, b'y' * 100 * K, 0)
fallocate(file, 1, 0, 100 * K)
assert os.copy_file_range(file, other, 28 * K, 0, 0) == 28 * K
assert df()[1] == 0
with mmap.mmap(other, 28 * K) as mapped:
    mapped[:] = b'z' * 28 * K
    mapped.flush()
os.ftruncate(other, 0)
for number in range(6):
    os.mkdir('results/%d' % number)
assert met(os.mkdir, 'results/7') == 'EDQUOT'
assert met(os.open, 'results/7', os.O_CREAT | os.O_WRONLY) == 'EDQUOT'
assert met(os.truncate, 'results/full', 0) == 'ok'
for number in range(6):
    os.rmdir('results/%d' % number)
os.unlink('results/other')
assert df() == (4 * K + 4 * K, 120 * K, 2, 6), df()
# Somebody has it open still.
os.close(other); os.close(append)
for _ in range(100):
    if df() == (4 * K, 124 * K, 1, 7): break
    __import__('time').sleep(.05)
else:
    raise SystemExit(df())
"#,
    );
}

#[test]
fn a_record_that_is_too_much_is_told_until_it_is_saved_and_the_previous_one_stays() {
    let volume = volume();
    let mount = mount(&volume, "32KiB", "4");
    let out = run(
        &mount,
        r#"
def save(size, name='schedules/x.json'):
    file = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.write(file, b'{"x": "' + b'x' * size + b'"}')
    told = met(os.fsync, file), met(os.fsync, file), met(os.close, file)
    return told

assert save(20 * K) == ('ok',) * 3
assert save(40 * K) == ('EDQUOT',) * 3
print(len(open('schedules/x.json').read()))
"#,
    );
    assert_eq!(out.trim(), (40 * 1024 + 9).to_string(), "what was typed is there");
    let stored = volume.stored(&ALICE, "schedules", "x.json");
    assert!((20 << 10..21 << 10).contains(&stored.len()), "{}", stored.len());
    run(
        &mount,
        r#"
# Room for it comes by itself when it is cut.
os.truncate('schedules/x.json', 0)
with open('schedules/x.json', 'w') as file:
    file.write('{"x": 1}')
assert df()[0] == 4 * K, df()
"#,
    );
}

#[test]
fn who_removes_a_record_at_the_limit_has_its_room_at_once() {
    let volume = volume();
    let mount = mount(&volume, "1MiB", "6");
    run(
        &mount,
        r#"
def save(name, secret=''):
    with open(name, 'w') as file:
        file.write('{"x": 1%s}' % secret)

for number in range(6):
    save('schedules/%d.json' % number)
assert met(save, 'schedules/new.json') == 'EDQUOT'
os.unlink('schedules/new.json')
for number in range(6):
    os.unlink('schedules/%d.json' % number)
# They wait: they count.
assert df()[2] == 6, df()
# What is new takes the place of the oldest.
for number in range(3):
    save('results/%d.json' % number)
os.mkdir('results/sub')
open('results/sub/plot', 'w').close()
assert df()[2] == 6, df()
# One that comes back with its name, takes its own place.
save('schedules/5.json')
assert df()[2] == 6, df()
assert met(os.mkdir, 'results/more') == 'EDQUOT'
"#,
    );
}

#[test]
fn an_attachment_larger_than_the_operator_allows_is_efbig() {
    let volume = volume();
    let mount = volume.mount_with(&ALICE, &["--max-attachment-size", "1MiB"]);
    run(
        &mount,
        r#"
file = os.open('results/plot', os.O_RDWR | os.O_CREAT)
M = K * K
os.ftruncate(file, M)
assert met(os.ftruncate, file, M + 1) == 'EFBIG'
assert met(os.pwrite, file, b'x', M) == 'EFBIG'
assert met(fallocate, file, 0, M, 1) == 'EFBIG'
assert met(fallocate, file, 1, M, 1) == 'EFBIG'
assert met(os.copy_file_range, file, file, 2, 0, M - 1) == 'EFBIG'
append = os.open('results/plot', os.O_WRONLY | os.O_APPEND)
assert met(os.write, append, b'x') == 'EFBIG'
assert os.fstat(file).st_size == M
"#,
    );
}

/// The file of what single users may have, which the server reads.
struct Users(PathBuf);

impl Users {
    fn new(volume: &Volume, text: &str) -> Self {
        let users = Self(volume.base().join("quota.json"));
        users.say(text);
        users
    }

    fn say(&self, text: &str) {
        let new = self.0.with_extension("new");
        fs::write(&new, text).unwrap();
        set_mode(&new, 0o644);
        fs::rename(&new, &self.0).unwrap();
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

#[test]
fn all_sessions_of_a_user_share_one_quota_and_the_file_says_how_much() {
    let volume = volume();
    let users = Users::new(&volume, r#"{"users":[{"user_id":"alice","files":3}]}"#);
    let daemon = Daemon::start(&volume, &["--quota-users", users.path()]);
    let alice = daemon.login(&ALICE);
    // The same user of the service, on another account of this host.
    let printed = daemon.asked(BOB.uid, &["login"], ALICE.api_key);
    let other = PathBuf::from(printed.trim());
    shell(ALICE.uid, &alice, "touch results/1 results/2");
    shell(BOB.uid, &other, "touch results/3");
    let more = |name: &str| errno(ALICE.uid, &alice, &format!("open('results/{name}', 'w')"));
    assert_eq!(more("4"), "EDQUOT");
    assert_eq!(errno(BOB.uid, &other, "open('results/4', 'w')"), "EDQUOT");
    let status = daemon.json(ALICE.uid, &["status"], "");
    let quota = &status["sessions"][0]["quota"];
    assert_eq!(quota["files"], 3, "{status}");
    assert_eq!(quota["used_files"], 3, "{status}");
    assert_eq!(quota["bytes"], serde_json::Value::Null, "{status}");
    assert_eq!(quota["counted"], true, "{status}");
    let text = daemon.asked(ALICE.uid, &["status"], "");
    assert!(text.contains("  quota       12.00 KiB, 3 of 3 files\n"), "{text}");

    users.say(r#"{"users":[{"user_id":"alice","files":4}]}"#);
    assert!(eventually(
        PATIENCE,
        || daemon.json(ALICE.uid, &["status"], "")["sessions"][0]["quota"]["files"] == 4
    ));
    assert_eq!(more("4"), "ok");
    users.say("broken");
    let said = || daemon.log().contains("the quotas stay as they were");
    assert!(eventually(PATIENCE, said), "{}", daemon.log());
    assert_eq!(more("5"), "EDQUOT");
    users.say(r#"{"users":[{"user_id":"alice","files":"unlimited"}]}"#);
    assert!(eventually(PATIENCE, || more("5") == "ok"), "{}", daemon.log());
}

#[test]
fn a_quota_file_that_others_may_write_or_that_is_wrong_is_refused_at_the_start() {
    let volume = volume();
    let users = Users::new(&volume, r#"{"users":[{"user_id":"alice","files":3}]}"#);
    let start = || {
        let mut command = Daemon::command(&volume, &["--quota-users", users.path()]);
        let output = command.stderr(Stdio::piped()).output().unwrap();
        assert_eq!(output.status.code(), Some(2));
        String::from_utf8(output.stderr).unwrap()
    };
    set_mode(&users.0, 0o666);
    let said = start();
    assert!(said.contains("who could raise quotas; run: chmod go-w"), "{said}");
    users.say(r#"{"users":[{"user_id":"alice","files":"many"}]}"#);
    let said = start();
    assert!(said.contains("entry 1: files must be a number"), "{said}");
    users.say(r#"{"users":[]}"#);
    set_mode(&users.0, 0o600);
    let said = start();
    assert!(said.contains("cannot be read by uid 61000"), "{said}");
}

#[test]
fn what_was_there_before_the_session_counts_and_so_does_what_the_service_writes() {
    let volume = volume();
    let large = format!("{{\"user_id\": \"alice\", \"x\": \"{}\"}}", "x".repeat(40 << 10));
    volume.plant(&ALICE, "schedules", "before.json", &large);
    volume.plant(&ALICE, "results", "sub/plot", "of alice");
    // One that others own counts too, though it is hidden: it lies in her directory.
    volume.plant(&ALICE, "results", "hidden.json", r#"{"user_id": "bob"}"#);
    let mount = mount(&volume, "64KiB", "100");
    let used = || run(&mount, "print(df()[0] // K)").trim().to_owned();
    assert!(eventually(PATIENCE, || used() == "56"), "{}", used());
    // Where it is told of changes, within some ten seconds.
    volume.plant(&ALICE, "schedules", "later.json", &large);
    assert!(eventually(PATIENCE, || used() == "100"), "{}", used());
    assert_eq!(mount.errno("open('results/new', 'w')"), "EDQUOT");
    mount.shell("rm results/sub/plot; rmdir results/sub; echo '{}' > schedules/later.json");
    mount.shell("echo '{\"new\": 1}' > schedules/new.json");
    assert_eq!(used(), "56");
}

#[test]
fn a_quota_of_the_volumes_own_file_system_means_the_same() {
    let Some(strace) = tool("strace") else { return };
    let volume = volume();
    let mount = volume.mount(&ALICE);
    mount.shell("echo '{\"day\": 1}' > schedules/x.json; echo '{\"day\": 1}' > schedules/gone.json; rm schedules/gone.json");
    let waits = volume.path(&ALICE, "schedules", ".tenantfs-removed-gone.json~");
    assert!(waits.exists());
    let mut child = Command::new(strace)
        .args([
            "-f",
            "-qq",
            "-o",
            "/dev/null",
            "-e",
            "inject=write,pwrite64,mkdirat:error=EDQUOT",
        ])
        .args(["-e", "trace=write,pwrite64,mkdirat", "-P"])
        .arg(volume.directory(&ALICE, "schedules"))
        .args(["-p", &mount.pid().as_raw_nonzero().to_string()])
        .spawn()
        .unwrap();
    thread::sleep(Duration::from_secs(1));
    let said = mount.errno("os.mkdir('schedules/sub')");
    rustix::process::kill_process(
        rustix::process::Pid::from_child(&child),
        rustix::process::Signal::TERM,
    )
    .unwrap();
    child.wait().unwrap();
    assert_eq!(said, "EDQUOT");
    // What was removed went for good, for room may be had by it.
    assert!(!waits.exists());
    mount.shell("mkdir schedules/sub");
}

#[test]
fn quotas_are_in_the_metrics() {
    let volume = volume();
    let socket = volume.base().join("metrics.sock");
    let daemon = Daemon::start(
        &volume,
        &["--quota-files", "2", "--metrics-listen", socket.to_str().unwrap()],
    );
    let text = || {
        let script = "import socket, sys\n\
                      s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1])\n\
                      s.sendall(b'GET /metrics HTTP/1.0\\r\\nHost: x\\r\\n\\r\\n')\n\
                      print(b''.join(iter(lambda: s.recv(65536), b'')).decode())";
        let output = Command::new("python3")
            .args(["-c", script])
            .arg(&socket)
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    assert!(text().contains("\ntenantfs_quota_users 0\n"), "{}", text());
    let alice = daemon.login(&ALICE);
    assert!(text().contains("\ntenantfs_quota_users 1\n"), "{}", text());
    assert!(text().contains("\ntenantfs_quota_full_users 0\n"));
    python(
        ALICE.uid,
        &alice,
        "for n in range(2): open('results/%d' % n, 'w')",
        &[],
    );
    assert!(text().contains("\ntenantfs_quota_full_users 1\n"), "{}", text());
}

#[test]
fn list_usage_says_how_much_everybody_has_of_what_they_may_have() {
    for layout in LAYOUTS {
        let volume = Volume::new(layout);
        let users = Users::new(&volume, r#"{"users":[{"user_id":"bob","bytes":"1GiB"}]}"#);
        volume.plant(&BOB, "schedules", "of-bob.json", r#"{"user_id": "bob"}"#);
        let quota = ["--quota-users", users.path(), "--quota-bytes", "1MiB"];
        let mount = volume.mount_with(&ALICE, &quota);
        mount.shell(
            "mkdir -p results/a/b; head -c 9000 /dev/zero > results/a/b/plot; echo '{}' > schedules/x.json; \
             echo '{}' > schedules/gone.json; rm schedules/gone.json; echo '{' > schedules/draft.json || :",
        );
        let list = |whose: &[&str]| {
            let mut command = tenantfs();
            command.args(["list", "--usage", "--layout", &layout.to_string(), "--volume"]);
            command.arg(volume.root()).args(quota).args(whose);
            let printed = success(command, "");
            let lines = printed.lines().map(|line| serde_json::from_str(line).unwrap());
            lines.collect::<Vec<serde_json::Value>>()
        };
        let alice = serde_json::json!({
            "user": "alice", "hash": ALICE.hash, "bytes": 32768, "files": 6, "waiting_bytes": 4096, "waiting_files": 1,
            "quota_bytes": 1 << 20, "quota_files": null,
        });
        let bob = serde_json::json!({
            "user": "bob", "hash": BOB.hash, "bytes": 4096, "files": 1, "waiting_bytes": 0, "waiting_files": 0,
            "quota_bytes": 1 << 30, "quota_files": null,
        });
        assert_eq!(list(&["--all"]), [alice.clone(), bob.clone()], "{layout}");
        assert_eq!(list(&["--user-id", "bob"]), [bob], "{layout}");
        let used = run(&mount, "print(df()[0], df()[2])");
        assert_eq!(used.trim(), "32768 6", "what `df` says");
        let counts = list(&["--user-id", "alice", "--json"]);
        assert_eq!(counts[0], alice);
        assert_eq!(counts[1]["listed"]["users"], 1);
    }
}
