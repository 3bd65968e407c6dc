//! What the mounter says of those who misbehave: no more than a line a second, however many they are.

use std::fmt;
use std::time::Duration;

use parking_lot::Mutex;

use crate::clock::Stopwatch;

const PAUSE: Duration = Duration::from_secs(1);

/// The complaints of one mounter.
#[derive(Default)]
pub(super) struct Complaints(Mutex<Told>);

#[derive(Default)]
struct Told {
    /// When the last one was logged.
    last: Option<Stopwatch>,
    /// How many were not, since then.
    untold: u64,
}

impl Complaints {
    /// Logs one, if none was logged just now.
    pub(super) fn add(&self, what: fmt::Arguments<'_>) {
        let mut told = self.0.lock();
        if told.last.is_some_and(|last| last.elapsed() < PAUSE) {
            told.untold += 1;
            return;
        }
        match told.untold {
            0 => log::warn!("{what}"),
            untold => log::warn!("{what}; and {untold} more like this before"),
        }
        *told = Told {
            last: Some(Stopwatch::start()),
            untold: 0,
        };
    }
}
