//! What was looked for in all of a tenant's directories.

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
    /// Notes what could not be looked at.
    pub fn miss(&mut self, what: Unreadable) {
        if self.unreadable.len() < MOST_UNREADABLE {
            self.unreadable.push(what);
        }
    }
}
