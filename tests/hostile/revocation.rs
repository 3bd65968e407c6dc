//! What ends access does not depend on what somebody else can use up: threads, descriptors, workers, the volume.

use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::process::{Pid, Signal, kill_process};
use sha2::{Digest as _, Sha256};

use super::arena::{rounds, tell};
use crate::common::auth::AuthService;
use crate::common::daemon::Daemon;
use crate::common::hanging::Hanging;
use crate::common::{ALICE, BOB, Layout, SERVICE_UID, Volume, as_user, errno, eventually, shell};

/// Within this a session is dark in every way when nothing is wrong but what the case does.
const DARK: Duration = Duration::from_secs(1);

/// Tries one way of access again and again until it is closed, and says when that was. What fails for want of descriptors is not
/// closed.
const OBSERVE: &str = "import errno, os, sys, time\n\
    fd = os.open('results/held.txt', os.O_RDWR)\n\
    ways = {'cached': lambda: os.pread(fd, 10, 0), 'open': lambda: os.close(os.open('schedules/x.json', os.O_RDONLY)),\n\
    \x20       'write': lambda: os.pwrite(fd, b'late', 0)}\n\
    attempt = ways[sys.argv[1]]\n\
    attempt(); print('ready', flush=True)\n\
    while True:\n\
    \x20   try: attempt()\n\
    \x20   except OSError as error:\n\
    \x20       if error.errno == errno.ENFILE: continue\n\
    \x20       print(time.time(), errno.errorcode[error.errno], flush=True); break\n\
    \x20   time.sleep(0.0005)";

/// All of them.
const WAYS: &[&str] = &["cached", "open", "write"];

fn observers(place: &Path, ways: &[&str]) -> Vec<Child> {
    let start = |way: &&str| {
        let mut command = as_user(ALICE.uid, place, "python3");
        command.args(["-B", "-c", OBSERVE, way]).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut ready = [0; 6];
        child.stdout.as_mut().unwrap().read_exact(&mut ready).unwrap();
        child
    };
    ways.iter().map(start).collect()
}

/// How long after `since` the last way of access was closed.
fn dark(observers: Vec<Child>, since: SystemTime) -> Duration {
    let ended = observers.into_iter().map(|child| {
        let output = String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap();
        let (when, how) = output.trim().split_once(' ').unwrap();
        assert!(["ENOTCONN", "ECONNABORTED"].contains(&how), "{how}");
        let when = UNIX_EPOCH + Duration::from_secs_f64(when.parse().unwrap());
        when.duration_since(since).unwrap_or_default()
    });
    ended.max().unwrap_or_default()
}

/// Logs alice in and revokes her session, again and again; `meanwhile` is what is wrong when that happens. Tells the times
/// until it was dark, and how long `revoke` took at most.
fn revoke_often<T>(daemon: &Daemon<'_>, case: &str, ways: &[&str], count: usize, meanwhile: impl Fn() -> T) {
    let (mut times, mut slowest) = (Vec::new(), Duration::ZERO);
    for round in 0..count {
        let place = daemon.login(&ALICE);
        let observers = observers(&place, ways);
        let wrong = meanwhile();
        let since = SystemTime::now();
        daemon.asked(0, &["revoke", "--user-id", "alice"], "");
        slowest = slowest.max(since.elapsed().unwrap());
        let after = dark(observers, since);
        assert!(
            after < DARK,
            "{case}, round {round}: dark after {after:?}\n{}",
            daemon.log()
        );
        times.push(after);
        drop(wrong);
        let gone = || daemon.state(ALICE.uid) == "none";
        assert!(
            eventually(Duration::from_secs(30), gone),
            "{case}: {}",
            daemon.log()
        );
    }
    times.sort_unstable();
    let (p50, p99, most) = (times[count / 2], times[(count * 99) / 100], times[count - 1]);
    eprintln!(
        "refusal to dark, {case}: p50 {p50:?}, p99 {p99:?}, max {most:?}; revoke returned after {slowest:?} at most"
    );
    assert!(
        slowest < Duration::from_millis(1500),
        "{case}: revoke took {slowest:?}"
    );
    tell("revocation", case, count);
}

/// How many threads and processes the account of the server may have, all tests together.
const THREADS: usize = 400;

/// A daemon whose server can have no more than that.
fn limited<'v>(volume: &'v Volume, options: &[&str]) -> Daemon<'v> {
    let daemon = Daemon::command(volume, options);
    let mut command = Command::new("prlimit");
    command
        .arg(format!("--nproc={THREADS}"))
        .arg(daemon.get_program())
        .args(daemon.get_args());
    for (name, value) in daemon.get_envs() {
        command.env(name, value.unwrap());
    }
    Daemon::start_command(volume, command)
}

/// Takes every thread that the server's account may have, and those that become free meanwhile.
const TAKE_THREADS: &str = "import resource, sys, threading, time\n\
    most = int(sys.argv[1]); resource.setrlimit(resource.RLIMIT_NPROC, (most, most)); threading.stack_size(65536)\n\
    told = False\n\
    while True:\n\
    \x20   try: threading.Thread(target=time.sleep, args=(600,), daemon=True).start()\n\
    \x20   except RuntimeError:\n\
    \x20       if not told: print('none', flush=True); told = True\n\
    \x20       time.sleep(0.001)";

/// No thread is to be had while this lives.
struct NoThreads(Child);

impl NoThreads {
    fn new(volume: &Volume) -> Self {
        let mut command = as_user(SERVICE_UID, volume.base(), "python3");
        let most = THREADS.to_string();
        command
            .args(["-B", "-c", TAKE_THREADS, &most])
            .stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut none = [0; 5];
        child.stdout.as_mut().unwrap().read_exact(&mut none).unwrap();
        Self(child)
    }
}

impl Drop for NoThreads {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// Takes every descriptor of the server as a crowd can: with connections of many accounts, until one is turned away.
const TAKE_DESCRIPTORS: &str = "import os, socket, sys, time\n\
    taken = []\n\
    for uid in range(200000, 200120):\n\
    \x20   os.seteuid(uid); one = socket.socket(socket.AF_UNIX); one.connect(sys.argv[1]); os.seteuid(0)\n\
    \x20   taken.append(one); one.settimeout(0.02)\n\
    \x20   try:\n\
    \x20       if b'too many' in one.recv(4096): print('none', flush=True); time.sleep(600)\n\
    \x20   except TimeoutError: pass";

/// No descriptor is to be had while this lives.
struct NoDescriptors(Child);

impl NoDescriptors {
    fn new(daemon: &Daemon<'_>) -> Self {
        let server = server_of(daemon).as_raw_pid();
        let open = std::fs::read_dir(format!("/proc/{server}/fd")).unwrap().count();
        let (server, most) = (server.to_string(), format!("--nofile={}:", open + 40));
        let mut limit = as_user(SERVICE_UID, Path::new("/"), "prlimit");
        assert!(limit.args(["--pid", &server, &most]).status().unwrap().success());
        let mut command = Command::new("python3");
        command.args(["-B", "-c", TAKE_DESCRIPTORS]).arg(daemon.socket());
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut none = [0; 5];
        child.stdout.as_mut().unwrap().read_exact(&mut none).unwrap();
        Self(child)
    }
}

impl Drop for NoDescriptors {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// The process that serves: the one of the volume's account. The daemon's other half is root's, and only mounts.
fn server_of(daemon: &Daemon<'_>) -> Pid {
    let parent = daemon.pid().as_raw_pid();
    let children = std::fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).unwrap();
    let is_server = |pid: &i32| {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        status
            .lines()
            .any(|line| line.starts_with("Uid:") && !line.starts_with("Uid:\t0\t"))
    };
    let all = std::iter::once(parent).chain(children.split_whitespace().map(|pid| pid.parse().unwrap()));
    Pid::from_raw(all.into_iter().find(is_server).unwrap()).unwrap()
}

fn prepared(volume: &Volume) {
    for resource in ["schedules", "results"] {
        // bindfs cannot do what making one takes: RENAME_NOREPLACE.
        let full_hash = hex::encode(Sha256::digest(ALICE.user));
        volume.plant(&ALICE, resource, ".tenantfs-owner", full_hash);
    }
    volume.plant(&ALICE, "results", "held.txt", "early");
    volume.plant(&ALICE, "schedules", "x.json", r#"{"user_id":"alice"}"#);
}

#[test]
fn revocation_is_dark_at_once_quiet_and_in_a_flood() {
    let volume = Volume::new(Layout::default());
    prepared(&volume);
    let daemon = Daemon::start(&volume, &[]);
    let count = rounds(3, 300);
    revoke_often(&daemon, "quiet", WAYS, count, || ());
    let flood = || {
        let place = daemon.place(ALICE.uid);
        let script = "import os\nfor _ in range(4):\n\tif os.fork() == 0: break\n\
            try:\n\twhile True:\n\t\topen('results/f%d' % os.getpid(), 'wb').write(b'x' * 65536); os.listdir('schedules')\n\
            except OSError: pass";
        let mut command = as_user(ALICE.uid, &place, "python3");
        let child = command.args(["-B", "-c", script]).spawn().unwrap();
        thread::sleep(Duration::from_millis(50));
        Flood(child)
    };
    revoke_often(
        &daemon,
        "in a flood of the user's own requests",
        WAYS,
        count,
        flood,
    );
}

struct Flood(Child);

impl Drop for Flood {
    fn drop(&mut self) {
        self.0.wait().unwrap();
    }
}

#[test]
fn revocation_needs_no_thread_and_no_descriptor() {
    let volume = Volume::new(Layout::default());
    prepared(&volume);
    let daemon = limited(&volume, &[]);
    let bobs = daemon.login(&BOB);
    let count = rounds(3, 200);
    revoke_often(&daemon, "without threads", WAYS, count, || {
        NoThreads::new(&volume)
    });
    revoke_often(&daemon, "without descriptors", WAYS, count, || {
        NoDescriptors::new(&daemon)
    });
    assert_eq!(
        shell(BOB.uid, &bobs, "echo '{}' > schedules/b.json; ls schedules"),
        "b.json\n"
    );
}

#[test]
fn revocation_of_a_session_on_a_volume_that_hangs_is_dark_at_once() {
    let volume = Volume::new(Layout::default());
    let Some(hanging) = Hanging::beneath(&volume) else {
        return;
    };
    prepared(&volume);
    let daemon = Daemon::start(&volume, &[]);
    let count = rounds(2, 100);
    // Whatever asks the volume waits for it, and gets nothing.
    revoke_often(&daemon, "with a volume that hangs", &["cached"], count, || {
        hanging.hang()
    });
}

#[test]
fn a_key_that_is_refused_while_there_are_no_threads_ends_access_within_the_lease() {
    let mut service = AuthService::start(&[("alice", ALICE.api_key), ("bob", BOB.api_key)]);
    let volume = Volume::new(Layout::default());
    prepared(&volume);
    let url = service.url().to_owned();
    let daemon = limited(&volume, &["--auth-url", &url, "--lease", "2s"]);
    let place = daemon.login(&ALICE);
    let observers = observers(&place, WAYS);
    let _none = NoThreads::new(&volume);
    let since = SystemTime::now();
    service.revoke(ALICE.api_key);
    let after = dark(observers, since);
    assert!(after < Duration::from_secs(3), "{after:?}");
    tell("revocation", "a refused key without threads", 1);
}

#[test]
fn a_server_that_stands_still_serves_nobody_beyond_lease_and_grace() {
    let service = AuthService::start(&[("alice", ALICE.api_key)]);
    let volume = Volume::new(Layout::default());
    prepared(&volume);
    let url = service.url().to_owned();
    let daemon = Daemon::start(&volume, &["--auth-url", &url, "--lease", "1s", "--grace", "0s"]);
    let place = daemon.login(&ALICE);
    // As a host that is suspended, or a machine that is paused and goes on: no timer has run when requests come again.
    let server = server_of(&daemon);
    kill_process(server, Signal::STOP).unwrap();
    thread::sleep(Duration::from_secs(3));
    service.pause();
    let mut reader = as_user(ALICE.uid, &place, "python3");
    reader.args(["-B", "-c", "import os\nos.open('schedules/x.json', os.O_RDONLY)"]);
    let reader = reader.stderr(Stdio::piped()).spawn().unwrap();
    thread::sleep(Duration::from_millis(300));
    kill_process(server, Signal::CONT).unwrap();
    let said = String::from_utf8(reader.wait_with_output().unwrap().stderr).unwrap();
    assert!(said.contains("Permission denied"), "{said}");
    service.resume();
    let open = format!("os.open('{}/schedules/x.json', os.O_RDONLY)", place.display());
    let opens = || errno(ALICE.uid, volume.base(), &open) == "ok";
    assert!(eventually(Duration::from_secs(10), opens), "{}", daemon.log());
    tell("revocation", "a server that stood still", 1);
}

#[test]
fn what_is_revoked_while_its_login_is_under_way_does_not_begin() {
    let service = AuthService::start(&[("alice", ALICE.api_key), ("bob", BOB.api_key)]);
    let volume = Volume::new(Layout::default());
    let url = service.url().to_owned();
    let daemon = Daemon::start(&volume, &["--auth-url", &url]);
    for ends in [
        &["revoke", "--user-id", "alice"][..],
        &["revoke", "--uid", "61001"],
        &["revoke", "--all"],
        &["logout"],
    ] {
        service.pause();
        let login = |uid: u32, key: &str| {
            let mut command = daemon.client(uid, &["login"]);
            let mut child = command
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap();
            child.stdin.as_mut().unwrap().write_all(key.as_bytes()).unwrap();
            drop(child.stdin.take());
            child
        };
        let (alice, bob) = (login(ALICE.uid, ALICE.api_key), login(BOB.uid, BOB.api_key));
        thread::sleep(Duration::from_millis(500));
        let who = if ends[0] == "logout" { ALICE.uid } else { 0 };
        daemon.asked(who, ends, "");
        service.resume();
        let [alice, bob] = [alice, bob].map(|login| login.wait_with_output().unwrap());
        let said = String::from_utf8(alice.stderr).unwrap();
        assert!(said.contains("ended meanwhile"), "{ends:?}: {said}");
        assert!(!daemon.place(ALICE.uid).exists(), "{ends:?}");
        assert_eq!(
            bob.status.success(),
            !ends.contains(&"--all"),
            "{ends:?}: {bob:?}"
        );
        daemon.ask(BOB.uid, &["logout"], "");
    }
    tell("revocation", "logins under way", 4);
}
