//! What identifies a mount.

use std::ffi::OsString;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, StatxFlags};
use serde::{Deserialize, Serialize};

use super::path_bytes;
use crate::error::{Doing, Result};

/// What identifies a mount while it is there, for this mounter and for the next one. Once it is gone, another mount may be
/// given all of that.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub(super) struct MountEntry {
    pub(super) identity: Identity,
    #[serde(with = "path_bytes")]
    mountpoint: PathBuf,
}

/// Which mount it is, wherever that is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub(super) struct Identity {
    /// The first field of /proc/self/mountinfo.
    pub(super) number: u64,
    /// Major and minor.
    pub(super) device: (u32, u32),
}

impl MountEntry {
    pub(super) fn new(identity: Identity, mountpoint: PathBuf) -> Self {
        Self { identity, mountpoint }
    }

    /// The entry of the mount that an open descriptor of it leads to, which was put on `directory`.
    ///
    /// # Errors
    /// Those of statx and of reading /proc.
    pub(super) fn of(mount: &OwnedFd, directory: &OwnedFd) -> Result<Self> {
        let identity =
            Identity::at(mount, Path::new(""), AtFlags::EMPTY_PATH).doing("asking which mount was made")?;
        Ok(Self::new(identity, path_of(directory)?))
    }

    /// Where it is: as the kernel spells it, without symbolic links.
    pub(super) fn mountpoint(&self) -> &Path {
        &self.mountpoint
    }
}

impl Identity {
    /// The mount on top at that path.
    ///
    /// statx that asks for no attribute: a FUSE mount tells others than its user nothing but this, and it does not disturb
    /// the server.
    pub(super) fn at(base: impl AsFd, path: &Path, flags: AtFlags) -> rustix::io::Result<Self> {
        let flags = flags | AtFlags::NO_AUTOMOUNT | AtFlags::STATX_DONT_SYNC;
        let found = rustix::fs::statx(base, path, flags, StatxFlags::empty())?;
        Ok(Self {
            number: found.stx_mnt_id,
            device: (found.stx_dev_major, found.stx_dev_minor),
        })
    }
}

/// The path of an open directory, as the kernel spells it.
pub(super) fn path_of(directory: &OwnedFd) -> Result<PathBuf> {
    let link = format!("/proc/self/fd/{}", directory.as_raw_fd());
    rustix::fs::readlink(&link, Vec::new())
        .map(|path| PathBuf::from(OsString::from_vec(path.into_bytes())))
        .doing(format!("reading {link}"))
}
