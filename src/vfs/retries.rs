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

/// How long a retry is waited for. The kernel makes it at once, or its thread is gone.
const LIFETIME: Duration = Duration::from_millis(250);

/// The opens of all threads that were told to look again.
pub(super) struct Retries {
    by_thread: Ordered<HashMap<(u32, Place), Retry>>,
}

struct Retry {
    since: Stopwatch,
    found: Option<(Ino, Snapshot)>,
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
        retries.retain(|_, retry| retry.since.elapsed() < LIFETIME);
        let retry = Retry {
            since: Stopwatch::start(),
            found: None,
        };
        retries.insert((thread, place), retry);
    }

    /// Whether `thread` looks `place` up because it was told to; and what it found, if it does so twice.
    pub(super) fn looks_again(&self, thread: u32, place: &Place) -> Option<Option<(Ino, Snapshot)>> {
        let retries = self.by_thread.lock();
        if retries.is_empty() {
            return None;
        }
        let retry = retries.get(&(thread, place.clone()))?;
        (retry.since.elapsed() < LIFETIME).then(|| retry.found.clone())
    }

    /// This is what the open that follows gets.
    pub(super) fn found(&self, thread: u32, place: Place, ino: Ino, snapshot: Snapshot) {
        if let Some(retry) = self.by_thread.lock().get_mut(&(thread, place)) {
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
        let fresh = retry.since.elapsed() < LIFETIME;
        retry.found.filter(|_| fresh).map(|(_, snapshot)| snapshot)
    }
}
