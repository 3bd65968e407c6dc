//! Opens that the kernel tries once more.
//!
//! A record is replaced between the kernel's lookup and its open: the open says so, and the kernel looks the name up again,
//! and no further time. What it finds then, it has to get, or a record that is replaced without pause could not be opened.
//! So that second lookup brings the content along, for the open of the same thread and for no other: a later open must
//! find what is there when it begins.

use std::collections::HashMap;
use std::time::Duration;

use super::entries::Place;
use super::ids::Ino;
use super::lock_order::{Ordered, Rank};
use crate::clock::Stopwatch;
use crate::store::Snapshot;

/// How long the second lookup is waited for. The kernel makes it at once, or not at all.
const UNTIL_LOOKUP: Duration = Duration::from_secs(5);

/// How long the open is waited for after that. A thread that did not open then might do so later, and must find what is
/// there then.
const UNTIL_OPEN: Duration = Duration::from_millis(250);

/// The opens of all threads that were told to look again.
pub(super) struct Retries {
    by_thread: Ordered<HashMap<(u32, Place), Retry>>,
}

struct Retry {
    /// Since it was told to look, or last looked.
    since: Stopwatch,
    found: Option<(Ino, Snapshot)>,
}

impl Retry {
    fn is_fresh(&self) -> bool {
        let lifetime = match self.found {
            None => UNTIL_LOOKUP,
            Some(_) => UNTIL_OPEN,
        };
        self.since.elapsed() < lifetime
    }
}

impl Default for Retries {
    fn default() -> Self {
        Self {
            by_thread: Ordered::new(Rank::Retries, HashMap::new()),
        }
    }
}

impl Retries {
    /// `thread` was told to look `place` up again.
    pub(super) fn expect(&self, thread: u32, place: Place) {
        let mut retries = self.by_thread.lock();
        retries.retain(|_, retry| retry.is_fresh());
        let retry = Retry {
            since: Stopwatch::start(),
            found: None,
        };
        retries.insert((thread, place), retry);
    }

    /// Whether `thread` looks `place` up because it was told to; and what it found, if it does so twice.
    pub(super) fn looks_again(&self, thread: u32, place: &Place) -> Option<Option<(Ino, Snapshot)>> {
        let mut retries = self.by_thread.lock();
        if retries.is_empty() {
            return None;
        }
        let retry = retries.get_mut(&(thread, place.clone()))?;
        if !retry.is_fresh() {
            return None;
        }
        retry.since = Stopwatch::start();
        Some(retry.found.clone())
    }

    /// This is what the open that follows gets.
    pub(super) fn found(&self, thread: u32, place: Place, ino: Ino, snapshot: Snapshot) {
        if let Some(retry) = self.by_thread.lock().get_mut(&(thread, place)) {
            retry.since = Stopwatch::start();
            retry.found = Some((ino, snapshot));
        }
    }

    /// What `thread` found under this number when it looked again. It has it once.
    pub(super) fn take(&self, thread: u32, ino: Ino) -> Option<Snapshot> {
        let mut retries = self.by_thread.lock();
        let is_its = |(asker, _): &(u32, Place), retry: &Retry| {
            *asker == thread && retry.found.as_ref().is_some_and(|(found, _)| *found == ino)
        };
        let key = retries.iter().find(|(key, retry)| is_its(key, retry))?.0.clone();
        let retry = retries.remove(&key)?;
        let fresh = retry.is_fresh();
        retry.found.filter(|_| fresh).map(|(_, snapshot)| snapshot)
    }
}
