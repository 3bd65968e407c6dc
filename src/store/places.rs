//! Whether a tenant's directories are still where they were opened, or anywhere that the tenant can see.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::folder::Folder;
use crate::error::{Error, Kind, Result};
use crate::event::Op;
use crate::name::{EntryName, Resource};
use crate::volume::{Dir, FileId};

/// The resources of a store.
pub(super) type Roots = Arc<[Root]>;

/// A resource, and its directory where there is one.
pub(super) struct Root {
    pub(super) resource: Resource,
    pub(super) folder: Option<Folder>,
    pub(super) place: RootPlace,
}

/// Where the directory of a resource was opened.
pub(super) struct RootPlace {
    volume: Arc<Dir>,
    path: String,
    /// Whether the operator was told that it is another one.
    told: AtomicBool,
}

impl RootPlace {
    /// `path` below the root of the volume.
    pub(super) fn new(volume: Arc<Dir>, path: String) -> Self {
        Self {
            volume,
            path,
            told: AtomicBool::new(false),
        }
    }

    /// Whether its path still leads to `folder`, which was opened there. The operator is told once when it does not.
    ///
    /// # Errors
    /// [`Kind::Io`] when it does not; the volume's.
    pub(super) fn check(&self, folder: &Folder) -> Result<()> {
        let Self { volume, path, told } = self;
        if volume.id_of_path(path)? == Some(folder.id()) {
            told.store(false, Ordering::Relaxed);
            return Ok(());
        }
        let reason = format!(
            "{path} of the volume is not the directory any more that it was at the login: log in again"
        );
        if !told.swap(true, Ordering::Relaxed) {
            let resource = folder.path().to_owned();
            let tenant = folder.look().tenant;
            tenant.denied(Op::Session, resource, Kind::Io, reason.clone());
        }
        Err(Error::new(Kind::Io, reason))
    }
}

/// Whether `folder`, wherever it was opened, is below one of the `roots` now, under names that can be seen.
///
/// # Errors
/// The volume's.
pub(super) fn is_below(folder: &Folder, roots: &[FileId]) -> Result<bool> {
    if roots.contains(&folder.id()) {
        return Ok(true);
    }
    let mut above = folder.look().dir.place_now()?;
    while let Some((dir, name)) = above {
        if EntryName::parse(name.as_bytes()).is_err() {
            return Ok(false);
        }
        if roots.contains(&dir.stat_self()?.id) {
            return Ok(true);
        }
        above = dir.place_now()?;
    }
    Ok(false)
}
