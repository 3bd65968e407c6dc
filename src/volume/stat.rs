//! What the volume says of a file.

use std::os::fd::AsFd;

use rustix::fs::{AtFlags, Statx, StatxAttributes, StatxFlags, makedev};

use crate::clock::Timestamp;
use crate::error::{Doing, Result};

/// The identity of a file on this host: device and inode number.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct FileId {
    /// The device.
    pub dev: u64,
    /// The inode number on it.
    pub ino: u64,
}

/// What changes when a file's content changes: facts remembered with a version hold as long as it does.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Version {
    /// Bytes.
    pub size: u64,
    /// Last change of the content.
    pub mtime: Timestamp,
    /// Last change of the inode.
    pub ctime: Timestamp,
}

/// How old a file's last change must be, in milliseconds, before its version is that of one content only: two changes
/// within one tick of the file system's clock leave the same.
const SETTLED_MILLIS: i64 = 50;

/// The same where times are whole seconds.
const SETTLED_MILLIS_OF_SECONDS: i64 = 1_050;

impl Version {
    /// Whether every change after `now` leaves another version, by the coarsest of clocks.
    pub fn is_settled(&self, now: Timestamp) -> bool {
        // A time that happens to be a whole second is taken for one that can be nothing else, which does no harm.
        let settled = match self.ctime.nanos {
            0 => SETTLED_MILLIS_OF_SECONDS,
            _ => SETTLED_MILLIS,
        };
        now.millis_since(self.ctime) >= settled
    }
}

/// The types of file that matter here.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum FileType {
    /// A regular file.
    Regular,
    /// A directory.
    Directory,
    /// A symbolic link, FIFO, socket or device, or something mounted over a name: never shown.
    Special,
}

/// The attributes of a backing file.
#[derive(Clone, Copy, Debug)]
pub struct Stat {
    /// Identity.
    pub id: FileId,
    /// Type.
    pub file_type: FileType,
    /// Size in bytes.
    pub size: u64,
    /// Allocated space, in units of 512 bytes.
    pub blocks: u64,
    /// Permission bits, set-id and sticky bits (07777).
    pub mode: u16,
    /// Owner on the volume.
    pub uid: u32,
    /// Group on the volume.
    pub gid: u32,
    /// Number of names.
    pub nlink: u32,
    /// Last access.
    pub atime: Timestamp,
    /// Last change of the content.
    pub mtime: Timestamp,
    /// Last change of the inode.
    pub ctime: Timestamp,
    /// When the file came into being; the epoch where the file system does not say.
    pub born: Timestamp,
}

/// What is asked for.
pub(super) const STATX: StatxFlags = StatxFlags::BASIC_STATS.union(StatxFlags::BTIME);

impl Stat {
    /// Whether this is a regular file.
    pub fn is_regular(&self) -> bool {
        self.file_type == FileType::Regular
    }

    /// The version of the content.
    pub fn version(&self) -> Version {
        Version {
            size: self.size,
            mtime: self.mtime,
            ctime: self.ctime,
        }
    }

    /// `mount` is whether a mount point counts as [`FileType::Special`]: true for what a name leads to.
    pub(super) fn from_statx(statx: &Statx, mount: bool) -> Self {
        let timestamp = |t: rustix::fs::StatxTimestamp| Timestamp {
            seconds: t.tv_sec,
            nanos: t.tv_nsec,
        };
        let mounted_over = mount && statx.stx_attributes.contains(StatxAttributes::MOUNT_ROOT);
        let file_type = match rustix::fs::FileType::from_raw_mode(u32::from(statx.stx_mode)) {
            _ if mounted_over => FileType::Special,
            rustix::fs::FileType::RegularFile => FileType::Regular,
            rustix::fs::FileType::Directory => FileType::Directory,
            _ => FileType::Special,
        };
        Self {
            id: FileId {
                dev: makedev(statx.stx_dev_major, statx.stx_dev_minor),
                ino: statx.stx_ino,
            },
            file_type,
            size: statx.stx_size,
            blocks: statx.stx_blocks,
            mode: statx.stx_mode & 0o7777,
            uid: statx.stx_uid,
            gid: statx.stx_gid,
            nlink: statx.stx_nlink,
            atime: timestamp(statx.stx_atime),
            mtime: timestamp(statx.stx_mtime),
            ctime: timestamp(statx.stx_ctime),
            born: timestamp(statx.stx_btime),
        }
    }
}

/// Whether what is open is the root of a mount.
///
/// # Errors
/// The operating system's.
pub(super) fn is_mount(fd: impl AsFd) -> Result<bool> {
    let statx = rustix::fs::statx(fd, "", AtFlags::EMPTY_PATH, STATX).doing("reading attributes")?;
    Ok(statx.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
}

/// The attributes of an open file.
///
/// # Errors
/// The operating system's.
pub fn stat(fd: impl AsFd) -> Result<Stat> {
    let statx = rustix::fs::statx(fd, "", AtFlags::EMPTY_PATH, STATX).doing("reading attributes")?;
    Ok(Stat::from_statx(&statx, false))
}
