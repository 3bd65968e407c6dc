//! The backing volume: handles, temporary files, durability, change events. Knows nothing of tenants or records.
//!
//! ```
//! use tenantfs::error::Kind;
//! use tenantfs::volume::Volume;
//!
//! # fn main() -> tenantfs::error::Result<()> {
//! # let dir = tempfile::tempdir().unwrap();
//! let volume = Volume::open(dir.path())?;
//! assert_eq!(volume.path(), dir.path());
//!
//! // One that is not there is told apart from one that is empty.
//! let absent = Volume::open(&dir.path().join("absent")).unwrap_err();
//! assert_eq!(absent.kind(), Kind::Config);
//! # Ok(())
//! # }
//! ```

mod abilities;
mod ahead;
mod descent;
mod dir;
mod engine;
mod inherit;
mod listing;
mod marks;
mod metadata;
mod metered;
mod pieces;
mod read;
mod remote;
mod staged;
mod stat;
mod trial;
mod watch;
mod writable;
mod write_back;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

pub use abilities::{Abilities, Ability, FileSystem, Granularity, Otherwise};
pub use ahead::ReadAhead;
pub use descent::Descent;
pub use dir::{Access, Dir, Rename, open_again};
pub use engine::{Engine, Local};
pub use marks::{LOOK_EVERY, Marks};
pub use metadata::{Numbered, Shown, Times, set_former_name, set_shown, set_times, shown};
pub use pieces::Pieces;
pub use read::{Reading, read_at_most, read_whole};
pub use remote::{RemoteRetry, Settled};
pub use staged::{Durability, Staged, TEMPORARY_PREFIX};
pub use stat::{FileId, FileType, Stat, Version, stat};
pub use watch::{Change, Watch, Watcher, Watching};

use crate::error::{Error, Result};
use crate::escape::quoted;

/// The directory tree that holds every tenant's data.
#[derive(Debug)]
pub struct Volume {
    root: Arc<Dir>,
    marks: Arc<Marks>,
    path: PathBuf,
    owner: (u32, u32),
}

impl Volume {
    /// Opens the volume at `path`.
    ///
    /// # Errors
    /// [`Kind::Config`](crate::error::Kind::Config) when it is missing, not a directory, not accessible, or writable by everybody.
    pub fn open(path: &Path) -> Result<Self> {
        let shown = path.display();
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(path, flags, Mode::empty()).map_err(|errno| {
            Error::config(match errno {
                Errno::NOENT => format!("the volume {shown} does not exist; create it or correct --volume"),
                Errno::NOTDIR => format!("the volume {shown} is not a directory; correct --volume"),
                Errno::ACCESS => {
                    format!(
                        "the volume {shown} may not be read by uid {}; correct its owner or mode",
                        rustix::process::geteuid().as_raw()
                    )
                }
                errno => format!("the volume {shown} cannot be opened: {errno}"),
            })
        })?;
        let root = Dir::opened(fd, path);
        let stat = root.stat_self()?;
        if stat.mode & 0o002 != 0 {
            return Err(Error::config(format!(
                "the volume {shown} is writable by others, who could plant records in it; run: chmod o-w {}",
                quoted(path)
            )));
        }
        Ok(Self {
            marks: Arc::new(Marks::new(root.reopen()?)),
            root: Arc::new(root),
            path: path.to_owned(),
            owner: (stat.uid, stat.gid),
        })
    }

    /// The root directory.
    pub fn root(&self) -> &Dir {
        &self.root
    }

    /// What commands of the operator have left in the root.
    pub fn marks(&self) -> &Arc<Marks> {
        &self.marks
    }

    /// Where it was opened, for messages.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The account that owns the volume, as (uid, gid): the one the server runs as.
    pub fn owner(&self) -> (u32, u32) {
        self.owner
    }
}
