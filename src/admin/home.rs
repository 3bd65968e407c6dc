//! Whose a hash directory is, when two user ids can have the same hash.

use super::{Ground, descend, read};
use crate::error::{Error, Kind, Result};
use crate::identity::UserId;
use crate::name::is_record;
use crate::record;
use crate::store::{OWNER_MARKER, stored_limit};
use crate::volume::{Descent, Dir, Durability, FileType, Staged};

/// The longest owner marker, in bytes: a hash, and the end of a line.
const MAX_MARKER: u64 = 128;

/// What the service keeps of a user beside the resources.
pub(super) const PROFILE: &str = "profile.json";

/// Whose everything is that does not say so itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Whose {
    /// The user's that was asked for: the marker says so, or there is none and nobody else has a record
    /// there.
    Users,
    /// Two users', or another's.
    Shared,
    /// It cannot be known, for not everything that would tell could be read.
    Unknown,
}

impl Whose {
    /// Why what does not say whose it is is left, where it is not certainly the user's.
    pub(super) fn why_left(self) -> &'static str {
        match self {
            Self::Users | Self::Shared => {
                "another user shares the hash, and it cannot be known whose this is: look, and move or remove it"
            }
            Self::Unknown => {
                "whose this is cannot be known before everything in this user's directory can be read"
            }
        }
    }
}

/// What the owner marker in `dir` says; none when there is none.
///
/// # Errors
/// Any error of reading a file.
pub(super) fn marker(dir: &Dir) -> Result<Option<String>> {
    match read(dir, OWNER_MARKER, MAX_MARKER) {
        Ok(Some(read)) => Ok(Some(String::from_utf8_lossy(&read.text).trim_end().to_owned())),
        Ok(None) => Ok(Some(String::new())),
        Err(error) if error.kind() == Kind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Has a hash directory say whose it is, if it does not say so already.
///
/// # Errors
/// [`Kind::HashCollision`] when it says that it is somebody else's; any error of reading and writing a file.
pub(super) fn mark(dir: &Dir, full_hash: &str) -> Result<()> {
    match marker(dir)? {
        Some(there) if there == full_hash => Ok(()),
        Some(_) => Err(Error::new(
            Kind::HashCollision,
            "two user ids share this hash, and each has one of the directories: give one of them another id",
        )),
        None => {
            let mut staged = Staged::new(dir, &dir.stat_self()?)?;
            staged.write(full_hash.as_bytes())?;
            staged.place_new(OWNER_MARKER, Durability::Durable).map(drop)
        }
    }
}

/// Whose what lies in the hash directory `dir` is, which may be `user`'s.
///
/// # Errors
/// Any error of reading the marker. What else cannot be read makes this [`Whose::Unknown`]: whoever looks at
/// every file in it meets that anyway.
pub(super) fn owner(ground: &Ground, dir: &Dir, user: &UserId) -> Result<Whose> {
    let is_shared = match marker(dir)? {
        Some(full_hash) => Ok(full_hash != user.full_hash()),
        None => has_neighbour(ground, dir, user),
    };
    Ok(match is_shared {
        Ok(false) => Whose::Users,
        Ok(true) => Whose::Shared,
        Err(_) => Whose::Unknown,
    })
}

/// Whether somebody else with the same hash has a record below, however deep.
fn has_neighbour(ground: &Ground, dir: &Dir, user: &UserId) -> Result<bool> {
    let mut way = Descent::new(dir.reopen()?);
    let mut levels = vec![names(dir)?.into_iter()];
    while let Some(level) = levels.last_mut() {
        let dir = way.here()?;
        let Some(name) = level.next() else {
            levels.pop();
            way.leave();
            continue;
        };
        let stat = match dir.stat(&name) {
            Err(error) if error.kind() == Kind::NotFound => continue,
            stat => stat?,
        };
        match stat.file_type {
            FileType::Directory => {
                way.enter(&name)?;
                levels.push(names(way.last())?.into_iter());
            }
            FileType::Regular if is_record(&name) && is_neighbours(ground, dir, &name, user)? => {
                return Ok(true);
            }
            _ => {}
        }
    }
    Ok(false)
}

/// Whether a record is of somebody else with the same hash.
fn is_neighbours(ground: &Ground, dir: &Dir, name: &str, user: &UserId) -> Result<bool> {
    let read = match read(dir, name, stored_limit(ground.max_record)) {
        Err(error) if error.kind() == Kind::NotFound => return Ok(false),
        read => read?,
    };
    let owner = read.and_then(|read| record::owner(&read.text).ok());
    Ok(owner.is_some_and(|owner| owner != *user && owner.hash() == user.hash()))
}

/// What is in a directory. Names that are not UTF-8 are no records'.
pub(super) fn names(dir: &Dir) -> Result<Vec<String>> {
    let mut names = Vec::new();
    dir.entries(|name| names.extend(std::str::from_utf8(name).ok().map(str::to_owned)))?;
    Ok(names)
}

/// The directory that has the user's `profile.json`, in either layout.
///
/// # Errors
/// As [`descend`].
pub(super) fn profile(ground: &Ground, user: &UserId) -> Result<Option<Dir>> {
    descend(ground.volume.root(), ["users", user.hash().as_str()])
}

/// Where that file is, from the volume's root on.
pub(super) fn profile_path(user: &UserId) -> String {
    format!("users/{}/{PROFILE}", user.hash())
}
