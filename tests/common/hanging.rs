//! A volume that can be made to hang.

use std::fs;
use std::process::{Child, Command};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::{Volume, eventually};

/// A volume whose file system can be made to answer nobody, as one over a network does.
pub(crate) struct Hanging(Child);

impl Hanging {
    /// None, said aloud, when there is no bindfs.
    pub(crate) fn beneath(volume: &Volume) -> Option<Self> {
        let bindfs = super::tool("bindfs")?;
        let disk = volume.base().join("disk");
        fs::rename(volume.root(), &disk).unwrap();
        fs::create_dir(volume.root()).unwrap();
        let mut command = Command::new(bindfs);
        command
            .args(["-f", "-o", "allow_other"])
            .arg(disk)
            .arg(volume.root());
        let hanging = Self(command.spawn().unwrap());
        assert!(eventually(Duration::from_secs(5), || super::is_mounted(
            &volume.root()
        )));
        Some(hanging)
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.0), signal).unwrap();
    }

    /// Answers nobody as long as the result lives.
    pub(crate) fn hang(&self) -> Hang<'_> {
        self.signal(Signal::STOP);
        Hang(self)
    }
}

pub(crate) struct Hang<'a>(&'a Hanging);

impl Drop for Hang<'_> {
    fn drop(&mut self) {
        self.0.signal(Signal::CONT);
    }
}

impl Drop for Hanging {
    fn drop(&mut self) {
        // Its own way of unmounting.
        self.signal(Signal::TERM);
        let _ = self.0.wait();
    }
}
