//! How much a tenant has: what statfs shows, which must not tell anything of anybody else.

use std::time::Duration;

use super::attributes::NodeKind;
use super::folder::Folder;
use crate::clock::Stopwatch;
use crate::error::Result;
use crate::name::EntryName;

/// How long the counting may take; a handler has to answer in bounded time.
const PATIENCE: Duration = Duration::from_millis(200);

/// Directories deeper than this are not counted.
const MAX_DEPTH: u32 = 32;

/// What a tenant's visible files take.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Usage {
    /// Bytes as shown.
    pub bytes: u64,
    /// Files and directories.
    pub files: u64,
}

impl Usage {
    /// Counts what is visible in and below `roots`. A tenant with very many files gets a lower bound.
    ///
    /// # Errors
    /// The volume's.
    pub(super) fn count<'a>(roots: impl Iterator<Item = (&'a EntryName, &'a Folder)>) -> Result<Self> {
        let mut usage = Self::default();
        let watch = Stopwatch::start();
        for (_, folder) in roots {
            count(folder, &mut usage, watch, MAX_DEPTH)?;
        }
        Ok(usage)
    }
}

fn count(folder: &Folder, usage: &mut Usage, watch: Stopwatch, depth: u32) -> Result<()> {
    for name in folder.names()? {
        if watch.elapsed() > PATIENCE {
            break;
        }
        let Ok(attributes) = folder.lookup(&name) else {
            continue;
        };
        usage.files += 1;
        usage.bytes = usage.bytes.saturating_add(attributes.size);
        if attributes.kind == NodeKind::Directory
            && depth > 0
            && let Ok(below) = folder.open_folder(&name)
        {
            count(&below, usage, watch, depth - 1)?;
        }
    }
    Ok(())
}
