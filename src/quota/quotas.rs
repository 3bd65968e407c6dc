//! The quotas of a process: one account for each user, and the thread that counts what they have.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, OnceLock, Weak};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::account::{Account, Count, REST};
use super::users::{Users, UsersFile};
use crate::clock;
use crate::error::{Doing, Result};
use crate::identity::UserId;

/// How often it is looked whether the file has changed and somebody's count is due, while anybody has a session; and while
/// nobody has.
const TICK: Duration = Duration::from_secs(1);
const LONG_TICK: Duration = Duration::from_secs(30);

/// The accounts that are kept: of users who have no session any more only as long as there are fewer.
const MAX_KEPT: usize = 1 << 14;

/// All users' quotas.
pub struct Quotas {
    file: Option<UsersFile>,
    users: Mutex<Users>,
    accounts: Mutex<HashMap<UserId, Arc<Account>>>,
    /// Told when somebody is to be counted.
    wanted: Arc<Wanted>,
    counts: OnceLock<()>,
}

#[derive(Default)]
struct Wanted {
    is_wanted: Mutex<bool>,
    told: Condvar,
}

impl Wanted {
    fn tell(&self) {
        *self.is_wanted.lock() = true;
        self.told.notify_one();
    }

    fn wait(&self, most: Duration) {
        let mut is_wanted = self.is_wanted.lock();
        if !*is_wanted {
            self.told.wait_for(&mut is_wanted, most);
        }
        *is_wanted = false;
    }
}

impl fmt::Debug for Quotas {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Quotas({:?})", self.users.lock())
    }
}

impl Quotas {
    /// These, for as long as `file`, if there is one, says nothing else.
    pub fn new(users: Users, file: Option<UsersFile>) -> Arc<Self> {
        Arc::new(Self {
            file,
            users: Mutex::new(users),
            accounts: Mutex::default(),
            wanted: Arc::default(),
            counts: OnceLock::new(),
        })
    }

    /// A user's account, the same for all of their sessions.
    pub fn account(&self, user: &UserId) -> Arc<Account> {
        self.read_again();
        let mut accounts = self.accounts.lock();
        let limits = self.users.lock().limits(user);
        if accounts.len() >= MAX_KEPT && !accounts.contains_key(user) {
            accounts.retain(|_, account| Arc::strong_count(account) > 1);
        }
        let account = accounts.entry(user.clone());
        Arc::clone(account.or_insert_with(|| Arc::new(Account::new(limits))))
    }

    /// Has what a user has counted, now and from time to time, as long as `counter` is there. The thread that does so is
    /// started by the first who asks.
    ///
    /// # Errors
    /// The operating system's, when it has no thread.
    pub fn attend(self: &Arc<Self>, account: &Account, counter: Weak<dyn Count>) -> Result<()> {
        account.attend(counter);
        if self.counts.get().is_none() {
            let (quotas, wanted) = (Arc::downgrade(self), Arc::clone(&self.wanted));
            thread::Builder::new()
                .name("count".to_owned())
                .spawn(move || run(&quotas, &wanted))
                .doing("starting the thread that counts what users have")?;
            // Of two who are first at once, both start one: either counts.
            let _ = self.counts.set(());
        }
        self.wanted.tell();
        Ok(())
    }

    /// How many users have a session and are counted, and how many of those have nearly all that they may have.
    pub fn users(&self) -> (u64, u64) {
        let accounts = self.accounts.lock();
        let standings = accounts
            .values()
            .filter(|account| account.is_attended())
            .filter_map(|account| Some(account.meter()?.standing()));
        let (mut all, mut full) = (0, 0);
        for standing in standings {
            all += 1;
            full += u64::from(standing.limits.is_nearly_full(standing.used));
        }
        (all, full)
    }

    fn read_again(&self) {
        let Some(file) = &self.file else { return };
        match file.changed() {
            Ok(None) => {}
            Ok(Some(users)) => {
                // Locked as long as both are changed: an account that is made meanwhile has the new limits.
                let accounts = self.accounts.lock();
                for (user, account) in accounts.iter() {
                    if let Some(meter) = account.meter() {
                        meter.set_limits(users.limits(user));
                    }
                }
                *self.users.lock() = users;
                log::info!("the quota file was read again");
            }
            Err(error) => log::warn!("the quotas stay as they were: {error:#}"),
        }
    }

    /// Whose count is due, those first who were never counted; while it rests, nobody else's. None when nobody's is.
    fn due(&self, is_resting: bool) -> Option<(UserId, Arc<Account>)> {
        let now = clock::instant();
        let accounts = self.accounts.lock();
        accounts
            .iter()
            .filter(|(_, account)| account.is_attended())
            .map(|(user, account)| (account.due(), user, account))
            .filter(|(due, ..)| due.is_none_or(|due| !is_resting && due <= now))
            .min_by_key(|(due, ..)| *due)
            .map(|(_, user, account)| (user.clone(), Arc::clone(account)))
    }

    fn is_attended(&self) -> bool {
        self.accounts.lock().values().any(|account| account.is_attended())
    }

    /// Does what is due. Returns how long nothing else is.
    fn turn(&self, resting_until: &mut Instant) -> Duration {
        let is_resting = clock::instant() < *resting_until;
        let Some((user, account)) = self.due(is_resting) else {
            return if self.is_attended() { TICK } else { LONG_TICK };
        };
        match account.count() {
            Ok(took) => *resting_until = clock::instant() + took * REST,
            Err(error) => {
                log::warn!("counting what user {} has: {error:#}", user.hash());
                *resting_until = clock::instant() + TICK;
            }
        }
        Duration::ZERO
    }
}

fn run(quotas: &Weak<Quotas>, wanted: &Wanted) {
    let mut resting_until = clock::instant();
    while let Some(quotas) = quotas.upgrade() {
        quotas.read_again();
        let pause = quotas.turn(&mut resting_until);
        drop(quotas);
        if !pause.is_zero() {
            wanted.wait(pause);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI64, Ordering};

    use super::*;
    use crate::quota::{Amount, Counted, Limits};

    struct There(AtomicI64);

    impl Count for There {
        fn count(&self) -> Result<Option<Counted>> {
            let bytes = self.0.load(Ordering::Relaxed);
            let mut counted = Counted::default();
            counted.amount = Amount { bytes, files: 1 };
            Ok(Some(counted))
        }
    }

    fn eventually(mut is: impl FnMut() -> bool) -> bool {
        (0..500).any(|_| {
            thread::sleep(Duration::from_millis(10));
            is()
        })
    }

    #[test]
    fn all_sessions_of_a_user_share_one_account_which_is_counted_as_soon_as_one_begins() {
        let limits = Limits {
            bytes: Some(100),
            files: None,
        };
        let quotas = Quotas::new(Users::everybody(limits), None);
        let alice = UserId::new("alice").unwrap();
        let account = quotas.account(&alice);
        assert!(Arc::ptr_eq(&account, &quotas.account(&alice)));
        assert!(!Arc::ptr_eq(
            &account,
            &quotas.account(&UserId::new("bob").unwrap())
        ));
        let meter = account.meter().unwrap();
        assert!(!meter.standing().is_counted);
        let there: Arc<dyn Count> = Arc::new(There(AtomicI64::new(96)));
        quotas.attend(&account, Arc::downgrade(&there)).unwrap();
        assert!(eventually(|| meter.standing().is_counted));
        assert_eq!(meter.standing().used.bytes, 96);
        assert_eq!(quotas.users(), (1, 1));
        drop(there);
        assert_eq!(quotas.users(), (0, 0));
    }

    #[test]
    fn a_changed_file_changes_the_limits_of_who_is_there() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("quota.json");
        let write = |text: &str| {
            std::fs::write(directory.path().join("new"), text).unwrap();
            std::fs::rename(directory.path().join("new"), &path).unwrap();
        };
        write(r#"{"users":[{"user_id":"alice","files":3}]}"#);
        let (file, users) = UsersFile::open(&path, Limits::default()).unwrap();
        let quotas = Quotas::new(users, Some(file));
        let alice = UserId::new("alice").unwrap();
        let account = quotas.account(&alice);
        let limit = || account.meter().unwrap().standing().limits.files;
        assert_eq!(limit(), Some(3));
        write(r#"{"users":[{"user_id":"alice","files":4}]}"#);
        quotas.read_again();
        assert_eq!(limit(), Some(4));
        write("broken");
        quotas.read_again();
        assert_eq!(limit(), Some(4));
    }
}
