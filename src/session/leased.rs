//! A session that lasts as long as its key is good.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::Session;
use super::alarm::Alarm;
use crate::auth::{ApiKey, Authenticator, Lease, State, Terms, Validation};
use crate::clock::{self, Moment, Timestamp};
use crate::error::{Error, Kind, Result};
use crate::event::{Event, Op, SessionChange};
use crate::hosts::Served;
use crate::identity::Principal;

/// A session, the key it was made with, and the lease on it.
pub struct Leased {
    session: Arc<Session>,
    principal: Principal,
    since: Timestamp,
    key: Mutex<Arc<ApiKey>>,
    lease: Mutex<Lease>,
    /// Why the authenticator could not be asked when that was last tried in vain.
    unanswered: Mutex<Option<String>>,
    /// The key is another.
    rekeyed: Notify,
}

/// Why a lease is no longer kept.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Ending {
    /// The authenticator refused the key, and said so.
    Refused(String),
    /// Nothing is served any more: somebody unmounted it, or it failed.
    Broken,
    /// The operator has withdrawn what it is for: why.
    Withdrawn(String),
    /// The file system's client was started anew: what this session has open is dead. Another one, with the same key, goes on.
    VolumeReplaced,
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Refused(why) | Self::Withdrawn(why) => why,
            Self::VolumeReplaced => "the volume's file system was mounted anew",
            Self::Broken => "it was unmounted, or cannot be served any more",
        })
    }
}

impl Leased {
    /// A session on a key that was validated when `asked` says.
    pub fn new(
        session: Arc<Session>,
        key: Arc<ApiKey>,
        validation: &Validation,
        asked: Moment,
        terms: Terms,
    ) -> Self {
        let lease = Lease::granted(terms, validation.expires_in, asked, jitter());
        good_for(&session, &lease);
        Self {
            session,
            principal: validation.principal.clone(),
            since: clock::now(),
            key: Mutex::new(key),
            lease: Mutex::new(lease),
            unanswered: Mutex::default(),
            rekeyed: Notify::new(),
        }
    }

    /// The session.
    pub fn session(&self) -> &Arc<Session> {
        &self.session
    }

    /// Whose it is.
    pub fn principal(&self) -> &Principal {
        &self.principal
    }

    /// What other hosts are told of it.
    pub fn served(&self) -> Served {
        Served {
            user: self.principal.user().full_hash(),
            uid: self.session.vfs().owner().0,
            state: self.state().as_str().to_owned(),
            since: self.since.seconds,
        }
    }

    /// The key that it goes on with.
    pub fn key(&self) -> Arc<ApiKey> {
        Arc::clone(&self.key.lock())
    }

    /// What it may do now.
    pub fn state(&self) -> State {
        self.lease.lock().state(Moment::now())
    }

    /// How long the last validation is still good.
    pub fn good_for(&self) -> Duration {
        self.lease.lock().good_for(Moment::now())
    }

    /// Why the authenticator said neither yes nor no, when it was last asked and did so.
    pub fn unanswered(&self) -> Option<String> {
        self.unanswered.lock().clone()
    }

    /// Goes on with another key of the same user, validated when `asked` says: the old one may be about to be withdrawn.
    ///
    /// # Errors
    /// What [`Store::attach_session_key`](crate::store::Store::attach_session_key) says.
    pub fn rekey(&self, key: Arc<ApiKey>, validation: &Validation, asked: Moment) -> Result<()> {
        let store = self.session.vfs().store();
        store.admit(Op::Session)?;
        store.attach_session_key(key.expose())?;
        *self.key.lock() = key;
        self.renewed(&mut self.lease.lock(), validation, asked);
        self.rekeyed.notify_one();
        self.session.is(SessionChange::Rekeyed, "");
        Ok(())
    }

    /// Validates the key again and again, ahead of the lease's end, and suspends and resumes the session as the lease
    /// says. Returns when there is nothing left to keep; the session is the caller's to end.
    pub async fn keep(&self, authenticator: &dyn Authenticator) -> Ending {
        let (alarm, mut applied) = (Alarm::new(), State::Active);
        loop {
            let (now, state, change, attempt) = {
                let (lease, now) = (self.lease.lock(), Moment::now());
                (
                    now,
                    lease.state(now),
                    lease.next_change(now),
                    lease.next_attempt(),
                )
            };
            if state != applied {
                self.apply(applied, state).await;
                applied = state;
            }
            let due = attempt <= now;
            let next = match (change, due) {
                (change, true) => change,
                (change, false) => Some(change.map_or(attempt, |change| change.min(attempt))),
            };
            tokio::select! {
                () = self.session.broken() => return Ending::Broken,
                () = self.session.vfs().store().volume_replaced() => return Ending::VolumeReplaced,
                why = self.session.vfs().store().withdrawn() => return Ending::Withdrawn(why.to_string()),
                // An attempt under way is begun anew: nothing else depends on it.
                () = alarm.at(next) => {}
                () = self.rekeyed.notified() => {}
                (asked, answer) = self.ask(authenticator), if due => {
                    if let Err(refusal) = self.take(asked, answer) {
                        return Ending::Refused(refusal);
                    }
                }
            }
        }
    }

    async fn ask(&self, authenticator: &dyn Authenticator) -> (Moment, Result<Validation>) {
        let (key, asked) = (Arc::clone(&self.key.lock()), Moment::now());
        (asked, authenticator.validate(&key).await)
    }

    /// Takes note of an answer; an error is a refusal.
    fn take(&self, asked: Moment, answer: Result<Validation>) -> std::result::Result<(), String> {
        let answer = answer.and_then(|validation| match validation.principal == self.principal {
            true => Ok(validation),
            false => Err(another_user()),
        });
        let verdict = match &answer {
            Ok(_) => Some(true),
            Err(error) if error.kind() == Kind::AuthenticationRefused => Some(false),
            Err(_) => None,
        };
        if verdict == Some(false) {
            // Before anything that may fail.
            self.session.close();
        }
        self.session
            .vfs()
            .store()
            .report(&Event::Renewal { answer: verdict });
        let mut lease = self.lease.lock();
        match answer {
            Ok(validation) => self.renewed(&mut lease, &validation, asked),
            Err(error) if error.kind() == Kind::AuthenticationRefused => {
                lease.refused();
                return Err(error.to_string());
            }
            Err(error) => {
                log::debug!("session of {}: {error:#}", self.principal.user().hash());
                *self.unanswered.lock() = Some(error.to_string());
                lease.unanswered(Moment::now(), jitter());
            }
        }
        Ok(())
    }

    fn renewed(&self, lease: &mut Lease, validation: &Validation, asked: Moment) {
        lease.renewed(validation.expires_in, asked, jitter());
        *self.unanswered.lock() = None;
        good_for(&self.session, lease);
    }

    async fn apply(&self, before: State, after: State) {
        if after == State::Suspended {
            // Before anything that may fail.
            self.session.shut();
        }
        match after {
            State::Active => self.session.is(SessionChange::Active, ""),
            State::Stale => self.session.is(SessionChange::Stale, ""),
            State::Suspended => self.session.is(SessionChange::Suspended, ""),
            // The caller ends it, and says so.
            State::Ended => {}
        }
        let change = match (before, after) {
            (State::Suspended, State::Active | State::Stale) => Session::resume,
            (_, State::Suspended) => Session::suspend,
            _ => return,
        };
        if let Err(error) = self.session.in_turn(change).await {
            let user = self.principal.user().hash();
            log::error!("session of {user}: becoming {}: {error:#}", after.as_str());
        }
    }
}

/// Has a session served, and its files cached, as long as its lease says.
fn good_for(session: &Session, lease: &Lease) {
    let now = Moment::now();
    session.vfs().lease(lease.good_for(now));
    session.serve_for(lease.served_for(now));
}

/// No consent to this session, so that the lease is not renewed; and no refusal of the key, so that it may still be.
fn another_user() -> Error {
    Error::new(
        Kind::AuthenticationUnreachable,
        "the auth service says that the key is another user's now",
    )
}

/// In 0..1.
fn jitter() -> f64 {
    let random = RandomState::new().hash_one(()) >> 11;
    random as f64 / (1u64 << 53) as f64
}
