//! What one user may add to the log, whatever number of sessions they have: so many bytes a second, and no more than all
//! others can have when the log's file system is nearly full.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::budget::{Charge, Pool, Share};
use crate::clock;

/// For how long a user may write at any rate what they have not used of their own: copying very many files is no attack.
const BURST: Duration = Duration::from_secs(128);

/// How many accounts there may be until those are looked for that nobody needs any more.
const MANY: usize = 1024;

/// All users' accounts.
pub(super) struct Accounts {
    /// Bytes a second, for each user.
    rate: u64,
    /// What may wait in memory.
    pool: Arc<Pool>,
    by_user: Mutex<HashMap<String, Arc<Account>>>,
    /// How much there is left in the log's file system, while that is little; else [`PLENTY`].
    left: AtomicU64,
}

/// What is left where there is no reason to count it.
const PLENTY: u64 = u64::MAX;

/// One user's account.
pub(super) struct Account {
    share: Arc<Share>,
    rate: u64,
    begun: Instant,
    /// When all that was written would be written at the user's rate, in nanoseconds after `begun` (generic cell rate
    /// algorithm, ITU-T I.371).
    due: AtomicU64,
    /// Bytes in this file of the log.
    written: AtomicU64,
}

impl Accounts {
    /// With so many bytes a second for each user, and so many that may wait in memory for all of them.
    pub(super) fn new(rate: u64, waiting: u64) -> Self {
        Self {
            rate: rate.max(1),
            pool: Pool::new(waiting),
            by_user: Mutex::default(),
            left: AtomicU64::new(PLENTY),
        }
    }

    /// The account of the user with this hash; those whom nobody has authenticated have one together.
    pub(super) fn of(&self, user: &str) -> Arc<Account> {
        let mut by_user = self.by_user.lock();
        if let Some(account) = by_user.get(user) {
            return Arc::clone(account);
        }
        if by_user.len() >= MANY {
            by_user.retain(|_, account| Arc::strong_count(account) > 1 || !account.is_fresh());
        }
        let account = Arc::new(Account {
            share: self.pool.share(u64::MAX),
            rate: self.rate,
            begun: clock::instant(),
            due: AtomicU64::new(0),
            written: AtomicU64::new(0),
        });
        by_user.insert(user.to_owned(), Arc::clone(&account));
        account
    }

    /// Takes note of what is left in the log's file system: none where there is plenty. Returns whether that has changed.
    pub(super) fn set_left(&self, left: Option<u64>) -> bool {
        let before = self.left.swap(left.unwrap_or(PLENTY), Ordering::Relaxed);
        (before == PLENTY) != left.is_none()
    }

    /// Whether little is left.
    pub(super) fn is_scarce(&self) -> bool {
        self.left.load(Ordering::Relaxed) != PLENTY
    }

    /// The log goes on in another file. Where little is left, those who made it so do not begin anew.
    pub(super) fn begin_file(&self) {
        if !self.is_scarce() {
            let by_user = self.by_user.lock();
            by_user
                .values()
                .for_each(|account| account.written.store(0, Ordering::Relaxed));
        }
    }

    /// Whether the user has written more than is left for everybody: then others are to have it. Whoever has written least
    /// is stopped last, and whoever comes later always finds something, as with [`budget`](crate::budget).
    pub(super) fn has_had_enough(&self, account: &Account) -> bool {
        account.written.load(Ordering::Relaxed) > self.left.load(Ordering::Relaxed)
    }
}

impl Account {
    /// Counts a line of so many bytes.
    pub(super) fn spend(&self, bytes: u64) {
        self.written.fetch_add(bytes, Ordering::Relaxed);
        let nanos = nanos(Duration::from_secs(bytes)) / self.rate;
        let now = self.now();
        let later = |due: u64| Some(due.max(now).saturating_add(nanos));
        let _ = self.due.fetch_update(Ordering::Relaxed, Ordering::Relaxed, later);
    }

    /// How long it takes until the user may do something again: none when they may now.
    pub(super) fn behind(&self) -> Option<Duration> {
        let due = self.due.load(Ordering::Relaxed);
        // Without a look at the clock where nothing was written yet.
        let ahead = due.checked_sub(nanos(BURST))?;
        let behind = ahead.checked_sub(self.now())?;
        (behind > 0).then(|| Duration::from_nanos(behind))
    }

    /// Takes memory for a line that waits; none when that is too much.
    pub(super) fn take(&self, bytes: u64) -> Option<Charge> {
        self.share.take(bytes)
    }

    /// Takes it whether or not it is too much.
    pub(super) fn overdraw(&self, bytes: u64) -> Charge {
        self.share.count(bytes)
    }

    /// Whether a new one would be like it.
    fn is_fresh(&self) -> bool {
        let due = self.due.load(Ordering::Relaxed);
        self.written.load(Ordering::Relaxed) == 0 && due <= self.now()
    }

    fn now(&self) -> u64 {
        nanos(clock::instant().saturating_duration_since(self.begun))
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: u64 = 1 << 20;

    #[test]
    fn a_user_waits_who_writes_more_than_the_rate_for_longer_than_the_burst() {
        let accounts = Accounts::new(RATE, 1000);
        let account = accounts.of("alice");
        for _ in 0..BURST.as_secs() {
            assert_eq!(account.behind(), None);
            account.spend(RATE);
        }
        account.spend(2 * RATE);
        let behind = accounts.of("alice").behind().unwrap();
        assert!(
            behind > Duration::from_millis(1500) && behind <= Duration::from_secs(2),
            "{behind:?}"
        );
        assert_eq!(accounts.of("bob").behind(), None);
    }

    #[test]
    fn where_little_is_left_those_who_wrote_most_stop_first() {
        let accounts = Accounts::new(RATE, 1000);
        let (alice, bob) = (accounts.of("alice"), accounts.of("bob"));
        alice.spend(1000);
        bob.spend(10);
        assert!(!accounts.has_had_enough(&alice));
        assert!(accounts.set_left(Some(500)));
        assert!(!accounts.set_left(Some(400)), "no news");
        accounts.begin_file();
        assert!(accounts.has_had_enough(&alice) && !accounts.has_had_enough(&bob));
        assert!(accounts.set_left(None) && !accounts.has_had_enough(&alice));
        accounts.begin_file();
        accounts.set_left(Some(500));
        assert!(!accounts.has_had_enough(&alice), "that file is another matter");
    }

    #[test]
    fn accounts_that_nobody_needs_are_given_up() {
        let accounts = Accounts::new(RATE, 1000);
        let (alice, bob) = (accounts.of("alice"), accounts.of("bob"));
        bob.spend(1);
        drop((alice, bob));
        for number in 0..2 * MANY {
            accounts.of(&number.to_string());
        }
        assert!(accounts.by_user.lock().len() <= MANY);
        assert!(accounts.by_user.lock().contains_key("bob"));
    }
}
