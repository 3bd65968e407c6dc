//! What may be mounted on.

use std::ffi::{OsStr, OsString};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, RawDir, StatxAttributes, StatxFlags};
use rustix::io::Errno;

use super::mount_id::{self, Identity};
use super::mountinfo::Mountinfo;
use super::root::{self, DIRECTORY};
use crate::error::{Error, Kind, Result};
use crate::escape::quoted;

/// The mode of a directory that is made: nobody may put anything there when nothing is mounted.
const MODE: Mode = Mode::from_raw_mode(0o555);

/// Where a mount is to be.
pub(super) enum Spot {
    /// On a directory that was opened by [`open_given`].
    Opened(OwnedFd),
    /// On an entry of a directory of root's.
    Named(Place),
}

/// An entry of an open directory, which is root's alone: nobody else changes what it is.
pub(super) struct Place {
    parent: OwnedFd,
    name: OsString,
    /// To be shown.
    path: PathBuf,
}

/// A directory that was checked, and the descriptor it was checked on: what is at its path later does not matter.
pub(super) struct Mountpoint {
    pub(super) directory: OwnedFd,
    /// Whether it is an automount, which expires only while nobody has it open.
    pub(super) is_automount: bool,
    /// What is not as it should be.
    pub(super) warnings: Vec<String>,
}

/// Opens the directory that an administrator named, wherever it is, and checks it.
///
/// # Errors
/// [`Kind::MountFailed`] when it is missing, a symbolic link, not a directory, not empty, or mounted on already.
pub(super) fn open_given(path: &Path) -> Result<OwnedFd> {
    let directory = open_directory(CWD, path, path)?;
    check(&directory, path)?;
    Ok(directory)
}

impl Spot {
    /// The directory to mount on, which is checked now; made first if it is missing and is to be made.
    ///
    /// # Errors
    /// [`Kind::MountFailed`] when it is missing, a symbolic link, not a directory, not empty, mounted on already, or is among
    /// root's directories and not root's; or cannot be made.
    pub(super) fn prepare(self, make: bool) -> Result<Mountpoint> {
        match self {
            Self::Opened(directory) => again(directory),
            Self::Named(place) => {
                let made = make && place.make_missing()?;
                place.check().inspect_err(|_| {
                    if made {
                        place.remove();
                    }
                })
            }
        }
    }
}

impl Place {
    /// The entry `name` of `parent`, which is shown as `path`.
    pub(super) fn new(parent: OwnedFd, name: &OsStr, path: &Path) -> Self {
        Self {
            parent,
            name: name.to_owned(),
            path: path.to_owned(),
        }
    }

    /// The mount on top there.
    pub(super) fn on_top(&self) -> rustix::io::Result<Identity> {
        Identity::at(&self.parent, Path::new(&self.name), AtFlags::SYMLINK_NOFOLLOW)
    }

    /// What is on top there, opened.
    pub(super) fn open_on_top(&self) -> rustix::io::Result<OwnedFd> {
        rustix::fs::openat(&self.parent, &self.name, DIRECTORY, Mode::empty())
    }

    /// Makes the directory, if it is not there. Returns whether it was made.
    fn make_missing(&self) -> Result<bool> {
        match rustix::fs::mkdirat(&self.parent, &self.name, MODE) {
            Ok(()) => Ok(true),
            // Of an administrator, or from before a crash: the checks tell whether it will do.
            Err(Errno::EXIST) => Ok(false),
            // The directory is open, and gone.
            Err(Errno::NOENT) => Err(Error::mount_failed(format!(
                "the directory {} was removed while the mounter had it open; make it again, and restart the mounter",
                self.path.parent().unwrap_or(&self.path).display()
            ))),
            Err(errno) => Err(
                Error::os(errno, format!("making the mountpoint {}", self.path.display()))
                    .as_kind(Kind::MountFailed),
            ),
        }
    }

    fn check(&self) -> Result<Mountpoint> {
        let path = &self.path;
        let directory = open_directory(&self.parent, Path::new(&self.name), path)?;
        let mountpoint = check(&directory, path)?;
        match root::is_roots_alone(&mountpoint) {
            true => Ok(Mountpoint {
                directory,
                is_automount: false,
                warnings: Vec::new(),
            }),
            false => Err(Error::mount_failed(format!(
                "the mountpoint {0} is there already, and is not root's alone; remove it: rmdir {0}",
                path.display()
            ))),
        }
    }

    /// Removes the directory that a mount was on, if there is nothing to be lost: it is empty and root's alone, and nothing is
    /// mounted on it.
    pub(super) fn remove(&self) {
        if let Err(errno) = self.try_to_remove() {
            log::debug!("the directory {} stays: {errno}", self.path.display());
        }
    }

    fn try_to_remove(&self) -> rustix::io::Result<()> {
        if is_mounted_on(&self.parent, Path::new(&self.name))? {
            return Err(Errno::BUSY);
        }
        let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
        let stat = rustix::fs::statx(&self.parent, &self.name, flags, StatxFlags::BASIC_STATS)?;
        match root::is_roots_alone(&stat) {
            true => rustix::fs::unlinkat(&self.parent, &self.name, AtFlags::REMOVEDIR),
            false => Err(Errno::PERM),
        }
    }
}

/// Checks once more what [`open_given`] has opened: time has passed since.
fn again(directory: OwnedFd) -> Result<Mountpoint> {
    let path = mount_id::path_of(&directory)?;
    let stat = check(&directory, &path)?;
    // From a descriptor of what is beneath, a mount over it is not seen.
    let mount = root::mount_of(&directory).map_err(|errno| no_mountpoint(&path, errno))?;
    if Mountinfo::read()?.has_mount_on(mount, &path) {
        return Err(Error::mount_failed(already_mounted(&path)));
    }
    let mut warnings = Vec::new();
    if stat.stx_uid != 0 {
        warnings.push(format!(
            "the mountpoint {} does not belong to root: when nothing is mounted, its owner may put files there",
            path.display()
        ));
    }
    Ok(Mountpoint {
        is_automount: is_automount(&directory, Path::new("")),
        directory,
        warnings,
    })
}

/// Asks for no attribute: that much a FUSE mount tells others than its user, and without its server, which may hang.
fn is_mounted_on(base: impl std::os::fd::AsFd, path: &Path) -> rustix::io::Result<bool> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT | AtFlags::STATX_DONT_SYNC;
    let found = rustix::fs::statx(base, path, flags, StatxFlags::empty())?;
    Ok(found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
}

/// Whether it is an automount, which is mounted on only to be mounted on.
fn is_automount(base: impl std::os::fd::AsFd, path: &Path) -> bool {
    let mount = Identity::at(base, path, AtFlags::SYMLINK_NOFOLLOW | AtFlags::EMPTY_PATH);
    mount.is_ok_and(|mount| Mountinfo::read().is_ok_and(|all| all.is_automount(mount)))
}

/// Opens `name` of `base`, which is no symbolic link, and on which nothing is mounted but an automount.
fn open_directory(base: impl std::os::fd::AsFd, name: &Path, path: &Path) -> Result<OwnedFd> {
    let shown = path.display();
    let is_mounted_on = is_mounted_on(&base, name).map_err(|errno| no_mountpoint(path, errno))?;
    if is_mounted_on && !is_automount(&base, name) {
        return Err(Error::mount_failed(already_mounted(path)));
    }
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
    let named = rustix::fs::statx(&base, name, flags, StatxFlags::BASIC_STATS)
        .map_err(|errno| no_mountpoint(path, errno))?;
    match FileType::from_raw_mode(u32::from(named.stx_mode)) {
        FileType::Directory => {}
        FileType::Symlink => {
            return Err(Error::mount_failed(format!(
                "the mountpoint {shown} is a symbolic link; give the directory that it leads to"
            )));
        }
        _ => {
            return Err(Error::mount_failed(format!(
                "the mountpoint {shown} is not a directory; create an empty one"
            )));
        }
    }
    rustix::fs::openat(&base, name, DIRECTORY, Mode::empty()).map_err(|errno| no_mountpoint(path, errno))
}

/// Sees to it that an open directory is empty and no mount; returns what it is.
fn check(directory: &OwnedFd, path: &Path) -> Result<rustix::fs::Statx> {
    let opened = root::stat(directory).map_err(|errno| no_mountpoint(path, errno))?;
    let is_mount = opened.stx_attributes.contains(StatxAttributes::MOUNT_ROOT);
    if is_mount && !is_automount(directory, Path::new("")) {
        return Err(Error::mount_failed(already_mounted(path)));
    }
    if !is_empty(directory).map_err(|errno| no_mountpoint(path, errno))? {
        return Err(Error::mount_failed(format!(
            "the mountpoint {} is not empty; its files would be out of reach: use an empty directory",
            path.display()
        )));
    }
    Ok(opened)
}

fn no_mountpoint(path: &Path, errno: Errno) -> Error {
    let shown = path.display();
    Error::mount_failed(match errno {
        Errno::NOENT => format!(
            "the mountpoint {shown} does not exist; create it: mkdir {}",
            quoted(path)
        ),
        Errno::ACCESS => format!(
            "the mountpoint {shown} cannot be reached or listed: the mounter has no right to enter other users' private \
             directories; use one below a directory that root may enter, such as /run/tenantfs/mnt"
        ),
        errno => format!("the mountpoint {shown} cannot be opened: {errno}"),
    })
}

fn already_mounted(path: &Path) -> String {
    let shown = path.display();
    format!("something is mounted on {shown} already; unmount it, or use another directory")
}

fn is_empty(directory: &OwnedFd) -> rustix::io::Result<bool> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let readable = rustix::fs::openat(directory, ".", flags, Mode::empty())?;
    let mut buffer = [MaybeUninit::uninit(); 4096];
    let mut entries = RawDir::new(readable, &mut buffer);
    while let Some(entry) = entries.next() {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            return Ok(false);
        }
    }
    Ok(true)
}
