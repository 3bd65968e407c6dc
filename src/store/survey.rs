//! What was looked for in all of a tenant's directories.

use super::folder::Folder;
use super::walk::Below;
use crate::error::Error;

/// What was found, and what could not be looked at: there may be more.
#[derive(Clone, Debug)]
pub struct Survey<T> {
    /// At most as many as were asked for.
    pub found: Vec<T>,
    /// Whether more were there.
    pub more: bool,
    /// What could not be looked at, or the first of it.
    pub unreadable: Vec<Unreadable>,
}

/// What could not be looked at.
#[derive(Clone, Debug)]
pub struct Unreadable {
    /// As in the mount.
    pub path: String,
    /// Why.
    pub error: Error,
}

/// So many are told of: somebody has to mend each.
const MOST_UNREADABLE: usize = 1000;

impl<T> Default for Survey<T> {
    fn default() -> Self {
        Self {
            found: Vec::new(),
            more: false,
            unreadable: Vec::new(),
        }
    }
}

impl<T> Survey<T> {
    /// That nothing was looked at in time.
    pub fn missed() -> Self {
        Self {
            more: true,
            ..Self::default()
        }
    }

    /// Notes what could not be looked at, once.
    pub fn miss(&mut self, what: Unreadable) {
        let is_known = self.unreadable.last().is_some_and(|last| last.path == what.path);
        if !is_known && self.unreadable.len() < MOST_UNREADABLE {
            self.unreadable.push(what);
        }
    }

    /// The same of a walk.
    pub(super) fn miss_place(&mut self, folder: &Folder, below: Option<&Below>, error: Error) {
        let path = match below {
            Some(below) => folder.path_of(&below.name),
            None => folder.path().to_owned(),
        };
        self.miss(Unreadable { path, error });
    }
}
