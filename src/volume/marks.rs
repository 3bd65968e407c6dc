//! What commands of the operator leave in the volume's root, for everybody who serves it, on every host: files whose names are ours.

use std::collections::BTreeSet;
use std::fmt;
use std::mem::MaybeUninit;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rustix::fs::{RawDir, SeekFrom, seek};
use tokio::sync::watch;

use super::dir::Dir;
use crate::clock::Moment;
use crate::error::{Error, Kind, Result};
use crate::name::RESERVED_PREFIX;

/// How old what is known of them may be: a command waits for so long before it counts on being heeded.
pub const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What the kernel is asked for at once, in bytes: the root has few entries.
const BUFFER: usize = 4 << 10;

/// The names, and when they were read.
#[derive(Clone)]
struct Known {
    at: Moment,
    names: Arc<BTreeSet<String>>,
}

/// The names of ours in the volume's root.
pub struct Marks {
    /// A description of its own, to be listed again and again: a sandboxed thread may open no other.
    root: Mutex<Dir>,
    known: watch::Sender<Option<Known>>,
    opened: Moment,
    /// What a look failed with, and when.
    failed: watch::Sender<Option<(Moment, Error)>>,
    /// Whether what this is of is dead, and another volume is served in its place.
    replaced: watch::Sender<bool>,
}

impl fmt::Debug for Marks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Marks")
    }
}

impl Marks {
    pub(super) fn new(root: Dir) -> Self {
        Self {
            root: Mutex::new(root),
            known: watch::Sender::new(None),
            opened: Moment::now(),
            failed: watch::Sender::new(None),
            replaced: watch::Sender::new(false),
        }
    }

    /// Whether one of this name was there within the last [`LOOK_EVERY`].
    ///
    /// # Errors
    /// That the root cannot be listed, or that its directory is gone: the operating system's.
    pub fn has(&self, name: &str) -> Result<bool> {
        let is_recent = |known: &&Known| Moment::now().saturating_duration_since(known.at) < LOOK_EVERY;
        let known = self
            .known
            .borrow()
            .as_ref()
            .filter(is_recent)
            .map(|known| known.names.contains(name));
        match known {
            Some(is_there) => Ok(is_there),
            None => self.has_now(name),
        }
    }

    /// Whether one of this name is there now.
    ///
    /// # Errors
    /// As [`has`](Self::has).
    pub fn has_now(&self, name: &str) -> Result<bool> {
        let at = Moment::now();
        let names = Arc::new(self.list()?);
        let is_there = names.contains(name);
        self.known.send_replace(Some(Known { at, names }));
        Ok(is_there)
    }

    fn list(&self) -> Result<BTreeSet<String>> {
        let root = self.root.lock();
        let failed = |errno| root.failed(errno, "listing what operators have ordered", ".");
        seek(&*root, SeekFrom::Start(0)).map_err(failed)?;
        let mut buffer = [MaybeUninit::uninit(); BUFFER];
        let (mut entries, mut names, mut any) = (RawDir::new(&*root, &mut buffer), BTreeSet::new(), false);
        while let Some(entry) = entries.next() {
            let entry = entry.map_err(failed)?;
            any = true;
            // A name of ours is text.
            match entry.file_name().to_str() {
                Ok(name) if name.starts_with(RESERVED_PREFIX) => _ = names.insert(name.to_owned()),
                _ => {}
            }
        }
        match any {
            true => Ok(names),
            // Not even `.`: a directory that was removed.
            false => Err(Error::new(Kind::Stale, "the volume's root directory is gone").at(root.path())),
        }
    }

    /// Looks at them now, for whoever waits for one, or for the volume.
    ///
    /// # Errors
    /// As [`has`](Self::has).
    pub(super) fn look(&self) -> Result<()> {
        let looked = self.has_now("").map(drop);
        if let Err(error) = &looked {
            self.failed.send_replace(Some((Moment::now(), error.clone())));
        }
        looked
    }

    /// When the volume was asked for them for the last time that it answered.
    pub(super) fn answered(&self) -> Moment {
        self.known.borrow().as_ref().map_or(self.opened, |known| known.at)
    }

    /// Returns when the volume has answered what it was asked after `asked`.
    ///
    /// # Errors
    /// What it answered.
    pub(super) async fn answers_after(&self, asked: Moment) -> Result<()> {
        let (mut known, mut failed) = (self.known.subscribe(), self.failed.subscribe());
        let is_later = |known: &Option<Known>| known.as_ref().is_some_and(|known| known.at >= asked);
        let has_failed =
            |failed: &Option<(Moment, Error)>| failed.as_ref().is_some_and(|(at, _)| *at >= asked);
        tokio::select! {
            _ = known.wait_for(is_later) => Ok(()),
            failed = failed.wait_for(has_failed) => match failed.ok().and_then(|failed| failed.clone()) {
                Some((_, error)) => Err(error),
                None => Ok(()),
            },
        }
    }

    /// Tells whoever waits that another volume has taken the place of theirs.
    pub(super) fn replace(&self) {
        self.replaced.send_replace(true);
    }

    /// Whether another volume has taken the place of this one.
    pub fn is_replaced(&self) -> bool {
        *self.replaced.borrow()
    }

    /// Returns when another volume has taken the place of this one, which is dead, as far as somebody [follows](super::Followed) it.
    pub async fn replaced(&self) {
        // It lives as long as `self` does.
        let _ = self.replaced.subscribe().wait_for(|replaced| *replaced).await;
    }

    /// Returns when one of this name is there after `since`, as far as somebody [follows](super::Followed) the volume.
    pub async fn appears(&self, name: &str, since: Moment) {
        self.any_appears(since, |there| there == name).await;
    }

    /// As [`appears`](Self::appears), for any that is meant.
    pub(super) async fn any_appears(&self, since: Moment, is_meant: impl Fn(&String) -> bool) {
        let mut known = self.known.subscribe();
        let is_there = |known: &Option<Known>| {
            let later = known.as_ref().filter(|known| known.at > since);
            later.is_some_and(|known| known.names.iter().any(&is_meant))
        };
        if known.wait_for(is_there).await.is_err() {
            // It lives as long as `self` does.
            std::future::pending::<()>().await;
        }
    }

    /// Those that were there when it was looked last.
    pub(super) fn names(&self) -> Arc<BTreeSet<String>> {
        let known = self.known.borrow();
        known
            .as_ref()
            .map(|known| Arc::clone(&known.names))
            .unwrap_or_default()
    }
}
