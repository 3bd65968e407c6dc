//! The directories that a volume has for one tenant.

use super::marker::Marker;
use crate::error::{Kind, Result};
use crate::identity::{UserHash, UserId};
use crate::layout::Layout;
use crate::name::Resource;
use crate::volume::{Dir, FileId, Volume};

/// A tenant's hash directories, each found to be the tenant's own, and the resources in them.
pub(super) struct Homes {
    /// One for each hash directory; they keep an erasure away.
    pub(super) markers: Vec<Marker>,
    /// Every resource that was asked for, with its directory where there is one.
    pub(super) directories: Vec<(Resource, Option<Dir>)>,
}

impl Homes {
    /// Opens them, and makes what is missing unless `read_only`.
    ///
    /// # Errors
    /// [`Kind::HashCollision`] when one belongs to another user id; [`Kind::Busy`] while it is being erased; the volume's.
    pub(super) fn open(
        volume: &Volume,
        layout: Layout,
        resources: &[Resource],
        user: &UserId,
        read_only: bool,
    ) -> Result<Self> {
        let (hash, full_hash) = (user.hash(), user.full_hash());
        let mut homes = Self {
            markers: Vec::new(),
            directories: Vec::with_capacity(resources.len()),
        };
        for resource in resources {
            let opened = descend(volume, layout, resource, &hash, read_only).map_err(|error| {
                error.context(format_args!("opening {}/{hash} of the volume", resource.as_str()))
            })?;
            let directory = match opened {
                Some((hash_dir, directory)) => {
                    if layout == Layout::ResourceFirst || homes.markers.is_empty() {
                        homes.markers.push(Marker::check(hash_dir, &full_hash)?);
                    }
                    Some(directory)
                }
                None => None,
            };
            homes.directories.push((resource.clone(), directory));
        }
        Ok(homes)
    }
}

/// Which directory has the resource of the user now, where there is one.
///
/// # Errors
/// The volume's.
pub(super) fn find(
    volume: &Volume,
    layout: Layout,
    resource: &Resource,
    user: &UserHash,
) -> Result<Option<FileId>> {
    match descend(volume, layout, resource, user, true)? {
        Some((_, directory)) => directory.stat_self().map(|stat| Some(stat.id)),
        None => Ok(None),
    }
}

/// Opens the hash directory and the resource's directory (the same one in resource-first), making what is missing
/// unless `read_only`: then a tenant who has none yet is `None`.
fn descend(
    volume: &Volume,
    layout: Layout,
    resource: &Resource,
    user: &UserHash,
    read_only: bool,
) -> Result<Option<(Dir, Dir)>> {
    let step = |dir: &Dir, name: &str| match read_only {
        true => match dir.open_dir(name) {
            Err(error) if error.kind() == Kind::NotFound => Ok(None),
            result => result.map(Some),
        },
        false => dir.open_or_make_dir(name).map(Some),
    };
    let components = layout.components(resource, user);
    let (to_hash, below) = components.split_at(layout.marker_depth());
    let mut hash_dir = volume.root().reopen()?;
    for name in to_hash {
        let Some(next) = step(&hash_dir, name)? else {
            return Ok(None);
        };
        hash_dir = next;
    }
    let mut directory = hash_dir.reopen()?;
    for name in below {
        let Some(next) = step(&directory, name)? else {
            return Ok(None);
        };
        directory = next;
    }
    Ok(Some((hash_dir, directory)))
}
