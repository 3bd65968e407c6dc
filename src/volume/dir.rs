//! Directory handles: the only way to anything on the volume.

use std::fs::File;
use std::num::NonZeroU64;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use rustix::fs::Access as Permission;
use rustix::fs::{Advice, AtFlags, Mode, OFlags, RenameFlags, ResolveFlags, StatxFlags};
use rustix::io::Errno;

use super::abilities::FileSystem;
use super::engine::Engine;
use super::inherit::{inherit_owner, set_mode};
use super::stat::{FileId, FileType, STATX, Stat, stat};
use crate::error::{Doing as _, Error, Kind, Result};
use crate::quota::{Amount, Meter};

/// The most that is read ahead of one file, in bytes: enough for nearly every record, and little for a hundred.
const MAX_AHEAD: u64 = 64 << 10;

/// Below a path of so many bytes, messages name no further directory.
const LONGEST_SHOWN: usize = 4096;

/// How often it is asked where a directory is that is being renamed.
const PLACE_ATTEMPTS: u32 = 5;

/// How a file is opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    /// For reading.
    Read,
    /// For reading and writing.
    ReadWrite,
}

impl Access {
    fn flags(self) -> OFlags {
        match self {
            Self::Read => OFlags::RDONLY,
            Self::ReadWrite => OFlags::RDWR,
        }
    }

    /// What the permissions of a file must not forbid.
    fn permissions(self) -> Permission {
        match self {
            Self::Read => Permission::READ_OK,
            Self::ReadWrite => Permission::READ_OK | Permission::WRITE_OK,
        }
    }
}

/// The very file that is open, once more, whatever became of its name.
///
/// # Errors
/// The operating system's.
pub fn open_again(file: &File, access: Access) -> Result<File> {
    // Of what is open here, and of nothing that a name could lead to.
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    let flags = access.flags() | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let opened = rustix::fs::open(path, flags, Mode::empty());
    opened.map(File::from).doing("opening a file once more")
}

/// An open directory of the volume. Everything is named by one entry below it: no path, no symbolic link and no mount
/// point is ever followed (openat2 with BENEATH, NO_SYMLINKS, NO_MAGICLINKS and NO_XDEV).
#[derive(Debug)]
pub struct Dir {
    fd: OwnedFd,
    /// Where it was opened: for the operator's messages, and for nothing else.
    path: Arc<Path>,
    /// What it is on.
    file_system: Arc<FileSystem>,
    /// What counts everything that is made and removed in it, and in the directories in it.
    pub(super) meter: Option<Arc<Meter>>,
}

impl AsFd for Dir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Dir {
    /// The directory that somebody has opened at `path`.
    pub fn opened(fd: OwnedFd, path: &Path) -> Self {
        let file_system = FileSystem::of(Engine::of(&fd));
        Self {
            fd,
            path: Arc::from(path),
            file_system: Arc::new(file_system),
            meter: None,
        }
    }

    /// Another directory of the same file system.
    fn beside(&self, fd: OwnedFd, path: Arc<Path>) -> Self {
        Self {
            fd,
            path,
            file_system: Arc::clone(&self.file_system),
            meter: self.meter.clone(),
        }
    }

    /// The file system that it is on.
    pub fn file_system(&self) -> &FileSystem {
        &self.file_system
    }

    /// The same directory, everything counted that is made and removed through it.
    #[must_use]
    pub fn metered(self, meter: Option<Arc<Meter>>) -> Self {
        Self { meter, ..self }
    }

    /// What counts it.
    pub fn meter(&self) -> Option<&Arc<Meter>> {
        self.meter.as_ref()
    }

    /// Where it was when it was opened, for messages.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What went wrong here with `entry`, which may be `.`; and where this directory may not be entered, that, for it is what
    /// has to be mended.
    pub(super) fn failed(&self, errno: Errno, doing: &'static str, entry: &str) -> Error {
        let any = Permission::READ_OK | Permission::WRITE_OK;
        self.failed_unless(errno, doing, entry, || {
            self.forbids(".", any | Permission::EXEC_OK) || self.forbids(entry, any)
        })
    }

    /// As [`failed`](Self::failed), where `entry` was to be opened for what is `wanted`, and no more.
    fn not_opened(&self, errno: Errno, doing: &'static str, entry: &str, wanted: Permission) -> Error {
        self.failed_unless(errno, doing, entry, || self.forbids(entry, wanted))
    }

    /// Where the permissions do not forbid what the kernel refused, the sandbox refused it: what was found here was moved out
    /// of the tenant's directories, perhaps for a moment. That is [`Stale`](crate::error::Kind::Stale): who looks again finds what
    /// is there now.
    fn failed_unless(
        &self,
        errno: Errno,
        doing: &'static str,
        entry: &str,
        is_forbidden: impl FnOnce() -> bool,
    ) -> Error {
        if errno != Errno::ACCESS {
            return Error::os(errno, doing).at_entry(&self.path, entry);
        }
        if self.forbids(".", Permission::EXEC_OK) {
            return Error::os(errno, "entering a directory").at_entry(&self.path, ".");
        }
        let errno = if is_forbidden() { errno } else { Errno::STALE };
        Error::os(errno, doing).at_entry(&self.path, entry)
    }

    /// Whether the permissions of `entry` forbid something, whatever a sandbox says.
    fn forbids(&self, entry: &str, wanted: Permission) -> bool {
        let flags = AtFlags::EACCESS | AtFlags::SYMLINK_NOFOLLOW;
        rustix::fs::accessat(&self.fd, entry, wanted, flags) == Err(Errno::ACCESS)
    }

    pub(super) fn open(&self, name: &str, flags: OFlags, mode: Mode) -> rustix::io::Result<OwnedFd> {
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
        let open = || self.open(name, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty());
        let fd = self
            .patiently(name, open)
            .map_err(|errno| self.not_opened(errno, "opening a directory", name, Permission::READ_OK))?;
        let path = match name {
            "." => Arc::clone(&self.path),
            // However deep a tenant nests directories, a message stays readable.
            _ if self.path.as_os_str().len() > LONGEST_SHOWN => Arc::clone(&self.path),
            _ => Arc::from(self.path.join(name)),
        };
        Ok(self.beside(fd, path))
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
        let flags = access.flags() | OFlags::NONBLOCK;
        // Our reads are not the user's. The kernel grants it to the file's owner only.
        let open = || match self.open(name, flags | OFlags::NOATIME, Mode::empty()) {
            Err(Errno::PERM) => self.open(name, flags, Mode::empty()),
            opened => opened,
        };
        self.patiently(name, open)
            .map(File::from)
            .map_err(|errno| self.not_opened(errno, "opening a file", name, access.permissions()))
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
        let file = self
            .open(name, flags, Mode::from_raw_mode(u32::from(mode)))
            .map(File::from)
            .map_err(|errno| self.failed(errno, "creating a file", name))?;
        set_mode(&file, mode).map_err(|errno| self.failed(errno, "setting a file's mode", name))?;
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

    /// What the kernel thinks of making files here.
    pub(super) fn may_be_written(&self) -> rustix::io::Result<()> {
        let wanted = Permission::WRITE_OK | Permission::EXEC_OK;
        rustix::fs::accessat(&self.fd, ".", wanted, AtFlags::EACCESS)
    }

    /// Gives the open file a (further) name here.
    pub(super) fn link(&self, file: &File, name: &str) -> rustix::io::Result<()> {
        match rustix::fs::linkat(file, "", &self.fd, name, AtFlags::EMPTY_PATH) {
            // Before Linux 6.10 that wants CAP_DAC_READ_SEARCH, and since then that the same thread opened the file.
            Err(Errno::NOENT) => self.link_over_proc(file, name),
            linked => linked,
        }
    }

    /// The longer way, which wants nothing: the kernel walks through /proc for it.
    fn link_over_proc(&self, file: &File, name: &str) -> rustix::io::Result<()> {
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        rustix::fs::linkat(rustix::fs::CWD, path, &self.fd, name, AtFlags::SYMLINK_FOLLOW)
    }

    /// The attributes of what `name` leads to, which is not followed.
    ///
    /// # Errors
    /// The operating system's.
    pub fn stat(&self, name: &str) -> Result<Stat> {
        let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
        let statx = self
            .patiently(name, || rustix::fs::statx(&self.fd, name, flags, STATX))
            .map_err(|errno| self.failed(errno, "reading attributes", name))?;
        Ok(Stat::from_statx(&statx, true))
    }

    /// The attributes of the directory itself.
    ///
    /// # Errors
    /// The operating system's.
    pub fn stat_self(&self) -> Result<Stat> {
        stat(&self.fd).map_err(|error| error.at_entry(&self.path, "."))
    }

    /// What a path of several names below here leads to, as the operating system follows it: to be compared, and never to be
    /// opened. None where it leads to nothing.
    ///
    /// # Errors
    /// The operating system's.
    pub fn id_of_path(&self, path: &str) -> Result<Option<FileId>> {
        let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
        match rustix::fs::statx(&self.fd, path, flags, StatxFlags::INO) {
            Ok(statx) => Ok(Some(Stat::from_statx(&statx, true).id)),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            Err(errno) => Err(self.failed(errno, "reading attributes", path)),
        }
    }

    /// Where the directory is now, wherever it was opened: the one that it is in, for looking only, and its name there.
    /// None where it is in none any more.
    ///
    /// # Errors
    /// The operating system's.
    pub fn place_now(&self) -> Result<Option<(Self, String)>> {
        let id = self.stat_self()?.id;
        for _ in 0..PLACE_ATTEMPTS {
            let path = format!("/proc/self/fd/{}", self.fd.as_raw_fd());
            let path = match rustix::fs::readlink(path, Vec::new()) {
                // Deeper than any path can tell.
                Err(Errno::NAMETOOLONG) => return Ok(None),
                path => path.map_err(|errno| self.failed(errno, "asking where a directory is", "."))?,
            };
            let name = path.to_str().ok().and_then(|path| path.rsplit_once('/'));
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let parent = rustix::fs::openat(&self.fd, "..", flags, Mode::empty())
                .map_err(|errno| self.failed(errno, "opening the directory above", "."))?;
            let parent = self.beside(parent, Arc::clone(&self.path)).metered(None);
            // What it is called says nothing unless the name leads to it: it may be being renamed just now.
            if let Some((_, name)) = name
                && parent.id_of_path(name)? == Some(id)
            {
                return Ok(Some((parent, name.to_owned())));
            }
        }
        Ok(None)
    }

    /// Makes the directory `name` with the permission bits, group and set-group-id bit of this one, so that whoever
    /// works in this directory can work in the new one.
    ///
    /// # Errors
    /// The operating system's.
    pub fn make_dir(&self, name: &str) -> Result<Self> {
        self.make_dir_like(name, &self.stat_self()?)
    }

    /// As [`make_dir`](Self::make_dir), for its owner alone.
    ///
    /// # Errors
    /// The operating system's.
    pub fn make_private_dir(&self, name: &str) -> Result<Self> {
        let like = Stat {
            mode: 0o700,
            ..self.stat_self()?
        };
        self.make_dir_like(name, &like)
    }

    fn make_dir_like(&self, name: &str, like: &Stat) -> Result<Self> {
        self.appearing(Amount::directory(), || {
            rustix::fs::mkdirat(&self.fd, name, Mode::from_raw_mode(0o700))
                .map_err(|errno| self.failed(errno, "making a directory", name))
        })?;
        let dir = self.open_dir(name)?;
        inherit_owner(&dir, like, &dir.stat_self()?);
        set_mode(&dir, like.mode).map_err(|errno| self.failed(errno, "setting a directory's mode", name))?;
        Ok(dir)
    }

    /// Opens the directory `name`, and makes it first where it is absent.
    ///
    /// # Errors
    /// The operating system's.
    pub fn open_or_make_dir(&self, name: &str) -> Result<Self> {
        self.open_or_make_dir_by(name, Self::make_dir)
    }

    /// As [`open_or_make_dir`](Self::open_or_make_dir), with what makes it.
    pub(super) fn open_or_make_dir_by(
        &self,
        name: &str,
        make: fn(&Self, &str) -> Result<Self>,
    ) -> Result<Self> {
        match self.open_dir(name) {
            Err(error) if error.kind() == Kind::NotFound => match make(self, name) {
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
        self.renaming(from, target, to, how, || {
            self.rename_uncounted(from, target, to, how)
        })
    }

    pub(super) fn rename_uncounted(&self, from: &str, target: &Self, to: &str, how: Rename) -> Result<()> {
        let flags = match how {
            Rename::Replace => RenameFlags::empty(),
            Rename::NoReplace if !target.abilities()?.renames_without_replacing => {
                return self.move_to_free_name(from, target, to);
            }
            Rename::NoReplace => RenameFlags::NOREPLACE,
            Rename::Exchange if !target.abilities()?.exchanges => {
                return Err(Error::new(
                    Kind::InvalidArgument,
                    "the volume's file system cannot exchange two files",
                ));
            }
            Rename::Exchange => RenameFlags::EXCHANGE,
        };
        rustix::fs::renameat_with(&self.fd, from, &target.fd, to, flags)
            .map_err(|errno| target.failed(errno, "renaming to", to))
    }

    /// Renames where the file system knows no renaming that replaces nothing. Only one of all who want a name gets it, as
    /// with that. A file has both names for a moment; a directory's new name is that of an empty one.
    fn move_to_free_name(&self, from: &str, target: &Self, to: &str) -> Result<()> {
        let failed = |errno| target.failed(errno, "renaming to", to);
        if self.stat(from)?.file_type == FileType::Directory {
            rustix::fs::mkdirat(&target.fd, to, Mode::from_raw_mode(0o700)).map_err(failed)?;
            return rustix::fs::renameat(&self.fd, from, &target.fd, to).map_err(|errno| {
                // What somebody has put in it meanwhile is theirs.
                let _ = rustix::fs::unlinkat(&target.fd, to, AtFlags::REMOVEDIR);
                failed(errno)
            });
        }
        rustix::fs::linkat(&self.fd, from, &target.fd, to, AtFlags::empty()).map_err(failed)?;
        self.unlink_uncounted(from)
    }

    /// Removes the name of a file.
    ///
    /// # Errors
    /// The operating system's.
    pub fn unlink(&self, name: &str) -> Result<()> {
        self.leaving(name, || self.unlink_uncounted(name))
    }

    pub(super) fn unlink_uncounted(&self, name: &str) -> Result<()> {
        rustix::fs::unlinkat(&self.fd, name, AtFlags::empty())
            .map_err(|errno| self.failed(errno, "removing a file", name))
    }

    /// Removes an empty directory.
    ///
    /// # Errors
    /// The operating system's.
    pub fn remove_dir(&self, name: &str) -> Result<()> {
        self.leaving(name, || {
            rustix::fs::unlinkat(&self.fd, name, AtFlags::REMOVEDIR)
                .map_err(|errno| self.failed(errno, "removing a directory", name))
        })
    }

    /// Makes the directory's entries durable.
    ///
    /// # Errors
    /// The operating system's.
    pub fn sync(&self) -> Result<()> {
        rustix::fs::fsync(&self.fd).map_err(|errno| self.failed(errno, "making a directory durable", "."))
    }
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
