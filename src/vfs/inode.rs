//! An inode: one file or directory as the kernel knows it, and while it is open, its content.

use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};

use super::Ino;
use crate::budget::{Charge, Share};
use crate::clock::Stopwatch;
use crate::error::{Error, Kind, Result};
use crate::store::{Attachment, Attributes, Draft, NodeKind, Snapshot};
use crate::volume::Version;

/// One inode. What it is never changes: a record that is renamed to an attachment's name becomes another inode, under the
/// same number.
pub(super) struct Inode {
    pub(super) ino: Ino,
    pub(super) kind: NodeKind,
    body: Mutex<Body>,
}

/// What an inode holds while it is open, or while it has a draft.
///
/// Locked before the table, and one at a time. A commit holds it: who wants to know what the record is has to wait for
/// what it becomes.
#[derive(Default)]
pub(super) struct Body {
    /// Open handles.
    pub(super) opens: u32,
    /// Those among them that may write.
    pub(super) writers: u32,
    /// A record as it was when it was last opened or committed.
    pub(super) snapshot: Option<Snapshot>,
    /// What the snapshot takes of the session's memory, while the inode is open.
    pub(super) held: Option<Charge>,
    /// A record as it was looked up, for the open that follows.
    pub(super) promised: Option<Promise>,
    /// What is being written to a record.
    pub(super) writing: Option<Writing>,
    /// Which version of the content the kernel's pages may hold.
    pub(super) cached: Option<Version>,
    /// Whether the kernel may have any pages, of whatever content.
    pub(super) touched: bool,
    /// The open descriptions of an attachment: they outlive its name.
    pub(super) attachments: Vec<Weak<Attachment>>,
}

/// How long the open that follows a lookup gets what was looked up. Together with the kernel's cache lifetime less than a
/// second.
pub(super) const PROMISE_LIFETIME: Duration = Duration::from_millis(250);

/// A record as it was looked up.
pub(super) struct Promise {
    snapshot: Snapshot,
    made: Stopwatch,
}

impl Promise {
    pub(super) fn new(snapshot: Snapshot) -> Self {
        Self {
            snapshot,
            made: Stopwatch::start(),
        }
    }

    /// What was looked up, however long ago.
    pub(super) fn looked_up(&self) -> &Snapshot {
        &self.snapshot
    }

    /// What was promised, if that was not too long ago.
    pub(super) fn snapshot(&self) -> Option<&Snapshot> {
        (self.made.elapsed() < PROMISE_LIFETIME).then_some(&self.snapshot)
    }
}

/// A draft, and whether the volume has it.
pub(super) struct Writing {
    pub(super) draft: Draft,
    pub(super) saved: bool,
    /// Whether it was found, as it is, to be neither a record nor something that may be kept on the volume.
    pub(super) refused: bool,
    /// Why the volume could not have it, when that was last tried.
    pub(super) failed: Option<Error>,
}

impl Inode {
    pub(super) fn new(ino: Ino, kind: NodeKind) -> Self {
        Self {
            ino,
            kind,
            body: Mutex::default(),
        }
    }

    /// Another inode under the number of one that the kernel may have pages of.
    pub(super) fn under_known_number(ino: Ino, kind: NodeKind) -> Self {
        let inode = Self::new(ino, kind);
        inode.body().touched = true;
        inode
    }

    pub(super) fn body(&self) -> MutexGuard<'_, Body> {
        self.body.lock()
    }

    /// None while somebody else has it.
    pub(super) fn try_body(&self) -> Option<MutexGuard<'_, Body>> {
        self.body.try_lock()
    }
}

impl Body {
    /// Whether there is a draft that only memory has.
    pub(super) fn unsaved(&self) -> bool {
        self.writing.as_ref().is_some_and(|writing| !writing.saved)
    }

    /// The attributes of a record that has a draft.
    pub(super) fn drafted(&self) -> Option<Attributes> {
        let committed = self.snapshot.as_ref().map(|snapshot| &snapshot.attributes);
        let writing = self.writing.as_ref()?;
        Some(Attributes::of_draft(&writing.draft, committed))
    }

    /// The attributes of a record that has a draft, or is open: what was opened is what is read, and nothing else.
    pub(super) fn of_open_record(&self) -> Option<Attributes> {
        let opened = self.snapshot.as_ref().filter(|_| self.opens > 0);
        self.drafted().or(opened.map(|snapshot| snapshot.attributes))
    }

    /// The attributes of a record that has a draft, or may get one any moment.
    pub(super) fn written(&self) -> Option<Attributes> {
        let opened = self.of_open_record().filter(|_| self.writers > 0);
        self.drafted().or(opened)
    }

    /// The attributes of a file that is open, whatever became of its name.
    ///
    /// # Errors
    /// [`Kind::Stale`] when it is not.
    pub(super) fn open_attributes(&self) -> Result<Attributes> {
        if let Some(attachment) = self.attachment(false) {
            return attachment.attributes();
        }
        self.drafted()
            .or(self.snapshot.as_ref().map(|snapshot| snapshot.attributes))
            .ok_or_else(stale)
    }

    /// The text of a record: the draft's, or as it was when it was opened.
    pub(super) fn text(&self) -> &[u8] {
        match (&self.writing, &self.snapshot) {
            (Some(writing), _) => writing.draft.text(),
            (None, Some(snapshot)) => &snapshot.view,
            (None, None) => &[],
        }
    }

    /// The draft, begun from the text where there is none, about to be changed.
    ///
    /// # Errors
    /// [`Kind::NoSpace`] when the session's drafts take too much memory.
    pub(super) fn begin(&mut self, max: u64, memory: &Arc<Share>) -> Result<&mut Draft> {
        let writing = match self.writing.take() {
            Some(writing) => writing,
            None => Writing {
                draft: Draft::new(self.text().to_vec(), max).within(memory)?,
                saved: false,
                refused: false,
                failed: None,
            },
        };
        self.cached = None;
        let writing = self.writing.insert(writing);
        writing.saved = false;
        writing.refused = false;
        Ok(&mut writing.draft)
    }

    /// Any open description of an attachment; one that may write, if asked for.
    pub(super) fn attachment(&self, writable: bool) -> Option<Arc<Attachment>> {
        let mut open = self.attachments.iter().filter_map(Weak::upgrade);
        open.find(|attachment| attachment.writable() || !writable)
    }

    pub(super) fn opened(&mut self, writer: bool, attachment: Option<&Arc<Attachment>>) {
        self.opens += 1;
        self.touched = true;
        self.writers += u32::from(writer);
        self.attachments.retain(|open| open.strong_count() > 0);
        self.attachments.extend(attachment.map(Arc::downgrade));
    }

    /// A handle is closed; whether it was the last that may write.
    pub(super) fn closed(&mut self, writer: bool) -> bool {
        self.opens = self.opens.saturating_sub(1);
        self.writers = self.writers.saturating_sub(u32::from(writer));
        writer && self.writers == 0
    }

    /// The same content has other attributes now: the kernel's pages stay right.
    pub(super) fn refresh(&mut self, attributes: Attributes) {
        let Some(snapshot) = &mut self.snapshot else {
            return;
        };
        if attributes.kept_draft || attributes.size != snapshot.attributes.size {
            return;
        }
        if self.cached == Some(snapshot.attributes.version) {
            self.cached = Some(attributes.version);
        }
        snapshot.attributes = attributes;
    }

    /// How much memory the snapshot takes, in bytes.
    pub(super) fn snapshot_size(&self) -> u64 {
        self.snapshot
            .as_ref()
            .map_or(0, |snapshot| snapshot.view.len() as u64)
    }

    /// Counts another snapshot in place of the one that was counted: it is there already.
    pub(super) fn recount(&mut self) {
        let size = self.snapshot_size();
        if let Some(held) = &mut self.held {
            held.set(size);
        }
    }

    /// Lets go of what the volume has too, when nobody has the inode open.
    pub(super) fn rest(&mut self) {
        if self.opens > 0 {
            return;
        }
        self.snapshot = None;
        self.held = None;
        if !self.unsaved() {
            self.writing = None;
        }
    }
}

/// Somebody replaced the file: the kernel looks the name up again, and finds what is there now.
pub(super) fn stale() -> Error {
    Error::new(Kind::Stale, "the file was replaced; look it up again")
}
