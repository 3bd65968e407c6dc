//! What a user removed, and what could not be committed: looked for, brought back and given up in the user's own session.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use super::live::{ENDED_MEANWHILE, Live};
use super::refusal::{Answer, Refusal};
use super::sessions::Sessions;
use super::slot::Slot;
use super::times::rfc3339;
use super::wire::{Code, DraftStatus, RemovedStatus, Reply, UnreadableStatus};
use crate::auth::State;
use crate::clock;
use crate::error::{Error, Kind, Result};
use crate::event;
use crate::store::{Removed, Survey, Uncommitted, Unreadable};
use crate::vfs::Vfs;

/// The most records or drafts that one answer has.
const MOST: usize = 1000;

/// How long the volume may take. What it was asked to do may be done after that all the same.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long may be looked for something: what was found by then is told.
const LOOK: Duration = Duration::from_secs(20);

impl Sessions {
    /// The records that `uid` removed and that wait.
    pub(super) async fn removed(&self, asker: u32, uid: u32) -> Answer<Reply> {
        let find = |vfs: &Vfs, go_on: &dyn Fn() -> bool| vfs.store().removed(MOST, go_on);
        let survey = self.look("removed", asker, uid, find).await?;
        Ok(Reply::removed(survey, ToString::to_string))
    }

    /// Brings back what `uid` removed at `path`, as process `pid` asks.
    pub(super) async fn restore_record(&self, uid: u32, pid: u32, path: String) -> Answer<Reply> {
        let restored = path.clone();
        let restore = move |vfs: &Vfs| event::on_behalf_of(pid, || vfs.restore(&path));
        self.in_session("restore", uid, restore).await?;
        Ok(Reply::Restored { path: restored })
    }

    /// The drafts of `uid` that could not be committed.
    pub(super) async fn drafts(&self, asker: u32, uid: u32) -> Answer<Reply> {
        let find = |vfs: &Vfs, go_on: &dyn Fn() -> bool| vfs.uncommitted(MOST, go_on);
        let survey = self.look("drafts", asker, uid, find).await?;
        Ok(Reply::drafts(survey, ToString::to_string))
    }

    /// Gives up the draft that `uid` has at `path`, as process `pid` asks.
    pub(super) async fn discard(&self, uid: u32, pid: u32, path: String) -> Answer<Reply> {
        let discarded = path.clone();
        let discard = move |vfs: &Vfs| event::on_behalf_of(pid, || vfs.discard_draft(&path));
        self.in_session("discard", uid, discard).await?;
        Ok(Reply::Discarded { path: discarded })
    }

    /// Does `work` in the session of `uid`, one thing at a time, on a thread called `what`.
    async fn in_session<T: Send + 'static>(
        &self,
        what: &'static str,
        uid: u32,
        work: impl FnOnce(&Vfs) -> Result<T> + Send + 'static,
    ) -> Answer<T> {
        let live = self.serving(uid)?;
        match timeout(PATIENCE, live.apart(what, work)).await {
            Ok(done) => done.map_err(refusal),
            Err(_) => Err(Refusal::busy(
                "the volume takes too long; look in a moment whether it was done",
            )),
        }
    }

    /// Looks for something in the session of `uid`, for `asker`, who may not ask too often. The operator, who can mend what cannot be
    /// looked at, is told where it is.
    async fn look<T: Send + 'static>(
        &self,
        what: &'static str,
        asker: u32,
        uid: u32,
        look: impl FnOnce(&Vfs, &dyn Fn() -> bool) -> Survey<T> + Send + 'static,
    ) -> Answer<Survey<T>> {
        let live = self.serving(uid)?;
        self.asked.admit(asker)?;
        let until = clock::instant() + LOOK;
        let Ok(survey) = timeout(PATIENCE, live.look(what, until, look)).await else {
            return Err(Refusal::busy("the volume takes too long; try again in a moment"));
        };
        let survey = survey.map_err(refusal)?;
        for Unreadable { error, .. } in &survey.unreadable {
            live.unanswered(format!("what a user asks about cannot be looked at: {error:#}"));
        }
        Ok(survey)
    }

    /// The session of `uid`, if it may work now: a suspended one tells and changes nothing.
    fn serving(&self, uid: u32) -> Answer<Arc<Live>> {
        let live = match self.slots.lock().get(&uid) {
            Some(Slot::Live(live)) => Arc::clone(live),
            Some(Slot::Starting) => return Err(Refusal::busy("a login of yours is under way")),
            Some(Slot::Restoring(_)) => {
                return Err(unreachable(
                    "your session waits for the auth service since the daemon was restarted",
                ));
            }
            None => {
                let why = format!("uid {uid} is not logged in: run `tenantfs login` first");
                return Err(Refusal::new(Code::NotLoggedIn, Error::new(Kind::NotFound, why)));
            }
        };
        match live.leased.state() {
            _ if live.is_ending() => Err(Refusal::busy(ENDED_MEANWHILE)),
            State::Active | State::Stale => Ok(live),
            State::Suspended => Err(unreachable(
                "your session is suspended: the auth service cannot be asked; it comes back by itself when it can",
            )),
            State::Ended => Err(Refusal::busy(ENDED_MEANWHILE)),
        }
    }
}

fn unreachable(why: &'static str) -> Refusal {
    Refusal::new(
        Code::Unreachable,
        Error::new(Kind::AuthenticationUnreachable, why),
    )
}

fn refusal(error: Error) -> Refusal {
    let code = match error.kind() {
        Kind::NotFound | Kind::NotADirectory => Code::NotFound,
        Kind::Exists | Kind::NameTaken => Code::Exists,
        // A directory on the way was replaced meanwhile.
        Kind::Busy | Kind::Stale => Code::Busy,
        Kind::ReadOnly => Code::NotPermitted,
        _ => Code::VolumeFailed,
    };
    Refusal::new(code, error)
}

impl Reply {
    /// What was removed; `say` has the words for what could not be looked at.
    pub fn removed(survey: Survey<Removed>, say: impl Fn(&Error) -> String) -> Self {
        Self::Removed {
            records: survey.found.into_iter().map(RemovedStatus::from).collect(),
            more: survey.more,
            unreadable: UnreadableStatus::all(survey.unreadable, say),
        }
    }

    /// The drafts, by their paths; `say` has the words for what could not be looked at.
    pub fn drafts(mut survey: Survey<Uncommitted>, say: impl Fn(&Error) -> String) -> Self {
        survey.found.sort_by(|one, other| one.path.cmp(&other.path));
        Self::Drafts {
            drafts: survey.found.into_iter().map(DraftStatus::from).collect(),
            more: survey.more,
            unreadable: UnreadableStatus::all(survey.unreadable, say),
        }
    }

    /// What could not be looked at, so that there may be more than the answer has.
    pub fn unreadable(&self) -> &[UnreadableStatus] {
        match self {
            Self::Removed { unreadable, .. } | Self::Drafts { unreadable, .. } => unreadable,
            _ => &[],
        }
    }
}

impl UnreadableStatus {
    fn all(unreadable: Vec<Unreadable>, say: impl Fn(&Error) -> String) -> Vec<Self> {
        let status = |Unreadable { path, error }| Self {
            path,
            reason: say(&error),
        };
        unreadable.into_iter().map(status).collect()
    }
}

impl From<Removed> for RemovedStatus {
    fn from(removed: Removed) -> Self {
        Self {
            removed: rfc3339(removed.removed),
            until: rfc3339(removed.until),
            path: removed.path,
            size: removed.size,
            has_secret: removed.has_secret,
        }
    }
}
