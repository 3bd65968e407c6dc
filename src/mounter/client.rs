//! The server's side of the socket.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;

use parking_lot::Mutex;

use super::link::Link;
use super::path_bytes;
use super::protocol::{Claim, Grant, MountRequest};
use crate::error::{Doing, Error, Result};

/// The connection to a mounter: one that was forked for this process, or one that listens. Requests may come from any
/// thread; they are made one after the other.
pub struct Mounter {
    link: Arc<Link>,
}

/// A mount. Dropped, it is unmounted.
pub struct Mount {
    link: Arc<Link>,
    /// Taken when it is unmounted.
    claim: Mutex<Option<Claim>>,
}

impl Mounter {
    /// Starts the privileged half: this program again, as `tenantfs mounter`, with a socket as its standard input and `log`
    /// as its standard error. It may do what `grant` says, for as long as it lives, and nothing else. When it dies, it is
    /// gone for good: no requests any more.
    ///
    /// # Errors
    /// [`Kind::MountFailed`](crate::error::Kind::MountFailed) when it cannot be started, or what it is granted cannot be done.
    pub fn spawn(grant: &Grant, log: Stdio) -> Result<Self> {
        let link = Arc::new(Link::fork(&with_absolute_path(grant)?, log)?);
        Ok(Self { link })
    }

    /// Connects to the mounter that listens on `socket`. When that one dies, the next one is connected to as soon as it
    /// listens, and is told which mounts are this process's.
    ///
    /// For that it has a thread of its own, with the privileges of the caller: whoever gives up privileges does it before.
    ///
    /// # Errors
    /// [`Kind::MountFailed`](crate::error::Kind::MountFailed) when none listens, it does not admit this process, or it is not root's.
    pub fn connect(socket: &Path) -> Result<Self> {
        let link = Link::connect(socket)?;
        Ok(Self { link })
    }

    /// Mounts, and returns the mount and its connection: the /dev/fuse descriptor.
    ///
    /// # Errors
    /// [`Kind::MountFailed`](crate::error::Kind::MountFailed) with what is wrong with the mountpoint, or that there is no privilege or no /dev/fuse; or
    /// that there is no mounter, or it does not answer.
    pub fn mount(&self, request: &MountRequest) -> Result<(Mount, OwnedFd)> {
        let request = MountRequest {
            mountpoint: absolute(&request.mountpoint)?,
            ..request.clone()
        };
        let (claim, connection) = self.link.mount(request)?;
        let mount = Mount {
            link: Arc::clone(&self.link),
            claim: Mutex::new(Some(claim)),
        };
        Ok((mount, connection))
    }

    /// Says that all mountpoints on entries of the directory `places` are this process's: mounts of tenantfs there that no
    /// server connected to the mounter has are what a dead one left behind. They are ended, and their directories
    /// removed; now, and whenever another mounter is connected to. Returns, for the log, what is there and is not ours,
    /// or could not be ended: it was left alone.
    ///
    /// # Errors
    /// [`Kind::MountFailed`](crate::error::Kind::MountFailed) when there is no mounter, or it does not answer.
    pub fn take_over(&self, places: &Path) -> Result<Vec<String>> {
        self.link.take_over(absolute(places)?)
    }

    /// Waits for the mounter no more: neither what waits in another thread, nor what is asked from now on. For a process
    /// that ends; when it has, the mounter ends those of its mounts that are left.
    pub fn give_up(&self) {
        self.link.give_up();
    }
}

impl Mount {
    /// Ends the mount: the connection is aborted, and the mountpoint is free. Once it has succeeded it does nothing; when it
    /// has failed it can be tried again.
    ///
    /// # Errors
    /// [`Kind::MountFailed`](crate::error::Kind::MountFailed) when the mounter cannot, does not answer, or is gone: then the mount is still there. If the
    /// mounter was forked and is gone, only an administrator can unmount it.
    pub fn unmount(&self) -> Result<()> {
        let mut claim = self.claim.lock();
        if let Some(there) = &*claim {
            self.link.unmount(there)?;
            *claim = None;
        }
        Ok(())
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        if let Err(error) = self.unmount() {
            // Whoever gave up has said so, for all mounts together.
            let level = match self.link.is_given_up() {
                true => log::Level::Debug,
                false => log::Level::Warn,
            };
            log::log!(level, "{error:#}");
        }
        // What could not be ended is, as soon as there is a mounter.
        if let Some(claim) = self.claim.get_mut().take() {
            self.link.abandon(claim);
        }
    }
}

fn with_absolute_path(grant: &Grant) -> Result<Grant> {
    let mut grant = grant.clone();
    let (Grant::Once { mountpoint: path, .. } | Grant::Sessions { places: path, .. }) = &mut grant;
    *path = absolute(path)?;
    Ok(grant)
}

fn absolute(path: &Path) -> Result<PathBuf> {
    let path = std::path::absolute(path).doing("making the mountpoint's path absolute")?;
    match path_bytes::why_not(&path) {
        None => Ok(path),
        Some(why) => Err(Error::mount_failed(why)),
    }
}
