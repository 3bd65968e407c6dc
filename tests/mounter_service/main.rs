//! The mounter as a service of its own: who may connect, where it mounts, and what becomes of mounts when either side dies.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

#[path = "../common/mod.rs"]
mod common;

mod admission;
mod restarts;

use std::ffi::CString;
use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use common::{eventually, is_mounted, require_root, set_mode, tenantfs};
use rustix::fs::{Mode, OFlags};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tenantfs::mounter::{Mount, MountRequest, Mounter, Viewer};

const PATIENCE: Duration = Duration::from_secs(5);
/// How soon the mounts of a dead server are gone.
const SOON: Duration = Duration::from_secs(1);
const UID: u32 = 61001;

/// A mounter that listens. Dropped, it is ended, and every mount below its directory removed.
struct Service {
    base: TempDir,
    options: Vec<String>,
    process: Child,
}

impl Service {
    fn start(options: &[&str]) -> Self {
        require_root();
        let base = tempfile::Builder::new()
            .prefix("tenantfs-test-")
            .tempdir_in("/var/tmp")
            .unwrap();
        set_mode(base.path(), 0o755);
        let options: Vec<_> = options.iter().map(|option| (*option).to_owned()).collect();
        let process = listen(base.path(), &options);
        let service = Self {
            base,
            options,
            process,
        };
        service.wait();
        service
    }

    fn path(&self, name: &str) -> PathBuf {
        self.base.path().join(name)
    }

    fn socket(&self) -> PathBuf {
        self.path("mounter.sock")
    }

    /// The directory that it mounts beneath.
    fn places(&self) -> PathBuf {
        self.path("mnt")
    }

    fn place(&self, name: &str) -> PathBuf {
        self.places().join(name)
    }

    fn connect(&self) -> Mounter {
        Mounter::connect(&self.socket()).unwrap()
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.process)
    }

    /// Ends it. Returns its exit code, if a signal did not.
    fn end(&mut self, signal: Signal) -> Option<i32> {
        kill_process(self.pid(), signal).unwrap();
        self.process.wait().unwrap().code()
    }

    fn start_again(&mut self) {
        self.process = listen(self.base.path(), &self.options);
        self.wait();
    }

    fn wait(&self) {
        let socket = self.socket();
        assert!(
            eventually(PATIENCE, || Mounter::connect(&socket).is_ok()),
            "{}",
            self.said()
        );
    }

    fn said(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap()
    }
}

fn listen(base: &Path, options: &[String]) -> Child {
    let log = fs::File::options()
        .create(true)
        .append(true)
        .open(base.join("log"))
        .unwrap();
    let mut command = tenantfs();
    command
        .arg("mounter")
        .arg("--listen")
        .arg(base.join("mounter.sock"));
    command.arg("--beneath").arg(base.join("mnt")).args(options);
    command.stderr(log).spawn().unwrap()
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        clear(self.base.path());
    }
}

/// Unmounts everything below a directory.
fn clear(directory: &Path) {
    for mountpoint in mounts_below(directory).iter().rev() {
        let _ = unmount(mountpoint, UnmountFlags::DETACH);
    }
}

fn mounts_below(directory: &Path) -> Vec<PathBuf> {
    let lines = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let mountpoints = lines
        .lines()
        .map(|line| PathBuf::from(line.split(' ').nth(4).unwrap()));
    mountpoints.filter(|path| path.starts_with(directory)).collect()
}

fn request(mountpoint: &Path) -> MountRequest {
    MountRequest {
        mountpoint: mountpoint.to_owned(),
        make: true,
        viewer: Viewer::new(UID, UID).unwrap(),
        read_only: false,
        exec: false,
    }
}

fn refusal(mounter: &Mounter, mountpoint: &Path) -> String {
    match mounter.mount(&request(mountpoint)) {
        Ok(_) => panic!("mounted on {}", mountpoint.display()),
        Err(error) => error.to_string(),
    }
}

/// A mount as a dead server leaves it behind.
fn leave_behind(mountpoint: &Path) {
    let device = rustix::fs::open("/dev/fuse", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).unwrap();
    fs::create_dir(mountpoint).unwrap();
    let descriptor = device.as_raw_fd();
    let options = format!("fd={descriptor},rootmode=40000,user_id={UID},group_id={UID}");
    let options = CString::new(options).unwrap();
    mount(
        "tenantfs",
        mountpoint,
        "fuse.tenantfs",
        MountFlags::empty(),
        options.as_c_str(),
    )
    .unwrap();
}

/// A process with mounts of its own, to be killed.
struct Server(Child);

/// What [`Server`] runs: this test again, with the socket and the mountpoints in variables.
#[test]
fn a_server_process() {
    let (Some(socket), Some(places)) = (
        std::env::var_os("SERVER_SOCKET"),
        std::env::var_os("SERVER_PLACES"),
    ) else {
        return;
    };
    let mounter = Mounter::connect(Path::new(&socket)).unwrap();
    let mounts = std::env::split_paths(&places).map(|place| mounter.mount(&request(&place)).unwrap());
    let _mounts: Vec<(Mount, OwnedFd)> = mounts.collect();
    thread::sleep(Duration::from_secs(60));
}

impl Server {
    fn start(service: &Service, places: &[PathBuf]) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "a_server_process"]);
        command.env("SERVER_SOCKET", service.socket());
        command.env("SERVER_PLACES", std::env::join_paths(places).unwrap());
        let server = Self(command.stdout(Stdio::null()).spawn().unwrap());
        assert!(eventually(PATIENCE, || places
            .iter()
            .all(|place| is_mounted(place))));
        server
    }

    fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
