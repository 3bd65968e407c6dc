//! What one user removed, and what could not be committed: looked for, brought back and given up on the volume.
//!
//! The only place of this module that opens a tenant's store. It stays in here: to whoever uses the library, a store is still
//! to be had with a key that was accepted and nothing else.

use std::slice;
use std::sync::Arc;

use super::Ground;
use crate::error::{Error, Kind, Result};
use crate::event::LogObserver;
use crate::identity::{Principal, UserId};
use crate::name::Resource;
use crate::store::{Options, Removed, Store, Uncommitted};

/// The records that the user removed and that wait, at most so many, the last removed first.
///
/// # Errors
/// [`Kind::NotFound`] when the volume has nothing of this user; [`Kind::Busy`] while it is being erased; [`Kind::Config`] when the
/// volume has another layout; the volume's.
pub fn removed(ground: &Ground, user: &UserId, most: usize) -> Result<Vec<Removed>> {
    reading(ground, user)?.removed(most)
}

/// The drafts of the user that are kept, at most so many. What only the memory of a session has is not among them.
///
/// # Errors
/// As [`removed`].
pub fn drafts(ground: &Ground, user: &UserId, most: usize) -> Result<Vec<Uncommitted>> {
    reading(ground, user)?.uncommitted(most)
}

/// Brings back what the user removed at `path`, as in the mount: see [`Store::restore`].
///
/// # Errors
/// Those of [`Store::restore`], and of [`removed`].
pub fn restore(ground: &Ground, user: &UserId, path: &str) -> Result<()> {
    writing(ground, user, path)?.restore(path)
}

/// Gives up the draft that is kept of the user's record at `path`, as in the mount.
///
/// # Errors
/// Those of [`Store::discard_draft`], and of [`removed`].
pub fn discard_draft(ground: &Ground, user: &UserId, path: &str) -> Result<()> {
    writing(ground, user, path)?.discard_draft(path)
}

/// The user's store, to look only.
fn reading(ground: &Ground, user: &UserId) -> Result<Store> {
    let store = open(ground, user, &ground.resources, true)?;
    let has_any = store.roots().any(|(_, folder)| folder.is_some());
    match has_any {
        true => Ok(store),
        false => Err(nothing()),
    }
}

/// The user's store of the resource that `path` is in. No directory is made for a user who has none.
fn writing(ground: &Ground, user: &UserId, path: &str) -> Result<Store> {
    let resource = path.split('/').next().unwrap_or_default();
    let resource = ground.resources.iter().find(|known| known.as_str() == resource);
    let resource = resource.ok_or_else(|| Error::new(Kind::NotFound, "no such resource"))?;
    match ground.directory(user, resource)? {
        Some(_) => open(ground, user, slice::from_ref(resource), false),
        None => Err(nothing()),
    }
}

fn open(ground: &Ground, user: &UserId, resources: &[Resource], read_only: bool) -> Result<Store> {
    let options = Options {
        layout: ground.layout,
        resources: resources.to_vec(),
        read_only,
        max_record: ground.max_record,
        secret_fields: ground.secret_fields.clone(),
        keys: ground.keys.clone(),
        keep_removed: ground.keep_removed,
        ..Options::default()
    };
    let observer = Arc::new(LogObserver {
        session: format!("records of {}", user.hash()),
    });
    // Whoever may read and write the whole volume needs no proof of being anybody.
    let principal = Principal::authenticated(user.clone());
    Store::open(&ground.volume, &principal, options, observer).map_err(|error| match error.kind() {
        Kind::HashCollision => error.as_kind(Kind::NotFound),
        _ => error,
    })
}

fn nothing() -> Error {
    Error::new(
        Kind::NotFound,
        "the volume has no directory of this user: correct the user id, --volume or --layout",
    )
}
