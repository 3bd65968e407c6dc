//! A session of the daemon that is served.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Mutex as AsyncMutex, watch};
use tokio::time::timeout;

use super::refusal::{Answer, Refusal, RefusedAs};
use super::systemd::{self, Keeping};
use super::wire::{Code, DraftStatus, SessionStatus, Whose};
use crate::auth::{ApiKey, State, Validation};
use crate::clock::{self, Timestamp};
use crate::error::{Error, Kind, Result};
use crate::session::{Leased, apart};
use crate::store::Uncommitted;
use crate::vfs::Vfs;

/// The most drafts that are shown of one session.
const MAX_DRAFTS: usize = 100;

/// How long looking for the drafts of one session may take.
pub(super) const LOOK: Duration = Duration::from_secs(2);

pub(super) const ENDED_MEANWHILE: &str = "your session has ended meanwhile; log in again";

/// One session, its lease, and how far its end is.
pub(super) struct Live {
    pub(super) uid: u32,
    /// The group that was asked for, if one was.
    wanted_gid: Option<u32>,
    pub(super) leased: Leased,
    since: Timestamp,
    /// Held while something is looked for, or done, beside the mount.
    looking: Arc<AsyncMutex<()>>,
    /// Why it is to end.
    pub(super) ending: watch::Sender<Option<String>>,
    /// Whether it serves nothing any more, and its drafts are saved.
    pub(super) stopped: watch::Sender<bool>,
    /// How its end went, when it was tried.
    pub(super) ended: watch::Sender<Option<Result<()>>>,
}

impl Live {
    pub(super) fn new(uid: u32, wanted_gid: Option<u32>, leased: Leased) -> Arc<Self> {
        Arc::new(Self {
            uid,
            wanted_gid,
            leased,
            since: clock::now(),
            looking: Arc::default(),
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

    /// Goes on with another key.
    pub(super) fn rekey(&self, key: Arc<ApiKey>, validation: &Validation, asked: Instant) -> Answer<()> {
        // While the key was being validated: a key that was given up with its session must not be kept again.
        if self.is_ending() {
            return Err(Refusal::busy(ENDED_MEANWHILE));
        }
        if validation.principal != *self.leased.principal() {
            let why = "you are logged in as another user already; log out first";
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

    /// Tells it to end. The first reason counts.
    pub(super) fn end(&self, why: &str) {
        self.ending.send_if_modified(|ending| {
            let first = ending.is_none();
            ending.get_or_insert_with(|| why.to_owned());
            first
        });
    }

    /// Does `work` on a thread called `what`, when what was asked for before is done: a session has one such thread at a time,
    /// however often it is asked.
    pub(super) async fn apart<T: Send + 'static>(
        &self,
        what: &str,
        work: impl FnOnce(&Vfs) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let turn = Arc::clone(&self.looking).lock_owned().await;
        let session = Arc::clone(self.leased.session());
        let work = move || {
            let done = work(session.vfs());
            drop(turn);
            done
        };
        apart(what, work).await?
    }

    pub(super) async fn status(&self, patience: Duration) -> SessionStatus {
        let look = self.apart("look", |vfs: &Vfs| Ok(vfs.uncommitted(MAX_DRAFTS).found));
        // A volume that hangs is no reason not to tell the rest.
        let drafts = match timeout(patience, look).await {
            Ok(Ok(drafts)) => drafts,
            Ok(Err(error)) => {
                log::warn!("looking for the drafts of uid {}: {error:#}", self.uid);
                Vec::new()
            }
            Err(_) => {
                log::warn!("looking for the drafts of uid {} takes too long", self.uid);
                Vec::new()
            }
        };
        let state = match self.is_ending() {
            true => State::Ended,
            false => self.leased.state(),
        };
        let session = self.leased.session();
        let (_, gid) = session.vfs().owner();
        SessionStatus {
            uid: self.uid,
            gid: Some(gid),
            user_id: Some(self.leased.principal().user().as_str().to_owned()),
            mountpoint: session.mountpoint().display().to_string(),
            state: state.as_str().to_owned(),
            since: rfc3339(self.since),
            good_for: self.leased.good_for().as_secs(),
            open_files: session.vfs().open_handles(),
            drafts: drafts.into_iter().map(DraftStatus::from).collect(),
        }
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

pub(super) fn rfc3339(time: Timestamp) -> String {
    jiff::Timestamp::from_second(time.seconds).map_or_else(|_| String::new(), |time| time.to_string())
}
