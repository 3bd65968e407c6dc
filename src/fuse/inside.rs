//! How many requests are inside the gate.

use std::sync::atomic::{AtomicUsize, Ordering};

/// Counts itself while it lives.
pub(super) struct Inside<'gate>(&'gate AtomicUsize);

impl<'gate> Inside<'gate> {
    pub(super) fn enter(inside: &'gate AtomicUsize) -> Self {
        inside.fetch_add(1, Ordering::SeqCst);
        Self(inside)
    }
}

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}
