//! What sessions are made from, and how one is made.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::activity::Counters;
use super::check::Check;
use super::refusal::{Answer, Refusal, RefusedAs};
use super::wire::Code;
use crate::auth::{ApiKey, Authenticator, Terms, Validation};
use crate::clock::Moment;
use crate::error::Kind;
use crate::event::{Observer, Observers, Subject};
use crate::hooks::Hook;
use crate::identity::Principal;
use crate::mounter::{Mounter, Viewer};
use crate::session::{self, Leased, Session, SessionOptions};
use crate::store::{self, Store};
use crate::vfs::{Limits, Pools};
use crate::volume::Followed;

/// How long a login waits until that is fetched: less than for the volume.
const RELOAD: Duration = Duration::from_secs(3);

/// What every session is made from.
pub struct Setup {
    /// Every tenant's data.
    pub volume: Arc<Followed>,
    /// What fetches what other hosts published, where that has to be done.
    pub reload: Option<Arc<Hook>>,
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
    /// How everything that serving needs looks from this process. May take its time.
    pub examine: Box<dyn Fn() -> Vec<Check> + Send + Sync>,
}

/// What is known of a session that is to be started, but for its uid.
pub(super) struct Start {
    /// The group that was asked for, if one was.
    pub(super) gid: Option<u32>,
    pub(super) key: Arc<ApiKey>,
    pub(super) validation: Validation,
    /// When the key was validated.
    pub(super) asked: Moment,
}

/// What a session is made of, all that has to do with the volume behind it.
pub(super) struct Opened {
    store: Store,
    limits: Limits,
}

impl Setup {
    /// Opens the user's part of the volume, and has what is done there counted. Blocks, for ever if the volume hangs.
    pub(super) fn open(&self, uid: u32, principal: &Principal, counters: Arc<Counters>) -> Answer<Opened> {
        let told = (self.observers)(Subject {
            user: Some(principal.user().hash()),
            uid,
        });
        let observer: Arc<dyn Observer> = Arc::new(vec![told, counters as Arc<dyn Observer>]);
        if let Some(Err(error)) = self.reload.as_ref().map(|reload| reload.finish(RELOAD)) {
            log::warn!("what other hosts saved last may not be seen by uid {uid}: {error:#}");
        }
        // Before anything is opened for it.
        let limits = self.pools.limits(principal.user()).refused_as(Code::Busy)?;
        let opened = Store::open(&self.volume.now(), principal, self.store.clone(), observer);
        let store = opened.map_err(|error| {
            let code = match (error.kind(), error.errno()) {
                (Kind::HashCollision, _) => Code::HashCollision,
                // The user is being erased; what the volume calls busy is another matter.
                (Kind::Busy, None) => Code::Busy,
                _ => Code::VolumeFailed,
            };
            Refusal::new(code, error)
        })?;
        session::check_writable(&store).refused_as(Code::VolumeFailed)?;
        Ok(Opened { store, limits })
    }

    /// Mounts what was opened with the key. Blocks, but not for the volume.
    pub(super) fn mount(&self, uid: u32, start: Start, opened: Opened) -> Answer<Leased> {
        let gid = start.gid.unwrap_or_else(|| (self.primary_group)(uid));
        let viewer = Viewer::new(uid, gid).refused_as(Code::MountFailed)?;
        let Opened { store, limits } = opened;
        store
            .attach_session_key(start.key.expose())
            .refused_as(Code::Failed)?;
        let options = SessionOptions {
            mountpoint: self.places.join(uid.to_string()),
            make_mountpoint: true,
            viewer,
            exec: self.exec,
            limits,
        };
        let session = Session::start(store, &self.mounter, &options).map_err(|error| {
            let code = match error.kind() {
                Kind::MountFailed => Code::MountFailed,
                _ => Code::Failed,
            };
            Refusal::new(code, error)
        })?;
        let (session, key) = (Arc::new(session), start.key);
        Ok(Leased::new(
            session,
            key,
            &start.validation,
            start.asked,
            self.terms,
        ))
    }
}
