//! Directory handles: the only way to anything on the volume.

use std::fs::File;
use std::mem::MaybeUninit;
use std::num::NonZeroU64;
use std::ops::ControlFlow;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{
    Advice, AtFlags, FlockOperation, Mode, OFlags, RawDir, RenameFlags, ResolveFlags, StatxFlags, Timestamps,
    XattrFlags,
};
use rustix::io::Errno;

use super::stat::{FileType, Stat};
use crate::error::{Error, Result};

/// The extended attribute that holds the permission bits a user gave a file in the mount, as octal text. The volume's
/// own bits stay what the service needs (DESIGN.md section 3); they are the operator's, these are the user's.
const SHOWN_MODE: &str = "user.tenantfs.mode";

/// The most that is read ahead of one file, in bytes: enough for nearly every record, and little for a hundred.
const MAX_AHEAD: u64 = 64 << 10;

/// How a file is opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    /// For reading.
    Read,
    /// For reading and writing.
    ReadWrite,
}

/// An open directory of the volume. Everything is named by one entry below it: no path, no symbolic link and no mount
/// point is ever followed (openat2 with BENEATH, NO_SYMLINKS, NO_MAGICLINKS and NO_XDEV).
#[derive(Debug)]
pub struct Dir {
    fd: OwnedFd,
}

impl AsFd for Dir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Dir {
    pub(super) fn from_fd(fd: OwnedFd) -> Self {
        Self { fd }
    }

    fn open(&self, name: &str, flags: OFlags, mode: Mode) -> rustix::io::Result<OwnedFd> {
        let resolve = ResolveFlags::BENEATH
            | ResolveFlags::NO_SYMLINKS
            | ResolveFlags::NO_MAGICLINKS
            | ResolveFlags::NO_XDEV;
        let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NOCTTY;
        loop {
            // AGAIN: a rename somewhere raced with the resolution; the kernel asks for another try.
            match rustix::fs::openat2(&self.fd, name, flags, mode, resolve) {
                Err(Errno::AGAIN | Errno::INTR) => {}
                result => return result,
            }
        }
    }

    /// Opens the directory `name`.
    ///
    /// # Errors
    /// The operating system's; [`NotFound`](crate::error::Kind::NotFound) for a symbolic link,
    /// [`CrossDevice`](crate::error::Kind::CrossDevice) for a mount point.
    pub fn open_dir(&self, name: &str) -> Result<Self> {
        let fd = self.open(name, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())?;
        Ok(Self { fd })
    }

    /// A description of its own of the same directory.
    ///
    /// # Errors
    /// The operating system's.
    pub fn reopen(&self) -> Result<Self> {
        self.open_dir(".")
    }

    /// Opens the regular file `name`. Never waits, whatever the name leads to; the caller looks at
    /// [`Stat::file_type`] before it reads.
    ///
    /// # Errors
    /// The operating system's.
    pub fn open_file(&self, name: &str, access: Access) -> Result<File> {
        let flags = OFlags::NONBLOCK
            | match access {
                Access::Read => OFlags::RDONLY,
                Access::ReadWrite => OFlags::RDWR,
            };
        // Our reads are not the user's. The kernel grants it to the file's owner only.
        let opened = match self.open(name, flags | OFlags::NOATIME, Mode::empty()) {
            Err(Errno::PERM) => self.open(name, flags, Mode::empty()),
            opened => opened,
        };
        Ok(File::from(opened?))
    }

    /// Has the operating system begin to read the regular file `name`, for somebody who will soon: it can have many on the
    /// way at once. Only time comes of it; whatever goes wrong, the reading itself will tell.
    pub fn read_ahead(&self, name: &str) {
        let size = match self.stat(name) {
            Ok(stat) if stat.file_type == FileType::Regular => NonZeroU64::new(stat.size.min(MAX_AHEAD)),
            _ => return,
        };
        if let Ok(file) = self.open_file(name, Access::Read) {
            let _ = rustix::fs::fadvise(&file, 0, size, Advice::WillNeed);
        }
    }

    /// Creates the regular file `name` with `mode`, open for reading and writing.
    ///
    /// # Errors
    /// [`Exists`](crate::error::Kind::Exists) when the name is taken, whatever by; the operating system's.
    pub(super) fn create_file(&self, name: &str, mode: u16) -> Result<File> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL;
        let file = File::from(self.open(name, flags, Mode::from_raw_mode(u32::from(mode)))?);
        set_mode(&file, mode)?;
        Ok(file)
    }

    /// An unnamed regular file on the directory's file system, for [`Staged`](super::Staged).
    pub(super) fn create_unnamed(&self, mode: u16) -> rustix::io::Result<File> {
        let mode = Mode::from_raw_mode(u32::from(mode));
        rustix::fs::openat(
            &self.fd,
            ".",
            OFlags::RDWR | OFlags::TMPFILE | OFlags::CLOEXEC,
            mode,
        )
        .map(File::from)
    }

    /// Gives the open file a (further) name here.
    pub(super) fn link(&self, file: &File, name: &str) -> rustix::io::Result<()> {
        // linkat(AT_EMPTY_PATH) wants CAP_DAC_READ_SEARCH before Linux 6.10; the way over /proc never does.
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        rustix::fs::linkat(rustix::fs::CWD, path, &self.fd, name, AtFlags::SYMLINK_FOLLOW)
    }

    /// The attributes of what `name` leads to, which is not followed.
    ///
    /// # Errors
    /// The operating system's.
    pub fn stat(&self, name: &str) -> Result<Stat> {
        let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
        let statx = rustix::fs::statx(&self.fd, name, flags, StatxFlags::BASIC_STATS)?;
        Ok(Stat::from_statx(&statx, true))
    }

    /// The attributes of the directory itself.
    ///
    /// # Errors
    /// The operating system's.
    pub fn stat_self(&self) -> Result<Stat> {
        stat(&self.fd)
    }

    /// Calls `each` with every entry's name but `.` and `..`, in the file system's order.
    ///
    /// # Errors
    /// The operating system's.
    pub fn entries(&self, mut each: impl FnMut(&[u8])) -> Result<()> {
        self.entries_until(|name| {
            each(name);
            ControlFlow::Continue(())
        })
    }

    /// As [`entries`](Self::entries), until `each` has had enough.
    ///
    /// # Errors
    /// The operating system's.
    pub fn entries_until(&self, mut each: impl FnMut(&[u8]) -> ControlFlow<()>) -> Result<()> {
        let fd = self.open_listing()?;
        let mut buffer = vec![MaybeUninit::uninit(); 32 * 1024];
        let mut entries = RawDir::new(fd, &mut buffer);
        while let Some(entry) = entries.next() {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." && each(name).is_break() {
                break;
            }
        }
        Ok(())
    }

    /// A description of its own to list it by: the position of a shared one would be everybody's.
    fn open_listing(&self) -> rustix::io::Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        // Our listings are not the user's, as our reads.
        match self.open(".", flags | OFlags::NOATIME, Mode::empty()) {
            Err(Errno::PERM) => self.open(".", flags, Mode::empty()),
            opened => opened,
        }
    }

    /// The names of what may be directories in it, `.` and `..` left out. Not every file system knows without looking.
    ///
    /// # Errors
    /// The operating system's.
    pub fn directories(&self) -> Result<Vec<Vec<u8>>> {
        let fd = self.open_listing()?;
        let mut buffer = vec![MaybeUninit::uninit(); 32 * 1024];
        let mut entries = RawDir::new(fd, &mut buffer);
        let mut names = Vec::new();
        while let Some(entry) = entries.next() {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            let kind = entry.file_type();
            if matches!(
                kind,
                rustix::fs::FileType::Directory | rustix::fs::FileType::Unknown
            ) && name != b"."
                && name != b".."
            {
                names.push(name.to_vec());
            }
        }
        Ok(names)
    }

    /// Makes the directory `name` with the permission bits, group and set-group-id bit of this one, so that whoever
    /// works in this directory can work in the new one.
    ///
    /// # Errors
    /// The operating system's.
    pub fn make_dir(&self, name: &str) -> Result<Self> {
        let like = self.stat_self()?;
        rustix::fs::mkdirat(&self.fd, name, Mode::from_raw_mode(0o700))?;
        let dir = self.open_dir(name)?;
        inherit_owner(&dir, &like, &dir.stat_self()?);
        set_mode(&dir, like.mode)?;
        Ok(dir)
    }

    /// Opens the directory `name`, and makes it first where it is absent.
    ///
    /// # Errors
    /// The operating system's.
    pub fn open_or_make_dir(&self, name: &str) -> Result<Self> {
        use crate::error::Kind;
        match self.open_dir(name) {
            Err(error) if error.kind() == Kind::NotFound => match self.make_dir(name) {
                // Made by somebody else meanwhile; or a symbolic link, which opening refuses again.
                Err(error) if error.kind() == Kind::Exists => self.open_dir(name),
                result => result,
            },
            result => result,
        }
    }

    /// Renames `from` here to `to` in `target`, over whatever `to` is.
    ///
    /// # Errors
    /// The operating system's.
    pub fn rename(&self, from: &str, target: &Self, to: &str, how: Rename) -> Result<()> {
        let flags = match how {
            Rename::Replace => RenameFlags::empty(),
            Rename::NoReplace => RenameFlags::NOREPLACE,
            Rename::Exchange => RenameFlags::EXCHANGE,
        };
        Ok(rustix::fs::renameat_with(&self.fd, from, &target.fd, to, flags)?)
    }

    /// Removes the name of a file.
    ///
    /// # Errors
    /// The operating system's.
    pub fn unlink(&self, name: &str) -> Result<()> {
        Ok(rustix::fs::unlinkat(&self.fd, name, AtFlags::empty())?)
    }

    /// Removes an empty directory.
    ///
    /// # Errors
    /// The operating system's.
    pub fn remove_dir(&self, name: &str) -> Result<()> {
        Ok(rustix::fs::unlinkat(&self.fd, name, AtFlags::REMOVEDIR)?)
    }

    /// Takes an advisory lock on the directory (flock), which lasts as long as this handle. Whether it could be had.
    ///
    /// # Errors
    /// The operating system's.
    pub fn lock(&self, how: Lock) -> Result<bool> {
        let operation = match how {
            Lock::Shared => FlockOperation::NonBlockingLockShared,
            Lock::Exclusive => FlockOperation::NonBlockingLockExclusive,
        };
        match rustix::fs::flock(&self.fd, operation) {
            Ok(()) => Ok(true),
            Err(Errno::WOULDBLOCK) => Ok(false),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Makes the directory's entries durable.
    ///
    /// # Errors
    /// The operating system's.
    pub fn sync(&self) -> Result<()> {
        Ok(rustix::fs::fsync(&self.fd)?)
    }

    /// Sets the times of `name`; `None` leaves one as it is.
    ///
    /// # Errors
    /// The operating system's.
    pub fn set_times(&self, name: &str, times: Times) -> Result<()> {
        Ok(rustix::fs::utimensat(
            &self.fd,
            name,
            &times.raw(),
            AtFlags::SYMLINK_NOFOLLOW,
        )?)
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
        match mode {
            Some(mode) => {
                rustix::fs::lsetxattr(
                    path,
                    SHOWN_MODE,
                    format!("{mode:o}").as_bytes(),
                    XattrFlags::empty(),
                )?;
            }
            None => absent_is_fine(rustix::fs::lremovexattr(path, SHOWN_MODE))?,
        }
        Ok(())
    }

    /// The xattr calls know no directory handles; a magic link of our own descriptor is the next best thing, and the
    /// entry's name is not followed (`l*xattr`).
    fn proc_path(&self, name: &str) -> String {
        format!("/proc/self/fd/{}/{name}", self.fd.as_raw_fd())
    }
}

/// With whom a lock is shared.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lock {
    /// With others like it.
    Shared,
    /// With nobody.
    Exclusive,
}

/// What a rename does about an existing target.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rename {
    /// Replaces it.
    Replace,
    /// Refuses.
    NoReplace,
    /// Swaps the two.
    Exchange,
}

/// A change of a file's times; `None` leaves one as it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Times {
    /// Last access.
    pub atime: Option<crate::clock::Timestamp>,
    /// Last change of the content.
    pub mtime: Option<crate::clock::Timestamp>,
}

impl Times {
    fn raw(self) -> Timestamps {
        let timespec = |time: Option<crate::clock::Timestamp>| match time {
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
    let statx = rustix::fs::statx(fd, "", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS)?;
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
    Ok(rustix::fs::fsetxattr(
        file,
        SHOWN_MODE,
        format!("{mode:o}").as_bytes(),
        XattrFlags::empty(),
    )?)
}

/// Sets the times of an open file.
///
/// # Errors
/// The operating system's.
pub fn set_times(file: &File, times: Times) -> Result<()> {
    Ok(rustix::fs::futimens(file, &times.raw())?)
}

/// Sets the volume's permission bits.
pub(super) fn set_mode(fd: impl AsFd, mode: u16) -> Result<()> {
    Ok(rustix::fs::fchmod(fd, Mode::from_raw_mode(u32::from(mode)))?)
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

fn absent_is_fine(result: rustix::io::Result<()>) -> Result<()> {
    match result {
        Ok(()) | Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(()),
        Err(errno) => Err(Error::from(errno)),
    }
}

impl Stat {
    /// Whether this is a regular file.
    pub fn is_regular(&self) -> bool {
        self.file_type == FileType::Regular
    }
}
