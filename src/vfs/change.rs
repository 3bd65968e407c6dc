//! Changing attributes.

use std::sync::Arc;

use super::ids::{Fh, Ino, ROOT};
use super::lock_order::OrderedGuard;
use super::node::{AttachmentNode, Node, NodeId, RecordNode, stale};
use super::open::{Again, OpenMode};
use super::open_file::Current;
use super::record_state::Record;
use super::retries::{Retried, Told};
use super::verdict::Occasion;
use super::{NodeInfo, Vfs, access, not_found};
use crate::error::{Error, Kind, Result};
use crate::store::Attachment;
use crate::volume::Times;

/// Attributes to change; `None` leaves one as it is.
#[derive(Clone, Copy, Default, Debug)]
pub struct Changes {
    /// Permission bits, with set-id and sticky bits (07777).
    pub mode: Option<u16>,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
    /// Bytes.
    pub size: Option<u64>,
    /// Times.
    pub times: Times,
}

/// How a record is changed.
enum By {
    /// Through an open file.
    Handle,
    /// By its name, perhaps because the kernel was told to look that up again.
    Path(Option<Retried>),
}

impl Vfs {
    /// Changes attributes, and returns those after the change; `fh` is the handle that it was asked through, if any, and
    /// `asker` the thread that asks.
    ///
    /// # Errors
    /// [`Kind::NotPermitted`] for the root directory, set-id bits and other owners; what a commit says, when the size
    /// of a record that nobody has open is changed. The volume's.
    pub fn setattr(&self, ino: Ino, fh: Option<Fh>, changes: Changes, asker: u32) -> Result<NodeInfo> {
        let other = |wanted: Option<u32>, own: u32| wanted.is_some_and(|wanted| wanted != own);
        if ino == ROOT || other(changes.uid, self.uid) || other(changes.gid, self.gid) {
            return Err(Error::new(
                Kind::NotPermitted,
                "this belongs to its user, as it is",
            ));
        }
        if changes.mode.is_some_and(|mode| mode & 0o6000 != 0) {
            return Err(Error::new(Kind::NotPermitted, "set-id bits cannot be set"));
        }
        if self.store.read_only() {
            return Err(Error::new(Kind::ReadOnly, "the session is read-only"));
        }
        // What was opened, even if the number stands for something else by now.
        let file = fh.map(|fh| self.files.get(fh)).transpose()?;
        match &file {
            Some(file) => self.with(file, |current| match current {
                Current::Record(node, record) => {
                    if changes.size.is_some() {
                        file.written();
                    }
                    self.change_record(node, record, changes, By::Handle)
                }
                Current::Attachment(node, attachment, _descriptions) => {
                    self.change_attachment(node, attachment, changes)
                }
            })?,
            None => self.change_by_path(&self.known(ino)?, changes, asker)?,
        }
        self.getattr(ino)
    }

    /// The kernel does not say whether a change is made by path or through a descriptor (fchmod, futimens), whose file is
    /// meant wherever it is by now. So the way to what is open, or may be, is not followed.
    fn change_by_path(&self, node: &Node, changes: Changes, asker: u32) -> Result<()> {
        let place = match node {
            Node::Record(_) | Node::Attachment(_) if !node.is_open() => self.table.place(node.id()),
            _ => None,
        };
        let parent = place.map(|place| place.parent);
        let name = self.table.last_place(node.id()).map(|place| place.name);
        self.follow(
            parent.as_slice(),
            name.as_ref(),
            (asker, Told::Operation),
            |retried| self.change_node(node, changes, retried),
        )
    }

    fn change_node(&self, node: &Node, changes: Changes, retried: Option<Retried>) -> Result<()> {
        match node {
            Node::Directory(id) => self.change_directory(*id, changes),
            Node::Record(node) => {
                let record = node.lock();
                match node.is_former() {
                    true => Err(stale()),
                    false => self.change_record(node, record, changes, By::Path(retried)),
                }
            }
            Node::Attachment(node) => {
                let attachment = self.any_open(node, changes.size.is_some())?;
                let _descriptions = node.lock();
                match node.is_former() {
                    true => Err(stale()),
                    false => self.change_attachment(node, &attachment, changes),
                }
            }
        }
    }

    fn change_directory(&self, node: NodeId, changes: Changes) -> Result<()> {
        if changes.size.is_some() {
            return Err(Error::new(Kind::IsADirectory, "a directory has no size"));
        }
        let folder = self.folder(node.ino)?;
        if let Some(mode) = changes.mode {
            folder.set_own_mode(mode)?;
        }
        if changes.times != Times::default() {
            folder.set_own_times(changes.times)?;
        }
        Ok(())
    }

    fn change_record(
        &self,
        node: &RecordNode,
        mut record: OrderedGuard<'_, Record>,
        changes: Changes,
        by: By,
    ) -> Result<()> {
        let (through_handle, retried) = match by {
            By::Handle => (true, None),
            By::Path(retried) => (false, retried),
        };
        let looked_again = retried.is_some();
        if let Some(size) = changes.size {
            // By its name, what that leads to now is meant; without one, what was opened.
            let is_opened = record.is_open() && (through_handle || self.table.place(node.id).is_none());
            if !is_opened && !record.is_unsaved() {
                self.load(node, &mut record, OpenMode::default(), Again::from(retried))?;
            }
            let resized = self.edit(node, &mut record, |draft| draft.resize(size));
            resized.inspect_err(|_| record.rest())?;
        }
        if !record.is_unsaved() {
            self.change_stored_record(node, &mut record, changes, looked_again)?;
        }
        if let Some(draft) = record.draft_mut() {
            draft.mode = changes.mode.map(|mode| mode & 0o1777).or(draft.mode);
            draft.times.atime = changes.times.atime.or(draft.times.atime);
            draft.times.mtime = changes.times.mtime.or(draft.times.mtime);
        }
        let result = match changes.size {
            Some(_) if !through_handle => self.settle(node, &mut record, Occasion::Resize),
            _ => Ok(()),
        };
        record.rest();
        result
    }

    fn change_stored_record(
        &self,
        node: &RecordNode,
        record: &mut Record,
        changes: Changes,
        looked_again: bool,
    ) -> Result<()> {
        let (folder, name) = match self.place(node.id) {
            // Without a name, what is changed lives in memory, as long as somebody has it.
            Err(_) if record.is_open() => return Ok(()),
            Err(_) if looked_again => return Err(not_found()),
            place => place?,
        };
        if !self.is_known_record(node.id, &folder.lookup(&name)?) {
            match record.attributes() {
                Some(_) => return Ok(()),
                // Nobody looks a third time: it is replaced without pause, and this is what has the name.
                None if looked_again => {}
                None => return Err(stale()),
            }
        }
        if let Some(mode) = changes.mode {
            folder.record(&name).set_mode(mode & 0o1777)?;
        }
        if changes.times != Times::default() {
            folder.record(&name).set_times(changes.times)?;
        }
        let attributes = folder.lookup(&name)?;
        // A kept draft is another file after every change.
        self.table.became(node.id, &attributes);
        record.refresh(attributes);
        Ok(())
    }

    /// An open description of an attachment, opened for this where there is none.
    fn any_open(&self, node: &AttachmentNode, writable: bool) -> Result<Arc<Attachment>> {
        if let Some(attachment) = node.lock().any(writable) {
            return Ok(attachment);
        }
        let (folder, name) = self.place(node.id)?;
        let attachment = Attachment::open(&folder, &name, access(writable))?;
        let attributes = attachment.attributes()?;
        if self.table.id(node.id) != Some(attributes.id) && node.lock().any(false).is_none() {
            // As when it is opened: nobody has what was replaced.
            self.table.became(node.id, &attributes);
        }
        Ok(Arc::new(attachment))
    }

    fn change_attachment(
        &self,
        node: &AttachmentNode,
        attachment: &Attachment,
        changes: Changes,
    ) -> Result<()> {
        if self.table.id(node.id) != Some(attachment.attributes()?.id) {
            return Err(stale());
        }
        if let Some(size) = changes.size {
            node.written();
            self.store.within_quota(|| attachment.resize(size))?;
        }
        if let Some(mode) = changes.mode {
            attachment.set_mode(mode & 0o1777)?;
        }
        if changes.times != Times::default() {
            attachment.set_times(changes.times)?;
        }
        Ok(())
    }
}
