//! A session of the daemon that is served.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::time::timeout;

use super::activity::{Activity, Counters, QuotaStatus};
use super::refusal::{Answer, Refusal, RefusedAs};
use super::setup::Setup;
use super::systemd::{self, Keeping};
use super::times::rfc3339;
use super::turns::Turn;
use super::wire::{Code, DraftStatus, SessionStatus, Whose};
use crate::auth::{ApiKey, State, Validation};
use crate::clock::{self, Moment, Timestamp};
use crate::error::{Error, Kind, Result};
use crate::event::Event;
use crate::session::{Leased, apart};
use crate::store::{Kept, Survey, Uncommitted};
use crate::vfs::Vfs;

/// The most drafts that are shown of one session.
const MAX_DRAFTS: usize = 100;

/// How long after it should be over a look that ends by itself is still waited for: one draft may have to be read to its end.
const OVERTIME: Duration = Duration::from_millis(500);

pub(super) const ENDED_MEANWHILE: &str = "your session has ended meanwhile; log in again";

/// One session, its lease, and how far its end is.
pub(super) struct Live {
    pub(super) uid: u32,
    /// The group that was asked for, if one was.
    pub(super) wanted_gid: Option<u32>,
    pub(super) leased: Leased,
    since: Timestamp,
    counters: Arc<Counters>,
    /// Held while something is looked for, or done, beside the user's mounts.
    turn: Turn,
    /// Whether another session with the same key follows when it has ended. Changed by who has the slots.
    comes_back: AtomicBool,
    /// Why it is to end.
    pub(super) ending: watch::Sender<Option<String>>,
    /// Whether it serves nothing any more, and its drafts are saved.
    pub(super) stopped: watch::Sender<bool>,
    /// How its end went, when it was tried.
    pub(super) ended: watch::Sender<Option<Result<()>>>,
}

impl Live {
    pub(super) fn new(
        uid: u32,
        wanted_gid: Option<u32>,
        leased: Leased,
        (counters, turn): (Arc<Counters>, Turn),
    ) -> Arc<Self> {
        Arc::new(Self {
            uid,
            wanted_gid,
            leased,
            since: clock::now(),
            counters,
            turn,
            comes_back: AtomicBool::new(false),
            ending: watch::Sender::new(None),
            stopped: watch::Sender::new(false),
            ended: watch::Sender::new(None),
        })
    }

    pub(super) fn is(&self, whose: &Whose) -> bool {
        match whose {
            Whose::Uid(uid) => self.uid == *uid,
            Whose::UserId(user) => self.leased.principal().user().as_str() == user,
            Whose::All => true,
        }
    }

    /// Whether it has been told to end.
    pub(super) fn is_ending(&self) -> bool {
        self.ending.borrow().is_some()
    }

    /// Another session is to follow.
    pub(super) fn come_back(&self) {
        self.comes_back.store(true, Ordering::SeqCst);
    }

    /// Whether another session is to follow.
    pub(super) fn comes_back(&self) -> bool {
        self.comes_back.load(Ordering::SeqCst)
    }

    /// None is to follow. Whether one was.
    pub(super) fn stay_away(&self) -> bool {
        self.comes_back.swap(false, Ordering::SeqCst)
    }

    /// Goes on with another key.
    pub(super) fn rekey(&self, key: Arc<ApiKey>, validation: &Validation, asked: Moment) -> Answer<()> {
        // While the key was being validated: a key that was given up with its session must not be kept again.
        if self.is_ending() {
            return Err(Refusal::busy(ENDED_MEANWHILE));
        }
        if validation.principal != *self.leased.principal() {
            let why = "you are logged in as another user already; log out first";
            self.leased.session().vfs().store().report(&Event::LoginFailed {
                kind: Kind::Exists,
                reason: why.to_owned(),
            });
            return Err(Refusal::new(Code::AlreadyLoggedIn, Error::new(Kind::Exists, why)));
        }
        self.leased
            .rekey(Arc::clone(&key), validation, asked)
            .refused_as(Code::Failed)?;
        self.keep(&key);
        Ok(())
    }

    /// Has systemd keep the key. Without it the session would not come back after a restart: no reason not to have it.
    pub(super) fn keep(&self, key: &ApiKey) {
        let keeping = Keeping {
            uid: self.uid,
            gid: self.wanted_gid,
            key: key.expose(),
        };
        if let Err(error) = systemd::keep(&keeping) {
            log::warn!("{error:#}");
        }
    }

    /// Ends access, and tells it to end. The first reason counts.
    pub(super) fn end(&self, why: &str) {
        // Before anything that may fail, or wait.
        self.leased.session().close();
        self.ending.send_if_modified(|ending| {
            let first = ending.is_none();
            ending.get_or_insert_with(|| why.to_owned());
            first
        });
    }

    /// Does `work` on a thread called `what`, when what was asked for before is done: a user has one such thread at a time,
    /// however often and in however many sessions it is asked.
    pub(super) async fn apart<T: Send + 'static>(
        &self,
        what: &str,
        work: impl FnOnce(&Vfs) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let turn = Arc::clone(&self.turn).lock_owned().await;
        let session = Arc::clone(self.leased.session());
        let work = move || {
            let done = work(session.vfs());
            drop(turn);
            done
        };
        apart(what, work).await?
    }

    /// What it may do now.
    pub(super) fn state(&self) -> State {
        match self.is_ending() {
            true => State::Ended,
            false => self.leased.state(),
        }
    }

    /// What is done in it, from its beginning on.
    pub(super) fn activity(&self) -> Activity {
        let vfs = self.leased.session().vfs();
        Activity {
            uid: self.uid,
            user_id: Some(self.leased.principal().user().as_str().to_owned()),
            state: self.state().as_str().to_owned(),
            since: rfc3339(self.since),
            good_for: self.leased.good_for().as_secs(),
            open_files: vfs.open_handles(),
            quota: vfs.store().standing().map(QuotaStatus::from),
            counted: self.counters.read(),
        }
    }

    /// Has the operator told what somebody who asked is not told, or not all of it.
    pub(super) fn unanswered(&self, what: String) {
        let store = self.leased.session().vfs().store();
        store.report(&Event::Unanswered { what });
    }

    /// Looks for something on a thread called `what`: `look` is told whether to go on, which is until then, and as long as somebody
    /// waits for what it finds.
    pub(super) async fn look<T: Send + 'static>(
        &self,
        what: &str,
        until: Instant,
        look: impl FnOnce(&Vfs, &dyn Fn() -> bool) -> T + Send + 'static,
    ) -> Result<T> {
        let asker = Asker::default();
        let is_gone = Arc::clone(&asker.is_gone);
        let look = move |vfs: &Vfs| {
            let go_on = || !is_gone.load(Ordering::Relaxed) && clock::instant() < until;
            Ok(look(vfs, &go_on))
        };
        self.apart(what, look).await
    }

    /// What there is to say of it by then; without a look at the volume where there is no time for one.
    pub(super) async fn status(&self, setup: &Arc<Setup>, until: Option<Instant>) -> SessionStatus {
        let found = match until {
            Some(until) => self.looked(setup, until).await,
            None => None,
        };
        let Looked {
            replaced,
            drafts: survey,
            kept,
        } = found.unwrap_or_else(Looked::nothing);
        let state = self.state();
        let session = self.leased.session();
        let (_, gid) = session.vfs().owner();
        SessionStatus {
            uid: self.uid,
            gid: Some(gid),
            user_id: Some(self.leased.principal().user().as_str().to_owned()),
            mountpoint: session.mountpoint().display().to_string(),
            state: state.as_str().to_owned(),
            reason: self.why(until.is_none()),
            since: rfc3339(self.since),
            good_for: self.leased.good_for().as_secs(),
            open_files: session.vfs().open_handles(),
            more_drafts: survey.more || !survey.unreadable.is_empty(),
            drafts: survey.found.into_iter().map(DraftStatus::from).collect(),
            replaced,
            removed: (kept.records > 0).then(|| kept.into()),
            quota: session.vfs().store().standing().map(QuotaStatus::from),
        }
    }

    /// Why it is not as it should be, if that is so.
    fn why(&self, volume_is_silent: bool) -> Option<String> {
        let told = self.ending.borrow().clone().or_else(|| self.leased.unanswered());
        told.or_else(|| volume_is_silent.then(|| "the volume does not answer".to_owned()))
    }

    /// Looks at what is on the volume; none where that was not to be had by then.
    async fn looked(&self, setup: &Arc<Setup>, until: Instant) -> Option<Looked> {
        let volume = Arc::clone(setup);
        let look = self.look("look", until, move |vfs, go_on| {
            let replaced = vfs.store().replaced(&volume.volume.now());
            let replaced = replaced.unwrap_or_default().into_iter();
            let replaced = replaced.map(|resource| resource.as_str().to_owned());
            Looked {
                replaced: replaced.collect(),
                drafts: vfs.uncommitted(MAX_DRAFTS, go_on),
                kept: vfs.store().kept(go_on),
            }
        });
        let left = until.saturating_duration_since(clock::instant());
        // A volume that hangs is no reason not to tell the rest.
        match timeout(left + OVERTIME, look).await {
            Ok(Ok(found)) => Some(found),
            Ok(Err(error)) => {
                self.unanswered(format!("looking for drafts: {error:#}"));
                None
            }
            Err(_) => {
                self.unanswered("looking for drafts takes too long".to_owned());
                None
            }
        }
    }
}

/// What a look at a session finds.
struct Looked {
    replaced: Vec<String>,
    drafts: Survey<Uncommitted>,
    kept: Kept,
}

impl Looked {
    /// That there was no time.
    fn nothing() -> Self {
        Self {
            replaced: Vec::new(),
            drafts: Survey::missed(),
            kept: Kept::default(),
        }
    }
}

/// Somebody who waits for what is looked for, until this is dropped.
#[derive(Default)]
struct Asker {
    is_gone: Arc<AtomicBool>,
}

impl Drop for Asker {
    fn drop(&mut self) {
        self.is_gone.store(true, Ordering::Relaxed);
    }
}

impl From<Uncommitted> for DraftStatus {
    fn from(draft: Uncommitted) -> Self {
        Self {
            path: draft.path,
            reason: draft.reason,
        }
    }
}
