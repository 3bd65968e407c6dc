//! Sessions of before a restart of the daemon, or of the volume's file system, come back by themselves.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use super::refusal::Refusal;
use super::sessions::Sessions;
use super::setup::Start;
use super::slot::{Restoring, Slot, TakenSlot};
use super::systemd::{self, Kept};
use super::wire::Code;
use crate::clock::Moment;
use crate::error::Kind;
use crate::event::Subject;

/// When it is tried again to bring a session back, at first and after many times.
const FIRST_RESTORE: Duration = Duration::from_millis(500);
const LAST_RESTORE: Duration = Duration::from_secs(10);

impl Sessions {
    /// Brings back the sessions of before a restart, each as soon as its key is validated.
    pub(super) fn restore(self: &Arc<Self>, kept: Vec<Kept>) {
        for kept in kept {
            let login = self.logins.begin(kept.uid);
            let observer = (self.setup.observers)(Subject {
                user: None,
                uid: kept.uid,
            });
            let restoring = Restoring::of(kept, login, observer);
            let slot = Slot::Restoring(Arc::clone(&restoring));
            self.slots.lock().insert(restoring.uid, slot);
            self.await_return(restoring);
        }
    }

    /// Sees to it that a session comes back.
    pub(super) fn await_return(self: &Arc<Self>, restoring: Arc<Restoring>) {
        tokio::spawn(Arc::clone(self).restore_one(restoring));
    }

    async fn restore_one(self: Arc<Self>, restoring: Arc<Restoring>) {
        let mut wait = FIRST_RESTORE;
        loop {
            let restored = tokio::select! {
                () = restoring.over.notified() => return,
                restored = self.try_to_restore(&restoring) => restored,
            };
            if restored {
                return;
            }
            tokio::select! {
                () = restoring.over.notified() => return,
                () = sleep(wait) => wait = (wait * 2).min(LAST_RESTORE),
            }
        }
    }

    /// Returns whether there is nothing left to try.
    async fn try_to_restore(self: &Arc<Self>, restoring: &Arc<Restoring>) -> bool {
        let (uid, asked) = (restoring.uid, Moment::now());
        let (code, error) = match self.setup.authenticator.validate(&restoring.key).await {
            Ok(validation) => {
                if let Some(why) = restoring.login.ended(Some(validation.principal.user())) {
                    log::info!("the session of uid {uid} from before the restart does not come back: {why}");
                    return self.abandon(restoring);
                }
                self.throttle.knows(self.source(uid), &restoring.key);
                // While somebody logs in, that is waited for: it may fail.
                let Some(slot) = self.claim(restoring) else {
                    return false;
                };
                let start = Start {
                    gid: restoring.gid,
                    key: Arc::clone(&restoring.key),
                    validation,
                    asked,
                };
                match self.start(slot, start).await {
                    Ok(_) => {
                        log::info!("the session of uid {uid} is back");
                        return true;
                    }
                    Err(refusal) => (refusal.code, refusal.error),
                }
            }
            Err(error) if error.kind() == Kind::AuthenticationRefused => (Code::Refused, error),
            Err(error) => (Code::Unreachable, error),
        };
        log::warn!("the session of uid {uid} from before the restart: {error:#}");
        let is_final = matches!(code, Code::Refused | Code::HashCollision);
        if is_final {
            self.ends.put(uid, None, error.to_string(), true);
        }
        restoring.failed(Refusal::new(code, error));
        is_final && self.abandon(restoring)
    }

    /// The slot, unless somebody logs in, or did, or has logged out.
    fn claim(&self, restoring: &Arc<Restoring>) -> Option<TakenSlot> {
        let slots = self.slots.lock();
        let own = restoring.is_in(&slots);
        let login = Arc::clone(&restoring.login);
        own.then(|| {
            TakenSlot::new(
                &self.slots,
                slots,
                restoring.uid,
                login,
                Some(Arc::clone(restoring)),
            )
        })
    }

    /// Gives it up for good. Not while somebody logs in: the key that is kept by then may be theirs.
    fn abandon(&self, restoring: &Restoring) -> bool {
        let mut slots = self.slots.lock();
        let own = restoring.is_in(&slots);
        if own {
            slots.remove(&restoring.uid);
            systemd::forget(restoring.uid);
        }
        own
    }
}
