//! A node: one directory, record or attachment as the kernel knows it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use super::ids::Ino;
use super::lock_order::{Ordered, OrderedGuard, Rank};
use super::record_state::{Pages, Record};
use crate::error::{Error, Kind};
use crate::store::{Attachment, NodeKind};

/// What a number stands for. What it is never changes: a record that is renamed to an attachment's name becomes another
/// node, under the same number.
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
}

/// A file that is no record: its content is the volume's.
pub(super) struct AttachmentNode {
    pub(super) id: NodeId,
    open: Ordered<OpenAttachment>,
    /// Whether it was written through this mount since changes were last looked at.
    written: AtomicBool,
}

/// What is known of an attachment while it is open.
#[derive(Default)]
pub(super) struct OpenAttachment {
    /// They outlive its name.
    descriptions: Vec<Weak<Attachment>>,
    pub(super) pages: Pages,
}

impl Node {
    /// A node of which the kernel may have pages.
    pub(super) fn under_known_number(id: NodeId, kind: NodeKind) -> Self {
        match kind {
            NodeKind::Record => Self::Record(Arc::new(RecordNode {
                id,
                record: Ordered::new(Rank::Content, Record::under_known_number()),
            })),
            other => Self::new(id, other),
        }
    }

    pub(super) fn new(id: NodeId, kind: NodeKind) -> Self {
        match kind {
            NodeKind::Directory => Self::Directory(id),
            NodeKind::Record => Self::Record(Arc::new(RecordNode::new(id))),
            NodeKind::Attachment => Self::Attachment(Arc::new(AttachmentNode {
                id,
                open: Ordered::new(Rank::Content, OpenAttachment::default()),
                written: AtomicBool::new(false),
            })),
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

    /// Whether the kernel may be made to forget its name. Not that of a directory: somebody may stand there.
    pub(super) fn is_expendable(&self) -> bool {
        match self {
            Self::Directory(_) => false,
            Self::Record(node) => node
                .try_lock()
                .is_some_and(|record| !record.is_open() && !record.is_unsaved()),
            Self::Attachment(node) => node
                .open
                .try_lock()
                .is_some_and(|mut open| open.any(false).is_none()),
        }
    }
}

impl RecordNode {
    pub(super) fn new(id: NodeId) -> Self {
        Self {
            id,
            record: Ordered::new(Rank::Content, Record::default()),
        }
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
    pub(super) fn lock(&self) -> OrderedGuard<'_, OpenAttachment> {
        self.open.lock()
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

impl OpenAttachment {
    /// Any open description; one that may write, if asked for.
    pub(super) fn any(&mut self, writable: bool) -> Option<Arc<Attachment>> {
        self.descriptions.retain(|open| open.strong_count() > 0);
        let mut open = self.descriptions.iter().filter_map(Weak::upgrade);
        open.find(|attachment| attachment.writable() || !writable)
    }

    pub(super) fn opened(&mut self, attachment: &Arc<Attachment>) {
        self.descriptions.retain(|open| open.strong_count() > 0);
        self.descriptions.push(Arc::downgrade(attachment));
    }
}

/// Somebody replaced the file: the kernel looks the name up again, and finds what is there now.
pub(super) fn stale() -> Error {
    Error::new(Kind::Stale, "the file was replaced; look it up again")
}
