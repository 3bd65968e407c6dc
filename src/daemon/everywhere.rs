//! The sessions of all hosts that serve the volume: who is where, and their end everywhere.

use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::time::{sleep, timeout};

use super::live::Live;
use super::refusal::{Answer, Refusal, RefusedAs};
use super::sessions::Sessions;
use super::slot::Slot;
use super::wire::{Code, Reply, Whose};
use crate::auth::State;
use crate::clock::Stopwatch;
use crate::error::{Error, Kind, Result};
use crate::hosts::{Host, Served, hosts};
use crate::session::apart;
use crate::volume::{Followed, LOOK_EVERY, Order, Volume};

/// How long reading the volume may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// How much longer than it takes to be heard of the sessions of other hosts may take to end, and their hosts to say so.
const ENDING: Duration = Duration::from_secs(4);

/// The longest that an answer is waited for: less than a client waits.
const LONGEST: Duration = Duration::from_secs(40);

/// How often it is looked whether they have ended.
const LOOK: Duration = Duration::from_millis(500);

impl Sessions {
    /// Whom this process serves, as other hosts are told.
    pub(super) fn served(&self) -> Vec<Served> {
        let slots = self.slots.lock();
        let lives = slots.values().filter_map(|slot| match slot {
            Slot::Live(live) => Some(live.served()),
            _ => None,
        });
        lives.collect()
    }

    /// Whom every host serves; this one from what it knows.
    pub(super) async fn hosts(&self) -> Answer<Vec<Host>> {
        let own = Host {
            renewed: crate::clock::now().seconds,
            sessions: self.served(),
            ..Host::this(&self.setup.places)
        };
        let mut all = self.on_volume(|volume| hosts(volume.root())).await?;
        all.retain(|host| host.id != own.id);
        if !own.sessions.is_empty() {
            all.insert(0, own);
        }
        Ok(all)
    }

    /// Ends sessions on every host, and returns those hosts that still have some when they should have ended.
    pub(super) async fn end_everywhere(&self, whose: &Whose, why: &str) -> Answer<Reply> {
        let subject = match whose {
            Whose::UserId(user) => Some(hex::encode(Sha256::digest(user))),
            Whose::All => None,
            Whose::Uid(_) => {
                let why = "uids are each host's own: name the user of the service, or all";
                return Err(Refusal::new(
                    Code::BadRequest,
                    Error::new(Kind::InvalidArgument, why),
                ));
            }
        };
        let meant = subject.clone();
        let order = self.on_volume(move |volume| Order::give(volume.root(), meant.as_deref()));
        let order = order.await?;
        // Who is here ends at once.
        match self.end(whose, why, LOOK_EVERY).await {
            Err(refusal) if refusal.code != Code::NotLoggedIn => log::warn!("{:#}", refusal.error),
            _ => {}
        }
        let seen = self
            .setup
            .volume
            .now()
            .root()
            .file_system()
            .engine()
            .others_see_within();
        let (waiting, long_enough) = (Stopwatch::start(), (LOOK_EVERY + 2 * seen + ENDING).min(LONGEST));
        let left = loop {
            let mut left = self.hosts().await?;
            for host in &mut left {
                host.sessions.retain(|session| {
                    session.state != State::Ended.as_str()
                        && subject.as_ref().is_none_or(|subject| session.user == *subject)
                });
            }
            left.retain(|host| !host.sessions.is_empty());
            if left.is_empty() || waiting.elapsed() > long_enough {
                break left;
            }
            sleep(LOOK).await;
        };
        tokio::spawn(take_back(Arc::clone(&self.setup.volume), order, long_enough));
        Ok(Reply::Hosts(left))
    }

    async fn on_volume<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Volume) -> Result<T> + Send + 'static,
    ) -> Answer<T> {
        let answers = self.setup.volume.answers(PATIENCE).await;
        answers.refused_as(Code::VolumeFailed)?;
        let volume = self.setup.volume.now();
        let work = apart("hosts", move || work(&volume));
        match timeout(PATIENCE, work).await {
            Ok(done) => done.and_then(|done| done).refused_as(Code::VolumeFailed),
            Err(_) => Err(Refusal::new(Code::VolumeFailed, Followed::hangs())),
        }
    }
}

/// Takes an order back when every host had time to see it. One that is left is removed by whoever begins an hour later.
async fn take_back(volume: Arc<Followed>, order: Order, after: Duration) {
    sleep(after).await;
    let taken = apart("hosts", move || order.take_back(volume.now().root())).await;
    if let Err(error) = taken.and_then(|taken| taken) {
        log::debug!("taking back an order: {error:#}");
    }
}

impl Live {
    fn served(&self) -> Served {
        let mut served = self.leased.served();
        if self.is_ending() {
            served.state = State::Ended.as_str().to_owned();
        }
        served
    }
}
