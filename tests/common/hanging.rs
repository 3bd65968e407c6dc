//! A volume that can be made to hang.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::{Volume, eventually};

/// A volume whose file system can be made to answer nobody, or to die, as one over a network does.
pub(crate) struct Hanging {
    client: Child,
    disk: PathBuf,
    root: PathBuf,
}

impl Hanging {
    /// None, said aloud, when there is no bindfs.
    pub(crate) fn beneath(volume: &Volume) -> Option<Self> {
        super::tool("bindfs")?;
        let (disk, root) = (volume.base().join("disk"), volume.root());
        fs::rename(&root, &disk).unwrap();
        fs::create_dir(&root).unwrap();
        let client = Self::client(&disk, &root);
        Some(Self { client, disk, root })
    }

    /// The same volume on another host, whose `volume` it is there: through a client of its own.
    pub(crate) fn also(&self, volume: &Volume) -> Self {
        let (disk, root) = (self.disk.clone(), volume.root());
        let client = Self::client(&disk, &root);
        Self { client, disk, root }
    }

    fn client(disk: &Path, root: &Path) -> Child {
        let mut command = Command::new("bindfs");
        let client = command.args(["-f", "-o", "allow_other"]).arg(disk).arg(root);
        let client = client.spawn().unwrap();
        assert!(eventually(Duration::from_secs(5), || super::is_mounted(root)));
        client
    }

    /// Its client dies, and is gone: what was open is dead.
    pub(crate) fn die(&mut self) {
        self.client.kill().unwrap();
        self.client.wait().unwrap();
    }

    /// A client is started anew in the place of one that died.
    pub(crate) fn revive(&mut self) {
        rustix::mount::unmount(&self.root, rustix::mount::UnmountFlags::DETACH).unwrap();
        self.client = Self::client(&self.disk, &self.root);
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.client), signal).unwrap();
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
        // Its own way of unmounting; one that died has none.
        match self.client.try_wait() {
            Ok(None) => {
                self.signal(Signal::TERM);
                let _ = self.client.wait();
            }
            _ => _ = rustix::mount::unmount(&self.root, rustix::mount::UnmountFlags::DETACH),
        }
    }
}
