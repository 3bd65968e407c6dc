//! Whether a tenant's directories are still where they were opened, or anywhere that the tenant can see.

use std::sync::Arc;

use super::folder::Folder;
use crate::error::Result;
use crate::name::{EntryName, Resource};
use crate::volume::FileId;

/// The resources of a store.
pub(super) type Roots = Arc<[Root]>;

/// A resource, and its directory where there is one.
pub(super) struct Root {
    pub(super) resource: Resource,
    pub(super) folder: Option<Folder>,
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
