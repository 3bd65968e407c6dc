//! Telling the volume's other hosts whom this process serves.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::apart;
use crate::clock::{Moment, Stopwatch};
use crate::error::Result;
use crate::hosts::{Host, RENEWED_EVERY, Served};
use crate::volume::{Followed, LOOK_EVERY};

/// How long one attempt may take; a volume that hangs is not asked.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long the last word is waited for.
const LAST: Duration = Duration::from_secs(2);

/// What this process says of itself on the volume.
pub struct Presence {
    volume: Arc<Followed>,
    host: Host,
    told: Vec<Served>,
    last: Option<Stopwatch>,
}

impl Presence {
    /// Of `host`; none where there are no other hosts, or nothing may be written.
    pub fn of(host: Host, volume: &Arc<Followed>, read_only: bool) -> Option<Self> {
        let is_local = volume.now().root().file_system().engine().is_local();
        (!is_local && !read_only).then(|| Self {
            volume: Arc::clone(volume),
            host,
            told: Vec::new(),
            last: None,
        })
    }

    /// Tells whom `sessions` says are served, whenever that changes and from time to time, for ever.
    pub async fn tell(&mut self, sessions: impl Fn() -> Vec<Served>) {
        let mut failed = false;
        loop {
            let now = sessions();
            let is_due = self.last.is_none_or(|last| last.elapsed() >= RENEWED_EVERY);
            if now != self.told || is_due && !now.is_empty() {
                let told = self.tell_once(now, PATIENCE).await;
                if let Err(error) = &told
                    && !failed
                {
                    log::warn!("other hosts are not told whom this one serves: {error:#}");
                }
                failed = told.is_err();
            }
            sleep(LOOK_EVERY).await;
        }
    }

    /// That nobody is served any more, if that can be said in time: else it expires.
    pub async fn leave(&mut self) {
        if !self.told.is_empty()
            && let Err(error) = self.tell_once(Vec::new(), LAST).await
        {
            log::debug!("telling other hosts that nobody is served here any more: {error:#}");
        }
    }

    async fn tell_once(&mut self, sessions: Vec<Served>, patience: Duration) -> Result<()> {
        let begun = Moment::now();
        self.volume.answers(patience).await?;
        let (volume, mut host, told) = (self.volume.now(), self.host.clone(), sessions.clone());
        let telling = apart("hosts", move || host.tell(volume.root(), &told));
        let left = patience.saturating_sub(Moment::now().saturating_duration_since(begun));
        timeout(left, telling)
            .await
            .unwrap_or_else(|_| Err(Followed::hangs()))??;
        (self.told, self.last) = (sessions, Some(Stopwatch::start()));
        Ok(())
    }
}
