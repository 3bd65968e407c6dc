//! Which file system a volume is on, as the kernel says.

use std::fmt;
use std::fs;
use std::os::fd::AsFd;
use std::time::Duration;

use rustix::fs::{major, minor};

use super::stat::stat;

/// A file system, by what is known of it that trying cannot tell.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Engine {
    /// One of this host: all of its changes go through this kernel.
    Local(Local),
    /// GlusterFS, by its FUSE client.
    Gluster,
    /// CephFS, by the kernel's client or by ceph-fuse.
    Ceph,
    /// JuiceFS.
    JuiceFs,
    /// NFS, of any version.
    Nfs,
    /// Any other, by the name that the kernel has for it.
    Other(String),
}

/// The file systems of this host.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub enum Local {
    Ext4,
    Xfs,
    Btrfs,
    Tmpfs,
    F2fs,
    Zfs,
    Bcachefs,
}

/// The magic numbers that statfs says (linux/magic.h).
const LOCAL: [(u64, Local); 7] = [
    (0xEF53, Local::Ext4),
    (0x5846_5342, Local::Xfs),
    (0x9123_683E, Local::Btrfs),
    (0x0102_1994, Local::Tmpfs),
    (0xF2F5_2010, Local::F2fs),
    (0x2FC1_2FC1, Local::Zfs),
    (0xCA45_1A4E, Local::Bcachefs),
];

impl Engine {
    /// That of what is open.
    pub(super) fn of(fd: impl AsFd) -> Self {
        let fd = fd.as_fd();
        let magic = rustix::fs::fstatfs(fd).map(|statfs| statfs.f_type.cast_unsigned() & u64::from(u32::MAX));
        let local = magic
            .ok()
            .and_then(|magic| LOCAL.iter().find(|(known, _)| *known == magic));
        match local {
            Some((_, local)) => Self::Local(*local),
            None => Self::named(&mounted_as(fd).unwrap_or_default()),
        }
    }

    /// The one that the kernel has this name for.
    fn named(name: &str) -> Self {
        match name {
            "fuse.glusterfs" => Self::Gluster,
            "ceph" | "fuse.ceph-fuse" | "fuse.ceph" => Self::Ceph,
            "nfs" | "nfs4" => Self::Nfs,
            name if name.starts_with("fuse.juicefs") => Self::JuiceFs,
            name => Self::Other(name.to_owned()),
        }
    }

    /// Whether every change of it is a change that this kernel knows of.
    pub fn is_local(&self) -> bool {
        matches!(self, Self::Local(_))
    }

    /// After how long everybody who looks on another host finds what was made or removed on this one, at the engine's defaults.
    /// GlusterFS and JuiceFS remember names for a second; the metadata server of CephFS tells of new ones with its journal, every
    /// five; NFS remembers a directory for up to a minute (acdirmax, nfs(5)). Of any other nothing is known, and a little is waited.
    pub fn others_see_within(&self) -> Duration {
        Duration::from_secs(match self {
            Self::Local(_) => 0,
            Self::Gluster | Self::JuiceFs | Self::Other(_) => 1,
            Self::Ceph => 6,
            Self::Nfs => 60,
        })
    }

    /// How long ago a file must have been written in place for the last time before all that is read of it is of one content: this
    /// host's client may have some of its pages from before, whatever it says of the times. A client of GlusterFS looks at what it
    /// remembers once a second; one of NFS every three (acregmin, nfs(5)); CephFS takes the pages away; JuiceFS shows what was
    /// written when it is closed, and never was seen to mix.
    pub fn content_settles_within(&self) -> Duration {
        Duration::from_millis(match self {
            Self::Local(_) | Self::JuiceFs => 0,
            Self::Ceph => 300,
            Self::Gluster | Self::Other(_) => 1_200,
            Self::Nfs => 3_500,
        })
    }
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Local(local) => match local {
                Local::Ext4 => "ext4",
                Local::Xfs => "XFS",
                Local::Btrfs => "Btrfs",
                Local::Tmpfs => "tmpfs",
                Local::F2fs => "F2FS",
                Local::Zfs => "ZFS",
                Local::Bcachefs => "bcachefs",
            },
            Self::Gluster => "GlusterFS",
            Self::Ceph => "CephFS",
            Self::JuiceFs => "JuiceFS",
            Self::Nfs => "NFS",
            Self::Other(name) if name.is_empty() => "an unknown file system",
            Self::Other(name) => name,
        })
    }
}

/// The type in /proc/self/mountinfo of the mount that has the device of what is open.
fn mounted_as(fd: impl AsFd) -> Option<String> {
    let dev = stat(fd).ok()?.id.dev;
    let device = format!("{}:{}", major(dev), minor(dev));
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    // 36 35 98:0 /root /mountpoint options optional-fields - type source super-options (proc_pid_mountinfo(5))
    let mount = mounts
        .lines()
        .find(|line| line.split(' ').nth(2) == Some(device.as_str()))?;
    let (_, after) = mount.split_once(" - ")?;
    after.split(' ').next().map(str::to_owned)
}
