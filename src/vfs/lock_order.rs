//! placeholder
use parking_lot::{Mutex, MutexGuard};
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Rank {
    Listing,
    Content,
    Folders,
    Watched,
    Pending,
    Retries,
    HeldBack,
    Usage,
    Table,
}
pub(super) struct Ordered<T>(Mutex<T>);
pub(super) type OrderedGuard<'a, T> = MutexGuard<'a, T>;
impl<T> Ordered<T> {
    pub(super) fn new(_: Rank, value: T) -> Self {
        Self(Mutex::new(value))
    }
    pub(super) fn lock(&self) -> OrderedGuard<'_, T> {
        self.0.lock()
    }
    pub(super) fn try_lock(&self) -> Option<OrderedGuard<'_, T>> {
        self.0.try_lock()
    }
}
