//! What the kernel has open, by handle.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::RwLock;

use super::ids::Fh;
use crate::error::{Error, Kind, Result};

/// The open handles of one sort: files, or listings.
pub(super) struct HandleTable<T> {
    open: RwLock<HashMap<Fh, Arc<T>>>,
    next: AtomicU64,
}

impl<T> Default for HandleTable<T> {
    fn default() -> Self {
        Self {
            open: RwLock::default(),
            next: AtomicU64::default(),
        }
    }
}

impl<T> HandleTable<T> {
    pub(super) fn count(&self) -> usize {
        self.open.read().len()
    }

    pub(super) fn add(&self, opened: T) -> Fh {
        let fh = Fh(self.next.fetch_add(1, Ordering::Relaxed));
        self.open.write().insert(fh, Arc::new(opened));
        fh
    }

    /// # Errors
    /// [`Kind::BadHandle`].
    pub(super) fn get(&self, fh: Fh) -> Result<Arc<T>> {
        let opened = self.open.read().get(&fh).map(Arc::clone);
        opened.ok_or_else(|| Error::new(Kind::BadHandle, "no such open file"))
    }

    pub(super) fn remove(&self, fh: Fh) -> Option<Arc<T>> {
        self.open.write().remove(&fh)
    }

    /// Everything that is open. Dropping it closes it, and takes as long as the volume takes.
    pub(super) fn take_all(&self) -> HashMap<Fh, Arc<T>> {
        std::mem::take(&mut *self.open.write())
    }
}
