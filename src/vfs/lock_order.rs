//! The order in which the locks of a file system are taken.
//!
//! A thread that holds some of them may wait only for one that comes later in [`Rank`]: then no two threads can wait for
//! each other. Debug builds, and so all tests, panic where that is not so, whether or not another thread happens to be
//! in the way. In release builds an [`Ordered`] is a mutex and nothing else.

use std::ops::{Deref, DerefMut};

use parking_lot::{Mutex, MutexGuard};

/// The locks, outermost first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Rank {
    /// An open directory's listing: held while its entries are looked up, one by one.
    Listing,
    /// What a record or an attachment is: held while it is read from the volume or committed to it.
    Content,
    /// The open directories of the volume that are kept for the next use.
    Folders,
    /// Which directories are watched for changes by others.
    Watched,
    /// The changes that are not looked at yet: the thread that reads them from the kernel takes no other lock.
    Pending,
    /// The opens that were told to look again.
    Retries,
    /// Since when drafts wait to be saved.
    HeldBack,
    /// What was last counted for statfs: held while it is counted anew.
    Usage,
    /// All inodes. Innermost: everybody needs it, so nobody waits for anything while holding it.
    Table,
}

/// A mutex with its place in the order.
pub(super) struct Ordered<T> {
    #[cfg(debug_assertions)]
    rank: Rank,
    value: Mutex<T>,
}

impl<T> Ordered<T> {
    #[cfg_attr(
        not(debug_assertions),
        expect(unused_variables, reason = "nothing is checked")
    )]
    pub(super) fn new(rank: Rank, value: T) -> Self {
        Self {
            #[cfg(debug_assertions)]
            rank,
            value: Mutex::new(value),
        }
    }

    /// Waits for it. In debug builds, panics when the thread holds a lock of the same rank or a later one.
    pub(super) fn lock(&self) -> OrderedGuard<'_, T> {
        // Before it is waited for: a wait out of order may have no end.
        #[cfg(debug_assertions)]
        let _held = held::Held::in_order(self.rank);
        OrderedGuard {
            value: self.value.lock(),
            #[cfg(debug_assertions)]
            _held,
        }
    }

    /// As [`lock`](Self::lock), for whoever holds one lock of the same rank already: the caller takes the two in an order of
    /// its own, always the same.
    pub(super) fn lock_second(&self) -> OrderedGuard<'_, T> {
        #[cfg(debug_assertions)]
        let _held = held::Held::second(self.rank);
        OrderedGuard {
            value: self.value.lock(),
            #[cfg(debug_assertions)]
            _held,
        }
    }

    /// Takes it if it is free, which is allowed in any order: who does not wait keeps nobody waiting in a circle.
    pub(super) fn try_lock(&self) -> Option<OrderedGuard<'_, T>> {
        Some(OrderedGuard {
            value: self.value.try_lock()?,
            #[cfg(debug_assertions)]
            _held: held::Held::in_any_order(self.rank),
        })
    }
}

/// What a locked mutex has. Dropped, it is unlocked.
pub(super) struct OrderedGuard<'a, T> {
    value: MutexGuard<'a, T>,
    #[cfg(debug_assertions)]
    _held: held::Held,
}

impl<T> Deref for OrderedGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T> DerefMut for OrderedGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.value
    }
}

/// The locks that each thread holds.
#[cfg(debug_assertions)]
mod held {
    use std::cell::RefCell;

    use super::Rank;

    thread_local! {
        static HELD: RefCell<Vec<Rank>> = const { RefCell::new(Vec::new()) };
    }

    /// One of them, for as long as this lives.
    pub(super) struct Held(Rank);

    impl Held {
        pub(super) fn in_order(rank: Rank) -> Self {
            let out_of_order = with(|held| held.iter().max().copied().filter(|latest| *latest >= rank));
            assert!(
                out_of_order.is_none(),
                "a thread waits for {rank:?} while it holds {out_of_order:?}: see the order in vfs/lock_order.rs"
            );
            Self::in_any_order(rank)
        }

        /// One of the same rank may be held already, and nothing later.
        pub(super) fn second(rank: Rank) -> Self {
            let in_the_way = with(|held| {
                let one = held.iter().position(|other| *other == rank);
                let mut others = held.iter().enumerate().filter(|(at, _)| Some(*at) != one);
                others.any(|(_, other)| *other >= rank).then_some(rank)
            });
            assert!(
                in_the_way.is_none(),
                "a thread waits for a second {rank:?} while it holds two, or something later"
            );
            Self::in_any_order(rank)
        }

        pub(super) fn in_any_order(rank: Rank) -> Self {
            with(|held| {
                held.push(rank);
                None
            });
            Self(rank)
        }
    }

    impl Drop for Held {
        fn drop(&mut self) {
            with(|held| {
                let at = held.iter().rposition(|rank| *rank == self.0)?;
                Some(held.remove(at))
            });
        }
    }

    /// Nothing is known of a thread that is ending: its list may be gone already.
    fn with(work: impl FnOnce(&mut Vec<Rank>) -> Option<Rank>) -> Option<Rank> {
        HELD.try_with(|held| work(&mut held.borrow_mut())).ok().flatten()
    }
}

// Release builds check nothing.
#[cfg(all(test, debug_assertions))]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;

    fn locks() -> [Ordered<u32>; 3] {
        [Rank::Listing, Rank::Content, Rank::Table].map(|rank| Ordered::new(rank, 0))
    }

    fn panics(work: impl FnOnce()) -> bool {
        catch_unwind(AssertUnwindSafe(work)).is_err()
    }

    #[test]
    fn in_their_order_all_can_be_held_and_let_go_in_any() {
        let [listing, content, table] = locks();
        let guards = (listing.lock(), content.lock(), table.lock());
        drop(guards.0);
        drop(guards.2);
        drop(table.lock());
        drop(guards.1);
        drop(listing.lock());
    }

    #[test]
    fn waiting_for_an_earlier_one_or_one_like_it_panics() {
        let ([listing, content, _], [_, other, table]) = (locks(), locks());
        let held = content.lock();
        assert!(panics(|| drop(listing.lock())));
        assert!(panics(|| drop(other.lock())));
        assert!(panics(|| drop(content.lock())), "it would wait for itself");
        drop(table.lock());
        drop(held);
        *listing.lock() += 1;
        assert_eq!(*listing.lock(), 1, "a refused wait leaves nothing behind");
    }

    #[test]
    fn the_earliest_of_several_does_not_hide_the_latest() {
        let [listing, content, table] = locks();
        let _table = table.lock();
        let listing = listing.try_lock();
        assert!(listing.is_some());
        assert!(panics(|| drop(content.lock())));
    }

    #[test]
    fn taking_what_is_free_is_allowed_in_any_order_and_counts() {
        let ([listing, content, table], [_, other, _]) = (locks(), locks());
        let held = table.lock();
        let taken = content.try_lock();
        assert!(taken.is_some());
        assert!(content.try_lock().is_none(), "it is not free");
        drop(held);
        assert!(panics(|| drop(other.lock())), "what was taken is held");
        assert!(panics(|| drop(listing.lock())));
        drop(table.lock());
        drop(taken);
        drop(other.lock());
    }

    #[test]
    fn of_one_rank_two_can_be_waited_for_and_no_third() {
        let ([_, content, table], [_, other, _]) = (locks(), locks());
        let third = Ordered::new(Rank::Content, 0);
        let held = content.lock();
        let second = other.lock_second();
        assert!(panics(|| drop(third.lock_second())), "it would be the third");
        drop(table.lock());
        drop(held);
        drop(content.lock_second());
        drop(second);
        let _table = table.lock();
        assert!(panics(|| drop(other.lock_second())), "the table is the last");
    }

    #[test]
    fn each_thread_has_an_order_of_its_own() {
        let [listing, _, table] = locks();
        let _held = table.lock();
        std::thread::scope(|scope| {
            scope.spawn(|| drop(listing.lock()));
        });
    }
}
