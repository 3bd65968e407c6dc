//! How much a tenant has: what statfs shows, which must not tell anything of anybody else.

use std::ops::ControlFlow;
use std::time::Duration;

use super::folder::Folder;
use super::removed::waiting_in;
use super::reserved::Reserved;
use super::walk::{Below, Visitor, Walked, walk};
use crate::clock::Stopwatch;
use crate::error::{Error, Result};

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
        let mut count = Count {
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

struct Count {
    usage: Usage,
    watch: Stopwatch,
}

impl Visitor<Folder> for Count {
    fn visit(&mut self, folder: &Folder) -> Walked {
        for name in folder.names().unwrap_or_default() {
            if self.watch.elapsed() > PATIENCE {
                return Ok(ControlFlow::Break(()));
            }
            if let Ok(attributes) = folder.lookup(&name) {
                self.usage.add_file(attributes.size);
            }
        }
        let waiting = waiting_in(folder).into_iter().flatten().flatten();
        waiting.for_each(|removed| self.usage.add_file(removed.size));
        let notes = notes_in(folder).unwrap_or_default();
        notes.into_iter().for_each(|size| self.usage.add_file(size));
        Ok(ControlFlow::Continue(()))
    }

    fn missed(&mut self, _: &Folder, _: Option<&Below>, _: Error) -> Result<()> {
        Ok(())
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
