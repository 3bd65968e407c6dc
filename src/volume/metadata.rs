//! The modes that the mount shows, and the times, of files.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd};

use rustix::fs::{AtFlags, Timestamps, XattrFlags};
use rustix::io::Errno;

use super::dir::Dir;
use crate::clock::Timestamp;
use crate::error::{Doing, Result};

/// The extended attribute that holds the permission bits a user gave a file in the mount, as octal text. The volume's
/// own bits stay what the service needs: they are the operator's, these are the user's.
const SHOWN_MODE: &str = "user.tenantfs.mode";

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

fn parse_mode(octal: &[u8]) -> Option<u16> {
    let text = std::str::from_utf8(octal).ok()?;
    u16::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o1777)
}
