//! What commands of the operator leave in the volume's root, for everybody who serves it, on every host: files whose names are ours.

use std::collections::BTreeSet;
use std::fmt;
use std::mem::MaybeUninit;
use std::sync::Arc;
use std::thread;
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
        }
    }

    /// Whether one of this name was there within the last [`LOOK_EVERY`].
    ///
    /// # Errors
    /// That the root cannot be listed, or that its directory is gone: the operating system's.
    pub fn has(&self, name: &str) -> Result<bool> {
        let recent = self.known.borrow().clone();
        let oldest = |known: &Known| Moment::now().saturating_duration_since(known.at) < LOOK_EVERY;
        match recent.filter(oldest) {
            Some(known) => Ok(known.names.contains(name)),
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

    /// Looks at them again and again, on a thread of its own, so that whoever waits for [`appears`](Self::appears) is told. A
    /// volume that hangs holds up that thread, and nobody else.
    ///
    /// # Errors
    /// That no thread can be started.
    pub fn follow(self: &Arc<Self>) -> Result<()> {
        let marks = Arc::downgrade(self);
        let follow = move || {
            let mut failed = false;
            while let Some(marks) = marks.upgrade() {
                let looked = marks.has_now("");
                if let Err(error) = &looked
                    && !failed
                {
                    log::warn!("what operators order on other hosts is not seen until this ends: {error:#}");
                }
                failed = looked.is_err();
                drop(marks);
                thread::sleep(LOOK_EVERY);
            }
        };
        let started = thread::Builder::new().name("marks".to_owned()).spawn(follow);
        started
            .map(drop)
            .map_err(|error| Error::io(&error, "starting the thread that looks for what operators order"))
    }

    /// Returns when one of this name is there after `since`, as far as somebody looks: see [`follow`](Self::follow).
    pub async fn appears(&self, name: &str, since: Moment) {
        let mut known = self.known.subscribe();
        let is_there = |known: &Option<Known>| {
            let later = known.as_ref().filter(|known| known.at > since);
            later.is_some_and(|known| known.names.contains(name))
        };
        if known.wait_for(is_there).await.is_err() {
            // It lives as long as `self` does.
            std::future::pending::<()>().await;
        }
    }
}
