//! What the mounter may do. It is decided before anybody can ask for anything, and no request changes it.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use rustix::io::Errno;

use super::mount_id;
use super::mountpoint::{self, Place, Spot};
use super::protocol::{Grant, MountRequest};
use super::root::Root;
use crate::error::{Error, Result};

/// What the mounter may do.
pub(super) enum Policy {
    /// One mount, once.
    Once {
        wanted: MountRequest,
        /// Opened and checked before the server starts; given away to the one mount.
        directory: Mutex<Option<OwnedFd>>,
    },
    /// Mounts on the entries of one directory that are called by their viewers' uids.
    Sessions {
        places: Root,
        read_only: bool,
        exec: bool,
    },
    /// Mounts strictly below these directories, for any server that is admitted.
    Beneath(Vec<Root>),
}

impl Policy {
    /// What a forked mounter was told. Opens what it was told of.
    ///
    /// # Errors
    /// [`Kind::MountFailed`](crate::error::Kind::MountFailed) when nothing can be mounted on the one mountpoint;
    /// [`Kind::Config`](crate::error::Kind::Config) when the directory of the mounts is not root's alone.
    pub(super) fn granted(grant: Grant) -> Result<Self> {
        Ok(match grant {
            Grant::Once {
                mountpoint,
                viewer,
                read_only,
                exec,
            } => {
                let directory = mountpoint::open_given(&mountpoint)?;
                let wanted = MountRequest {
                    mountpoint,
                    make: false,
                    viewer,
                    read_only,
                    exec,
                };
                Self::Once {
                    wanted,
                    directory: Mutex::new(Some(directory)),
                }
            }
            Grant::Sessions {
                places,
                read_only,
                exec,
            } => Self::Sessions {
                places: Root::open(&places)?,
                read_only,
                exec,
            },
        })
    }

    /// Mounts below these directories only; makes those that are missing, mode 0755.
    ///
    /// # Errors
    /// [`Kind::Config`](crate::error::Kind::Config) when there is none, or one cannot be made or opened, or others than root may
    /// write to it.
    pub(super) fn beneath(directories: &[PathBuf]) -> Result<Self> {
        if directories.is_empty() {
            let why =
                "a mounter that listens must be told below which directories it may mount: --beneath DIR";
            return Err(Error::config(why));
        }
        let roots = directories.iter().map(|path| Root::open(path));
        roots.collect::<Result<_>>().map(Self::Beneath)
    }

    /// Where what is asked for is mounted, if it may be.
    ///
    /// # Errors
    /// [`Kind::MountFailed`](crate::error::Kind::MountFailed) when it may not, or its directory is missing.
    pub(super) fn spot(&self, request: &MountRequest) -> Result<Spot> {
        match self {
            Self::Once { wanted, directory } => {
                if request != wanted {
                    return Err(not_told(&request.mountpoint));
                }
                let once = directory.lock().take().ok_or_else(|| {
                    Error::mount_failed("this mounter mounts once, and has; start the command again")
                });
                once.map(Spot::Opened)
            }
            Self::Sessions {
                places,
                read_only,
                exec,
            } => {
                let name = request.viewer.uid().to_string();
                let own = places.inside(&request.mountpoint) == Some(Path::new(&name));
                let stricter = (request.read_only || !read_only) && (*exec || !request.exec);
                if !own || !stricter || !request.make {
                    return Err(not_told(&request.mountpoint));
                }
                self.place(&request.mountpoint).map(Spot::Named)
            }
            Self::Beneath(_) => self.place(&request.mountpoint).map(Spot::Named),
        }
    }

    /// An entry of a directory that may have mountpoints.
    ///
    /// # Errors
    /// [`Kind::MountFailed`](crate::error::Kind::MountFailed) when it is of another one, or that is missing.
    pub(super) fn place(&self, path: &Path) -> Result<Place> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(Error::mount_failed(format!(
                "the mountpoint {} must end in a name",
                path.display()
            )));
        };
        let opened = self.open(parent).ok_or_else(|| {
            Error::mount_failed(format!(
                "the mountpoint {} is not below {}, and this mounter mounts nowhere else",
                path.display(),
                self.shown()
            ))
        })?;
        let parent = opened.map_err(|errno| no_parent(parent, errno))?;
        Ok(Place::new(parent, name, path))
    }

    /// A directory that may have mountpoints, as the kernel spells its path.
    ///
    /// # Errors
    /// [`Kind::MountFailed`](crate::error::Kind::MountFailed) when it may not, or is missing.
    pub(super) fn directory(&self, path: &Path) -> Result<PathBuf> {
        let opened = self.open(path).ok_or_else(|| {
            Error::mount_failed(format!("{} is not {} or below", path.display(), self.shown()))
        })?;
        mount_id::path_of(&opened.map_err(|errno| no_parent(path, errno))?)
    }

    /// Whether a mount on that place, as the kernel spells it, may be taken over from an earlier mounter. A forked mounter
    /// has none before it.
    pub(super) fn may_adopt(&self, mountpoint: &Path) -> bool {
        match self {
            Self::Once { .. } | Self::Sessions { .. } => false,
            Self::Beneath(roots) => roots.iter().any(|root| root.is_above(mountpoint)),
        }
    }

    /// A directory that may have mountpoints, opened; nothing, if it may not.
    fn open(&self, directory: &Path) -> Option<rustix::io::Result<OwnedFd>> {
        let below = |root: &Root| {
            let relative = root.inside(directory)?;
            Some(root.open_below(relative))
        };
        match self {
            Self::Once { .. } => None,
            Self::Sessions { places, .. } if places.inside(directory) != Some(Path::new("")) => None,
            Self::Sessions { places, .. } => below(places),
            Self::Beneath(roots) => roots.iter().find_map(below),
        }
    }

    /// Where it mounts.
    fn shown(&self) -> String {
        let given = match self {
            Self::Once { wanted, .. } => vec![wanted.mountpoint.as_path()],
            Self::Sessions { places, .. } => vec![places.given()],
            Self::Beneath(roots) => roots.iter().map(Root::given).collect(),
        };
        let shown = given.into_iter().map(|path| path.display().to_string());
        shown.collect::<Vec<_>>().join(" or ")
    }
}

fn not_told(mountpoint: &Path) -> Error {
    Error::mount_failed(format!(
        "the mount that is asked for on {} is not one that this mounter was told of when it started",
        mountpoint.display()
    ))
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
        Errno::PERM => format!(
            "mountpoints are only where nobody but root may write; the path {shown} has a directory that is another's, or \
             writable by others"
        ),
        errno => format!("the directory {shown} cannot be opened: {errno}"),
    })
}
