//! How many inodes the kernel may know. Each takes memory here until the kernel forgets it, which a program can keep it from: by
//! a descriptor, also one that nothing can be read through (O_PATH).

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use super::Vfs;
use super::entries::Place;
use super::lock_order::{Ordered, Rank};
use crate::budget::Charge;
use crate::clock::Stopwatch;
use crate::error::{Error, Kind, Result};

/// When the kernel knows more inodes than this, it is made to forget those that nobody uses. Each takes up to 1.3 KiB here.
const MANY: usize = 1 << 17;

/// How many are charged at once: so that a lookup need not take the locks of what all users share.
const STEP: u64 = 1 << 10;

/// How long a lookup waits for the kernel to forget others, when there are too many; and how often it looks.
const PATIENCE: Duration = Duration::from_millis(200);
const POLL: Duration = Duration::from_millis(1);

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
    fn has_room(&self, known: u64) -> bool {
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
    fn shrink(&self, known: u64) {
        let needed = known + STEP;
        if self.charged.load(Ordering::Relaxed) > needed + STEP {
            let mut charge = self.charge.lock();
            charge.set(needed);
            self.charged.store(needed, Ordering::Relaxed);
        }
    }
}

impl Vfs {
    /// Sees to it that the kernel may know one more inode, at `place`. When it knows many, it is made to forget those that
    /// nobody uses, and that is waited for, for a moment.
    ///
    /// # Errors
    /// [`Kind::TooManyOpen`] when the user's programs keep it from forgetting as many as one may have.
    pub(super) fn admit_inode(&self, place: &Place) -> Result<()> {
        if self.has_room() && !self.is_crowded() || self.table.at(place).is_some() {
            return Ok(());
        }
        self.pages.notice_soon();
        let watch = Stopwatch::start();
        while self.is_crowded() && watch.elapsed() < POLL * 2 {
            // Who makes the kernel remember goes on no faster than it forgets.
            thread::sleep(POLL);
        }
        while !self.has_room() {
            if watch.elapsed() > PATIENCE {
                let why = "your programs hold more files and directories, by descriptors or as working directories, than one may";
                return Err(Error::new(Kind::TooManyOpen, why));
            }
            thread::sleep(POLL);
        }
        Ok(())
    }

    fn has_room(&self) -> bool {
        self.known.has_room(self.table.len() as u64)
    }

    fn is_crowded(&self) -> bool {
        self.table.len() > MANY
    }

    /// Has the kernel forget what nobody uses, if it knows many.
    pub(super) fn bound_known(&self) {
        self.known.shrink(self.table.len() as u64);
        if self.is_crowded() {
            for (node, place) in self.table.files() {
                if node.is_expendable() {
                    self.pages.drop_name(place.parent, &place.name);
                }
            }
        }
    }
}
