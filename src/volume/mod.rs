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
mod followed;
mod inherit;
mod leftovers;
mod listing;
mod marks;
mod metadata;
mod metered;
mod orders;
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
pub use followed::{ANSWERS_WITHIN, Followed};
pub use marks::{LOOK_EVERY, Marks};
pub use metadata::{Numbered, Shown, Times, set_former_name, set_shown, set_times, shown};
pub use orders::{EarlierOrders, Order};
pub use pieces::Pieces;
pub use read::{Reading, read_at_most, read_whole};
pub use remote::{RemoteRetry, Settled};
pub use staged::{Durability, Staged, TEMPORARY_PREFIX};
pub use stat::{FileId, FileType, Stat, Version, stat};
pub use watch::{Change, Watch, Watcher, Watching};

use crate::account;
use crate::error::{Error, Result};
use crate::escape::quoted;

/// The directory tree that holds every tenant's data.
#[derive(Debug)]
pub struct Volume {
    root: Arc<Dir>,
    marks: Arc<Marks>,
    path: PathBuf,
    id: FileId,
    owner: (u32, u32),
    /// Whether it is the root of a mount, and not a directory in one.
    is_mount: bool,
}

impl Volume {
    /// Opens the volume at `path`.
    ///
    /// # Errors
    /// [`Kind::Config`](crate::error::Kind::Config) when it is missing, not a directory, not accessible, or writable by everybody.
    pub fn open(path: &Path) -> Result<Self> {
        Self::open_as(path, "--volume")
    }

    /// As [`open`](Self::open), of a path that `option` names.
    ///
    /// # Errors
    /// As `open`.
    pub fn open_as(path: &Path, option: &str) -> Result<Self> {
        let shown = path.display();
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(path, flags, Mode::empty()).map_err(|errno| {
            Error::config(match errno {
                Errno::NOENT => format!("the volume {shown} does not exist; create it or correct {option}"),
                Errno::NOTDIR => format!("the volume {shown} is not a directory; correct {option}"),
                Errno::ACCESS => inaccessible(path),
                errno => format!("the volume {shown} cannot be opened: {errno}"),
            })
        })?;
        let root = Dir::opened(fd, path);
        let stat = root.stat_self()?;
        let is_mount = stat::is_mount(&root)?;
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
            id: stat.id,
            owner: (stat.uid, stat.gid),
            is_mount,
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

/// Which directory it is that keeps this process from a volume: the volume itself, or one on the way to it.
fn inaccessible(path: &Path) -> String {
    let (shown, reader) = (
        path.display(),
        account::shown(rustix::process::geteuid().as_raw()),
    );
    let may_pass = |directory: &Path| {
        let access = rustix::fs::Access::EXEC_OK;
        rustix::fs::accessat(rustix::fs::CWD, directory, access, rustix::fs::AtFlags::EACCESS).is_ok()
    };
    // From the root on: what is behind the first one cannot be told.
    let above = path.ancestors().skip(1).collect::<Vec<_>>().into_iter().rev();
    let mut above = above.filter(|directory| !directory.as_os_str().is_empty());
    match above.find(|directory| !may_pass(directory)) {
        Some(closed) => format!(
            "the volume {shown} may not be read by {reader}, whom {} does not let through; run: chmod o+x {}, or move the \
             volume",
            closed.display(),
            quoted(closed)
        ),
        None => format!("the volume {shown} may not be read by {reader}; correct its owner or mode"),
    }
}
