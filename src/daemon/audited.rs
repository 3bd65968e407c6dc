//! What the audit log has of each user, for that user to ask for.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex as AsyncMutex;
use tokio::time::sleep;

use super::asked::Asked;
use super::refusal::{Answer, Refusal, RefusedAs};
use super::wire::Code;
use crate::audit::{OwnEvent, OwnEvents};
use crate::error::{Error, Kind, Result};
use crate::session::apart;

/// How often it is looked what was written since.
const LOOK: Duration = Duration::from_secs(10);

/// The log, as its users may read it.
pub(super) struct Audited {
    /// None when it is not kept in a file. Held while it is read: by one at a time, however many ask.
    events: Option<Arc<AsyncMutex<OwnEvents>>>,
    asked: Asked,
}

impl Audited {
    /// Of the log at `path`, if it is kept in a file.
    pub(super) fn new(path: Option<&Path>) -> Self {
        Self {
            events: path.map(|path| Arc::new(AsyncMutex::new(OwnEvents::of(path)))),
            asked: Asked::default(),
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
        self.asked.admit(asker)?;
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
