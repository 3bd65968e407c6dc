//! Where mounts may be made.

use std::fs::DirBuilder;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, Statx, StatxFlags};
use rustix::io::Errno;

use super::mount_id;
use crate::error::{Doing, Error, Kind, Result};
use crate::escape::quoted;

/// Where mounts may be made.
pub(super) enum Policy {
    /// Wherever the server says. It has its mounter to itself, and was root when it started it.
    Anywhere,
    /// Strictly below one of these directories.
    Beneath(Vec<Root>),
}

/// A directory that belongs to root, and that nobody else may write to: opened once, so that what becomes of the path does
/// not matter.
pub(super) struct Root {
    /// As it was given.
    given: PathBuf,
    /// As the kernel spells it.
    path: PathBuf,
    directory: OwnedFd,
}

/// A path that is resolved as far as a policy cares.
pub(super) struct Located {
    /// None: the path is the caller's, as it stands.
    pub(super) base: Option<OwnedFd>,
    pub(super) path: PathBuf,
}

impl Located {
    pub(super) fn base(&self) -> BorrowedFd<'_> {
        self.base.as_ref().map_or(CWD, AsFd::as_fd)
    }
}

impl Policy {
    /// Mounts below these directories only; makes those that are missing, mode 0755.
    ///
    /// # Errors
    /// [`Kind::Config`] when there is none, or one cannot be made or opened, or others than root may write to it.
    pub(super) fn beneath(directories: &[PathBuf]) -> Result<Self> {
        if directories.is_empty() {
            let why =
                "a mounter that listens must be told below which directories it may mount: --beneath DIR";
            return Err(Error::config(why));
        }
        let roots = directories.iter().map(|path| Root::open(path));
        let roots = roots.collect::<Result<_>>();
        roots
            .map(Self::Beneath)
            .map_err(|error| error.as_kind(Kind::Config))
    }

    /// The mountpoint at `path`. With `by_parent`, as a name in an open directory in any case.
    ///
    /// # Errors
    /// [`Kind::MountFailed`] when nothing may be mounted there, or its directory is missing.
    pub(super) fn locate(&self, path: &Path, by_parent: bool) -> Result<Located> {
        let name = path.file_name().map(PathBuf::from);
        let (base, name) = match (self, name) {
            (Self::Anywhere, _) if !by_parent => {
                let (base, path) = (None, path.to_owned());
                return Ok(Located { base, path });
            }
            (_, None) => {
                return Err(Error::mount_failed(format!(
                    "the mountpoint {} must end in a name",
                    path.display()
                )));
            }
            (Self::Anywhere, Some(name)) => {
                let parent = path.parent().unwrap_or(Path::new("/"));
                let opened = rustix::fs::open(parent, DIRECTORY, Mode::empty());
                (opened.map_err(|errno| no_parent(parent, errno))?, name)
            }
            (Self::Beneath(roots), Some(name)) => {
                let parent = path.parent().unwrap_or(Path::new("/"));
                let Some((root, relative)) = roots.iter().find_map(|root| root.inside(parent)) else {
                    return Err(Error::mount_failed(format!(
                        "the mountpoint {} is not below {}, and this mounter mounts nowhere else",
                        path.display(),
                        shown(roots)
                    )));
                };
                let opened = root.open_below(relative);
                (opened.map_err(|errno| no_parent(parent, errno))?, name)
            }
        };
        let (base, path) = (Some(base), name);
        Ok(Located { base, path })
    }

    /// A directory that may have mountpoints, as the kernel spells its path.
    ///
    /// # Errors
    /// [`Kind::MountFailed`] when it may not, or is missing.
    pub(super) fn directory(&self, path: &Path) -> Result<PathBuf> {
        let opened = match self {
            Self::Anywhere => rustix::fs::open(path, DIRECTORY, Mode::empty()),
            Self::Beneath(roots) => match roots.iter().find_map(|root| root.inside(path)) {
                Some((root, relative)) => root.open_below(relative),
                None => {
                    let why = format!("{} is not {} or below", path.display(), shown(roots));
                    return Err(Error::mount_failed(why));
                }
            },
        };
        mount_id::path_of(&opened.map_err(|errno| no_parent(path, errno))?)
    }

    /// Whether every mountpoint is where the way to it leads through the administrator's directories only, and not, say, into
    /// a file system over a network that hangs.
    pub(super) fn is_local(&self) -> bool {
        matches!(self, Self::Beneath(_))
    }

    /// Whether a mount on that place, as the kernel spells it, may be taken over from an earlier mounter. A forked mounter
    /// has none before it.
    pub(super) fn may_adopt(&self, mountpoint: &Path) -> bool {
        match self {
            Self::Anywhere => false,
            Self::Beneath(roots) => roots
                .iter()
                .any(|root| mountpoint.starts_with(&root.path) && mountpoint != root.path),
        }
    }
}

const DIRECTORY: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

impl Root {
    fn open(given: &Path) -> Result<Self> {
        let shown = given.display();
        let given = std::path::absolute(given).doing(format!("making the path {shown} absolute"))?;
        DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(&given)
            .doing(format!("making the directory {shown}"))?;
        let directory = rustix::fs::open(&given, DIRECTORY, Mode::empty())
            .doing(format!("opening the directory {shown}"))?;
        let stat = stat(&directory).doing(format!("looking at {shown}"))?;
        if !is_roots_alone(&stat) {
            return Err(Error::config(format!(
                "{shown} must belong to root, and nobody else may write to it: chown root {0}; chmod 755 {0}",
                quoted(&given)
            )));
        }
        let path = mount_id::path_of(&directory)?;
        Ok(Self {
            given,
            path,
            directory,
        })
    }

    /// What of `path` is to be resolved from here, if it is this directory or below.
    fn inside<'p>(&self, path: &'p Path) -> Option<(&Self, &'p Path)> {
        let relative = path
            .strip_prefix(&self.path)
            .or_else(|_| path.strip_prefix(&self.given))
            .ok()?;
        let plain = relative
            .components()
            .all(|component| matches!(component, Component::Normal(_)));
        plain.then_some((self, relative))
    }

    /// A component at a time: openat2 does it in one go, but is no more where RestrictSUIDSGID= is set, as it is in
    /// tenantfs-mounter.service. What is opened by O_PATH alone has no say in it.
    fn open_below(&self, relative: &Path) -> rustix::io::Result<OwnedFd> {
        let flags = DIRECTORY | OFlags::NOFOLLOW;
        let mut directory = rustix::fs::openat(&self.directory, ".", flags, Mode::empty())?;
        let mount = mount_of(&directory)?;
        for component in relative.components() {
            directory = rustix::fs::openat(&directory, component.as_os_str(), flags, Mode::empty())?;
            if mount_of(&directory)? != mount {
                return Err(Errno::XDEV);
            }
        }
        Ok(directory)
    }
}

/// The mount that an open directory is on.
fn mount_of(directory: &OwnedFd) -> rustix::io::Result<u64> {
    let stat = rustix::fs::statx(directory, "", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID)?;
    Ok(stat.stx_mnt_id)
}

/// What an open directory is.
pub(super) fn stat(directory: &OwnedFd) -> rustix::io::Result<Statx> {
    rustix::fs::statx(directory, "", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS)
}

/// Whether it belongs to root, and nobody else may write to it.
pub(super) fn is_roots_alone(stat: &Statx) -> bool {
    stat.stx_uid == 0 && stat.stx_mode & 0o022 == 0
}

fn shown(roots: &[Root]) -> String {
    let paths = roots.iter().map(|root| root.given.display().to_string());
    paths.collect::<Vec<_>>().join(" or ")
}

fn no_parent(path: &Path, errno: Errno) -> Error {
    let shown = path.display();
    Error::mount_failed(match errno {
        Errno::NOENT => format!("the directory {shown} does not exist; create it: mkdir {shown}"),
        Errno::NOTDIR => {
            format!(
                "the path {shown} has a symbolic link or a file in it; give the directory that it leads to"
            )
        }
        Errno::XDEV => format!("the path {shown} leads onto another mount; use a directory that does not"),
        errno => format!("the directory {shown} cannot be opened: {errno}"),
    })
}
