//! What is killed comes back, and what cannot come back is cleared away: the daemon, the mounter, and both.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use common::auth::AuthService;
use common::daemon::Daemon;
use common::mounter::MounterService;
use common::{ALICE, BOB, Conversation, Layout, OtherMount, Volume, errno, eventually, is_mounted, shell};
use rustix::process::{Pid, Signal, kill_process};

/// Something else that is mounted where the views are.
fn stranger(place: &Path) -> OtherMount {
    fs::create_dir(place).unwrap();
    OtherMount::over(place, "tmpfs")
}

#[test]
fn when_the_daemon_is_killed_its_mounts_are_gone_within_a_second() {
    let volume = Volume::new(Layout::default());
    let mut daemon = Daemon::start(&volume, &[]);
    let (alices, bobs) = (daemon.login(&ALICE), daemon.login(&BOB));
    let mut held = Conversation::start_in(
        ALICE.uid,
        &alices,
        "import os\nos.chdir('schedules')\nprint(1, flush=True); input()\n\
         try: os.listdir('.'); print('still there', flush=True)\nexcept OSError as error: print(error.errno, flush=True)\ninput()",
    );
    held.next();
    daemon.signal(Signal::KILL);
    let killed = Instant::now();
    assert!(eventually(Duration::from_secs(1), || !is_mounted(&alices)
        && !is_mounted(&bobs)));
    eprintln!("gone after {:?}", killed.elapsed());
    assert_ne!(held.next(), "still there");
    daemon.wait();
    assert!(
        eventually(Duration::from_secs(1), || !alices.exists()),
        "the mountpoints go too"
    );

    let daemon = Daemon::start(&volume, &[]);
    assert_eq!(
        daemon.state(ALICE.uid),
        "none",
        "without systemd nobody keeps the keys"
    );
    daemon.login(&ALICE);
}

#[test]
fn leftovers_of_a_killed_daemon_are_cleared_and_strangers_mounts_are_not_touched() {
    let volume = Volume::new(Layout::default());
    let mut daemon = Daemon::start(&volume, &[]);
    let (alices, bobs) = (daemon.login(&ALICE), daemon.login(&BOB));
    // Both halves at once: nobody is left to clear up.
    let mounter = children_of(daemon.pid());
    assert_eq!(mounter.len(), 1);
    daemon.signal(Signal::STOP);
    kill_process(mounter[0], Signal::KILL).unwrap();
    daemon.signal(Signal::KILL);
    daemon.wait();
    assert!(
        is_mounted(&alices) && is_mounted(&bobs),
        "what this test is about"
    );
    let stranger = stranger(&daemon.mounts.join("70000"));
    // The directory is beneath a dead mount by now, and cannot be looked at.
    let covering = OtherMount::over(&bobs, "tmpfs");

    let daemon = Daemon::start(&volume, &[]);
    assert!(!is_mounted(&alices));
    assert!(is_mounted(&stranger.place));
    assert!(is_mounted(&covering.place), "what somebody mounted over ours");
    daemon.login(&ALICE);
    let output = daemon.ask(BOB.uid, &["login"], BOB.api_key);
    assert_eq!(output.status.code(), Some(5));
    drop(covering);
    // What was below is still there, and nobody's: root clears it.
    let _ = rustix::mount::unmount(&bobs, rustix::mount::UnmountFlags::DETACH);
    daemon.login(&BOB);
    drop(stranger);
}

#[test]
fn when_the_mounter_is_killed_sessions_go_on_and_a_new_one_serves_new_logins() {
    let volume = Volume::new(Layout::default());
    let mut mounter = MounterService::start(&volume);
    let mut daemon = Daemon::start(&volume, &["--mounter", mounter.socket.to_str().unwrap()]);
    let alices = daemon.login(&ALICE);
    mounter.kill();
    assert_eq!(
        shell(ALICE.uid, &alices, "echo '{}' > schedules/x.json; ls schedules"),
        "x.json\n"
    );
    let output = daemon.ask(BOB.uid, &["login"], BOB.api_key);
    assert_eq!(
        output.status.code(),
        Some(5),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );

    mounter.restart();
    let bobs = daemon.login(&BOB);
    assert_eq!(shell(ALICE.uid, &alices, "ls schedules"), "x.json\n");
    // The new one ends what the old one made.
    daemon.asked(ALICE.uid, &["logout"], "");
    assert!(!is_mounted(&alices));
    daemon.login(&ALICE);

    // And it is there for the daemon's own death, also when nobody asked it anything since.
    mounter.kill();
    mounter.restart();
    thread::sleep(Duration::from_secs(3));
    daemon.signal(Signal::KILL);
    assert!(eventually(Duration::from_secs(1), || !is_mounted(&alices)
        && !is_mounted(&bobs)));
    daemon.wait();
}

#[test]
fn a_session_that_ends_without_a_mounter_is_dark_and_is_unmounted_when_there_is_one() {
    let volume = Volume::new(Layout::default());
    let mut mounter = MounterService::start(&volume);
    let daemon = Daemon::start(&volume, &["--mounter", mounter.socket.to_str().unwrap()]);
    let alices = daemon.login(&ALICE);
    mounter.kill();
    let output = daemon.ask(ALICE.uid, &["logout"], "");
    assert_eq!(
        output.status.code(),
        Some(5),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert_eq!(
        errno(ALICE.uid, volume.base(), &format!("os.listdir({alices:?})")),
        "ENOTCONN"
    );
    mounter.restart();
    assert!(eventually(Duration::from_secs(10), || !is_mounted(&alices)));
    assert!(eventually(Duration::from_secs(1), || daemon.state(ALICE.uid) == "none"));
    daemon.login(&ALICE);
}

/// A daemon that systemd runs.
struct Supervised<'v> {
    supervisor: Child,
    happened: Receiver<String>,
    daemon: Option<Daemon<'v>>,
}

impl<'v> Supervised<'v> {
    fn start(volume: &'v Volume, options: &[&str]) -> Self {
        let run = volume.base().join("run");
        fs::create_dir_all(&run).unwrap();
        let command = Daemon::command(volume, options);
        let mut supervisor = Command::new("python3");
        supervisor
            .arg("-B")
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fake_systemd.py"));
        supervisor
            .arg(Daemon::socket_of(volume))
            .arg(command.get_program())
            .args(command.get_args());
        let log = File::create(Daemon::log_of(volume)).unwrap();
        supervisor
            .env("TENANTFS_LOG", "debug")
            .stdout(Stdio::piped())
            .stderr(log);
        let mut supervisor = supervisor.spawn().unwrap();
        let (sender, happened) = channel();
        let lines = BufReader::new(supervisor.stdout.take().unwrap()).lines();
        thread::spawn(move || lines.map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Self {
            supervisor,
            happened,
            daemon: Some(Daemon::supervised(volume)),
        }
    }

    fn daemon(&self) -> &Daemon<'v> {
        self.daemon.as_ref().unwrap()
    }

    /// Waits until something has happened, and returns what follows those words.
    fn wait_for(&self, words: &str) -> String {
        let until = Instant::now() + Duration::from_secs(20);
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let line = self.happened.recv_timeout(left.min(Duration::from_secs(10)));
            let line = line.unwrap_or_else(|_| panic!("{words}: did not happen\n{}", self.daemon().log()));
            if let Some(rest) = line.strip_prefix(words) {
                return rest.trim().to_owned();
            }
        }
    }
}

impl Drop for Supervised<'_> {
    fn drop(&mut self) {
        let _ = kill_process(Pid::from_child(&self.supervisor), Signal::TERM);
        let _ = self.supervisor.wait();
        self.daemon = None;
    }
}

#[test]
fn a_restarted_daemon_brings_every_session_back_by_itself() {
    let volume = Volume::new(Layout::default());
    let mut mounter = MounterService::start(&volume);
    let mut service = AuthService::start(&[(ALICE.user, ALICE.api_key), (BOB.user, BOB.api_key)]);
    let socket = mounter.socket.to_str().unwrap().to_owned();
    let options = ["--auth-url", service.url(), "--mounter", &socket];
    let systemd = Supervised::start(&volume, &options);
    let pid = systemd.wait_for("started");
    systemd.wait_for("notified READY=1");
    systemd.wait_for("notified WATCHDOG=1");

    let alices = systemd.daemon().login(&ALICE);
    systemd.wait_for("stored session-61001");
    let bobs = systemd.daemon().login(&BOB);
    systemd.wait_for("stored session-61002");
    // What `systemctl status` shows.
    systemd.wait_for("notified STATUS=2 sessions: 2 active");
    shell(ALICE.uid, &alices, "echo '{\"a\":1}' > schedules/x.json");
    let kill = |pid: &str| kill_process(Pid::from_raw(pid.parse().unwrap()).unwrap(), Signal::KILL).unwrap();
    kill(&pid);
    systemd.wait_for("exited -9");
    let pid = systemd.wait_for("started");
    systemd.wait_for("notified READY=1");
    for (tenant, place) in [(&ALICE, &alices), (&BOB, &bobs)] {
        assert!(eventually(Duration::from_secs(5), || systemd
            .daemon()
            .state(tenant.uid)
            == "active"));
        assert!(is_mounted(place));
    }
    assert_eq!(shell(ALICE.uid, &alices, "cat schedules/x.json"), "{\"a\":1}\n");

    // Who logged out stays out; who was revoked meanwhile too; and the service need not be there yet.
    systemd.daemon().asked(BOB.uid, &["logout"], "");
    systemd.wait_for("removed session-61002");
    service.kill();
    kill(&pid);
    let pid = systemd.wait_for("started");
    systemd.wait_for("notified READY=1");
    assert!(eventually(Duration::from_secs(5), || systemd
        .daemon()
        .state(ALICE.uid)
        == "restoring"));
    assert_eq!(systemd.daemon().state(BOB.uid), "none");
    assert!(
        !is_mounted(&alices),
        "nothing is shown before the key is validated"
    );
    service.restart();
    assert!(eventually(Duration::from_secs(15), || systemd
        .daemon()
        .state(ALICE.uid)
        == "active"));
    assert!(is_mounted(&alices) && !is_mounted(&bobs));

    service.revoke(ALICE.api_key);
    mounter.kill();
    mounter.restart();
    kill(&pid);
    systemd.wait_for("started");
    systemd.wait_for("notified READY=1");
    systemd.wait_for("removed session-61001");
    assert!(eventually(Duration::from_secs(5), || systemd
        .daemon()
        .state(ALICE.uid)
        == "none"));
    assert!(systemd.daemon().mounted().is_empty());
}

#[test]
fn a_login_that_fails_leaves_the_session_that_waits_to_come_back_and_a_logout_is_final() {
    let volume = Volume::new(Layout::default());
    let mounter = MounterService::start(&volume);
    let mut service = AuthService::start(&[(ALICE.user, ALICE.api_key)]);
    let options = [
        "--auth-url",
        service.url(),
        "--mounter",
        mounter.socket.to_str().unwrap(),
    ];
    let systemd = Supervised::start(&volume, &options);
    let daemon = systemd.daemon();
    let started = || -> Pid {
        let pid = systemd.wait_for("started");
        systemd.wait_for("notified READY=1");
        Pid::from_raw(pid.parse().unwrap()).unwrap()
    };
    let becomes = |state: &str| {
        assert!(
            eventually(Duration::from_secs(15), || daemon.state(ALICE.uid) == state),
            "{state}\n{}",
            daemon.log()
        )
    };
    let pid = started();
    daemon.login(&ALICE);
    systemd.wait_for("stored session-61001");
    service.kill();
    kill_process(pid, Signal::KILL).unwrap();
    let pid = started();
    becomes("restoring");
    let output = daemon.ask(ALICE.uid, &["login"], ALICE.api_key);
    assert_eq!(output.status.code(), Some(4), "nobody can be asked");
    becomes("restoring");
    common::set_mode(&volume.root(), 0);
    service.restart();
    let output = daemon.ask(ALICE.uid, &["login"], "not-a-key");
    assert_eq!(output.status.code(), Some(3), "refused");
    let output = daemon.ask(ALICE.uid, &["login"], ALICE.api_key);
    assert_eq!(output.status.code(), Some(1), "the volume refuses");
    becomes("restoring");
    common::set_mode(&volume.root(), 0o750);
    becomes("active");

    service.kill();
    kill_process(pid, Signal::KILL).unwrap();
    let pid = started();
    becomes("restoring");
    daemon.asked(ALICE.uid, &["logout"], "");
    systemd.wait_for("removed session-61001");
    service.restart();
    kill_process(pid, Signal::KILL).unwrap();
    started();
    thread::sleep(Duration::from_secs(1));
    assert_eq!(daemon.state(ALICE.uid), "none");
}

#[test]
fn sessions_that_wait_to_come_back_are_counted_and_the_reason_is_the_true_one() {
    let volume = Volume::new(Layout::default());
    let mounter = MounterService::start(&volume);
    let metrics = volume.base().join("metrics.sock");
    let mut service = AuthService::start(&[(ALICE.user, ALICE.api_key)]);
    let options = [
        "--auth-url",
        service.url(),
        "--mounter",
        mounter.socket.to_str().unwrap(),
        "--metrics-listen",
        metrics.to_str().unwrap(),
    ];
    let systemd = Supervised::start(&volume, &options);
    let daemon = systemd.daemon();
    let pid = Pid::from_raw(systemd.wait_for("started").parse().unwrap()).unwrap();
    systemd.wait_for("notified READY=1");
    daemon.login(&ALICE);
    systemd.wait_for("stored session-61001");
    let counted = |state: &str| {
        let mut stream = UnixStream::connect(&metrics).unwrap();
        stream
            .write_all(b"GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
            .unwrap();
        let mut page = String::new();
        stream.read_to_string(&mut page).unwrap();
        page.contains(&format!("tenantfs_sessions{{state=\"{state}\"}} 1\n"))
    };
    assert!(counted("active") && !counted("restoring"));

    service.kill();
    kill_process(pid, Signal::KILL).unwrap();
    systemd.wait_for("started");
    systemd.wait_for("notified READY=1");
    let told = || String::from_utf8(daemon.ask(ALICE.uid, &["status"], "").stdout).unwrap();
    assert!(eventually(Duration::from_secs(10), || told().contains("cannot be reached")));
    // From now on nothing is wrong with the auth service.
    common::set_mode(&volume.root(), 0);
    service.restart();
    let mut reason = String::new();
    let is_told = eventually(Duration::from_secs(15), || {
        let status = daemon.json(0, &["status"], "");
        reason = status["sessions"][0]["reason"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        reason.contains("Permission denied")
    });
    assert!(is_told, "{reason}\n{}", daemon.log());
    assert!(counted("restoring") && !counted("active"));
    // Its user is told no place on the volume, and a script that it is not back yet.
    let own = daemon.ask(ALICE.uid, &["status"], "");
    let said = String::from_utf8_lossy(&own.stdout).into_owned();
    assert_eq!(own.status.code(), Some(4), "{said}");
    assert!(
        said.contains("restoring: since the daemon was restarted; "),
        "{said}"
    );
    assert!(
        !said.contains(volume.root().to_str().unwrap()) && !said.contains("auth service"),
        "{said}"
    );
    systemd.wait_for("notified STATUS=1 session, restoring");
    common::set_mode(&volume.root(), 0o750);
    assert!(eventually(Duration::from_secs(15), || daemon.state(ALICE.uid) == "active"));
    assert!(counted("active") && !counted("restoring"));
    assert!(!daemon.asked(ALICE.uid, &["status"], "").contains("Permission"));
}

#[test]
fn a_wrong_config_file_at_a_restart_loses_no_session() {
    let volume = Volume::new(Layout::default());
    let mounter = MounterService::start(&volume);
    let config = volume.base().join("config.toml");
    fs::write(&config, "[auth]\nlease = \"60s\"\n").unwrap();
    let options = [
        "--mounter",
        mounter.socket.to_str().unwrap(),
        "--config",
        config.to_str().unwrap(),
    ];
    let systemd = Supervised::start(&volume, &options);
    let pid = Pid::from_raw(systemd.wait_for("started").parse().unwrap()).unwrap();
    systemd.wait_for("notified READY=1");
    let place = systemd.daemon().login(&ALICE);
    systemd.wait_for("stored session-61001");
    fs::write(&config, "[auth]\nlaese = \"60s\"\n").unwrap();
    kill_process(pid, Signal::KILL).unwrap();
    // Not 2, with which the unit gives up, and systemd throws away the keys that it keeps.
    systemd.wait_for("exited -9");
    assert_eq!(systemd.wait_for("exited"), "7");
    assert_eq!(systemd.wait_for("exited"), "7");
    fs::write(&config, "[auth]\nlease = \"60s\"\n").unwrap();
    systemd.wait_for("notified READY=1");
    assert!(eventually(Duration::from_secs(10), || systemd
        .daemon()
        .state(ALICE.uid)
        == "active"));
    assert!(is_mounted(&place));
    // Where nobody's session is at stake, it says that starting again does not help.
    systemd.daemon().asked(ALICE.uid, &["logout"], "");
    systemd.wait_for("removed session-61001");
    fs::write(&config, "nonsense").unwrap();
    let daemon = children_of(Pid::from_child(&systemd.supervisor));
    kill_process(daemon[0], Signal::KILL).unwrap();
    systemd.wait_for("exited -9");
    assert_eq!(systemd.wait_for("exited"), "2");
}

#[test]
fn a_daemon_that_waits_for_the_mounter_at_its_end_feeds_the_watchdog_meanwhile() {
    let volume = Volume::new(Layout::default());
    let mounter = MounterService::start(&volume);
    let systemd = Supervised::start(&volume, &["--mounter", mounter.socket.to_str().unwrap()]);
    let pid: i32 = systemd.wait_for("started").parse().unwrap();
    systemd.wait_for("notified READY=1");
    systemd.daemon().login(&ALICE);
    systemd.wait_for("stored session-61001");
    mounter.signal(Signal::STOP);
    kill_process(Pid::from_raw(pid).unwrap(), Signal::TERM).unwrap();
    systemd.wait_for("notified STOPPING=1");
    for _ in 0..10 {
        systemd.wait_for("notified WATCHDOG=1");
    }
    systemd.wait_for("exited 0");
    mounter.signal(Signal::CONT);
}

fn children_of(pid: Pid) -> Vec<Pid> {
    let pid = pid.as_raw_nonzero();
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    let children = children
        .split_whitespace()
        .map(|child| Pid::from_raw(child.parse().unwrap()).unwrap());
    children.collect()
}
