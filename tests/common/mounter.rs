//! A mounter as a host has it: a service of its own.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::{Volume, eventually, tenantfs};

/// A mounter that is a service of its own.
pub(crate) struct MounterService {
    pub(crate) socket: PathBuf,
    beneath: PathBuf,
    child: Child,
}

impl MounterService {
    pub(crate) fn start(volume: &Volume) -> Self {
        let socket = volume.base().join("mounter.sock");
        let beneath = volume.base().join("mnt");
        let child = Self::spawn(&socket, &beneath);
        let service = Self {
            socket,
            beneath,
            child,
        };
        service.listens();
        service
    }

    fn spawn(socket: &Path, beneath: &Path) -> Child {
        let log = File::options()
            .create(true)
            .append(true)
            .open(socket.with_extension("log"))
            .unwrap();
        let mut command = tenantfs();
        command
            .arg("mounter")
            .arg("--listen")
            .arg(socket)
            .arg("--beneath")
            .arg(beneath);
        command
            .args(["--admit", &super::SERVICE_UID.to_string()])
            .stderr(log)
            .spawn()
            .unwrap()
    }

    fn listens(&self) {
        assert!(eventually(Duration::from_secs(5), || self.socket.exists()));
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// The same, to one that may have ended.
    pub(crate) fn signal_if_alive(&mut self, signal: Signal) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.signal(signal);
        }
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub(crate) fn restart(&mut self) {
        self.child = Self::spawn(&self.socket, &self.beneath);
        thread::sleep(Duration::from_millis(100));
    }
}

impl Drop for MounterService {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
