//! A node: one directory, record or attachment as the kernel knows it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use super::ids::Ino;
use super::lock_order::{Ordered, OrderedGuard, Rank};
use super::record_state::{Opens, Pages, Record};
use crate::error::{Error, Kind};
use crate::store::{Attachment, NodeKind};

/// What a number stands for. What it is never changes: a record that is renamed to an attachment's name becomes another
/// node, under the same number, and whoever has the one open goes on with the other.
#[derive(Clone)]
pub(super) enum Node {
    Directory(NodeId),
    Record(Arc<RecordNode>),
    Attachment(Arc<AttachmentNode>),
}

/// Which node: the number alone may stand for another one by now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct NodeId {
    pub(super) ino: Ino,
    pub(super) serial: u64,
}

/// A record. A commit holds the lock: who wants to know what the record is has to wait for what it becomes.
pub(super) struct RecordNode {
    pub(super) id: NodeId,
    record: Ordered<Record>,
    /// Whether it was renamed to an attachment's name: its number stands for that now. Set while the record is locked.
    former: AtomicBool,
}

/// A file that is no record: its content is the volume's.
pub(super) struct AttachmentNode {
    pub(super) id: NodeId,
    opened: Ordered<Descriptions>,
    /// Whether it was written through this mount since changes were last looked at.
    written: AtomicBool,
    /// Whether it was renamed to a record's name: its number stands for that now. Set while the attachment is locked.
    former: AtomicBool,
}

/// What is known of an attachment while it is open. A write holds the lock: a rename that reads it has all of it.
#[derive(Default)]
pub(super) struct Descriptions {
    /// They outlive its name.
    all: Vec<Weak<Attachment>>,
    /// That of those who opened it when it was a record.
    inherited: Option<Arc<Attachment>>,
    opens: Opens,
    pub(super) pages: Pages,
}

/// A node that nobody else changes, or gives another name, meanwhile.
pub(super) enum Locked<'a> {
    /// Of a directory, nothing is locked.
    Directory(NodeId),
    Record(&'a Arc<RecordNode>, OrderedGuard<'a, Record>),
    Attachment(&'a Arc<AttachmentNode>, OrderedGuard<'a, Descriptions>),
}

impl Node {
    pub(super) fn new(id: NodeId, kind: NodeKind) -> Self {
        match kind {
            NodeKind::Directory => Self::Directory(id),
            NodeKind::Record => Self::Record(Arc::new(RecordNode::new(id))),
            NodeKind::Attachment => {
                Self::Attachment(Arc::new(AttachmentNode::new(id, Descriptions::default())))
            }
        }
    }

    pub(super) fn id(&self) -> NodeId {
        match self {
            Self::Directory(id) => *id,
            Self::Record(node) => node.id,
            Self::Attachment(node) => node.id,
        }
    }

    pub(super) fn ino(&self) -> Ino {
        self.id().ino
    }

    pub(super) fn kind(&self) -> NodeKind {
        match self {
            Self::Directory(_) => NodeKind::Directory,
            Self::Record(_) => NodeKind::Record,
            Self::Attachment(_) => NodeKind::Attachment,
        }
    }

    pub(super) fn as_record(&self) -> Option<&Arc<RecordNode>> {
        match self {
            Self::Record(node) => Some(node),
            Self::Directory(_) | Self::Attachment(_) => None,
        }
    }

    /// Whether somebody has the file open.
    pub(super) fn is_open(&self) -> bool {
        match self {
            Self::Directory(_) => false,
            Self::Record(node) => node.lock().is_open(),
            Self::Attachment(node) => node.lock().opens.any(),
        }
    }

    /// Whether the kernel may be made to forget its name. Not that of a directory: somebody may stand there.
    pub(super) fn is_expendable(&self) -> bool {
        match self {
            Self::Directory(_) => false,
            Self::Record(node) => node
                .try_lock()
                .is_some_and(|record| !record.is_open() && !record.is_unsaved()),
            Self::Attachment(node) => node.opened.try_lock().is_some_and(|opened| !opened.opens.any()),
        }
    }

    /// Waits for it.
    pub(super) fn lock(&self) -> Locked<'_> {
        match self {
            Self::Directory(id) => Locked::Directory(*id),
            Self::Record(node) => Locked::Record(node, node.lock()),
            Self::Attachment(node) => Locked::Attachment(node, node.lock()),
        }
    }

    fn lock_second(&self) -> Locked<'_> {
        match self {
            Self::Directory(id) => Locked::Directory(*id),
            Self::Record(node) => Locked::Record(node, node.record.lock_second()),
            Self::Attachment(node) => Locked::Attachment(node, node.opened.lock_second()),
        }
    }

    /// Waits for two different nodes. Whoever needs two takes the elder one first, so that nobody waits in a circle.
    pub(super) fn lock_both<'a>(one: &'a Self, other: &'a Self) -> (Locked<'a>, Locked<'a>) {
        match one.id().serial < other.id().serial {
            true => {
                let one = one.lock();
                (one, other.lock_second())
            }
            false => {
                let other = other.lock();
                (one.lock_second(), other)
            }
        }
    }
}

impl Locked<'_> {
    /// Whether memory has text of it that the volume has not.
    pub(super) fn is_unsaved(&self) -> bool {
        matches!(self, Self::Record(_, record) if record.is_unsaved())
    }

    /// Its name is gone: its draft will never be committed, and lives as long as somebody has it open.
    pub(super) fn abandon(&mut self) {
        if let Self::Record(_, record) = self {
            record.abandon();
        }
    }
}

impl RecordNode {
    pub(super) fn new(id: NodeId) -> Self {
        Self::with(id, Record::default())
    }

    pub(super) fn with(id: NodeId, record: Record) -> Self {
        Self {
            id,
            record: Ordered::new(Rank::Content, record),
            former: AtomicBool::new(false),
        }
    }

    /// Whether it is no record any more. Asked under the lock, the answer holds as long as that is held.
    pub(super) fn is_former(&self) -> bool {
        self.former.load(Ordering::Relaxed)
    }

    /// It is an attachment from now on. To be called under the lock.
    pub(super) fn retire(&self) {
        self.former.store(true, Ordering::Relaxed);
    }

    pub(super) fn lock(&self) -> OrderedGuard<'_, Record> {
        self.record.lock()
    }

    /// None while somebody else has it.
    pub(super) fn try_lock(&self) -> Option<OrderedGuard<'_, Record>> {
        self.record.try_lock()
    }
}

impl AttachmentNode {
    pub(super) fn new(id: NodeId, opened: Descriptions) -> Self {
        Self {
            id,
            opened: Ordered::new(Rank::Content, opened),
            written: AtomicBool::new(false),
            former: AtomicBool::new(false),
        }
    }

    pub(super) fn lock(&self) -> OrderedGuard<'_, Descriptions> {
        self.opened.lock()
    }

    /// Whether it is no attachment any more. Asked under the lock, the answer holds as long as that is held.
    pub(super) fn is_former(&self) -> bool {
        self.former.load(Ordering::Relaxed)
    }

    /// It is a record from now on. To be called under the lock.
    pub(super) fn retire(&self) {
        self.former.store(true, Ordering::Relaxed);
    }

    /// It is written through this mount.
    pub(super) fn written(&self) {
        self.written.store(true, Ordering::Relaxed);
    }

    /// Whether it was written through this mount since this was last asked.
    pub(super) fn take_written(&self) -> bool {
        self.written.swap(false, Ordering::Relaxed)
    }
}

impl Descriptions {
    /// Those of an attachment that was a record, which these have open.
    pub(super) fn that_was_record(opens: Opens, attachment: Attachment) -> Self {
        let attachment = Arc::new(attachment);
        Self {
            all: vec![Arc::downgrade(&attachment)],
            inherited: Some(attachment).filter(|_| opens.any()),
            opens,
            pages: Pages::Any,
        }
    }

    /// The description of those who opened it when it was a record.
    pub(super) fn inherited(&self) -> Option<&Arc<Attachment>> {
        self.inherited.as_ref()
    }

    /// Any open description; one that may write, if asked for.
    pub(super) fn any(&mut self, writable: bool) -> Option<Arc<Attachment>> {
        self.all.retain(|open| open.strong_count() > 0);
        let mut open = self.all.iter().filter_map(Weak::upgrade);
        open.find(|attachment| attachment.writable() || !writable)
    }

    pub(super) fn opened(&mut self, attachment: &Arc<Attachment>, writer: bool) {
        self.opens.add(writer);
        self.all.retain(|open| open.strong_count() > 0);
        self.all.push(Arc::downgrade(attachment));
    }

    pub(super) fn closed(&mut self, writer: bool) {
        self.opens.remove(writer);
        if !self.opens.any() {
            self.inherited = None;
        }
    }

    /// It is a record by now. Returns who goes on with that.
    pub(super) fn hand_over(&mut self) -> Opens {
        std::mem::take(self).opens
    }
}

/// Somebody replaced the file: the kernel looks the name up again, and finds what is there now.
pub(super) fn stale() -> Error {
    Error::new(Kind::Stale, "the file was replaced; look it up again")
}
