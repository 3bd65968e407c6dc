//! How much a tenant has: what statfs shows, which must not tell anything of anybody else.

use std::ops::ControlFlow;
use std::time::Duration;

use super::folder::Folder;
use super::removed::waiting_in;
use super::survey::Unreadable;
use super::walk::{Visitor, Walked, walk};
use crate::clock::Stopwatch;

/// How long the counting may take; a handler has to answer in bounded time.
const PATIENCE: Duration = Duration::from_millis(200);

/// What a tenant's files take: those that are visible, and the records that were removed and wait.
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
            if walk(root, &mut count).is_break() {
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

impl Visitor for Count {
    fn folder(&mut self, folder: &Folder) -> Walked {
        for name in folder.names().unwrap_or_default() {
            if self.watch.elapsed() > PATIENCE {
                return ControlFlow::Break(());
            }
            if let Ok(attributes) = folder.lookup(&name) {
                self.usage.add_file(attributes.size);
            }
        }
        let waiting = waiting_in(folder).into_iter().flatten().flatten();
        waiting.for_each(|removed| self.usage.add_file(removed.size));
        ControlFlow::Continue(())
    }

    fn unreadable(&mut self, _: Unreadable) {}
}
