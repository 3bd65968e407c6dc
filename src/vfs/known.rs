//! How many inodes the kernel may know. Each takes memory here until the kernel forgets it, which a program can keep it from: by
//! a descriptor, also one that nothing can be read through (O_PATH).

use std::sync::atomic::{AtomicU64, Ordering};

use super::lock_order::{Ordered, Rank};
use crate::budget::Charge;

/// How many are charged at once: so that a lookup need not take the locks of what all users share.
const STEP: u64 = 1 << 10;

/// What the inodes that the kernel knows are charged to.
pub(super) struct Known {
    charge: Ordered<Charge>,
    /// For how many that is.
    charged: AtomicU64,
}

impl Known {
    pub(super) fn new(charge: Charge) -> Self {
        Self {
            charge: Ordered::new(Rank::Known, charge),
            charged: AtomicU64::new(0),
        }
    }

    /// Whether one more may be known beside `known`.
    pub(super) fn has_room(&self, known: u64) -> bool {
        if known < self.charged.load(Ordering::Relaxed) {
            return true;
        }
        let mut charge = self.charge.lock();
        let charged = self.charged.load(Ordering::Relaxed);
        if known < charged {
            return true;
        }
        // The step may be too much where a single one is not.
        let grown = [STEP, 1].into_iter().find(|units| charge.grow(*units));
        let charged = charged + grown.unwrap_or(0);
        self.charged.store(charged, Ordering::Relaxed);
        known < charged
    }

    /// Gives back what is not needed for `known`.
    pub(super) fn shrink(&self, known: u64) {
        let needed = known + STEP;
        if self.charged.load(Ordering::Relaxed) > needed + STEP {
            let mut charge = self.charge.lock();
            charge.set(needed);
            self.charged.store(needed, Ordering::Relaxed);
        }
    }
}
