//! The sessions of a host: one for each uid that is logged in.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use log::Level;
use parking_lot::Mutex;
use tokio::sync::{Mutex as AsyncMutex, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout, timeout_at};

use super::activity::Counters;
use super::asked::Asked;
use super::audited::Audited;
use super::ends::Ends;
use super::live::{ENDED_MEANWHILE, Live};
use super::login::{Login, Logins};
use super::opening::open_and_mount;
use super::refusal::{Answer, Refusal, RefusedAs};
use super::setup::{Setup, Start};
use super::slot::{Slot, Slots, TakenSlot};
use super::systemd;
use super::turns::Turns;
use super::wire::{Code, SessionStatus, Whose};
use crate::auth::{ApiKey, Delay, SubordinateUids, Throttle, Turn, Validation};
use crate::clock::{self, Moment};
use crate::error::{Error, Kind};
use crate::event::{Event, SessionChange, Subject};
use crate::session::{Ending, LAST_UNMOUNT, Session};

/// How long looking for drafts may take, whether of one session or of all; and of how many it is done at once: each takes a thread.
const LOOK: Duration = Duration::from_secs(2);
const LOOKS_AT_ONCE: usize = 64;

/// How long a look at sessions waits until the volume answers at all.
const ANSWERS: Duration = Duration::from_millis(500);

/// How long a login waits while the keys of others are refused too often.
const IN_A_CROWD: Duration = Duration::from_secs(5);

/// How often it is tried to unmount what could not be unmounted.
const UNMOUNT_AGAIN: Duration = Duration::from_secs(2);

/// How long the end of the daemon waits until every session is dark and its drafts are saved; and when the mounter is not
/// waited for any more, until the last of many drafts is saved and files are closed. Much more than that takes, unless the
/// volume hangs; together with the mounter's less than TimeoutStopSec= of the unit.
const SAVE_ALL: Duration = Duration::from_secs(15);
const CLOSE_ALL: Duration = Duration::from_secs(35);

/// The sessions, by uid.
pub(super) struct Sessions {
    pub(super) setup: Arc<Setup>,
    pub(super) slots: Arc<Mutex<Slots>>,
    /// What the audit log has of each user.
    pub(super) audited: Audited,
    /// Who asked what was removed, or not saved.
    pub(super) asked: Asked,
    turns: Turns,
    /// Of those that are over: why.
    pub(super) ends: Ends,
    /// Locked after the slots.
    pub(super) logins: Logins,
    pub(super) throttle: Arc<Throttle>,
    /// Held while somebody has everything looked at that serving needs.
    pub(super) examining: Arc<AsyncMutex<()>>,
    subordinate: SubordinateUids,
    /// The daemon ends: what systemd keeps is for the next one.
    stopping: AtomicBool,
    /// It ends without waiting for the mounter any more, which was said for all sessions together.
    gave_up: AtomicBool,
}

/// Who was told to end.
struct Told {
    lives: Vec<Arc<Live>>,
    /// Those that had been told before.
    again: Vec<Arc<Live>>,
    /// The uids of those that have yet to begin.
    logins: Vec<u32>,
    /// Whether others may turn out to be meant when it is known whose their keys are.
    uncertain: bool,
}

impl Told {
    fn is_nobody(&self) -> bool {
        self.lives.is_empty() && self.again.is_empty() && self.logins.is_empty() && !self.uncertain
    }
}

/// What a login finds before its key is validated.
enum Found {
    Nothing,
    Restoring,
    Live(Arc<Live>),
}

/// What a login goes on with.
enum Place {
    Free(TakenSlot),
    Live(Arc<Live>),
}

impl Sessions {
    pub(super) fn new(setup: Setup) -> Arc<Self> {
        Arc::new(Self {
            audited: Audited::new(setup.audit.as_deref()),
            asked: Asked::default(),
            turns: Turns::default(),
            setup: Arc::new(setup),
            slots: Arc::default(),
            ends: Ends::default(),
            logins: Logins::default(),
            throttle: Throttle::new(clock::instant()),
            examining: Arc::default(),
            subordinate: SubordinateUids::of_host(),
            stopping: AtomicBool::new(false),
            gave_up: AtomicBool::new(false),
        })
    }

    /// Logs `uid` in; one that is logged in goes on with this key. A session that waits to come back stays what it is until
    /// this one has begun.
    ///
    /// `gid` is the group of the processes that get in, if not the uid's primary one. It may be any: whoever names a wrong
    /// one keeps nobody out but themselves.
    pub(super) async fn login(
        self: &Arc<Self>,
        uid: u32,
        gid: Option<u32>,
        key: ApiKey,
        by_root: bool,
    ) -> Answer<SessionStatus> {
        let login = self.logins.begin(uid);
        let found = self.find(uid)?;
        let turn = self.turn(uid, &key, by_root).await?;
        let (key, asked) = (Arc::new(key), Moment::now());
        let validation = self.validate(uid, &key, turn).await?;
        if login.ended(Some(validation.principal.user())).is_some() {
            let refusal = Refusal::busy(ENDED_MEANWHILE);
            self.login_failed(uid, &refusal.error);
            return Err(refusal);
        }
        let live = match self.place(login, found)? {
            Place::Live(live) => {
                live.rekey(key, &validation, asked)?;
                live
            }
            Place::Free(slot) => {
                let start = Start {
                    gid,
                    key,
                    validation,
                    asked,
                };
                self.start(slot, start).await?
            }
        };
        Ok(live.status(&self.setup, Some(clock::instant() + LOOK)).await)
    }

    /// The turn to have a key checked. Where it is a crowd's guesses that are in the way, it is waited for.
    async fn turn(&self, uid: u32, key: &ApiKey, by_root: bool) -> Answer<Turn> {
        let (source, until) = (self.source(uid), clock::instant() + IN_A_CROWD);
        loop {
            let now = clock::instant();
            let delay = match self.throttle.begin(source, key, by_root, now) {
                Ok(turn) => return Ok(turn),
                Err(Delay::Crowd(left)) if now + left < until => left,
                Err(delay) => {
                    let code = match delay {
                        Delay::Refused(..) => Code::Refused,
                        Delay::Often(_) | Delay::Crowd(_) => Code::Busy,
                    };
                    return Err(Refusal::new(code, delay.into()));
                }
            };
            sleep(delay).await;
        }
    }

    /// Whom what a uid does is charged to.
    pub(super) fn source(&self, uid: u32) -> u32 {
        self.subordinate.owner(uid)
    }

    async fn validate(&self, uid: u32, key: &ApiKey, turn: Turn) -> Answer<Validation> {
        let answer = self.setup.authenticator.validate(key).await;
        match &answer {
            Ok(_) => turn.accepted(),
            Err(error) if error.kind() == Kind::AuthenticationRefused => turn.refused(clock::instant()),
            Err(_) => drop(turn),
        }
        answer.map_err(|error| {
            self.login_failed(uid, &error);
            let code = match error.kind() {
                Kind::AuthenticationRefused => Code::Refused,
                Kind::AuthenticationUnreachable => Code::Unreachable,
                _ => Code::Failed,
            };
            Refusal::new(code, error)
        })
    }

    /// Whether the uid has a session, or is about to.
    pub(super) fn has(&self, uid: u32) -> bool {
        self.slots.lock().contains_key(&uid)
    }

    /// Has the operator told what `uid`, who asked for something, can do nothing about.
    pub(super) fn unanswered(&self, uid: u32, error: &Error) {
        let what = format!("asked by uid {uid}: {error:#}");
        let live = match self.slots.lock().get(&uid) {
            Some(Slot::Live(live)) => Some(Arc::clone(live)),
            _ => None,
        };
        match live {
            Some(live) => live.unanswered(what),
            None => (self.setup.observers)(Subject { user: None, uid }).observe(&Event::Unanswered { what }),
        }
    }

    fn login_failed(&self, uid: u32, error: &Error) {
        (self.setup.observers)(Subject { user: None, uid }).observe(&Event::LoginFailed {
            kind: error.kind(),
            reason: error.to_string(),
        });
    }

    fn find(&self, uid: u32) -> Answer<Found> {
        match self.slots.lock().get(&uid) {
            Some(Slot::Starting) => Err(Refusal::busy("another login of yours is under way")),
            Some(Slot::Live(live)) if live.is_ending() => Err(Refusal::busy(
                "your last session is about to end; try again in a moment",
            )),
            Some(Slot::Live(live)) => Ok(Found::Live(Arc::clone(live))),
            Some(Slot::Restoring(_)) => Ok(Found::Restoring),
            None => Ok(Found::Nothing),
        }
    }

    /// Where a login goes on whose key was validated meanwhile. One that a logout has overtaken brings nothing back.
    fn place(&self, login: Arc<Login>, found: Found) -> Answer<Place> {
        let uid = login.uid();
        if let Found::Live(live) = found {
            return Ok(Place::Live(live));
        }
        let slots = self.slots.lock();
        let before = match slots.get(&uid) {
            Some(Slot::Starting) => return Err(Refusal::busy("another login of yours is under way")),
            Some(Slot::Live(live)) => return Ok(Place::Live(Arc::clone(live))),
            Some(Slot::Restoring(restoring)) => Some(Arc::clone(restoring)),
            None if matches!(found, Found::Restoring) => return Err(Refusal::busy(ENDED_MEANWHILE)),
            None => None,
        };
        Ok(Place::Free(TakenSlot::new(
            &self.slots,
            slots,
            uid,
            login,
            before,
        )))
    }

    /// Starts a session, and sees to it from now on.
    pub(super) async fn start(self: &Arc<Self>, slot: TakenSlot, start: Start) -> Answer<Arc<Live>> {
        let (uid, gid, key) = (slot.uid, start.gid, Arc::clone(&start.key));
        let user = start.validation.principal.user().hash();
        let counters = Arc::new(Counters::default());
        let leased = open_and_mount(&self.setup, uid, start, &counters)
            .await
            .inspect_err(|refusal| self.login_failed(uid, &refusal.error))?;
        let live = Live::new(uid, gid, leased, (counters, self.turns.of(&user)));
        live.keep(&key);
        log::info!("session of {user}, uid {uid}, begins");
        slot.fill(&live);
        tokio::spawn(Arc::clone(self).attend(Arc::clone(&live)));
        Ok(live)
    }

    /// Sees a session through to its end, and ends it: the only one who does.
    async fn attend(self: Arc<Self>, live: Arc<Live>) {
        let mut told = live.ending.subscribe();
        let ending = tokio::select! {
            ending = live.leased.keep(self.setup.authenticator.as_ref()) => Some(ending),
            _ = told.wait_for(Option::is_some) => None,
        };
        let asked_for = ending.is_none();
        let is_refused = matches!(ending, Some(Ending::Refused(_)));
        if let Some(ending) = ending {
            self.ends_by_itself(&live, &ending);
        }
        // What makes it dark begins before anything else that may wait.
        let session = Arc::clone(live.leased.session());
        let stopped = session.in_turn(Session::stop);
        let user = live.leased.principal().user().hash();
        let why = live.ending.borrow().clone().unwrap_or_default();
        let level = if asked_for { Level::Info } else { Level::Warn };
        log::log!(level, "session of {user}, uid {}, ends: {why}", live.uid);
        live.leased.session().is(SessionChange::Ends, &why);
        let user_id = live.leased.principal().user().as_str();
        self.ends.put(live.uid, Some(user_id), why, is_refused);
        if !live.comes_back() {
            self.forget(live.uid);
        }
        if let Err(error) = stopped.await {
            log::warn!("session of {user}: {error:#}");
        }
        live.stopped.send_replace(true);
        loop {
            let ended = session.in_turn(Session::end).await.and_then(|ended| ended);
            let done = ended.is_ok();
            if let Err(error) = &ended {
                let level = match self.gave_up.load(Ordering::SeqCst) {
                    true => Level::Debug,
                    false => Level::Warn,
                };
                log::log!(level, "session of {user}: {error:#}");
            }
            if done {
                self.vacate(&live);
            }
            live.ended.send_replace(Some(ended));
            if done {
                return;
            }
            // Nothing is served any more. Once there is a mounter again, the rest goes too.
            sleep(UNMOUNT_AGAIN).await;
        }
    }

    /// Ends sessions, and returns whose, when they have, or `patience` is over: nobody gets in any more by then. One that
    /// has yet to begin ends when it does.
    ///
    /// Refused when there is none; and when one serves nothing any more, but cannot be unmounted.
    pub(super) async fn end(&self, whose: &Whose, why: &str, patience: Duration) -> Answer<Vec<u32>> {
        let told = self.start_ending(whose, why);
        if told.is_nobody() && *whose != Whose::All {
            let error = Error::new(Kind::NotFound, "there is no such session");
            return Err(Refusal::new(Code::NotLoggedIn, error));
        }
        let (mut uids, mut failed) = (told.logins, None);
        let until = clock::instant() + patience;
        // What takes long is waited for once.
        let again = told.again.into_iter().map(|live| (live, Duration::ZERO));
        let lives = told.lives.into_iter().map(|live| (live, patience));
        for (live, patience) in lives.chain(again) {
            let mut ended = live.ended.subscribe();
            let left = until.saturating_duration_since(clock::instant()).min(patience);
            let result = timeout(left, ended.wait_for(Option::is_some)).await;
            match result.map(|ended| ended.map(|ended| ended.clone())) {
                // The others are waited for all the same.
                Ok(Ok(Some(Err(error)))) => failed = failed.or(Some(error)),
                Ok(_) => uids.push(live.uid),
                Err(_) => {
                    log::warn!(
                        "nobody gets into the session of uid {} any more; unmounting it takes long",
                        live.uid
                    );
                    uids.push(live.uid);
                }
            }
        }
        uids.sort_unstable();
        uids.dedup();
        failed.map_or(Ok(uids), Err).refused_as(Code::MountFailed)
    }

    /// Ends access to the sessions, and tells them to end, and the logins under way.
    fn start_ending(&self, whose: &Whose, why: &str) -> Told {
        let (mut lives, mut again, mut given_up, mut stay_away) =
            (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let mut slots = self.slots.lock();
        slots.retain(|_, slot| match slot {
            Slot::Live(live) if live.is(whose) => {
                match live.is_ending() {
                    true => again.push(Arc::clone(live)),
                    false => lives.push(Arc::clone(live)),
                }
                live.end(why);
                if live.stay_away() {
                    stay_away.push(live.uid);
                }
                true
            }
            Slot::Restoring(restoring) if restoring.is_by_uid(whose) => {
                restoring.give_up();
                self.ends.put(restoring.uid, None, why.to_owned(), false);
                given_up.push(restoring.uid);
                false
            }
            _ => true,
        });
        let (mut logins, uncertain) = self.logins.end(whose, why);
        drop(slots);
        logins.append(&mut given_up);
        for uid in logins.iter().chain(&stay_away) {
            self.forget(*uid);
        }
        Told {
            lives,
            again,
            logins,
            uncertain,
        }
    }

    /// Has systemd keep the key of a session no longer, unless that is what the next daemon goes on with.
    fn forget(&self, uid: u32) {
        if !self.stopping.load(Ordering::SeqCst) {
            systemd::forget(uid);
        }
    }

    /// Ends everything; what systemd keeps, the next daemon brings back. Every draft is saved before anything waits for the
    /// mounter, and the mounter is waited for once, for all sessions: it may be gone, or wait for this process to end.
    pub(super) async fn stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
        let told = self.start_ending(&Whose::All, "the daemon ends");
        let lives = [told.lives, told.again].concat();
        let saved = async {
            for live in &lives {
                let _ = live.stopped.subscribe().wait_for(|stopped| *stopped).await;
            }
        };
        if timeout(SAVE_ALL, saved).await.is_err() {
            log::error!(
                "not every session is dark, with its drafts saved, after {SAVE_ALL:?}: the volume hangs"
            );
        }
        let ended = async || {
            for live in &lives {
                let _ = live.ended.subscribe().wait_for(Option::is_some).await;
            }
        };
        let in_time = timeout(LAST_UNMOUNT, ended()).await.is_ok();
        if !in_time && lives.iter().any(|live| !live.leased.session().is_unmounted()) {
            log::warn!(
                "the mounter does not answer; it ends the mounts that are left when it finds this process gone"
            );
            self.gave_up.store(true, Ordering::SeqCst);
            self.setup.mounter.give_up();
        }
        let _ = timeout(CLOSE_ALL, ended()).await;
    }

    /// The session of one uid, or all of them. An operator is told everything of them.
    pub(super) async fn status(&self, whose: Option<u32>, to_operator: bool) -> Vec<SessionStatus> {
        let (mut all, mut lives) = (Vec::new(), Vec::new());
        for (uid, slot) in self.slots.lock().iter() {
            if whose.is_some_and(|whose| whose != *uid) {
                continue;
            }
            match slot {
                Slot::Live(live) => lives.push(Arc::clone(live)),
                Slot::Restoring(restoring) => {
                    let place = self.setup.places.join(uid.to_string());
                    all.push(restoring.status(place.display().to_string(), to_operator));
                }
                Slot::Starting => {}
            }
        }
        // A volume that hangs is no reason to wait.
        let answers = self.setup.volume.answers(ANSWERS).await.is_ok();
        let until = clock::instant() + LOOK;
        let looks = Arc::new(Semaphore::new(LOOKS_AT_ONCE));
        let mut statuses = JoinSet::new();
        for live in lives {
            let (setup, looks) = (Arc::clone(&self.setup), Arc::clone(&looks));
            statuses.spawn(async move {
                // Without one there is no time left either.
                let _look = timeout_at(until.into(), looks.acquire()).await;
                live.status(&setup, answers.then_some(until)).await
            });
        }
        all.append(&mut statuses.join_all().await);
        all.sort_by_key(|status| status.uid);
        all
    }
}
