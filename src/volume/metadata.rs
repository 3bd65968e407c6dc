//! Modes, times and owners of files.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd};

use rustix::fs::{AtFlags, Mode, StatxFlags, Timestamps, XattrFlags};
use rustix::io::Errno;

use super::dir::Dir;
use super::stat::Stat;
use crate::clock::Timestamp;
use crate::error::{Doing, Result};

/// The extended attribute that holds the permission bits a user gave a file in the mount, as octal text. The volume's
/// own bits stay what the service needs: they are the operator's, these are the user's.
const SHOWN_MODE: &str = "user.tenantfs.mode";

/// The extended attribute that holds the name that an entry had before it got one of ours, where that does not tell.
const FORMER_NAME: &str = "user.tenantfs.name";

/// The longest name, in bytes.
const MAX_NAME: usize = 255;

impl Dir {
    /// Sets the times of `name`; `None` leaves one as it is.
    ///
    /// # Errors
    /// The operating system's.
    pub fn set_times(&self, name: &str, times: Times) -> Result<()> {
        rustix::fs::utimensat(self, name, &times.raw(), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|errno| self.failed(errno, "setting times", name))
    }

    /// The permission bits that the user gave `name` in the mount, if they are not the volume's.
    pub fn shown_mode(&self, name: &str) -> Option<u16> {
        let mut buffer = [0; 8];
        let len = rustix::fs::lgetxattr(self.proc_path(name), SHOWN_MODE, &mut buffer[..]).ok()?;
        parse_mode(buffer.get(..len)?)
    }

    /// Sets (or with `None` forgets) the permission bits that the mount shows for `name`.
    ///
    /// # Errors
    /// [`Unsupported`](crate::error::Kind::Unsupported) where the file system has no user attributes.
    pub fn set_shown_mode(&self, name: &str, mode: Option<u16>) -> Result<()> {
        let path = self.proc_path(name);
        let changed = match mode {
            Some(mode) => {
                let octal = format!("{mode:o}");
                rustix::fs::lsetxattr(path, SHOWN_MODE, octal.as_bytes(), XattrFlags::empty())
            }
            None => match rustix::fs::lremovexattr(path, SHOWN_MODE) {
                Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(()),
                removed => removed,
            },
        };
        changed.map_err(|errno| self.failed(errno, "setting the mode that is shown", name))
    }

    /// The name that `entry` had before it got one of ours, where that was noted.
    pub fn former_name(&self, entry: &str) -> Option<String> {
        let mut buffer = [0; MAX_NAME];
        let len = rustix::fs::lgetxattr(self.proc_path(entry), FORMER_NAME, &mut buffer[..]).ok()?;
        String::from_utf8(buffer.get(..len)?.to_vec()).ok()
    }

    /// Notes (or with `None` forgets) the name that `entry` has, for when it gets one of ours.
    ///
    /// # Errors
    /// [`Unsupported`](crate::error::Kind::Unsupported) where the file system has no user attributes.
    pub fn set_former_name(&self, entry: &str, name: Option<&str>) -> Result<()> {
        let path = self.proc_path(entry);
        let changed = match name {
            Some(name) => rustix::fs::lsetxattr(path, FORMER_NAME, name.as_bytes(), XattrFlags::empty()),
            None => match rustix::fs::lremovexattr(path, FORMER_NAME) {
                Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(()),
                removed => removed,
            },
        };
        changed.map_err(|errno| self.failed(errno, "noting a name", entry))
    }

    /// The xattr calls know no directory handles; a magic link of our own descriptor is the next best thing, and the
    /// entry's name is not followed (`l*xattr`).
    fn proc_path(&self, name: &str) -> String {
        format!("/proc/self/fd/{}/{name}", self.as_fd().as_raw_fd())
    }
}

/// A change of a file's times; `None` leaves one as it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Times {
    /// Last access.
    pub atime: Option<Timestamp>,
    /// Last change of the content.
    pub mtime: Option<Timestamp>,
}

impl Times {
    fn raw(self) -> Timestamps {
        let timespec = |time: Option<Timestamp>| match time {
            Some(time) => rustix::fs::Timespec {
                tv_sec: time.seconds,
                tv_nsec: i64::from(time.nanos),
            },
            None => rustix::fs::Timespec {
                tv_sec: 0,
                tv_nsec: rustix::fs::UTIME_OMIT,
            },
        };
        Timestamps {
            last_access: timespec(self.atime),
            last_modification: timespec(self.mtime),
        }
    }
}

/// The attributes of an open file.
///
/// # Errors
/// The operating system's.
pub fn stat(fd: impl AsFd) -> Result<Stat> {
    let statx = rustix::fs::statx(fd, "", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS)
        .doing("reading attributes")?;
    Ok(Stat::from_statx(&statx, false))
}

/// The permission bits that the user gave an open file, if they are not the volume's.
pub fn shown_mode(file: &File) -> Option<u16> {
    let mut buffer = [0; 8];
    let len = rustix::fs::fgetxattr(file, SHOWN_MODE, &mut buffer[..]).ok()?;
    parse_mode(buffer.get(..len)?)
}

/// As [`Dir::set_shown_mode`], for an open file.
///
/// # Errors
/// [`Unsupported`](crate::error::Kind::Unsupported) where the file system has no user attributes.
pub fn set_shown_mode(file: &File, mode: u16) -> Result<()> {
    let octal = format!("{mode:o}");
    rustix::fs::fsetxattr(file, SHOWN_MODE, octal.as_bytes(), XattrFlags::empty())
        .doing("setting the mode that is shown")
}

/// Sets the times of an open file.
///
/// # Errors
/// The operating system's.
pub fn set_times(file: &File, times: Times) -> Result<()> {
    rustix::fs::futimens(file, &times.raw()).doing("setting times")
}

/// Sets the volume's permission bits.
pub(super) fn set_mode(fd: impl AsFd, mode: u16) -> rustix::io::Result<()> {
    rustix::fs::fchmod(fd, Mode::from_raw_mode(u32::from(mode)))
}

/// Gives a new file the owner and group of `like`, as far as this process may: an unprivileged one keeps itself as
/// the owner, and can give a group it is in.
pub(super) fn inherit_owner(fd: impl AsFd, like: &Stat, new: &Stat) {
    use rustix::fs::{Gid, Uid};
    let gid = (new.gid != like.gid).then(|| Gid::from_raw(like.gid));
    let uid = (new.uid != like.uid).then(|| Uid::from_raw(like.uid));
    let refused = |result: rustix::io::Result<()>| result.err().filter(|_| uid.is_some() || gid.is_some());
    if gid.is_some() || uid.is_some() {
        // First the group alone: it works without privilege more often than both together.
        let failed =
            refused(rustix::fs::fchown(&fd, None, gid)).or(refused(rustix::fs::fchown(&fd, uid, None)));
        if let Some(errno) = failed {
            log::debug!(
                "a new file could not take the owner {}:{}: {errno}",
                like.uid,
                like.gid
            );
        }
    }
}

fn parse_mode(octal: &[u8]) -> Option<u16> {
    let text = std::str::from_utf8(octal).ok()?;
    u16::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o1777)
}
