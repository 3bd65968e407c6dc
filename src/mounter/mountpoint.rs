//! What may be mounted on.

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawDir, StatxAttributes, StatxFlags};
use rustix::io::Errno;

use super::policy::{self, Located, Policy};
use crate::error::{Doing, Error, Kind, Result};

/// The mode of a directory that is made: nobody may put anything there when nothing is mounted.
const MODE: Mode = Mode::from_raw_mode(0o555);

/// A directory that was checked, and the descriptor it was checked on: what is at its path later does not matter.
pub(super) struct Mountpoint {
    pub(super) directory: OwnedFd,
    /// What is not as it should be.
    pub(super) warnings: Vec<String>,
}

/// Checks the mountpoint at `path` and opens it; makes it first if it is missing and is to be made.
///
/// # Errors
/// [`Kind::MountFailed`] when the policy forbids it, or it is missing, a symbolic link, not a directory, not empty, or
/// mounted on already; or cannot be made.
pub(super) fn open(policy: &Policy, path: &Path, make: bool) -> Result<Mountpoint> {
    let located = policy.locate(path, make)?;
    if make {
        make_missing(&located, path).map_err(|error| error.as_kind(Kind::MountFailed))?;
    }
    let mountpoint = check(&located, path)?;
    if make && !policy::stat(&mountpoint.directory).is_ok_and(|stat| policy::is_roots_alone(&stat)) {
        let shown = path.display();
        return Err(Error::mount_failed(format!(
            "the mountpoint {shown} is there already, and is not root's alone; remove it: rmdir {shown}"
        )));
    }
    Ok(mountpoint)
}

/// Removes the directory that a mount was on, if there is nothing to be lost: it is empty, it and the directory that it is
/// in are root's alone, and nothing is mounted on it.
pub(super) fn remove(path: &Path) {
    if let Err(errno) = try_to_remove(path) {
        log::debug!("the directory {} stays: {errno}", path.display());
    }
}

fn try_to_remove(path: &Path) -> rustix::io::Result<()> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(Errno::INVAL);
    };
    let parent = rustix::fs::open(parent, OPEN, Mode::empty())?;
    let name = Path::new(name);
    if is_mounted_on(parent.as_fd(), name)? {
        return Err(Errno::BUSY);
    }
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
    let stat = rustix::fs::statx(&parent, name, flags, StatxFlags::BASIC_STATS)?;
    match policy::is_roots_alone(&policy::stat(&parent)?) && policy::is_roots_alone(&stat) {
        true => rustix::fs::unlinkat(&parent, name, AtFlags::REMOVEDIR),
        false => Err(Errno::PERM),
    }
}

/// Asks for no attribute: that much a FUSE mount tells others than its user, and without its server, which may hang.
fn is_mounted_on(base: BorrowedFd<'_>, path: &Path) -> rustix::io::Result<bool> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT | AtFlags::STATX_DONT_SYNC;
    let found = rustix::fs::statx(base, path, flags, StatxFlags::empty())?;
    Ok(found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
}

const OPEN: OFlags = OFlags::PATH
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

fn make_missing(located: &Located, path: &Path) -> Result<()> {
    let making = format!("making the mountpoint {}", path.display());
    let parent = rustix::fs::statx(located.base(), "", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS)
        .doing(making.clone())?;
    if !policy::is_roots_alone(&parent) {
        let shown = path.parent().unwrap_or(path).display();
        return Err(Error::mount_failed(format!(
            "mountpoints are made only where nobody but root may write; {shown} is another's, or writable by others"
        )));
    }
    match rustix::fs::mkdirat(located.base(), &located.path, MODE) {
        // Of an administrator, or from before a crash: the checks tell whether it will do.
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        // The directory is open, and gone.
        Err(Errno::NOENT) => Err(Error::mount_failed(format!(
            "the directory {} was removed while the mounter had it open; make it again, and restart the mounter",
            path.parent().unwrap_or(path).display()
        ))),
        Err(errno) => Err(Error::os(errno, making)),
    }
}

fn check(located: &Located, path: &Path) -> Result<Mountpoint> {
    let shown = path.display();
    if is_mounted_on(located.base(), &located.path).map_err(|errno| no_mountpoint(path, errno))? {
        return Err(Error::mount_failed(already_mounted(path)));
    }
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
    let named = rustix::fs::statx(located.base(), &located.path, flags, StatxFlags::BASIC_STATS)
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
    let directory = rustix::fs::openat(located.base(), &located.path, OPEN, Mode::empty())
        .map_err(|errno| no_mountpoint(path, errno))?;
    let opened = policy::stat(&directory).map_err(|errno| no_mountpoint(path, errno))?;
    if opened.stx_attributes.contains(StatxAttributes::MOUNT_ROOT) {
        return Err(Error::mount_failed(already_mounted(path)));
    }
    if !is_empty(&directory).map_err(|errno| no_mountpoint(path, errno))? {
        return Err(Error::mount_failed(format!(
            "the mountpoint {shown} is not empty; its files would be out of reach: use an empty directory"
        )));
    }
    let mut warnings = Vec::new();
    if opened.stx_uid != 0 {
        warnings.push(format!(
            "the mountpoint {shown} does not belong to root: when nothing is mounted, its owner may put files there"
        ));
    }
    Ok(Mountpoint { directory, warnings })
}

fn no_mountpoint(path: &Path, errno: Errno) -> Error {
    let shown = path.display();
    Error::mount_failed(match errno {
        Errno::NOENT => format!("the mountpoint {shown} does not exist; create it: mkdir {shown}"),
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
