//! An open file, as a handle leads to it.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::node::{AttachmentNode, RecordNode};
use crate::budget::Charge;
use crate::store::Attachment;

/// An open file.
pub(super) struct OpenFile {
    pub(super) content: OpenContent,
    /// Every write goes to the end.
    pub(super) append: bool,
    /// The right to be open. A record takes no descriptor of the process, but memory: it counts all the same.
    pub(super) _slot: Charge,
}

pub(super) enum OpenContent {
    Record(OpenRecord),
    Attachment(Arc<AttachmentNode>, Arc<Attachment>),
}

/// What is open stays the node that was opened, whatever its number stands for by now.
pub(super) struct OpenRecord {
    pub(super) node: Arc<RecordNode>,
    /// The thread that opened it.
    opener: u32,
    pub(super) writer: bool,
    /// Every write is followed by a sync of the kernel's own (O_SYNC, O_DSYNC).
    synchronous: bool,
    /// Whether it was written through.
    wrote: AtomicBool,
    /// Whether the kernel owes the sync that belongs to a write.
    owes_sync: AtomicBool,
}

impl OpenRecord {
    pub(super) fn new(node: Arc<RecordNode>, opener: u32, writer: bool, synchronous: bool) -> Self {
        Self {
            node,
            opener,
            writer,
            synchronous,
            wrote: AtomicBool::new(false),
            owes_sync: AtomicBool::new(false),
        }
    }

    /// It is written through: whoever closes it hears what became of that.
    pub(super) fn written(&self) {
        self.wrote.store(true, Ordering::Relaxed);
    }

    /// A write(2) succeeded: where every one is synced, the kernel's sync follows.
    pub(super) fn sync_follows(&self) {
        self.owes_sync.store(self.synchronous, Ordering::Relaxed);
    }

    pub(super) fn wrote(&self) -> bool {
        self.wrote.load(Ordering::Relaxed)
    }

    /// Whether a sync belongs to a write of an O_SYNC descriptor: the kernel sends one after each write(2), and a program
    /// did not ask for it. A further one, a program did.
    pub(super) fn is_part_of_write(&self) -> bool {
        self.owes_sync.swap(false, Ordering::Relaxed)
    }

    /// Whether `closer` belongs to the process that opened the file. Both are threads, for that is what the kernel
    /// tells; a thread that is gone by now belongs to nobody.
    pub(super) fn is_openers(&self, closer: u32) -> bool {
        let opener = self.opener;
        closer == opener || Path::new(&format!("/proc/{closer}/task/{opener}")).exists()
    }
}
