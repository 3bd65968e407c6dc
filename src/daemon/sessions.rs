//! The sessions of a host: one for each uid that is logged in.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use log::Level;
use parking_lot::Mutex;
use tokio::sync::{Mutex as AsyncMutex, Notify, watch};
use tokio::time::{sleep, timeout};

use super::systemd::{self, Kept};
use super::wire::{DraftStatus, SessionStatus, Whose};
use crate::audit::{self, OwnEvent};
use crate::auth::{ApiKey, Authenticator, State, Terms, Throttle, Validation};
use crate::clock::{self, Timestamp};
use crate::error::{Error, Kind, Result};
use crate::event::{Event, Observers, SessionChange, Subject};
use crate::identity::Principal;
use crate::mounter::Mounter;
use crate::session::{Leased, Session, SessionOptions, apart};
use crate::store::{self, Store, Uncommitted};
use crate::vfs::Pools;
use crate::volume::Volume;

/// The most drafts that are shown of one session.
const MAX_DRAFTS: usize = 100;

/// How long looking for them may take: for one session, and for all that are asked for.
const LOOK: Duration = Duration::from_secs(2);
const LOOK_AT_ALL: Duration = Duration::from_secs(10);

/// When it is tried again to bring a session back, at first and after many times.
const FIRST_RESTORE: Duration = Duration::from_millis(500);
const LAST_RESTORE: Duration = Duration::from_secs(10);

/// How often it is tried to unmount what could not be unmounted.
const UNMOUNT_AGAIN: Duration = Duration::from_secs(2);

/// What every session is made from.
pub struct Setup {
    /// Every tenant's data.
    pub volume: Volume,
    /// How it is treated.
    pub store: store::Options,
    /// Who is asked whose a key is.
    pub authenticator: Box<dyn Authenticator>,
    /// How long an answer is good.
    pub terms: Terms,
    /// Who is told what happens in each session.
    pub observers: Box<Observers>,
    /// The file that the audit log is kept in, for those who ask what it has of them.
    pub audit: Option<PathBuf>,
    /// Who mounts.
    pub mounter: Mounter,
    /// The directory that has the mountpoints, called by uid, and nothing else.
    pub places: PathBuf,
    /// Whether programs in the mounts may be run.
    pub exec: bool,
    /// What all sessions share.
    pub pools: Pools,
    /// The primary group of a uid. May take its time.
    pub primary_group: fn(u32) -> u32,
}

/// The sessions, by uid.
pub(super) struct Sessions {
    setup: Setup,
    slots: Mutex<BTreeMap<u32, Slot>>,
    /// Held while the audit log is read: by one at a time, however many ask.
    reading: Arc<AsyncMutex<()>>,
    throttle: Mutex<Throttle>,
    /// The daemon ends: what systemd keeps is for the next one.
    stopping: AtomicBool,
}

/// What a uid has.
enum Slot {
    /// A login under way.
    Starting,
    /// A session of before the daemon was restarted. Its key has yet to be validated.
    Restoring(Arc<Restoring>),
    Live(Arc<Live>),
}

struct Restoring {
    uid: u32,
    key: Arc<ApiKey>,
    since: Timestamp,
    /// Somebody logged in, or out: what was kept does not matter any more.
    superseded: Notify,
}

struct Live {
    uid: u32,
    leased: Leased,
    since: Timestamp,
    /// Held while it is looked for drafts.
    looking: Arc<AsyncMutex<()>>,
    /// Why it is to end.
    ending: watch::Sender<Option<String>>,
    /// How that went, when it was tried.
    ended: watch::Sender<Option<Result<()>>>,
}

/// What a login finds.
enum Found {
    Nothing(TakenSlot),
    Live(Arc<Live>),
}

/// The slot of a uid that is about to be filled. Dropped, it is empty again.
struct TakenSlot {
    sessions: Arc<Sessions>,
    uid: u32,
}

impl Sessions {
    pub(super) fn new(setup: Setup) -> Arc<Self> {
        Arc::new(Self {
            setup,
            slots: Mutex::default(),
            reading: Arc::default(),
            throttle: Mutex::default(),
            stopping: AtomicBool::new(false),
        })
    }

    /// Logs `uid` in; one that is logged in goes on with this key.
    ///
    /// # Errors
    /// [`Kind::AuthenticationRefused`], [`Kind::AuthenticationUnreachable`], [`Kind::HashCollision`]; [`Kind::Exists`] when
    /// the uid is logged in as another user; [`Kind::Busy`]; [`Kind::MountFailed`]; the volume's.
    pub(super) async fn login(self: &Arc<Self>, uid: u32, key: ApiKey) -> Result<SessionStatus> {
        self.throttle.lock().check(uid, clock::instant())?;
        let key = Arc::new(key);
        let asked = clock::instant();
        let live = match self.find(uid)? {
            Found::Nothing(slot) => {
                let validation = self.validate(uid, &key).await?;
                slot.fill(key, &validation, asked).await?
            }
            Found::Live(live) => {
                let validation = self.validate(uid, &key).await?;
                live.rekey(key, &validation, asked)?;
                live
            }
        };
        Ok(live.status(LOOK).await)
    }

    async fn validate(&self, uid: u32, key: &ApiKey) -> Result<Validation> {
        let answer = self.setup.authenticator.validate(key).await;
        if let Err(error) = &answer {
            (self.setup.observers)(Subject { user: None, uid }).observe(&Event::LoginFailed {
                kind: error.kind(),
                reason: error.to_string(),
            });
            if error.kind() == Kind::AuthenticationRefused {
                self.throttle.lock().refused(uid, clock::instant());
            }
        }
        answer
    }

    fn find(self: &Arc<Self>, uid: u32) -> Result<Found> {
        let busy = |why| Err(Error::new(Kind::Busy, why));
        let mut slots = self.slots.lock();
        match slots.get(&uid) {
            Some(Slot::Starting) => return busy("another login of yours is under way"),
            Some(Slot::Live(live)) if live.ending.borrow().is_some() => {
                return busy("your last session is about to end; try again in a moment");
            }
            Some(Slot::Live(live)) => return Ok(Found::Live(Arc::clone(live))),
            Some(Slot::Restoring(restoring)) => restoring.superseded.notify_one(),
            None => {}
        }
        Ok(Found::Nothing(self.take(&mut slots, uid)))
    }

    fn take(self: &Arc<Self>, slots: &mut BTreeMap<u32, Slot>, uid: u32) -> TakenSlot {
        slots.insert(uid, Slot::Starting);
        TakenSlot {
            sessions: Arc::clone(self),
            uid,
        }
    }

    /// Mounts. Blocks.
    fn start(&self, uid: u32, principal: &Principal, key: &ApiKey) -> Result<Session> {
        let setup = &self.setup;
        let observer = (setup.observers)(Subject {
            user: Some(principal.user().hash()),
            uid,
        });
        let store = Store::open(&setup.volume, principal, setup.store.clone(), observer)?;
        store.attach_session_key(key.expose())?;
        let options = SessionOptions {
            mountpoint: setup.places.join(uid.to_string()),
            make_mountpoint: true,
            uid,
            gid: (setup.primary_group)(uid),
            exec: setup.exec,
            limits: setup.pools.limits(),
        };
        Session::start(store, &setup.mounter, &options)
    }

    /// Sees a session through to its end, and ends it: the only one who does.
    async fn attend(self: Arc<Self>, live: Arc<Live>) {
        let mut told = live.ending.subscribe();
        let ending = tokio::select! {
            ending = live.leased.keep(self.setup.authenticator.as_ref()) => Some(ending),
            _ = told.wait_for(Option::is_some) => None,
        };
        let user = live.leased.principal().user().hash();
        let asked_for = ending.is_none();
        if let Some(ending) = ending {
            live.end(&ending.to_string());
        }
        let why = live.ending.borrow().clone().unwrap_or_default();
        let level = if asked_for { Level::Info } else { Level::Warn };
        log::log!(level, "session of {user}, uid {}, ends: {why}", live.uid);
        live.leased.session().is(SessionChange::Ends, &why);
        if !self.stopping.load(Ordering::SeqCst) {
            systemd::forget(live.uid);
        }
        loop {
            let session = Arc::clone(live.leased.session());
            let ended = apart("end", move || session.end()).await.and_then(|ended| ended);
            let done = ended.is_ok();
            if let Err(error) = &ended {
                log::warn!("session of {user}: {error}");
            }
            if done {
                self.slots.lock().remove(&live.uid);
            }
            live.ended.send_replace(Some(ended));
            if done {
                return;
            }
            // Nothing is served any more. Once there is a mounter again, the rest goes too.
            sleep(UNMOUNT_AGAIN).await;
        }
    }

    /// Brings back the sessions of before a restart, each as soon as its key is validated.
    pub(super) fn restore(self: &Arc<Self>, kept: Vec<Kept>) {
        for Kept { uid, key } in kept {
            let restoring = Arc::new(Restoring {
                uid,
                key: Arc::new(key),
                since: clock::now(),
                superseded: Notify::new(),
            });
            self.slots
                .lock()
                .insert(uid, Slot::Restoring(Arc::clone(&restoring)));
            tokio::spawn(Arc::clone(self).restore_one(restoring));
        }
    }

    async fn restore_one(self: Arc<Self>, restoring: Arc<Restoring>) {
        let uid = restoring.uid;
        let mut wait = FIRST_RESTORE;
        loop {
            let asked = clock::instant();
            let answer = tokio::select! {
                () = restoring.superseded.notified() => return,
                answer = self.setup.authenticator.validate(&restoring.key) => answer,
            };
            let restored = match (answer, self.claim(&restoring)) {
                (_, None) => return,
                (Ok(validation), Some(slot)) => slot
                    .fill(Arc::clone(&restoring.key), &validation, asked)
                    .await
                    .map(drop),
                (Err(error), Some(_)) => Err(error),
            };
            let error = match restored {
                Ok(()) => return log::info!("the session of uid {uid} is back"),
                Err(error) => error,
            };
            log::warn!("the session of uid {uid} from before the restart: {error}");
            if matches!(error.kind(), Kind::AuthenticationRefused | Kind::HashCollision) {
                return systemd::forget(uid);
            }
            if !self.put_back(&restoring) {
                return;
            }
            tokio::select! {
                () = restoring.superseded.notified() => return,
                () = sleep(wait) => wait = (wait * 2).min(LAST_RESTORE),
            }
        }
    }

    /// The slot, unless somebody logged in or out meanwhile.
    fn claim(self: &Arc<Self>, restoring: &Arc<Restoring>) -> Option<TakenSlot> {
        let mut slots = self.slots.lock();
        match slots.get(&restoring.uid) {
            Some(Slot::Restoring(there)) if Arc::ptr_eq(there, restoring) => {
                Some(self.take(&mut slots, restoring.uid))
            }
            _ => None,
        }
    }

    fn put_back(&self, restoring: &Arc<Restoring>) -> bool {
        let mut slots = self.slots.lock();
        match slots.entry(restoring.uid) {
            Entry::Vacant(slot) => {
                slot.insert(Slot::Restoring(Arc::clone(restoring)));
                true
            }
            Entry::Occupied(_) => false,
        }
    }

    /// Ends sessions, and returns whose, when they have.
    ///
    /// # Errors
    /// [`Kind::NotFound`] when there is none; [`Kind::MountFailed`] when one serves nothing any more, but is still mounted.
    pub(super) async fn end(&self, whose: &Whose, why: &str) -> Result<Vec<u32>> {
        let (lives, mut uids) = self.start_ending(whose, why);
        if lives.is_empty() && uids.is_empty() && *whose != Whose::All {
            return Err(Error::new(Kind::NotFound, "there is no such session"));
        }
        let mut failed = None;
        for live in lives {
            let mut ended = live.ended.subscribe();
            let result = ended.wait_for(Option::is_some).await.map(|ended| ended.clone());
            match result {
                // The others are waited for all the same.
                Ok(Some(Err(error))) => failed = failed.or(Some(error)),
                _ => uids.push(live.uid),
            }
        }
        uids.sort_unstable();
        failed.map_or(Ok(uids), Err)
    }

    /// Tells the sessions to end. Returns those, and the uids of those that were not even there yet.
    fn start_ending(&self, whose: &Whose, why: &str) -> (Vec<Arc<Live>>, Vec<u32>) {
        let (mut lives, mut uids) = (Vec::new(), Vec::new());
        self.slots.lock().retain(|uid, slot| match slot {
            Slot::Live(live) if live.is(whose) => {
                live.end(why);
                lives.push(Arc::clone(live));
                true
            }
            Slot::Restoring(restoring) if *whose == Whose::All || *whose == Whose::Uid(*uid) => {
                restoring.superseded.notify_one();
                if !self.stopping.load(Ordering::SeqCst) {
                    systemd::forget(*uid);
                }
                uids.push(*uid);
                false
            }
            _ => true,
        });
        (lives, uids)
    }

    /// Ends everything; what systemd keeps, the next daemon brings back.
    pub(super) async fn stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
        if let Err(error) = self.end(&Whose::All, "the daemon ends").await {
            log::error!("{error}");
        }
    }

    /// What the audit log has of a uid: the latest events.
    ///
    /// # Errors
    /// [`Kind::Unsupported`] when it is not kept in a file; that file's.
    pub(super) async fn events(&self, uid: u32, lines: u32) -> Result<Vec<OwnEvent>> {
        let Some(path) = self.setup.audit.clone() else {
            let why =
                "this daemon keeps no audit log in a file; where it goes to the journal, ask the operator";
            return Err(Error::new(Kind::Unsupported, why));
        };
        let turn = Arc::clone(&self.reading).lock_owned().await;
        let read = move || {
            let events = audit::own_events(&path, uid, lines);
            drop(turn);
            events
        };
        apart("audit mine", read).await?
    }

    /// What `viewer` may see: root everything, everybody else their own.
    pub(super) async fn status(&self, viewer: u32) -> Vec<SessionStatus> {
        let (mut all, mut lives) = (Vec::new(), Vec::new());
        for (uid, slot) in self.slots.lock().iter() {
            if viewer != 0 && viewer != *uid {
                continue;
            }
            match slot {
                Slot::Live(live) => lives.push(Arc::clone(live)),
                Slot::Restoring(restoring) => all.push(SessionStatus {
                    uid: *uid,
                    user_id: None,
                    mountpoint: self.setup.places.join(uid.to_string()).display().to_string(),
                    state: "restoring".to_owned(),
                    since: rfc3339(restoring.since),
                    good_for: 0,
                    open_files: 0,
                    drafts: Vec::new(),
                }),
                Slot::Starting => {}
            }
        }
        let until = clock::instant() + LOOK_AT_ALL;
        for live in lives {
            let left = until.saturating_duration_since(clock::instant());
            all.push(live.status(LOOK.min(left)).await);
        }
        all.sort_by_key(|status| status.uid);
        all
    }
}

impl TakenSlot {
    /// Starts the session, and sees to it from now on.
    async fn fill(self, key: Arc<ApiKey>, validation: &Validation, asked: Instant) -> Result<Arc<Live>> {
        let (sessions, principal, uid) = (Arc::clone(&self.sessions), validation.principal.clone(), self.uid);
        let own_key = Arc::clone(&key);
        let session = apart("start", move || sessions.start(uid, &principal, &own_key)).await??;
        keep(uid, &key);
        let live = Arc::new(Live {
            uid,
            leased: Leased::new(
                Arc::new(session),
                key,
                validation,
                asked,
                self.sessions.setup.terms,
            ),
            since: clock::now(),
            looking: Arc::default(),
            ending: watch::Sender::new(None),
            ended: watch::Sender::new(None),
        });
        let user = validation.principal.user().hash();
        log::info!("session of {user}, uid {uid}, begins");
        self.sessions
            .slots
            .lock()
            .insert(uid, Slot::Live(Arc::clone(&live)));
        tokio::spawn(Arc::clone(&self.sessions).attend(Arc::clone(&live)));
        Ok(live)
    }
}

impl Drop for TakenSlot {
    fn drop(&mut self) {
        let mut slots = self.sessions.slots.lock();
        if let Some(Slot::Starting) = slots.get(&self.uid) {
            slots.remove(&self.uid);
        }
    }
}

impl Live {
    fn is(&self, whose: &Whose) -> bool {
        match whose {
            Whose::Uid(uid) => self.uid == *uid,
            Whose::UserId(user) => self.leased.principal().user().as_str() == user,
            Whose::All => true,
        }
    }

    /// Goes on with another key.
    fn rekey(&self, key: Arc<ApiKey>, validation: &Validation, asked: Instant) -> Result<()> {
        // While the key was being validated: a key that was given up with its session must not be kept again.
        if self.ending.borrow().is_some() {
            return Err(Error::new(
                Kind::Busy,
                "your session has ended meanwhile; log in again",
            ));
        }
        if validation.principal != *self.leased.principal() {
            return Err(Error::new(
                Kind::Exists,
                "you are logged in as another user already; log out first",
            ));
        }
        self.leased.rekey(Arc::clone(&key), validation, asked)?;
        keep(self.uid, &key);
        Ok(())
    }

    /// Tells it to end. The first reason counts.
    fn end(&self, why: &str) {
        self.ending.send_if_modified(|ending| {
            let first = ending.is_none();
            ending.get_or_insert_with(|| why.to_owned());
            first
        });
    }

    /// What could not be saved, looked for by one thread at a time, however often it is asked for.
    async fn drafts(&self) -> Result<Vec<Uncommitted>> {
        let turn = Arc::clone(&self.looking).lock_owned().await;
        let session = Arc::clone(self.leased.session());
        let look = move || {
            let drafts = session.vfs().uncommitted(MAX_DRAFTS);
            drop(turn);
            drafts
        };
        apart("look", look).await?
    }

    async fn status(&self, patience: Duration) -> SessionStatus {
        let drafts = match timeout(patience, self.drafts()).await {
            Ok(Ok(drafts)) => drafts,
            // A volume that hangs is no reason not to tell the rest.
            other => {
                log::warn!("looking for the drafts of uid {}: {other:?}", self.uid);
                Vec::new()
            }
        };
        let state = match self.ending.borrow().is_some() {
            true => State::Ended,
            false => self.leased.state(),
        };
        let session = self.leased.session();
        SessionStatus {
            uid: self.uid,
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

/// Without it the session would not come back after a restart: no reason not to have it.
fn keep(uid: u32, key: &ApiKey) {
    if let Err(error) = systemd::keep(uid, key) {
        log::warn!("{error}");
    }
}

fn rfc3339(time: Timestamp) -> String {
    jiff::Timestamp::from_second(time.seconds).map_or_else(|_| String::new(), |time| time.to_string())
}
