//! The modes that the mount shows, and the times, of files.

use std::fmt;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd};

use rustix::fs::{AtFlags, Timestamps, XattrFlags};
use rustix::io::Errno;

use super::dir::Dir;
use super::stat::Stat;
use crate::clock::Timestamp;
use crate::error::{Doing, Result};

/// The extended attribute that holds what the mount shows. It is called after the first thing that it held.
const SHOWN: &str = "user.tenantfs.mode";

/// The longest that it can be, in bytes: a mode, and three numbers.
const LONGEST_SHOWN: usize = 80;

/// The extended attribute that holds the name that an entry had before it got one of ours, where that does not tell.
const FORMER_NAME: &str = "user.tenantfs.name";

/// The extended attribute that says since when a file waits that was written anew meanwhile: two times, the second being
/// when that was said. It holds as long as nothing else changes the file's inode.
const WAITS: &str = "user.tenantfs.waits";

/// The longest that it can be, in bytes.
const LONGEST_WAITS: usize = 64;

/// Between reading the clock and the change of the inode that comes of it there is less than so much, in milliseconds.
const SAID_WITHIN_MILLIS: i64 = 1000;

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

    /// What the mount shows of `name` that the volume's own attributes do not say.
    pub fn shown(&self, name: &str) -> Shown {
        let mut buffer = [0; LONGEST_SHOWN];
        let read = rustix::fs::lgetxattr(self.proc_path(name), SHOWN, &mut buffer[..]);
        Shown::parse(buffer.get(..read.unwrap_or(0)).unwrap_or_default())
    }

    /// As [`shown`](Self::shown), of the directory itself.
    pub fn shown_self(&self) -> Shown {
        shown(self)
    }

    /// Has the mount show that of `name`.
    ///
    /// # Errors
    /// [`Unsupported`](crate::error::Kind::Unsupported) where the file system has no user attributes.
    pub fn set_shown(&self, name: &str, shown: Shown) -> Result<()> {
        let text = shown.to_string();
        rustix::fs::lsetxattr(self.proc_path(name), SHOWN, text.as_bytes(), XattrFlags::empty())
            .map_err(|errno| self.failed(errno, "setting what the mount shows", name))
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

    /// Since when `entry`, which has these attributes, waits under a name of ours: since its inode changed last, for it got
    /// that name then, unless [`set_waits_since`](Self::set_waits_since) said another time.
    pub fn waits_since(&self, entry: &str, stat: &Stat) -> Timestamp {
        let mut buffer = [0; LONGEST_WAITS];
        let read = rustix::fs::lgetxattr(self.proc_path(entry), WAITS, &mut buffer[..]);
        let said = std::str::from_utf8(buffer.get(..read.unwrap_or(0)).unwrap_or_default());
        let times = said.ok().and_then(|said| said.split_once(' '));
        let times = times.and_then(|(since, said)| Some((Timestamp::parse(since)?, Timestamp::parse(said)?)));
        match times {
            Some((since, said)) if stat.ctime.millis_since(said).abs() < SAID_WITHIN_MILLIS => since,
            _ => stat.ctime,
        }
    }

    /// Has `entry`, which was written anew, go on waiting since `since`.
    ///
    /// # Errors
    /// [`Unsupported`](crate::error::Kind::Unsupported) where the file system has no user attributes.
    pub fn set_waits_since(&self, entry: &str, since: Timestamp, now: Timestamp) -> Result<()> {
        let said = format!("{since} {now}");
        rustix::fs::lsetxattr(self.proc_path(entry), WAITS, said.as_bytes(), XattrFlags::empty())
            .map_err(|errno| self.failed(errno, "noting since when it waits", entry))
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

/// Notes the name of ours that an open file is going to get is for, where that does not tell: see [`Dir::former_name`].
///
/// # Errors
/// [`Unsupported`](crate::error::Kind::Unsupported) where the file system has no user attributes.
pub fn set_former_name(file: &File, name: &str) -> Result<()> {
    rustix::fs::fsetxattr(file, FORMER_NAME, name.as_bytes(), XattrFlags::empty()).doing("noting a name")
}

/// As [`Dir::shown`], of an open file.
pub fn shown(fd: impl AsFd) -> Shown {
    let mut buffer = [0; LONGEST_SHOWN];
    let read = rustix::fs::fgetxattr(fd, SHOWN, &mut buffer[..]);
    Shown::parse(buffer.get(..read.unwrap_or(0)).unwrap_or_default())
}

/// As [`Dir::set_shown`], for an open file.
///
/// # Errors
/// [`Unsupported`](crate::error::Kind::Unsupported) where the file system has no user attributes.
pub fn set_shown(file: &File, shown: Shown) -> Result<()> {
    let text = shown.to_string();
    rustix::fs::fsetxattr(file, SHOWN, text.as_bytes(), XattrFlags::empty())
        .doing("setting what the mount shows")
}

/// Sets the times of an open file.
///
/// # Errors
/// The operating system's.
pub fn set_times(file: &File, times: Times) -> Result<()> {
    rustix::fs::futimens(file, &times.raw()).doing("setting times")
}

/// What the mount shows of a file that the volume's own attributes do not say.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Shown {
    /// The permission bits that its user gave it. The volume's own stay what the service needs: they are the operator's.
    pub mode: Option<u16>,
    /// The inode number that it has although another file came in its place.
    pub number: Option<Numbered>,
}

/// An inode number that was given to one content of a file: what others write into it has another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Numbered {
    /// The number.
    pub number: u32,
    /// The file's size, in bytes.
    pub size: u64,
    /// The last change of its content.
    pub mtime: Timestamp,
}

impl Numbered {
    /// Gives a number to the content that a file has now.
    pub fn given_to(stat: &Stat, number: u32) -> Self {
        Self {
            number,
            size: stat.size,
            mtime: stat.mtime,
        }
    }

    /// Whether it was given to the content that a file has now.
    pub fn is_of(&self, stat: &Stat) -> bool {
        (self.size, self.mtime) == (stat.size, stat.mtime)
    }
}

impl Shown {
    /// Understands the attribute: `640` or `-`, and where there is a number ` 1f2e3d4c 35 1764302400.123456789`. What
    /// cannot be understood says nothing.
    fn parse(attribute: &[u8]) -> Self {
        let mut words = std::str::from_utf8(attribute).unwrap_or_default().split(' ');
        let mode = words.next().and_then(|octal| u16::from_str_radix(octal, 8).ok());
        let number = || {
            let number = u32::from_str_radix(words.next()?, 16).ok()?;
            let size = words.next()?.parse().ok()?;
            let mtime = Timestamp::parse(words.next()?)?;
            Some(Numbered { number, size, mtime })
        };
        Self {
            mode: mode.filter(|mode| *mode <= 0o1777),
            number: { number }(),
        }
    }
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.mode {
            Some(mode) => write!(f, "{mode:o}")?,
            None => f.write_str("-")?,
        }
        match self.number {
            Some(Numbered { number, size, mtime }) => {
                write!(f, " {number:x} {size} {mtime}")
            }
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_is_understood_as_it_was_written() {
        let mtime = Timestamp {
            seconds: 1_764_302_400,
            nanos: 5,
        };
        let number = Some(Numbered {
            number: 0x1f2e,
            size: 35,
            mtime,
        });
        for mode in [None, Some(0o640)] {
            for number in [None, number] {
                let shown = Shown { mode, number };
                assert_eq!(Shown::parse(shown.to_string().as_bytes()), shown);
            }
        }
        for nothing in ["", "9", "2000", "x 1 2 3.4", "\u{e9}"] {
            assert_eq!(Shown::parse(nothing.as_bytes()).mode, None, "{nothing}");
        }
    }
}
