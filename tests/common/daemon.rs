//! A daemon as a host has it: started by root, its users at its control socket.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::{MOUNT_DEADLINE, Tenant, Volume, as_user, eventually, is_mounted, run, set_mode, tenantfs};

/// A running daemon. Dropped, it ends with SIGTERM, and the test fails when that leaves a mount behind.
pub(crate) struct Daemon<'v> {
    volume: &'v Volume,
    pub(crate) socket: PathBuf,
    /// The directory of the mountpoints.
    pub(crate) mounts: PathBuf,
    /// None when somebody else runs it.
    server: Option<Child>,
    log: PathBuf,
}

impl<'v> Daemon<'v> {
    /// Starts one on the volume, with the static keys of ALICE and BOB; `options` come after that and win.
    pub(crate) fn start(volume: &'v Volume, options: &[&str]) -> Self {
        Self::start_command(volume, Self::command(volume, options))
    }

    /// `tenantfs daemon`, not started: it has no way to authenticate unless `options` give one, then the static keys.
    pub(crate) fn command(volume: &Volume, options: &[&str]) -> Command {
        // The server's account reads it again when it changes.
        set_mode(&volume.static_keys_file(), 0o644);
        let mut command = tenantfs();
        command.arg("daemon").arg("--volume").arg(volume.root());
        command.args(["--layout", &volume.layout.to_string()]);
        command.arg("--socket").arg(Self::socket_of(volume));
        command.arg("--mounts").arg(volume.base().join("mnt/{uid}"));
        if !options.contains(&"--auth-url") {
            command.arg("--static-keys").arg(volume.static_keys_file());
        }
        command.args(options);
        command
    }

    pub(crate) fn socket_of(volume: &Volume) -> PathBuf {
        volume.base().join("run/control.sock")
    }

    pub(crate) fn start_command(volume: &'v Volume, mut command: Command) -> Self {
        let log = Self::log_of(volume);
        let append = File::options().create(true).append(true).open(&log).unwrap();
        let server = command.stdout(Stdio::null()).stderr(append).spawn().unwrap();
        let mut daemon = Self::supervised(volume);
        daemon.server = Some(server);
        let ready = eventually(MOUNT_DEADLINE, || daemon.answers());
        assert!(ready, "the daemon does not answer\n{}", daemon.log());
        daemon
    }

    /// One that somebody else runs.
    pub(crate) fn supervised(volume: &'v Volume) -> Self {
        Self {
            volume,
            socket: Self::socket_of(volume),
            mounts: volume.base().join("mnt"),
            server: None,
            log: Self::log_of(volume),
        }
    }

    pub(crate) fn log_of(volume: &Volume) -> PathBuf {
        volume.base().join("daemon.log")
    }

    /// Whether it has come so far that it answers.
    fn answers(&self) -> bool {
        let Ok(mut stream) = UnixStream::connect(&self.socket) else {
            return false;
        };
        let mut answer = [0];
        let asked = stream.write_all(b"{\"status\":{}}\n");
        asked.and_then(|()| stream.read_exact(&mut answer)).is_ok()
    }

    /// What it wrote to stderr.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(self.server.as_ref().unwrap())
    }

    /// Where the view of a uid is, when there is one.
    pub(crate) fn place(&self, uid: u32) -> PathBuf {
        self.mounts.join(uid.to_string())
    }

    /// Where it listens.
    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }

    /// A command of the client, run as `uid`: `["status", "--json"]`.
    pub(crate) fn ask(&self, uid: u32, args: &[&str], input: &str) -> Output {
        run(self.client(uid, args), input)
    }

    /// The same, to be started.
    pub(crate) fn client(&self, uid: u32, args: &[&str]) -> Command {
        let mut command = as_user(
            uid,
            self.volume.base(),
            reachable_program(self.volume).to_str().unwrap(),
        );
        let (name, options) = args.split_first().unwrap();
        command.arg(name).arg("--socket").arg(&self.socket).args(options);
        command
    }

    /// The same; it must succeed. Returns what it printed.
    pub(crate) fn asked(&self, uid: u32, args: &[&str], input: &str) -> String {
        let output = self.ask(uid, args, input);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success(),
            "{args:?} as {uid}: {stderr}\n{}",
            self.log()
        );
        String::from_utf8(output.stdout).unwrap()
    }

    /// The same, with `--json`.
    pub(crate) fn json(&self, uid: u32, args: &[&str], input: &str) -> serde_json::Value {
        let args: Vec<&str> = args.iter().copied().chain(["--json"]).collect();
        let output = self.ask(uid, &args, input);
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// Logs a tenant in, and returns the mountpoint. Where a test does so more often than one account may, root does it.
    pub(crate) fn login(&self, tenant: &Tenant) -> PathBuf {
        let output = self.ask(tenant.uid, &["login"], tenant.api_key);
        let printed = match String::from_utf8_lossy(&output.stderr).contains("too many logins of yours") {
            true => self.asked(0, &["login", "--uid", &tenant.uid.to_string()], tenant.api_key),
            false => {
                let said = String::from_utf8_lossy(&output.stderr);
                assert!(output.status.success(), "{said}\n{}", self.log());
                String::from_utf8(output.stdout).unwrap()
            }
        };
        let place = PathBuf::from(printed.strip_suffix('\n').unwrap());
        assert_eq!(place, self.place(tenant.uid));
        assert!(is_mounted(&place), "{printed}");
        place
    }

    /// The state of a uid's session, as root sees it; `none` without a session.
    pub(crate) fn state(&self, uid: u32) -> String {
        let status = self.json(0, &["status"], "");
        let sessions = status["sessions"].as_array().unwrap();
        let session = sessions.iter().find(|session| session["uid"] == uid);
        session.map_or_else(
            || "none".to_owned(),
            |session| session["state"].as_str().unwrap().to_owned(),
        )
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    /// Waits until it has ended, and says how.
    pub(crate) fn wait(&mut self) -> Option<ExitStatus> {
        let server = self.server.as_mut()?;
        let mut status = None;
        eventually(MOUNT_DEADLINE, || {
            status = server.try_wait().unwrap();
            status.is_some()
        });
        status
    }

    /// What is mounted in its directory.
    pub(crate) fn mounted(&self) -> Vec<PathBuf> {
        let mountinfo = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let places = mountinfo.lines().filter_map(|line| line.split(' ').nth(4));
        let places = places.map(PathBuf::from);
        places
            .filter(|place| place.parent() == Some(&self.mounts))
            .collect()
    }
}

impl Drop for Daemon<'_> {
    fn drop(&mut self) {
        let mut complaint = None;
        let runs = self
            .server
            .as_mut()
            .is_some_and(|server| matches!(server.try_wait(), Ok(None)));
        if runs {
            let _ = kill_process(self.pid(), Signal::CONT);
            let _ = kill_process(self.pid(), Signal::TERM);
            if self.wait().is_none() {
                complaint = Some("did not end on SIGTERM");
            }
        }
        if let Some(server) = &mut self.server {
            let _ = server.kill();
            let _ = server.wait();
        }
        eventually(Duration::from_secs(2), || self.mounted().is_empty());
        for place in self.mounted() {
            complaint = complaint.or(Some("left a mount behind"));
            let _ = rustix::mount::unmount(&place, rustix::mount::UnmountFlags::DETACH);
        }
        if thread::panicking() {
            let log = self.log();
            let tail: Vec<_> = log.lines().rev().take(40).collect();
            eprintln!(
                "--- the end of the daemon's log, {}",
                self.volume.base().display()
            );
            tail.iter().rev().for_each(|line| eprintln!("{line}"));
        } else if let Some(complaint) = complaint {
            panic!("the daemon {complaint}\n{}", self.log());
        }
    }
}

/// The command under test, where every uid can run it.
pub(crate) fn reachable_program(volume: &Volume) -> PathBuf {
    reachable(volume, Path::new(env!("CARGO_BIN_EXE_tenantfs")))
}

/// A program where every uid can run it: what cargo builds may be in somebody's home.
pub(crate) fn reachable(volume: &Volume, built: &Path) -> PathBuf {
    let program = volume.base().join(built.file_name().unwrap());
    if !program.exists() {
        fs::hard_link(built, &program)
            .or_else(|_| fs::copy(built, &program).map(drop))
            .unwrap();
    }
    program
}
