//! What all sessions of one user share: what they have, and what of it is there only to be brought back.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::amount::Amount;
use super::limits::Limits;
use super::meter::Meter;
use crate::clock::{self, Timestamp};
use crate::error::Result;

/// Of so much of what waits it is known where it is. More is found by the next count.
const MAX_WAITING: usize = 4096;

/// The same where nothing is counted, and only the volume's own file system may say that it is too much.
const MAX_WAITING_UNCOUNTED: usize = 256;

/// What others changed is counted after so long, or where nobody is told of changes; however, counting takes one part in
/// [`REST`] of the time at most.
const SOON: Duration = Duration::from_secs(10);
const LATER: Duration = Duration::from_secs(60);

/// How many times as long as a count takes, nothing is counted after it.
pub(super) const REST: u32 = 20;

/// Something that was removed, or renamed away, and waits under a name of ours.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Waits {
    /// The directory that it is in, as in the mount.
    pub folder: String,
    /// What it is called there.
    pub entry: String,
}

/// What a count found.
#[derive(Clone, Debug, Default)]
pub struct Counted {
    /// All of it.
    pub amount: Amount,
    waiting: Vec<(Waits, Timestamp)>,
}

impl Counted {
    /// Something waits since then. Only those are kept that have waited longest.
    pub fn waits(&mut self, waits: Waits, since: Timestamp) {
        self.waiting.push((waits, since));
        if self.waiting.len() >= 2 * MAX_WAITING {
            self.keep_oldest();
        }
    }

    fn keep_oldest(&mut self) {
        self.waiting.sort_unstable_by_key(|(_, since)| *since);
        self.waiting.truncate(MAX_WAITING);
    }
}

/// Who can count what a user has.
pub trait Count: Send + Sync {
    /// Counts it; none when nobody wants to know any more.
    ///
    /// # Errors
    /// The volume's.
    fn count(&self) -> Result<Option<Counted>>;
}

/// One user's.
#[derive(Default)]
pub struct Account {
    /// None where nothing is counted.
    meter: Option<Arc<Meter>>,
    waiting: Mutex<HashMap<Waits, Timestamp>>,
    counters: Mutex<Vec<Weak<dyn Count>>>,
    has_changed: AtomicBool,
    last: Mutex<Option<Last>>,
}

/// The last count.
#[derive(Clone, Copy)]
struct Last {
    began: Instant,
    took: Duration,
    is_certain: bool,
}

impl Account {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            meter: Some(Arc::new(Meter::uncounted(limits))),
            ..Self::default()
        }
    }

    /// What counts what the user has; none where nothing is counted.
    pub fn meter(&self) -> Option<&Arc<Meter>> {
        self.meter.as_ref()
    }

    /// Takes note of something that waits from now on.
    pub fn waits(&self, folder: &str, entry: &str) {
        let waits = Waits {
            folder: folder.to_owned(),
            entry: entry.to_owned(),
        };
        let most = match self.meter {
            Some(_) => MAX_WAITING,
            None => MAX_WAITING_UNCOUNTED,
        };
        let mut waiting = self.waiting.lock();
        if waiting.len() < most || waiting.contains_key(&waits) {
            waiting.insert(waits, clock::now());
        }
    }

    /// Whether anything waits, as far as is known.
    pub fn has_waiting(&self) -> bool {
        !self.waiting.lock().is_empty()
    }

    /// What has waited longest, which is forgotten here.
    pub fn take_oldest(&self) -> Option<Waits> {
        let mut waiting = self.waiting.lock();
        let oldest = waiting.iter().min_by_key(|(_, since)| **since);
        let oldest = oldest.map(|(waits, _)| waits.clone())?;
        waiting.remove(&oldest);
        Some(oldest)
    }

    /// Something changed on the volume, whoever did it.
    pub fn changed(&self) {
        self.has_changed.store(true, Ordering::Relaxed);
    }

    /// One more who can count.
    pub(super) fn attend(&self, counter: Weak<dyn Count>) {
        let mut counters = self.counters.lock();
        counters.retain(|counter| counter.strong_count() > 0);
        counters.push(counter);
        // What happened while nobody looked is not known.
        *self.last.lock() = None;
    }

    fn counter(&self) -> Option<Arc<dyn Count>> {
        self.counters.lock().iter().find_map(Weak::upgrade)
    }

    /// Whether somebody can count.
    pub(super) fn is_attended(&self) -> bool {
        self.counters
            .lock()
            .iter()
            .any(|counter| counter.strong_count() > 0)
    }

    /// When it is to be counted; none at once.
    pub(super) fn due(&self) -> Option<Instant> {
        let last = (*self.last.lock())?;
        let is_soon = !last.is_certain || self.has_changed.load(Ordering::Relaxed);
        let pause = if is_soon { SOON } else { LATER };
        Some(last.began + pause.max(last.took * REST))
    }

    /// Counts all of it. Returns how long that took.
    ///
    /// # Errors
    /// The volume's.
    pub(super) fn count(&self) -> Result<Duration> {
        let (Some(counter), Some(meter)) = (self.counter(), &self.meter) else {
            return Ok(Duration::ZERO);
        };
        self.has_changed.store(false, Ordering::Relaxed);
        let (began, now, count) = (clock::instant(), clock::now(), meter.begin_count());
        let counted = counter.count();
        let took = clock::instant() - began;
        let certain = match &counted {
            Ok(Some(counted)) => meter.end_count(count, counted.amount),
            Ok(None) | Err(_) => None,
        };
        *self.last.lock() = Some(Last {
            began,
            took,
            is_certain: certain == Some(true),
        });
        if let Some(counted) = counted? {
            self.found_waiting(counted, now);
        }
        Ok(took)
    }

    fn found_waiting(&self, mut found: Counted, began: Timestamp) {
        found.keep_oldest();
        let mut waiting = self.waiting.lock();
        // What was put there meanwhile was found or not. What was found and is gone, is found to be gone when it is wanted.
        waiting.retain(|_, since| *since >= began);
        for (waits, since) in found.waiting {
            waiting.entry(waits).or_insert(since);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_is_taken_first_and_once() {
        let account = Account::default();
        let at = |seconds| Timestamp { seconds, nanos: 0 };
        let waits = |entry: &str| Waits {
            folder: "schedules".to_owned(),
            entry: entry.to_owned(),
        };
        let mut counted = Counted::default();
        for (entry, since) in [("b", 2), ("a", 1), ("c", 3)] {
            counted.waits(waits(entry), at(since));
        }
        account.found_waiting(counted, at(4));
        // Removed once more.
        account.waits("schedules", "a");
        let taken: Vec<_> = std::iter::from_fn(|| account.take_oldest())
            .map(|waits| waits.entry)
            .collect();
        assert_eq!(taken, ["b", "c", "a"]);
    }
}
