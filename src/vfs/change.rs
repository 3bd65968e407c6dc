//! Changing attributes.

use std::sync::Arc;

use super::handle::Fh;
use super::inode::{Inode, stale};
use super::open::OpenMode;
use super::settle::Occasion;
use super::{Ino, Node, ROOT, Vfs, access};
use crate::error::{Error, Kind, Result};
use crate::store::{Attachment, NodeKind};
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

impl Vfs {
    /// Changes attributes, and returns those after the change; `fh` is the handle that it was asked through, if any.
    ///
    /// # Errors
    /// [`Kind::NotPermitted`] for the root directory, set-id bits and other owners; what a commit says, when the size
    /// of a record that nobody has open is changed. The volume's.
    pub fn setattr(&self, ino: Ino, fh: Option<Fh>, changes: Changes) -> Result<Node> {
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
        let inode = match fh {
            Some(fh) => Arc::clone(&self.handles.file(fh)?.inode),
            None => self.inode(ino)?,
        };
        match inode.kind {
            NodeKind::Directory => self.change_directory(&inode, changes)?,
            NodeKind::Record => self.change_record(&inode, fh, changes)?,
            NodeKind::Attachment => self.change_attachment(&inode, fh, changes)?,
        }
        self.getattr(ino)
    }

    fn change_directory(&self, inode: &Inode, changes: Changes) -> Result<()> {
        if changes.size.is_some() {
            return Err(Error::new(Kind::IsADirectory, "a directory has no size"));
        }
        let folder = self.folder(inode.ino)?;
        if let Some(mode) = changes.mode {
            folder.set_own_mode(mode)?;
        }
        if changes.times != Times::default() {
            folder.set_own_times(changes.times)?;
        }
        Ok(())
    }

    fn change_record(&self, inode: &Inode, fh: Option<Fh>, changes: Changes) -> Result<()> {
        let mut body = inode.body();
        if let Some(size) = changes.size {
            if body.opens == 0 || (body.snapshot.is_none() && body.writing.is_none()) {
                self.load(inode, &mut body, OpenMode::default())?;
            }
            self.begin(inode, &mut body)?.resize(size)?;
        }
        if let Some(writing) = &mut body.writing {
            writing.draft.mode = changes.mode.map(|mode| mode & 0o1777).or(writing.draft.mode);
            writing.draft.times.atime = changes.times.atime.or(writing.draft.times.atime);
            writing.draft.times.mtime = changes.times.mtime.or(writing.draft.times.mtime);
        }
        if body.unsaved() {
            let result = match fh {
                None if changes.size.is_some() => self.settle(inode, &mut body, Occasion::Resize),
                _ => Ok(()),
            };
            body.rest();
            return result;
        }
        let (folder, name) = match self.place(inode) {
            Ok(place) => place,
            // Without a name, what is changed lives in memory.
            Err(_) => return Ok(()),
        };
        if !self.is_known(inode, &folder.lookup(&name)?) {
            return body.open_attributes().map(drop);
        }
        if let Some(mode) = changes.mode {
            folder.record(&name).set_mode(mode & 0o1777)?;
        }
        if changes.times != Times::default() {
            folder.record(&name).set_times(changes.times)?;
        }
        let attributes = folder.lookup(&name)?;
        // A kept draft is another file after every change.
        self.table.became(inode, &attributes);
        body.refresh(attributes);
        Ok(())
    }

    fn change_attachment(&self, inode: &Inode, fh: Option<Fh>, changes: Changes) -> Result<()> {
        let through = fh.and_then(|fh| self.handles.file(fh).ok()?.attachment.clone());
        let writable = changes.size.is_some();
        let attachment = match through.or_else(|| inode.body().attachment(writable)) {
            Some(attachment) => attachment,
            None => {
                let (folder, name) = self.place(inode)?;
                Arc::new(Attachment::open(&folder, &name, access(writable))?)
            }
        };
        if self.table.id(inode) != Some(attachment.attributes()?.id) {
            return Err(stale());
        }
        if let Some(size) = changes.size {
            attachment.resize(size)?;
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
