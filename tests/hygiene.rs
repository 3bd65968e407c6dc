//! Where keys and records are not: core dumps, other processes' view of ours, environments, command lines, the log, and
//! memory that is no longer needed. And how the log says more or less.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use std::fs::{self, File};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use common::auth::AuthService;
use common::daemon::{Daemon, reachable_program};
use common::{ALICE, BOB, Layout, SERVICE_UID, Volume, as_user, errno, eventually, shell, skip, success};
use rustix::process::{Pid, Signal, kill_process};

fn children_of(pid: Pid) -> Vec<Pid> {
    let pid = pid.as_raw_pid();
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    let children = children.split_whitespace();
    children
        .map(|pid| Pid::from_raw(pid.parse().unwrap()).unwrap())
        .collect()
}

fn of(pid: Pid, file: &str) -> Vec<u8> {
    fs::read(format!("/proc/{}/{file}", pid.as_raw_pid())).unwrap()
}

/// How often `needle` is in the memory of a process, which root may read.
fn found_in_memory(pid: Pid, needle: &str) -> usize {
    let maps = String::from_utf8(of(pid, "maps")).unwrap();
    let mut memory = File::open(format!("/proc/{}/mem", pid.as_raw_pid())).unwrap();
    let mut found = 0;
    for line in maps.lines().filter(|line| line.contains(" rw")) {
        let (from, to) = line.split(' ').next().unwrap().split_once('-').unwrap();
        let [from, to] = [from, to].map(|address| u64::from_str_radix(address, 16).unwrap());
        let mut content = vec![0; usize::try_from(to - from).unwrap()];
        memory.seek(SeekFrom::Start(from)).unwrap();
        if memory.read_exact(&mut content).is_ok() {
            found += content
                .windows(needle.len())
                .filter(|at| *at == needle.as_bytes())
                .count();
        }
    }
    found
}

/// `tenantfs login` of ALICE's that has read the key and waits for its end. Dropped, it is killed.
struct Waiting(Child);

impl Waiting {
    fn start(volume: &Volume, daemon: &Daemon<'_>) -> Self {
        let program = reachable_program(volume);
        let mut command = as_user(ALICE.uid, volume.base(), program.to_str().unwrap());
        command
            .args(["login", "--socket"])
            .arg(&daemon.socket)
            .stdin(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child
            .stdin
            .as_mut()
            .unwrap()
            .write_all(ALICE.api_key.as_bytes())
            .unwrap();
        let waiting = Self(child);
        assert!(eventually(Duration::from_secs(5), || found_in_memory(
            waiting.pid(),
            ALICE.api_key
        ) > 0));
        waiting
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.0)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn no_process_dumps_core_or_shows_its_memory() {
    let volume = Volume::new(Layout::default());
    let daemon = Daemon::start(&volume, &[]);
    let mount = volume.mount(&BOB);
    let waiting = Waiting::start(&volume, &daemon);
    let mounters = [children_of(daemon.pid()), children_of(mount.pid())].concat();
    assert_eq!(mounters.len(), 2);
    let servers = [daemon.pid(), mount.pid()];
    for pid in servers.iter().chain(&mounters).chain(&[waiting.pid()]) {
        let limits = String::from_utf8(of(*pid, "limits")).unwrap();
        let core = limits
            .lines()
            .find(|line| line.starts_with("Max core file size"))
            .unwrap();
        assert_eq!(
            core.split_whitespace().collect::<Vec<_>>()[4..6],
            ["0", "0"],
            "{core}"
        );
    }
    // Not even to others of their own account.
    let look = |pid: Pid| format!("os.open('/proc/{}/mem', os.O_RDONLY)", pid.as_raw_pid());
    for (uid, pid) in [
        (SERVICE_UID, servers[0]),
        (SERVICE_UID, servers[1]),
        (ALICE.uid, waiting.pid()),
    ] {
        assert_eq!(errno(uid, volume.base(), &look(pid)), "EACCES");
    }
    // Root's own are shown to a root without the right to look at everything; the mounters are not.
    let as_mere_root = |pid: Pid| {
        let mut command = Command::new("setpriv");
        let code = format!(
            "import os\ntry: {}; print('shown')\nexcept OSError: print('hidden')",
            look(pid)
        );
        command.args(["--bounding-set=-sys_ptrace", "python3", "-B", "-c", &code]);
        success(command, "")
    };
    let mut sleeper = Command::new("setpriv");
    let mut sleeper = sleeper
        .args(["--bounding-set=-all", "sleep", "60"])
        .spawn()
        .unwrap();
    let asleep = || of(Pid::from_child(&sleeper), "comm") == b"sleep\n";
    assert!(eventually(Duration::from_secs(5), asleep));
    let control = as_mere_root(Pid::from_child(&sleeper));
    sleeper.kill().unwrap();
    sleeper.wait().unwrap();
    assert_eq!(control, "shown\n", "what this test is about");
    for mounter in mounters {
        assert_eq!(as_mere_root(mounter), "hidden\n");
    }
    for pid in servers {
        let file = fs::metadata(format!("/proc/{}/environ", pid.as_raw_pid())).unwrap();
        assert_eq!(
            file.uid(),
            0,
            "of a process that is not dumpable, root owns even this"
        );
    }
}

#[test]
fn no_key_is_in_an_environment_or_on_a_command_line() {
    let volume = Volume::new(Layout::default());
    let daemon = Daemon::start(&volume, &[]);
    daemon.login(&ALICE);
    let waiting = Waiting::start(&volume, &daemon);
    // As a systemd unit has its key.
    let credentials = volume.base().join("credentials");
    fs::create_dir(&credentials).unwrap();
    fs::copy(volume.api_key_file(&BOB), credentials.join("api-key")).unwrap();
    let place = volume.base().join("by-credential");
    fs::create_dir(&place).unwrap();
    let mut command = volume.mount_command(&place, &BOB, &[]);
    let arguments: Vec<_> = command.get_args().map(ToOwned::to_owned).collect();
    let without = arguments
        .iter()
        .position(|argument| argument == "--api-key-file")
        .unwrap();
    let kept = arguments[..without].iter().chain(&arguments[without + 2..]);
    let mut by_credential = common::tenantfs();
    by_credential
        .args(kept)
        .env("CREDENTIALS_DIRECTORY", &credentials);
    by_credential.stdout(Stdio::null()).stderr(Stdio::null());
    command = by_credential;
    let mut mount = command.spawn().unwrap();
    assert!(eventually(Duration::from_secs(10), || common::is_mounted(&place)));

    let mount_pid = Pid::from_child(&mount);
    let pids = [
        vec![daemon.pid(), mount_pid, waiting.pid()],
        children_of(daemon.pid()),
        children_of(mount_pid),
    ];
    let pids = pids.concat();
    let clean = pids.iter().all(|pid| {
        let text = [of(*pid, "environ"), of(*pid, "cmdline")].concat();
        let text = String::from_utf8_lossy(&text).into_owned();
        text.contains("tenantfs") && [&ALICE, &BOB].iter().all(|tenant| !text.contains(tenant.api_key))
    });
    kill_process(mount_pid, Signal::TERM).unwrap();
    mount.wait().unwrap();
    assert!(pids.len() == 5 && clean, "{pids:?}");
}

#[test]
fn memory_is_locked_where_that_is_allowed() {
    let volume = Volume::new(Layout::default());
    let daemon = Daemon::start(&volume, &[]);
    daemon.login(&ALICE);
    let mount = volume.mount(&BOB);
    let mut allowed = Command::new("prlimit");
    allowed
        .args(["--memlock=unlimited:unlimited", "true"])
        .stderr(Stdio::null());
    let allowed = allowed.status().unwrap().success();
    for (pid, log) in [(daemon.pid(), daemon.log()), (mount.pid(), mount.log())] {
        let status = String::from_utf8(of(pid, "status")).unwrap();
        let kilobytes = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.split_whitespace().next().unwrap().parse::<u64>().unwrap()
        };
        let said = log.contains("memory is not locked: keys and records may be written to swap");
        assert_eq!(
            (kilobytes("VmLck:") > kilobytes("VmRSS:"), said),
            (allowed, !allowed),
            "{status}\n{log}"
        );
    }
    if !allowed {
        skip("root may not lock memory here; that this is logged was looked at");
    }
}

#[test]
fn a_key_is_gone_from_memory_with_its_session() {
    let volume = Volume::new(Layout::default());
    let daemon = Daemon::start(&volume, &[]);
    daemon.login(&ALICE);
    assert!(
        found_in_memory(daemon.pid(), ALICE.api_key) > 0,
        "what this test is about"
    );
    daemon.asked(ALICE.uid, &["logout"], "");
    assert_eq!(found_in_memory(daemon.pid(), ALICE.api_key), 0);
    daemon.ask(ALICE.uid, &["login"], "a-key-that-is-refused");
    assert_eq!(found_in_memory(daemon.pid(), "a-key-that-is-refused"), 0);
}

#[test]
fn no_key_is_logged_at_any_level() {
    let volume = Volume::new(Layout::default());
    let mut service = AuthService::start(&[(ALICE.user, ALICE.api_key)]);
    let url = format!("{}?token=operators-secret", service.url());
    let mut command = Daemon::command(&volume, &["--auth-url", &url, "--lease", "1s"]);
    command.env("TENANTFS_LOG", "trace");
    let daemon = Daemon::start_command(&volume, command);
    let place = daemon.login(&ALICE);
    shell(
        ALICE.uid,
        &place,
        "echo '{\"word\":\"sentinel-of-a-record\"}' > schedules/x.json; cat schedules/x.json",
    );
    assert_eq!(
        daemon.ask(BOB.uid, &["login"], BOB.api_key).status.code(),
        Some(3)
    );
    service.kill();
    assert!(eventually(Duration::from_secs(10), || daemon.state(ALICE.uid) == "stale"));
    service.restart();
    assert!(eventually(Duration::from_secs(10), || daemon.state(ALICE.uid) == "active"));
    let log = daemon.log();
    assert!(
        log.contains("TRACE") && log.contains("DEBUG"),
        "what this test is about\n{log}"
    );
    for secret in [
        ALICE.api_key,
        BOB.api_key,
        "operators-secret",
        "sentinel-of-a-record",
    ] {
        assert!(!log.contains(secret), "{secret}");
    }
}

#[test]
fn sigusr1_has_more_logged_and_sigusr2_less() {
    let volume = Volume::new(Layout::default());
    let mut command = Daemon::command(&volume, &[]);
    command.env_remove("TENANTFS_LOG");
    let daemon = Daemon::start_command(&volume, command);
    let place = daemon.login(&ALICE);
    let become_ = |signal: Signal, level: &str| {
        let said = format!("the log level is {level} now");
        let times = daemon.log().matches(&said).count();
        daemon.signal(signal);
        let so = eventually(Duration::from_secs(5), || {
            daemon.log().matches(&said).count() > times
        });
        assert!(so, "{level}\n{}", daemon.log());
    };
    let absent = || _ = errno(ALICE.uid, &place, "os.stat('schedules/none')");
    absent();
    assert!(!daemon.log().contains("lookup: "));
    for level in ["info", "debug"] {
        become_(Signal::USR1, level);
    }
    absent();
    assert!(
        daemon.log().contains("DEBUG") && daemon.log().contains("lookup: "),
        "{}",
        daemon.log()
    );
    for level in ["info", "warn", "error", "error"] {
        become_(Signal::USR2, level);
    }
    let before = daemon.log();
    absent();
    daemon.asked(ALICE.uid, &["logout"], "");
    assert_eq!(daemon.log(), before);

    // The mounter, which a signal to every process of this name reaches too, goes on.
    let mounters = children_of(daemon.pid());
    for signal in [Signal::USR1, Signal::USR2] {
        kill_process(mounters[0], signal).unwrap();
    }
    daemon.login(&ALICE);
    assert_eq!(children_of(daemon.pid()), mounters);

    let mount = volume.mount(&BOB);
    kill_process(mount.pid(), Signal::USR1).unwrap();
    assert!(eventually(Duration::from_secs(5), || mount
        .log()
        .contains("the log level is trace now")));
}

#[test]
fn what_is_more_than_a_level_is_left_as_it_is() {
    let volume = Volume::new(Layout::default());
    let mut command = Daemon::command(&volume, &[]);
    command.env("TENANTFS_LOG", "warn,tenantfs::daemon=info");
    let daemon = Daemon::start_command(&volume, command);
    daemon.login(&ALICE);
    assert!(
        daemon.log().contains("begins"),
        "its own filter holds\n{}",
        daemon.log()
    );
    daemon.signal(Signal::USR1);
    let said = || daemon.log().contains("TENANTFS_LOG is more than one level");
    assert!(eventually(Duration::from_secs(5), said), "{}", daemon.log());
}
