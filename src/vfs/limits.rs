//! How much one session may hold at a time.

use std::sync::Arc;

use crate::budget::{Charge, Pool, Share};
use crate::error::{Error, Kind, Result};

/// The most that one session may have open.
const MAX_HANDLES: u64 = 1 << 15;

/// What a session's drafts, open records and listings may take together, in bytes: sixteen of the largest records.
const MAX_MEMORY: u64 = 256 << 20;

/// One session's shares.
#[derive(Clone, Debug)]
pub struct Limits {
    handles: Arc<Share>,
    memory: Arc<Share>,
}

/// What the sessions of one process share.
#[derive(Clone, Debug)]
pub struct Pools {
    handles: Arc<Pool>,
    memory: Arc<Pool>,
}

impl Pools {
    /// So many open files, and so many bytes of memory.
    pub fn new(handles: u64, memory: u64) -> Self {
        Self {
            handles: Pool::new(handles),
            memory: Pool::new(memory),
        }
    }

    /// For the only session of a process.
    pub fn alone() -> Self {
        Self {
            handles: Pool::alone(MAX_HANDLES),
            memory: Pool::alone(MAX_MEMORY),
        }
    }

    /// How many files and directories are open.
    pub fn open(&self) -> u64 {
        self.handles.used()
    }

    /// How much memory drafts, open records and listings take, in bytes.
    pub fn held(&self) -> u64 {
        self.memory.used()
    }

    /// Another session's.
    pub fn limits(&self) -> Limits {
        Limits {
            handles: self.handles.share(MAX_HANDLES),
            memory: self.memory.share(MAX_MEMORY),
        }
    }
}

impl Limits {
    /// The right to have one more file or directory open.
    ///
    /// # Errors
    /// [`Kind::TooManyOpen`].
    pub(super) fn handle(&self) -> Result<Charge> {
        let slot = self.handles.take(1);
        slot.ok_or_else(|| Error::new(Kind::TooManyOpen, "too many open files in this session"))
    }

    /// Memory for what is read.
    ///
    /// # Errors
    /// [`Kind::OutOfMemory`].
    pub(super) fn hold(&self, bytes: u64) -> Result<Charge> {
        let memory = self.memory.take(bytes);
        memory.ok_or_else(|| {
            Error::new(
                Kind::OutOfMemory,
                "the session's open records take all the memory they may",
            )
        })
    }

    /// Memory for what is there already, counted even where that is more than may be had.
    pub(super) fn hold_counted(&self, bytes: u64) -> Charge {
        self.memory.count(bytes)
    }

    /// Where drafts take their memory.
    pub(super) fn memory(&self) -> &Arc<Share> {
        &self.memory
    }
}
