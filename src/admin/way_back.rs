//! What one user removed, and what could not be committed: looked for, brought back and given up on the volume.
//!
//! The only place of this module that opens a tenant's store. It stays in here: to whoever uses the library, a store is still
//! to be had with a key that was accepted and nothing else.

use std::sync::Arc;

use super::{Ground, as_finding};
use crate::error::{Error, Kind, Result};
use crate::event::LogObserver;
use crate::identity::{Principal, UserId};
use crate::name::Resource;
use crate::store::{Options, Removed, Store, Survey, Uncommitted, Unreadable};

/// The records that the user removed and that wait: of more than so many the last removed, and these first. What cannot be
/// looked at is told with them.
///
/// # Errors
/// [`Kind::NotFound`] when the volume has nothing of this user; [`Kind::Busy`] while it is being erased; [`Kind::Config`] when the
/// volume has another layout; the volume's.
pub fn removed(ground: &Ground, user: &UserId, most: usize) -> Result<Survey<Removed>> {
    let mut survey = surveyed(ground, user, |store| store.removed(most, &|| true))?;
    survey
        .found
        .sort_by(|one, other| (other.removed, &one.path).cmp(&(one.removed, &other.path)));
    Ok(limited(survey, most))
}

/// The drafts of the user that are kept, at most so many. What only the memory of a session has is not among them; what cannot
/// be looked at is told with them.
///
/// # Errors
/// As [`removed`].
pub fn drafts(ground: &Ground, user: &UserId, most: usize) -> Result<Survey<Uncommitted>> {
    surveyed(ground, user, |store| store.uncommitted(most, &|| true)).map(|survey| limited(survey, most))
}

/// Brings back what the user removed at `path`, as in the mount: see [`Store::restore`].
///
/// # Errors
/// Those of [`Store::restore`], and of [`removed`]; [`Kind::ProblemsFound`] when a directory on the way cannot be looked at.
pub fn restore(ground: &Ground, user: &UserId, path: &str) -> Result<()> {
    writing(ground, user, path)?.restore(path).map_err(as_finding)
}

/// Gives up the draft that is kept of the user's record at `path`, as in the mount.
///
/// # Errors
/// Those of [`Store::discard_draft`], and of [`removed`]; [`Kind::ProblemsFound`] as [`restore`].
pub fn discard_draft(ground: &Ground, user: &UserId, path: &str) -> Result<()> {
    writing(ground, user, path)?
        .discard_draft(path)
        .map_err(as_finding)
}

/// What is found in each resource of the user's. One that cannot be opened is told, and the rest is done.
fn surveyed<T>(ground: &Ground, user: &UserId, look: impl Fn(&Store) -> Survey<T>) -> Result<Survey<T>> {
    let mut all = Survey::default();
    let mut has_any = false;
    for resource in &ground.resources {
        let store = ground.directory(user, resource).and_then(|there| match there {
            Some(_) => open(ground, user, resource, true).map(Some),
            None => Ok(None),
        });
        match store {
            Ok(Some(store)) => {
                has_any = true;
                let Survey {
                    mut found,
                    more,
                    unreadable,
                } = look(&store);
                all.found.append(&mut found);
                all.more |= more;
                unreadable.into_iter().for_each(|what| all.miss(what));
            }
            Ok(None) => {}
            Err(error) if error.kind() == Kind::ProblemsFound => all.miss(Unreadable {
                path: resource.as_str().to_owned(),
                error,
            }),
            Err(error) => return Err(error),
        }
    }
    match has_any || !all.unreadable.is_empty() {
        true => Ok(all),
        false => Err(nothing()),
    }
}

fn limited<T>(mut survey: Survey<T>, most: usize) -> Survey<T> {
    survey.more |= survey.found.len() > most;
    survey.found.truncate(most);
    survey
}

/// The user's store of the resource that `path` is in. No directory is made for a user who has none.
fn writing(ground: &Ground, user: &UserId, path: &str) -> Result<Store> {
    let resource = path.split('/').next().unwrap_or_default();
    let resource = ground.resources.iter().find(|known| known.as_str() == resource);
    let resource = resource.ok_or_else(|| Error::new(Kind::NotFound, "no such resource"))?;
    match ground.directory(user, resource)? {
        Some(_) => open(ground, user, resource, false),
        None => Err(nothing()),
    }
}

fn open(ground: &Ground, user: &UserId, resource: &Resource, read_only: bool) -> Result<Store> {
    let options = Options {
        layout: ground.layout,
        resources: vec![resource.clone()],
        read_only,
        max_record: ground.max_record,
        secret_fields: ground.secret_fields.clone(),
        keys: ground.keys.clone(),
        keep_removed: ground.keep_removed,
        ..Options::default()
    };
    let observer = Arc::new(LogObserver::called(format!("records of {}", user.hash())));
    // Whoever may read and write the whole volume needs no proof of being anybody.
    let principal = Principal::authenticated(user.clone());
    Store::open(&ground.volume, &principal, options, observer).map_err(|error| match error.kind() {
        Kind::HashCollision => error.as_kind(Kind::NotFound),
        _ => as_finding(error),
    })
}

fn nothing() -> Error {
    Error::new(
        Kind::NotFound,
        "the volume has no directory of this user: correct the user id, --volume or --layout",
    )
}
