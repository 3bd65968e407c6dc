//! An open file, as a handle leads to it.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::ids::Ino;
use super::lock_order::OrderedGuard;
use super::node::{AttachmentNode, Descriptions, Node, RecordNode, stale};
use super::record_state::Record;
use crate::budget::Charge;
use crate::error::Result;
use crate::store::Attachment;

/// An open file.
pub(super) struct OpenFile {
    opened: Content,
    /// The thread that opened it.
    opener: u32,
    pub(super) writer: bool,
    /// Every write goes to the end.
    pub(super) append: bool,
    /// Every write is followed by a sync of the kernel's own (O_SYNC, O_DSYNC).
    synchronous: bool,
    /// Whether a record was written through it.
    wrote: AtomicBool,
    /// Whether the kernel owes the sync that belongs to a write.
    owes_sync: AtomicBool,
    /// The right to be open. A record takes no descriptor of the process, but memory: it counts all the same.
    _slot: Charge,
}

/// What is open stays the node that was opened, whatever its number stands for by now; or what that became when it was
/// renamed to another kind of name.
pub(super) enum Content {
    Record(Arc<RecordNode>),
    Attachment(Arc<AttachmentNode>, Arc<Attachment>),
}

/// How a file is held open.
pub(super) struct Holding {
    pub(super) opener: u32,
    pub(super) writer: bool,
    pub(super) append: bool,
    pub(super) synchronous: bool,
    pub(super) slot: Charge,
}

/// What an open file is by now. It stays that, and nobody else changes it, as long as this lives.
pub(super) enum Current<'a> {
    Record(&'a Arc<RecordNode>, OrderedGuard<'a, Record>),
    Attachment(
        &'a AttachmentNode,
        &'a Arc<Attachment>,
        OrderedGuard<'a, Descriptions>,
    ),
}

impl OpenFile {
    pub(super) fn new(opened: Content, holding: Holding) -> Self {
        Self {
            opened,
            opener: holding.opener,
            writer: holding.writer,
            append: holding.append,
            synchronous: holding.synchronous,
            wrote: AtomicBool::new(false),
            owes_sync: AtomicBool::new(false),
            _slot: holding.slot,
        }
    }

    /// Does something with what is open by now: a descriptor follows its file, whatever that is renamed to. `node` is asked
    /// what the number of the file stands for.
    ///
    /// # Errors
    /// Those of `work` and `node`.
    pub(super) fn with<T>(
        &self,
        node: impl Fn(Ino) -> Result<Node>,
        work: impl FnOnce(Current<'_>) -> Result<T>,
    ) -> Result<T> {
        let ino = match &self.opened {
            Content::Record(node) => {
                let record = node.lock();
                if !node.is_former() {
                    return work(Current::Record(node, record));
                }
                node.id.ino
            }
            Content::Attachment(node, file) => {
                let descriptions = node.lock();
                if !node.is_former() {
                    return work(Current::Attachment(node, file, descriptions));
                }
                node.id.ino
            }
        };
        // As long as a file is open the kernel knows it: its number stands for nothing else.
        loop {
            match node(ino)? {
                Node::Record(node) => {
                    let record = node.lock();
                    if !node.is_former() {
                        return work(Current::Record(&node, record));
                    }
                }
                Node::Attachment(node) => {
                    let descriptions = node.lock();
                    if !node.is_former() {
                        let file = descriptions.inherited().cloned().ok_or_else(stale)?;
                        return work(Current::Attachment(&node, &file, descriptions));
                    }
                }
                Node::Directory(_) => return Err(stale()),
            }
        }
    }

    /// A record is written through it: whoever closes it hears what became of that.
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
