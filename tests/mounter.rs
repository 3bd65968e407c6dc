//! What becomes of a session when its mount is not its own any more: unmounted by others, covered, or without a mounter.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use common::{ALICE, Layout, Volume, eventually, is_mounted, run};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use rustix::process::{Pid, Signal, kill_process};

const PATIENCE: Duration = Duration::from_secs(10);

/// A server that is ended, and whatever is on its mountpoint removed, also when the test fails.
struct Server {
    child: Child,
    mountpoint: std::path::PathBuf,
    log: std::path::PathBuf,
}

impl Server {
    fn start(volume: &Volume) -> Self {
        let mountpoint = volume.base().join("mnt");
        fs::create_dir(&mountpoint).unwrap();
        let log = volume.base().join("log");
        let mut command = volume.mount_command(&mountpoint, &ALICE, &[]);
        command.env("TENANTFS_LOG", "warn").stdout(Stdio::piped());
        let mut child = command.stderr(fs::File::create(&log).unwrap()).spawn().unwrap();
        // It says so when it serves: it is mounted a little before.
        let mut ready = String::new();
        let stdout = child.stdout.take().unwrap();
        BufReader::new(stdout).read_line(&mut ready).unwrap();
        let server = Self {
            child,
            mountpoint,
            log,
        };
        assert!(is_mounted(&server.mountpoint), "{}", server.said());
        server
    }

    fn said(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    fn mounter(&self) -> Pid {
        let children = format!("/proc/{0}/task/{0}/children", self.child.id());
        let children = fs::read_to_string(children).unwrap();
        Pid::from_raw(children.split_whitespace().next().unwrap().parse().unwrap()).unwrap()
    }

    /// The exit code; none when it does not end.
    fn exit_code(&mut self, patience: Duration) -> Option<i32> {
        let mut status = None;
        eventually(patience, || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status?.code()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        eventually(Duration::from_secs(1), || !is_mounted(&self.mountpoint));
        while is_mounted(&self.mountpoint) && unmount(&self.mountpoint, UnmountFlags::DETACH).is_ok() {}
    }
}

fn cover(mountpoint: &Path) {
    mount("covering", mountpoint, "tmpfs", MountFlags::empty(), None).unwrap();
}

/// The file system that a path leads to.
fn topmost(mountpoint: &Path) -> Option<String> {
    let lines = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let here = |line: &&str| line.split(' ').nth(4) == mountpoint.to_str();
    let last = lines.lines().rfind(here)?;
    Some(last.split(" - ").nth(1)?.split(' ').next()?.to_owned())
}

#[test]
fn an_administrator_can_unmount_and_the_server_ends() {
    for lazily in [&[][..], &["-l"]] {
        let volume = Volume::new(Layout::ResourceFirst);
        let mut server = Server::start(&volume);
        let mut umount = Command::new("umount");
        umount.args(lazily).arg(&server.mountpoint);
        let output = run(umount, "");
        assert!(output.status.success(), "{output:?}");
        assert_eq!(server.exit_code(PATIENCE), Some(0), "{}", server.said());
    }
}

#[test]
fn without_its_mounter_a_server_ends_and_says_what_to_do() {
    for signal in [Signal::KILL, Signal::STOP] {
        let volume = Volume::new(Layout::ResourceFirst);
        let mut server = Server::start(&volume);
        let mounter = server.mounter();
        kill_process(mounter, signal).unwrap();
        server.signal(Signal::TERM);
        // One that does not answer is waited for.
        let code = server.exit_code(Duration::from_secs(25));
        let said = server.said();
        let _ = kill_process(mounter, Signal::CONT);
        assert_eq!(code, Some(5), "{said}");
        assert!(said.contains("umount -l"), "{said}");
    }
}

#[test]
fn what_others_mount_over_it_is_left_alone() {
    for signal in [Signal::TERM, Signal::KILL] {
        let volume = Volume::new(Layout::ResourceFirst);
        let mut server = Server::start(&volume);
        cover(&server.mountpoint);
        server.signal(signal);
        let code = server.exit_code(PATIENCE);
        assert_eq!(code, (signal == Signal::TERM).then_some(5), "{}", server.said());
        assert!(
            eventually(PATIENCE, || server.said().contains("umount -l")),
            "{}",
            server.said()
        );
        assert_eq!(topmost(&server.mountpoint).as_deref(), Some("tmpfs"));
    }
}

/// Runs `tenantfs mount` for as long as `check` takes.
fn while_mounted(mut command: Command, mountpoint: &Path, check: impl FnOnce(&Server)) {
    let log = mountpoint.with_extension("log");
    command
        .stdout(Stdio::null())
        .stderr(fs::File::create(&log).unwrap());
    let server = Server {
        child: command.spawn().unwrap(),
        mountpoint: mountpoint.to_owned(),
        log,
    };
    assert!(
        eventually(PATIENCE, || is_mounted(mountpoint)),
        "{}",
        server.said()
    );
    check(&server);
}

#[test]
fn a_variable_switches_off_what_the_config_file_switches_on() {
    let volume = Volume::new(Layout::ResourceFirst);
    let (mountpoint, config) = (volume.base().join("mnt"), volume.base().join("config.toml"));
    fs::create_dir(&mountpoint).unwrap();
    fs::write(&config, "[mounts]\nexec = true\nread_only = true\n").unwrap();
    let mut command = volume.mount_command(&mountpoint, &ALICE, &["--read-only=false"]);
    command.arg("--config").arg(&config).env("TENANTFS_EXEC", "false");
    while_mounted(command, &mountpoint, |_| {
        let lines = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let line = lines
            .lines()
            .find(|line| line.contains(mountpoint.to_str().unwrap()))
            .unwrap();
        assert_eq!(
            line.split(' ').nth(5),
            Some("rw,nosuid,nodev,noexec,noatime,nosymfollow")
        );
    });
}

#[test]
fn neither_half_keeps_what_its_caller_had_open() {
    let volume = Volume::new(Layout::ResourceFirst);
    let mountpoint = volume.base().join("mnt");
    fs::create_dir(&mountpoint).unwrap();
    let mount = volume.mount_command(&mountpoint, &ALICE, &[]);
    let mut shell = Command::new("sh");
    shell.args(["-c", "exec 7< /etc/shadow; exec \"$@\"", "sh"]);
    shell.arg(mount.get_program()).args(mount.get_args());
    while_mounted(shell, &mountpoint, |server| {
        let halves = [server.child.id().cast_signed(), server.mounter().as_raw_pid()];
        for half in halves {
            for entry in fs::read_dir(format!("/proc/{half}/fd")).unwrap() {
                let open = fs::read_link(entry.unwrap().path()).unwrap_or_default();
                assert_ne!(open, Path::new("/etc/shadow"));
            }
        }
        let status = fs::read_to_string(format!("/proc/{}/status", halves[1])).unwrap();
        let groups = status
            .lines()
            .find_map(|line| line.strip_prefix("Groups:"))
            .unwrap();
        assert_eq!(groups.trim(), "", "the mounter's groups");
    });
}
