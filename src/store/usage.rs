//! How much a tenant has: what statfs shows, which must not tell anything of anybody else, and what counts for a quota.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use super::folder::Folder;
use super::look::Look;
use super::places::Roots;
use super::removed::waiting_in;
use super::reserved::Reserved;
use super::walk::{Below, Visitor, Walked, walk};
use crate::clock::Stopwatch;
use crate::error::{Error, Kind, Result};
use crate::quota::{Account, Amount, Count, Counted, Waits};
use crate::volume::{Change, Watch, Watcher, Watching};

/// How long the counting may take; a handler has to answer in bounded time.
const PATIENCE: Duration = Duration::from_millis(200);

/// What a tenant's files take: those that are visible, the records that were removed and wait, and what was left at the
/// names of those that were renamed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Usage {
    /// Bytes as shown.
    pub bytes: u64,
    /// Files and directories.
    pub files: u64,
}

impl Usage {
    /// Counts what is in and below `roots`. A tenant with very many files, or with some that cannot be read, gets a lower bound.
    pub(super) fn count<'a>(roots: impl Iterator<Item = &'a Folder>) -> Self {
        let mut count = Shown {
            usage: Self::default(),
            watch: Stopwatch::start(),
        };
        for root in roots {
            if let Ok(ControlFlow::Break(())) = walk(root, &mut count) {
                break;
            }
        }
        count.usage
    }

    fn add_file(&mut self, size: u64) {
        self.files += 1;
        self.bytes = self.bytes.saturating_add(size);
    }
}

struct Shown {
    usage: Usage,
    watch: Stopwatch,
}

impl Visitor<Folder> for Shown {
    fn visit(&mut self, folder: &Folder) -> Walked {
        for name in folder.names().unwrap_or_default() {
            if self.watch.elapsed() > PATIENCE {
                return Ok(ControlFlow::Break(()));
            }
            if let Ok(attributes) = folder.lookup(&name) {
                self.usage.add_file(attributes.size);
            }
        }
        for removed in waiting_in(folder).into_iter().flatten().flatten() {
            if self.watch.elapsed() > PATIENCE {
                return Ok(ControlFlow::Break(()));
            }
            self.usage.add_file(removed.size);
        }
        let notes = notes_in(folder).unwrap_or_default();
        notes.into_iter().for_each(|size| self.usage.add_file(size));
        Ok(ControlFlow::Continue(()))
    }

    fn missed(&mut self, _: &Folder, _: Option<&Below>, _: Error) -> Result<()> {
        Ok(())
    }
}

/// Counts everything of a tenant, for the quota: what is hidden and what is ours too, but for the mark of whose it is.
pub(super) struct Census {
    roots: Roots,
    /// Where services write records; what others do further below is found some time later.
    _watches: Vec<Watch>,
}

/// Has it counted sooner.
struct Changed(Arc<Account>);

impl Watching for Changed {
    fn changed(&self, _: Change<'_>) {
        self.0.changed();
    }
}

impl Census {
    pub(super) fn new(roots: &Roots, account: &Arc<Account>) -> Self {
        let watching: Arc<dyn Watching> = Arc::new(Changed(Arc::clone(account)));
        let watches = Watcher::of_process().map(|watcher| {
            let folders = roots.iter().filter_map(|root| root.folder.as_ref());
            folders
                .filter_map(|folder| folder.watch(watcher, Arc::clone(&watching)))
                .collect()
        });
        Self {
            roots: Arc::clone(roots),
            _watches: watches.unwrap_or_default(),
        }
    }

    /// Not when the store is gone whose it was: somebody may wait for its directories.
    fn go_on(&self) -> ControlFlow<()> {
        match Arc::strong_count(&self.roots) {
            1 => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        }
    }

    /// Adds what is in one directory.
    fn add_folder(&self, folder: &Folder, counted: &mut Counted) -> Result<()> {
        let look = folder.look();
        let mut failed = Ok(());
        look.dir.entries_until(|entry| {
            match std::str::from_utf8(entry).map(|entry| add_entry(look, entry, counted)) {
                Ok(Ok(())) => {}
                Ok(Err(error)) if error.kind() == Kind::NotFound => {}
                Ok(Err(error)) => failed = Err(error),
                // Somebody else's: our names are UTF-8.
                Err(_) => counted.amount += Amount::file(0),
            }
            self.go_on()
        })?;
        failed
    }
}

fn add_entry(look: Look<'_>, entry: &str, counted: &mut Counted) -> Result<()> {
    let what = Reserved::of(entry);
    if what == Reserved::Marker {
        return Ok(());
    }
    let stat = look.dir.stat(entry)?;
    counted.amount += stat.amount();
    if what.waits() {
        let waits = Waits {
            folder: look.path.to_owned(),
            entry: entry.to_owned(),
        };
        counted.waits(waits, stat.ctime);
    }
    Ok(())
}

/// A count under way.
struct Counting<'a> {
    census: &'a Census,
    counted: Counted,
}

impl Visitor<Folder> for Counting<'_> {
    fn visit(&mut self, folder: &Folder) -> Walked {
        self.census.add_folder(folder, &mut self.counted)?;
        Ok(self.census.go_on())
    }

    /// What cannot be looked at by the server, cannot be written by its user either.
    fn missed(&mut self, _: &Folder, _: Option<&Below>, _: Error) -> Result<()> {
        Ok(())
    }
}

impl Count for Census {
    fn count(&self) -> Result<Option<Counted>> {
        let mut counting = Counting {
            census: self,
            counted: Counted::default(),
        };
        for root in self.roots.iter().filter_map(|root| root.folder.as_ref()) {
            if walk(root, &mut counting)?.is_break() {
                return Ok(None);
            }
        }
        Ok(Some(counting.counted))
    }
}

/// The sizes of what renamed records and directories have left in a directory.
fn notes_in(folder: &Folder) -> Result<Vec<u64>> {
    let dir = folder.look().dir;
    let mut notes = Vec::new();
    dir.entries(|entry| {
        let entry = std::str::from_utf8(entry).ok();
        let is_note = |entry: &&str| {
            let what = Reserved::of(entry);
            what.waits() && what != Reserved::Removed
        };
        notes.extend(entry.filter(is_note).map(str::to_owned));
    })?;
    // Those that are gone meanwhile do not count.
    Ok(notes
        .iter()
        .filter_map(|entry| Some(dir.stat(entry).ok()?.size))
        .collect())
}
