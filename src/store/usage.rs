//! How much a tenant has: what statfs shows, which must not tell anything of anybody else, and what counts for a quota.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use super::folder::Folder;
use super::look::Look;
use super::removed::waiting_in;
use super::reserved::Reserved;
use super::room::Roots;
use super::walk::{Walked, walk};
use crate::clock::Stopwatch;
use crate::error::{Kind, Result};
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
    /// Counts what is in and below `roots`. A tenant with very many files gets a lower bound.
    ///
    /// # Errors
    /// The volume's.
    pub(super) fn count<'a>(roots: impl Iterator<Item = &'a Folder>) -> Result<Self> {
        let mut usage = Self::default();
        let watch = Stopwatch::start();
        for root in roots {
            if walk(root, |folder| usage.add(folder, watch))?.is_break() {
                break;
            }
        }
        Ok(usage)
    }

    fn add(&mut self, folder: &Folder, watch: Stopwatch) -> Walked {
        for name in folder.names()? {
            if watch.elapsed() > PATIENCE {
                return Ok(ControlFlow::Break(()));
            }
            if let Ok(attributes) = folder.lookup(&name) {
                self.add_file(attributes.size);
            }
        }
        for removed in waiting_in(folder)? {
            self.add_file(removed.size);
        }
        for size in notes_in(folder)? {
            self.add_file(size);
        }
        Ok(ControlFlow::Continue(()))
    }

    fn add_file(&mut self, size: u64) {
        self.files += 1;
        self.bytes = self.bytes.saturating_add(size);
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
            let folders = roots.iter().filter_map(|(_, folder)| folder.as_ref());
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
    fn count_in(&self, folder: &Folder, counted: &mut Counted) -> Result<()> {
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

impl Count for Census {
    fn count(&self) -> Result<Option<Counted>> {
        let mut counted = Counted::default();
        for root in self.roots.iter().filter_map(|(_, folder)| folder.as_ref()) {
            let walked = walk(root, |folder| {
                self.count_in(folder, &mut counted)?;
                Ok(self.go_on())
            });
            if walked?.is_break() {
                return Ok(None);
            }
        }
        Ok(Some(counted))
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
