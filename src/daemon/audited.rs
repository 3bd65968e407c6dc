//! What the audit log has of each user, for that user to ask for.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::Mutex as AsyncMutex;
use tokio::time::sleep;

use super::refusal::{Answer, Refusal, RefusedAs};
use super::wire::Code;
use crate::audit::{OwnEvent, OwnEvents};
use crate::clock;
use crate::error::{Error, Kind, Result};
use crate::session::apart;

/// How often it is looked what was written since.
const LOOK: Duration = Duration::from_secs(10);

/// How often one uid may ask, in the long run and at once: a thousand lines take some milliseconds.
const AGAIN: Duration = Duration::from_secs(1);
const AT_ONCE: u32 = 10;

/// How many uids have asked until those are looked for who may again as if they never had.
const MANY: usize = 1024;

/// The log, as its users may read it.
pub(super) struct Audited {
    /// None when it is not kept in a file. Held while it is read: by one at a time, however many ask.
    events: Option<Arc<AsyncMutex<OwnEvents>>>,
    asked: Mutex<Asked>,
}

/// When each uid would have been done asking, at one question for each [`AGAIN`].
#[derive(Default)]
struct Asked(HashMap<u32, Instant>);

impl Asked {
    /// Whether it may ask `now`.
    fn admits(&mut self, uid: u32, now: Instant) -> bool {
        if self.0.len() >= MANY {
            self.0.retain(|_, until| *until > now);
        }
        let until = self.0.get(&uid).map_or(now, |until| now.max(*until)) + AGAIN;
        let admitted = until <= now + AGAIN * AT_ONCE;
        if admitted {
            self.0.insert(uid, until);
        }
        admitted
    }
}

impl Audited {
    /// Of the log at `path`, if it is kept in a file.
    pub(super) fn new(path: Option<&Path>) -> Self {
        Self {
            events: path.map(|path| Arc::new(AsyncMutex::new(OwnEvents::of(path)))),
            asked: Mutex::default(),
        }
    }

    /// What the audit log has of a uid: the latest events. Refused when it is not kept in a file, or that cannot be read; and to
    /// who asks too often.
    pub(super) async fn events(&self, asker: u32, uid: u32, lines: u32) -> Answer<Vec<OwnEvent>> {
        let Some(events) = &self.events else {
            let why =
                "this daemon keeps no audit log in a file; where it goes to the journal, ask the operator";
            return Err(Refusal::new(Code::Failed, Error::new(Kind::Unsupported, why)));
        };
        if asker != 0 && !self.asked.lock().admits(asker, clock::instant()) {
            return Err(Refusal::busy(
                "you ask for your events too often; try again in a second",
            ));
        }
        let read = read(events, move |events| events.latest(uid, lines)).await;
        read.refused_as(Code::Failed)
    }

    /// Reads the audit log as it grows, for ever: so that nobody who asks has to wait for all that was written meanwhile.
    pub(super) async fn follow(&self) {
        loop {
            if let Some(events) = &self.events
                && let Err(error) = read(events, OwnEvents::read_on).await
            {
                log::debug!("{error:#}");
            }
            sleep(LOOK).await;
        }
    }
}

async fn read<T: Send + 'static>(
    events: &Arc<AsyncMutex<OwnEvents>>,
    read: impl FnOnce(&mut OwnEvents) -> Result<T> + Send + 'static,
) -> Result<T> {
    let mut events = Arc::clone(events).lock_owned().await;
    apart("audit mine", move || read(&mut events)).await?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_again_and_again_is_let_in_once_a_second_and_nobody_else_is_kept_out() {
        let (mut asked, now) = (Asked::default(), clock::instant());
        let admitted = |asked: &mut Asked, now| (0..100).filter(|_| asked.admits(1, now)).count();
        assert_eq!(admitted(&mut asked, now), AT_ONCE as usize);
        assert!(asked.admits(2, now));
        assert_eq!(admitted(&mut asked, now + AGAIN), 1);
        assert_eq!(admitted(&mut asked, now + 100 * AGAIN), AT_ONCE as usize);
        for uid in 10..5000 {
            asked.admits(uid, now + uid * AGAIN);
        }
        assert!(asked.0.len() <= MANY);
    }
}
