//! The directories that have mountpoints: root's alone, and so is the whole way to them.

use std::ffi::OsStr;
use std::fs::DirBuilder;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, Mode, OFlags, Statx, StatxFlags};
use rustix::io::Errno;

use super::mount_id::{self, Identity};
use super::path_bytes;
use crate::error::{Doing, Error, Kind, Result};
use crate::escape::quoted;

/// A directory and nothing but that, without a right to read it.
pub(super) const DIRECTORY: OFlags = OFlags::PATH
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// Others may remove and rename only what is their own in such a directory.
const STICKY: u16 = 0o1000;

/// A directory that belongs to root, and that nobody else may write to: opened once, so that what becomes of the path does
/// not matter. Nobody else may rename a directory on the way to it either, or its mounts would be found elsewhere.
pub(super) struct Root {
    /// As it was given.
    given: PathBuf,
    /// As the kernel spells it.
    path: PathBuf,
    directory: OwnedFd,
}

impl Root {
    /// Opens that directory; makes it first if it is missing, mode 0755.
    ///
    /// # Errors
    /// [`Kind::Config`] when it cannot be made or opened, or others than root may write to it or to the way to it.
    pub(super) fn open(given: &Path) -> Result<Self> {
        Self::open_checked(given).map_err(|error| error.as_kind(Kind::Config))
    }

    fn open_checked(given: &Path) -> Result<Self> {
        let shown = given.display();
        let given = std::path::absolute(given).doing(format!("making the path {shown} absolute"))?;
        DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(&given)
            .doing(format!("making the directory {shown}"))?;
        // By its path once, symbolic links and all: it is the administrator's.
        let opening = || format!("opening the directory {shown}");
        let directory =
            rustix::fs::open(&given, DIRECTORY - OFlags::NOFOLLOW, Mode::empty()).doing(opening())?;
        let stat = stat(&directory).doing(opening())?;
        if !is_roots_alone(&stat) {
            return Err(Error::config(format!(
                "{shown} must belong to root, and nobody else may write to it: chown root {0}; chmod 755 {0}",
                quoted(&given)
            )));
        }
        let path = mount_id::path_of(&directory)?;
        if let Some(why) = path_bytes::why_not(&path) {
            return Err(Error::config(format!("{}: {why}", path.display())));
        }
        check_way(&path, &stat)?;
        Ok(Self {
            given,
            path,
            directory,
        })
    }

    /// As it was given.
    pub(super) fn given(&self) -> &Path {
        &self.given
    }

    /// Whether `mountpoint`, as the kernel spells it, is strictly below.
    pub(super) fn is_above(&self, mountpoint: &Path) -> bool {
        mountpoint.starts_with(&self.path) && mountpoint != self.path
    }

    /// What of `path` is to be resolved from here, if it is this directory or below.
    pub(super) fn inside<'p>(&self, path: &'p Path) -> Option<&'p Path> {
        let relative = path
            .strip_prefix(&self.path)
            .or_else(|_| path.strip_prefix(&self.given))
            .ok()?;
        let plain = relative
            .components()
            .all(|component| matches!(component, Component::Normal(_)));
        plain.then_some(relative)
    }

    /// A directory below, by way of directories that are root's alone as it is.
    ///
    /// A component at a time: openat2 does it in one go, but is no more where RestrictSUIDSGID= is set, as it is in
    /// tenantfs-mounter.service. What is opened by O_PATH alone has no say in it.
    ///
    /// # Errors
    /// `EPERM` where others may write; `EXDEV` for what is on another mount; those of opening.
    pub(super) fn open_below(&self, relative: &Path) -> rustix::io::Result<OwnedFd> {
        let mut directory = rustix::fs::openat(&self.directory, ".", DIRECTORY, Mode::empty())?;
        let mount = mount_of(&directory)?;
        only_roots(&directory)?;
        for component in relative.components() {
            directory = rustix::fs::openat(&directory, component.as_os_str(), DIRECTORY, Mode::empty())?;
            // Before its attributes: those of a mount are its server's to tell.
            if mount_of(&directory)? != mount {
                return Err(Errno::XDEV);
            }
            only_roots(&directory)?;
        }
        Ok(directory)
    }
}

fn only_roots(directory: &OwnedFd) -> rustix::io::Result<()> {
    match is_roots_alone(&stat(directory)?) {
        true => Ok(()),
        false => Err(Errno::PERM),
    }
}

/// Sees to it that nobody but root can put another directory where the one at `path` is.
fn check_way(path: &Path, wanted: &Statx) -> Result<()> {
    let shown = path.display();
    let looking = || format!("looking at the way to {shown}");
    let mut directory = rustix::fs::open("/", DIRECTORY, Mode::empty()).doing(looking())?;
    let mut there = stat(&directory).doing(looking())?;
    let mut above = PathBuf::from("/");
    let names = path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name),
        _ => None,
    });
    for name in names {
        let closed = there.stx_mode & 0o022 == 0 || there.stx_mode & STICKY != 0;
        if there.stx_uid != 0 || !closed {
            return Err(Error::config(format!(
                "others than root can rename what is in {}, and with it {shown}: use a directory that only root can move, or \
                 chown root {1}; chmod 755 {1}",
                above.display(),
                quoted(&above)
            )));
        }
        directory =
            rustix::fs::openat(&directory, OsStr::new(name), DIRECTORY, Mode::empty()).doing(looking())?;
        there = stat(&directory).doing(looking())?;
        above.push(name);
    }
    let same = |of: &Statx| (of.stx_ino, of.stx_dev_major, of.stx_dev_minor);
    match same(&there) == same(wanted) {
        true => Ok(()),
        false => Err(Error::config(format!(
            "{shown} was replaced while it was looked at"
        ))),
    }
}

/// The mount that an open directory is on.
pub(super) fn mount_of(directory: &OwnedFd) -> rustix::io::Result<u64> {
    let found = Identity::at(directory, Path::new(""), AtFlags::EMPTY_PATH)?;
    Ok(found.number)
}

/// What an open directory is.
pub(super) fn stat(directory: &OwnedFd) -> rustix::io::Result<Statx> {
    rustix::fs::statx(directory, "", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS)
}

/// Whether it belongs to root, and nobody else may write to it.
pub(super) fn is_roots_alone(stat: &Statx) -> bool {
    stat.stx_uid == 0 && stat.stx_mode & 0o022 == 0
}
