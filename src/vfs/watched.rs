//! Changes that others make on the volume: which directories are watched, and what was told of them.
//!
//! The kernel may believe for long what it was told of an entry of a watched directory, for as soon as that is no longer
//! true it is told so. What is changed through this mount is told of as well, and costs one look: the kernel knows.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::cache::{CACHE_LIFETIME, PageCache};
use super::ids::{Ino, ROOT};
use super::lock_order::{Ordered, Rank};
use crate::clock::{Moment, Stopwatch};
use crate::name::EntryName;
use crate::store::Folder;
use crate::volume::{Change, Watch, Watcher, Watching};

/// How long the kernel may believe what it was told of an entry of a watched directory. No notification tells of a change
/// through a map, or through a name of the file that lies elsewhere and was made later: those show up within this time.
const WATCHED_LIFETIME: Duration = Duration::from_secs(10);

/// How old a listing may be that the kernel answers from memory: what it says of the entries has to outlive their use.
const LISTING_LIFETIME: Duration = Duration::from_secs(5);

/// The directories that one session may watch.
const MAX_WATCHED: usize = 1024;

/// When more entries of a directory changed than this before anybody looked, all of it is looked at.
const MAX_PENDING: usize = 4096;

/// What a session watches.
pub(super) struct Watched {
    watcher: Option<&'static Watcher>,
    directories: Ordered<HashMap<Ino, Directory>>,
    changes: Arc<Changes>,
    begun: Moment,
    /// When the lease ends, in milliseconds since it began.
    lease: AtomicU64,
}

struct Directory {
    _watch: Watch,
    /// Counts the changes of what a listing shows.
    generation: u64,
    /// The last listing that was seen to its end.
    listed: Option<Began>,
}

/// When a listing began.
#[derive(Clone, Copy)]
pub(super) struct Began {
    generation: u64,
    watch: Stopwatch,
}

/// What was told and not looked at yet.
struct Changes {
    pending: Ordered<HashMap<Ino, Pending>>,
    pages: Arc<dyn PageCache>,
}

#[derive(Default)]
pub(super) struct Pending {
    /// And whether the name is another file's, or nobody's.
    pub(super) entries: HashMap<Box<[u8]>, bool>,
    /// The kernel was told what is no longer so, by what was done here.
    pub(super) forget: Vec<EntryName>,
    /// Its own attributes.
    pub(super) itself: bool,
    pub(super) anything: bool,
    pub(super) ended: bool,
}

/// Tells of one directory.
struct Report {
    ino: Ino,
    changes: Arc<Changes>,
}

impl Watching for Report {
    fn changed(&self, change: Change<'_>) {
        let mut all = self.changes.pending.lock();
        let pending = all.entry(self.ino).or_default();
        match change {
            Change::Entry { .. } if pending.entries.len() >= MAX_PENDING => pending.anything = true,
            Change::Entry { name, names } => *pending.entries.entry(name.into()).or_default() |= names,
            Change::Itself => pending.itself = true,
            Change::Anything => pending.anything = true,
            Change::Ended => pending.ended = true,
        }
        drop(all);
        self.changes.pages.notice_soon();
    }
}

impl Watched {
    pub(super) fn new(pages: Arc<dyn PageCache>) -> Self {
        Self {
            watcher: Watcher::of_process(),
            directories: Ordered::new(Rank::Watched, HashMap::new()),
            changes: Arc::new(Changes {
                pending: Ordered::new(Rank::Pending, HashMap::new()),
                pages,
            }),
            begun: Moment::now(),
            lease: AtomicU64::new(u64::MAX),
        }
    }

    /// Watches a directory from now on, if it can be and is not yet.
    pub(super) fn watch(&self, ino: Ino, folder: &Folder) {
        let mut directories = self.directories.lock();
        let Some(watcher) = self.watcher.filter(|_| directories.len() < MAX_WATCHED) else {
            return;
        };
        if directories.contains_key(&ino) {
            return;
        }
        let changes = Arc::clone(&self.changes);
        if let Some(watch) = folder.watch(watcher, Arc::new(Report { ino, changes })) {
            let directory = Directory {
                _watch: watch,
                generation: 0,
                listed: None,
            };
            directories.insert(ino, directory);
        }
    }

    pub(super) fn forget(&self, ino: Ino) {
        let forgotten = self.directories.lock().remove(&ino);
        drop(forgotten);
    }

    pub(super) fn has(&self, ino: Ino) -> bool {
        ino == ROOT || self.directories.lock().contains_key(&ino)
    }

    /// A listing begins; none when nobody would tell of changes.
    pub(super) fn listing(&self, ino: Ino) -> Option<Began> {
        let directories = self.directories.lock();
        directories.get(&ino).map(|directory| Began {
            generation: directory.generation,
            watch: Stopwatch::start(),
        })
    }

    /// A listing was seen to its end. Whether nothing that it shows has changed meanwhile.
    pub(super) fn listed(&self, ino: Ino, began: Began) -> bool {
        let mut directories = self.directories.lock();
        let directory = directories.get_mut(&ino);
        directory.is_some_and(|directory| {
            directory.listed = Some(began);
            directory.generation == began.generation
        })
    }

    /// What the kernel may do with a directory that is opened: keep the listing that follows, and answer from the last.
    pub(super) fn opened(&self, ino: Ino) -> (bool, bool) {
        match self.directories.lock().get(&ino) {
            Some(directory) => {
                let fresh = |began: Began| {
                    began.generation == directory.generation && began.watch.elapsed() < LISTING_LIFETIME
                };
                (true, directory.listed.is_some_and(fresh))
            }
            None => (false, false),
        }
    }

    /// Nothing that the kernel is told from now on is believed for longer than this.
    pub(super) fn lease(&self, good_for: Duration) {
        let end = Moment::now()
            .saturating_duration_since(self.begun)
            .saturating_add(good_for)
            .as_millis();
        self.lease
            .store(u64::try_from(end).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Tells of a change that was made here.
    pub(super) fn changed(&self, parent: Ino, name: &EntryName, renamed: bool) {
        let report = Report {
            ino: parent,
            changes: Arc::clone(&self.changes),
        };
        report.changed(Change::Entry {
            name: name.as_str().as_bytes(),
            names: renamed,
        });
    }

    /// The kernel was told of a name what is no longer so, by what was done here.
    pub(super) fn forget_name(&self, parent: Ino, name: EntryName) {
        self.changes
            .pending
            .lock()
            .entry(parent)
            .or_default()
            .forget
            .push(name);
        self.changes.pages.notice_soon();
    }

    pub(super) fn relist(&self, ino: Ino) {
        if let Some(directory) = self.directories.lock().get_mut(&ino) {
            directory.generation += 1;
        }
    }

    pub(super) fn take(&self) -> HashMap<Ino, Pending> {
        std::mem::take(&mut *self.changes.pending.lock())
    }

    /// The longest that the kernel may believe anything, so that nothing outlives the lease.
    pub(super) fn longest(&self) -> Duration {
        let rest = Duration::from_millis(self.lease.load(Ordering::Relaxed))
            .saturating_sub(Moment::now().saturating_duration_since(self.begun));
        rest.clamp(CACHE_LIFETIME, WATCHED_LIFETIME)
    }
}
