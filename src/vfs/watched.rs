//! Changes that others make on the volume: which directories are watched, and what the kernel has to forget.
//!
//! The kernel may believe for long what it was told of an entry of a watched directory, for as soon as that is no longer
//! true it is told so. What is changed through this mount is told of as well, and costs one look: the kernel knows.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::entries::Place;
use super::ids::{Ino, ROOT};
use super::lock_order::{Ordered, Rank};
use super::node::Node;
use super::record_state::Pages;
use super::{CACHE_LIFETIME, PageCache, Vfs};
use crate::clock::Stopwatch;
use crate::name::EntryName;
use crate::store::{Attributes, Concern, Folder, NodeKind};
use crate::volume::{Change, Watch, Watcher, Watching};

/// How long the kernel may believe what it was told of an entry of a watched directory. No notification tells of a change
/// through a map, or through a name of the file that lies elsewhere and was made later: those show up within this time.
const WATCHED_LIFETIME: Duration = Duration::from_secs(10);

/// How old a listing may be that the kernel answers from memory: what it says of the entries has to outlive their use.
const LISTING_LIFETIME: Duration = Duration::from_secs(5);

/// The directories that one session may watch.
const MAX_WATCHED: usize = 1024;

/// The inodes that the kernel may know, each of which takes up to 1.3 KiB here. When it knows more, it is made to forget.
const MAX_KNOWN: usize = 1 << 17;

/// When more entries of a directory changed than this before anybody looked, all of it is looked at.
const MAX_PENDING: usize = 4096;

/// What a session watches.
pub(super) struct Watched {
    watcher: Option<&'static Watcher>,
    directories: Ordered<HashMap<Ino, Directory>>,
    changes: Arc<Changes>,
    begun: Stopwatch,
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
struct Pending {
    /// And whether the name is another file's, or nobody's.
    entries: HashMap<Box<[u8]>, bool>,
    /// The kernel was told what is no longer so, by what was done here.
    forget: Vec<EntryName>,
    /// Its own attributes.
    itself: bool,
    anything: bool,
    ended: bool,
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
            begun: Stopwatch::start(),
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

    fn has(&self, ino: Ino) -> bool {
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

    fn relist(&self, ino: Ino) {
        if let Some(directory) = self.directories.lock().get_mut(&ino) {
            directory.generation += 1;
        }
    }

    fn take(&self) -> HashMap<Ino, Pending> {
        std::mem::take(&mut *self.changes.pending.lock())
    }

    /// The longest that the kernel may believe anything, so that nothing outlives the lease.
    fn longest(&self) -> Duration {
        let rest =
            Duration::from_millis(self.lease.load(Ordering::Relaxed)).saturating_sub(self.begun.elapsed());
        rest.clamp(CACHE_LIFETIME, WATCHED_LIFETIME)
    }
}

/// What became of an entry that the kernel knows.
enum Fate {
    /// What it was told is still so.
    Same,
    /// It has other attributes.
    Changed(Ino),
    /// Others wrote to it: what the kernel has of its content may be wrong, and be mapped.
    Rewritten(Ino),
    /// It is something else, or nothing.
    Other,
    /// The kernel does not know it.
    Unknown,
    /// It is being committed just now.
    Busy,
}

/// The record is the same; another session may have kept a draft of it.
fn fate_beside_draft(folder: &Folder, place: &Place) -> Fate {
    match folder.lookup(&place.name) {
        Ok(seen) if !seen.kept_draft => Fate::Same,
        _ => Fate::Other,
    }
}

impl Vfs {
    /// Nothing that the kernel is told from now on is believed for longer than this, however well watched.
    pub fn lease(&self, good_for: Duration) {
        let end = self.watched.begun.elapsed().saturating_add(good_for).as_millis();
        let end = u64::try_from(end).unwrap_or(u64::MAX);
        self.watched.lease.store(end, Ordering::Relaxed);
    }

    /// How long the kernel may believe this of an entry of `parent`; of what has no name, `parent` is none. What is being
    /// written changes by itself.
    pub(super) fn lifetime(
        &self,
        ino: Ino,
        parent: Option<Ino>,
        attributes: &Attributes,
        written: bool,
    ) -> Duration {
        let told_of = match attributes.kind {
            NodeKind::Directory => self.watched.has(ino),
            // Through its other names it can change where nobody looks.
            NodeKind::Record | NodeKind::Attachment => attributes.names <= 1,
        };
        let settled = !written && !attributes.kept_draft;
        match told_of && settled && parent.is_some_and(|parent| self.watched.has(parent)) {
            true => self.watched.longest(),
            false => CACHE_LIFETIME,
        }
    }

    /// Looks at what was told to have changed, and makes the kernel forget what is no longer so. It waits for the kernel,
    /// which waits for operations under way: not for a thread that has to answer those.
    pub fn notice_changes(&self) {
        for (ino, pending) in self.watched.take() {
            self.notice(ino, pending);
        }
        if self.table.len() > MAX_KNOWN {
            for (node, place) in self.table.files() {
                if node.is_expendable() {
                    self.pages.drop_name(place.parent, &place.name);
                }
            }
        }
    }

    /// Has the kernel forget what nobody uses, if it knows so much that its memory of names becomes ours.
    pub(super) fn bound_memory(&self) {
        if self.table.len() > MAX_KNOWN {
            self.pages.notice_soon();
        }
    }

    fn notice(&self, ino: Ino, pending: Pending) {
        if pending.ended {
            self.watched.forget(ino);
        }
        for name in &pending.forget {
            self.pages.drop_name(ino, name);
        }
        let Ok(folder) = self.folder(ino) else {
            return self.pages.drop_attributes(ino);
        };
        let everything = pending.anything || pending.ended;
        let itself = pending.itself || pending.entries.values().any(|renamed| *renamed);
        let mut relist = everything;
        let mut names: HashMap<EntryName, bool> = HashMap::new();
        for (entry, renamed) in pending.entries {
            match folder.concern(&entry) {
                Concern::Name(name) => *names.entry(name).or_default() |= renamed,
                Concern::Drafts => {
                    names.extend(self.table.kept_drafts(ino).into_iter().map(|name| (name, true)))
                }
                Concern::Nothing => {}
            }
        }
        if everything {
            names.extend(self.table.names_in(ino).into_iter().map(|name| (name, false)));
        }
        for (name, renamed) in names {
            let place = Place { parent: ino, name };
            match self.fate(&folder, &place) {
                Fate::Same => {}
                Fate::Changed(changed) => self.pages.drop_attributes(changed),
                Fate::Rewritten(changed) => {
                    self.pages.drop_attributes(changed);
                    self.pages.drop_soon(changed);
                }
                Fate::Other => {
                    relist = true;
                    self.pages.drop_name(ino, &place.name);
                }
                Fate::Unknown => relist |= renamed || !matches!(folder.peek(&place.name), Ok(None)),
                Fate::Busy => self.look_again(place, renamed),
            }
        }
        if relist {
            self.watched.relist(ino);
            self.pages.drop_listing(ino);
        } else if itself {
            self.pages.drop_attributes(ino);
        }
    }

    fn fate(&self, folder: &Folder, place: &Place) -> Fate {
        let Some((node, told)) = self.table.told_at(place) else {
            return Fate::Unknown;
        };
        if let Node::Record(node) = &node {
            match node.try_lock() {
                // What is written here is what the name leads to.
                Some(record) if record.is_unsaved() => return Fate::Same,
                Some(_) => {}
                None => return Fate::Busy,
            }
        }
        match (told, folder.peek(&place.name)) {
            (Some(told), Ok(Some(stat))) if told.id == stat.id && !told.kept_draft => {
                match &node {
                    Node::Attachment(file) if told.version == stat.version() => {
                        // What was written here is known: the next change may be by others.
                        file.take_written();
                        Fate::Same
                    }
                    Node::Directory(_) if told.version == stat.version() => Fate::Same,
                    Node::Record(_) if told.version == stat.version() => fate_beside_draft(folder, place),
                    Node::Record(_) => Fate::Other,
                    // It has become hidden.
                    Node::Attachment(_) if stat.nlink > 1 => Fate::Other,
                    Node::Attachment(file) if file.take_written() => self.written_here(&node, folder, place),
                    Node::Attachment(file) => {
                        file.lock().pages = Pages::Any;
                        Fate::Rewritten(node.ino())
                    }
                    Node::Directory(_) => Fate::Changed(node.ino()),
                }
            }
            _ => Fate::Other,
        }
    }

    /// An attachment has another version through what was written here: the kernel's pages hold it.
    fn written_here(&self, node: &Node, folder: &Folder, place: &Place) -> Fate {
        if let Ok(attributes) = folder.lookup(&place.name) {
            self.table.became(node.id(), &attributes);
        }
        Fate::Changed(node.ino())
    }

    /// Has the kernel forget a name that it was told leads elsewhere.
    pub(super) fn forget_name_soon(&self, place: Place) {
        let changes = &self.watched.changes;
        changes
            .pending
            .lock()
            .entry(place.parent)
            .or_default()
            .forget
            .push(place.name);
        changes.pages.notice_soon();
    }

    /// Has somebody look whether the kernel was told of `place` what is so.
    pub(super) fn look_again(&self, place: Place, renamed: bool) {
        let report = Report {
            ino: place.parent,
            changes: Arc::clone(&self.watched.changes),
        };
        report.changed(Change::Entry {
            name: place.name.as_str().as_bytes(),
            names: renamed,
        });
    }
}
