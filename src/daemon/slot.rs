//! What a uid has: a session, one that is to come back, or a login under way.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;

use super::activity::{Activity, Counted};
use super::live::Live;
use super::login::Login;
use super::refusal::Refusal;
use super::systemd::Kept;
use super::times::rfc3339;
use super::wire::{SessionStatus, Whose};
use crate::auth::ApiKey;
use crate::clock::{self, Timestamp};
use crate::event::{Event, Observer, SessionChange};

/// The state of a session that is to come back.
pub(super) const RESTORING: &str = "restoring";

/// What the uids have.
pub(super) type Slots = BTreeMap<u32, Slot>;

/// What a uid has.
pub(super) enum Slot {
    /// A session is being started.
    Starting,
    /// A session of before the daemon, or the volume's file system, was restarted. Its key has yet to be validated.
    Restoring(Arc<Restoring>),
    Live(Arc<Live>),
}

/// A session of before a restart of the daemon, or of the volume's file system.
pub(super) struct Restoring {
    pub(super) uid: u32,
    pub(super) gid: Option<u32>,
    pub(super) key: Arc<ApiKey>,
    /// What it was told while its user is not known.
    pub(super) login: Arc<Login>,
    since: Timestamp,
    /// Why it is not back yet, after the first attempt.
    why: Mutex<Option<Refusal>>,
    /// Counts it among those that wait.
    _observer: Arc<dyn Observer>,
    /// It is back, or somebody else is, or nobody wants it any more.
    pub(super) over: Notify,
}

/// The slot of a uid while its session is being started. Dropped before it is filled, it has again what it had before.
pub(super) struct TakenSlot {
    all: Arc<Mutex<Slots>>,
    pub(super) uid: u32,
    login: Arc<Login>,
    before: Option<Arc<Restoring>>,
}

impl Restoring {
    pub(super) fn of(kept: Kept, login: Arc<Login>, observer: Arc<dyn Observer>) -> Arc<Self> {
        Self::new((kept.uid, kept.gid, Arc::new(kept.key)), login, observer)
    }

    /// One whose session has ended in this process.
    pub(super) fn again(live: &Live, login: Arc<Login>, observer: Arc<dyn Observer>) -> Arc<Self> {
        Self::new((live.uid, live.wanted_gid, live.leased.key()), login, observer)
    }

    fn new(
        (uid, gid, key): (u32, Option<u32>, Arc<ApiKey>),
        login: Arc<Login>,
        observer: Arc<dyn Observer>,
    ) -> Arc<Self> {
        observer.observe(&Event::Session {
            change: SessionChange::Restoring,
            reason: String::new(),
        });
        Arc::new(Self {
            login,
            uid,
            gid,
            key,
            since: clock::now(),
            why: Mutex::default(),
            _observer: observer,
            over: Notify::new(),
        })
    }

    /// Whether it is meant, which can be told without knowing whose the key is.
    pub(super) fn is_by_uid(&self, whose: &Whose) -> bool {
        *whose == Whose::All || *whose == Whose::Uid(self.uid)
    }

    /// Not awaited any more.
    pub(super) fn give_up(&self) {
        self.over.notify_one();
    }

    pub(super) fn is_in(&self, slots: &Slots) -> bool {
        let there = slots.get(&self.uid);
        matches!(there, Some(Slot::Restoring(there)) if std::ptr::eq(Arc::as_ptr(there), self))
    }

    /// It is not back, and this is why.
    pub(super) fn failed(&self, why: Refusal) {
        *self.why.lock() = Some(why);
    }

    /// Why it is not back yet: for an operator, or for its user.
    pub(super) fn why(&self, to_operator: bool) -> Option<String> {
        self.why.lock().as_ref().map(|why| why.told(to_operator).message)
    }

    /// As operators are told. Nothing is done in it yet.
    pub(super) fn activity(&self) -> Activity {
        Activity {
            uid: self.uid,
            user_id: None,
            state: RESTORING.to_owned(),
            since: rfc3339(self.since),
            good_for: 0,
            open_files: 0,
            quota: None,
            counted: Counted::default(),
        }
    }

    /// As it is told to an operator, or to its user, who is not told where on the volume something is wrong.
    pub(super) fn status(&self, mountpoint: String, to_operator: bool) -> SessionStatus {
        SessionStatus {
            uid: self.uid,
            gid: self.gid,
            user_id: None,
            mountpoint,
            state: RESTORING.to_owned(),
            reason: self.why(to_operator),
            since: rfc3339(self.since),
            good_for: 0,
            open_files: 0,
            drafts: Vec::new(),
            more_drafts: true,
            replaced: Vec::new(),
            removed: None,
            quota: None,
        }
    }
}

impl TakenSlot {
    /// Of a uid that has `before`, or nothing.
    pub(super) fn new(
        all: &Arc<Mutex<Slots>>,
        mut slots: MutexGuard<'_, Slots>,
        uid: u32,
        login: Arc<Login>,
        before: Option<Arc<Restoring>>,
    ) -> Self {
        slots.insert(uid, Slot::Starting);
        Self {
            all: Arc::clone(all),
            uid,
            login,
            before,
        }
    }

    /// Has the session now; which is told to end, if that was said meanwhile.
    pub(super) fn fill(self, live: &Arc<Live>) {
        let mut slots = self.all.lock();
        slots.insert(self.uid, Slot::Live(Arc::clone(live)));
        // Who ends sessions has the slots too: what it says from here on, it says to the session.
        if let Some(why) = self.login.ended(Some(live.leased.principal().user())) {
            live.end(&why);
        }
    }
}

impl Drop for TakenSlot {
    fn drop(&mut self) {
        let mut slots = self.all.lock();
        let before = self.before.take();
        match slots.get(&self.uid) {
            // Whoever was told to end while it started has ended by not starting.
            Some(Slot::Starting) if self.login.ended(None).is_some() => {
                slots.remove(&self.uid);
                before.inspect(|before| before.give_up());
            }
            Some(Slot::Starting) => match before {
                Some(before) => _ = slots.insert(self.uid, Slot::Restoring(before)),
                None => _ = slots.remove(&self.uid),
            },
            _ => _ = before.inspect(|before| before.give_up()),
        }
    }
}
