//! The server's side of the socket.

use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use parking_lot::Mutex;
use rustix::net::sockopt::Timeout;
use rustix::net::{AddressFamily, SocketFlags, SocketType};

use super::MountRequest;
use super::wire::{self, Reply, Request};
use crate::clock::Stopwatch;
use crate::error::{Error, Kind, Result};

/// How long the mounter may take to answer: mounting and unmounting never wait for a file system.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long it may take to end, and how often it is looked whether it has.
const PATIENCE_AT_THE_END: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(5);

/// The longest path that the kernel takes, in bytes (PATH_MAX).
const MAX_PATH: usize = 4096;

/// The connection to a mounter that was forked for this process.
pub struct Mounter {
    peer: Arc<Peer>,
}

struct Peer {
    /// Nothing, once it is closed. One request at a time.
    socket: Mutex<Option<OwnedFd>>,
    child: Mutex<Child>,
}

/// A mount. Dropped, it is unmounted.
pub struct Mount {
    peer: Arc<Peer>,
    /// Taken when it is unmounted.
    number: Mutex<Option<u64>>,
}

impl Mounter {
    /// Starts the privileged half: this program again, as `tenantfs mounter`, with a socket as its standard input and `log`
    /// as its standard error.
    ///
    /// # Errors
    /// [`Kind::MountFailed`] when it cannot be started.
    pub fn spawn(log: Stdio) -> Result<Self> {
        let failed =
            |why: String| Error::new(Kind::MountFailed, format!("the mounter cannot be started: {why}"));
        let (ours, theirs) = rustix::net::socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )
        .map_err(|errno| failed(errno.to_string()))?;
        rustix::net::sockopt::set_socket_timeout(&ours, Timeout::Recv, Some(PATIENCE))
            .map_err(|errno| failed(errno.to_string()))?;
        let child = Command::new("/proc/self/exe")
            .arg0("tenantfs")
            .arg("mounter")
            .env_clear()
            .envs(std::env::var_os("TENANTFS_LOG").map(|level| ("TENANTFS_LOG", level)))
            .current_dir("/")
            .stdin(Stdio::from(theirs))
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .map_err(|error| failed(error.to_string()))?;
        Ok(Self {
            peer: Arc::new(Peer {
                socket: Mutex::new(Some(ours)),
                child: Mutex::new(child),
            }),
        })
    }

    /// stub
    pub fn connect(_: &std::path::Path) -> Result<Self> {
        Err(gone())
    }
    /// stub
    pub fn take_over(&self, _: &std::path::Path) -> Result<Vec<String>> {
        Ok(vec![])
    }

    /// Mounts, and returns the mount and its connection: the /dev/fuse descriptor.
    ///
    /// # Errors
    /// [`Kind::MountFailed`] with what is wrong with the mountpoint, or that there is no privilege or no /dev/fuse.
    pub fn mount(&self, request: &MountRequest) -> Result<(Mount, OwnedFd)> {
        let mountpoint = std::path::absolute(&request.mountpoint)
            .map_err(|error| Error::io(&error, "making the mountpoint's path absolute"))?;
        if mountpoint.as_os_str().len() >= MAX_PATH {
            let why = "the mountpoint's path is longer than 4095 bytes; use a shorter one";
            return Err(Error::new(Kind::MountFailed, why));
        }
        let request = MountRequest {
            mountpoint,
            ..request.clone()
        };
        match self.peer.ask(&Request::Mount(request))? {
            (Reply::Mounted { number, warnings }, Some(connection)) => {
                warnings.iter().for_each(|warning| log::warn!("{warning}"));
                let mount = Mount {
                    peer: Arc::clone(&self.peer),
                    number: Mutex::new(Some(number)),
                };
                Ok((mount, connection))
            }
            (Reply::Failed(why), _) => Err(Error::new(Kind::MountFailed, why)),
            _ => Err(unexpected()),
        }
    }
}

impl Mount {
    /// Ends the mount: the connection is aborted, and the mountpoint is free. Again, it does nothing.
    ///
    /// # Errors
    /// [`Kind::MountFailed`] when the mounter cannot, does not answer, or is gone: then the mount is still there, and only
    /// an administrator can unmount it.
    pub fn unmount(&self) -> Result<()> {
        let Some(number) = self.number.lock().take() else {
            return Ok(());
        };
        match self.peer.ask(&Request::Unmount(number))? {
            (Reply::Unmounted, _) => Ok(()),
            (Reply::Failed(why), _) => Err(Error::new(Kind::MountFailed, why)),
            _ => Err(unexpected()),
        }
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        if let Err(error) = self.unmount() {
            log::warn!("{error}");
        }
    }
}

impl Peer {
    fn ask(&self, request: &Request) -> Result<(Reply, Option<OwnedFd>)> {
        let mut socket = self.socket.lock();
        let open = socket.as_ref().ok_or_else(gone)?;
        let answer = wire::send(open, request, None).and_then(|()| wire::receive(open));
        match answer {
            Ok(Some(answer)) => Ok(answer),
            // An answer that comes too late would be taken for the next one's: there is no next one.
            Ok(None) => {
                *socket = None;
                Err(gone())
            }
            Err(error) => {
                *socket = None;
                Err(error)
            }
        }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // The mounter ends with the socket: then it can be waited for.
        *self.socket.lock() = None;
        let (mut child, watch) = (self.child.lock(), Stopwatch::start());
        while matches!(child.try_wait(), Ok(None)) {
            if watch.elapsed() > PATIENCE_AT_THE_END {
                return log::error!("the mounter does not end; see process {}", child.id());
            }
            thread::sleep(POLL);
        }
    }
}

fn gone() -> Error {
    Error::new(Kind::MountFailed, "the mounter is gone")
}

fn unexpected() -> Error {
    Error::new(
        Kind::MountFailed,
        "the mounter gave an answer to another question",
    )
}
