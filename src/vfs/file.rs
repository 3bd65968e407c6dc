//! Open files: reading, writing, and what happens when they are closed.

use std::sync::Arc;

use super::handle::{Fh, OpenFile};
use super::inode::{Body, Inode, Writing, stale};
use super::settle::Occasion;
use super::table::Place;
use super::{Changes, Ino, Node, Vfs, access, below_root, node};
use crate::error::{Error, Kind, Result};
use crate::name::EntryName;
use crate::store::{Allocate, Attachment, Attributes, NodeKind, Seek};
use crate::volume::Times;

/// How a file is opened. What may be read and written then, the kernel sees to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct OpenMode {
    /// O_WRONLY or O_RDWR.
    pub write: bool,
    /// O_APPEND: every write goes to the end, wherever that is by then.
    pub append: bool,
    /// O_TRUNC.
    pub truncate: bool,
    /// O_EXCL: fail if it exists.
    pub exclusive: bool,
}

/// An open file, and what the kernel may do.
#[derive(Clone, Copy, Debug)]
pub struct Opened {
    /// The handle.
    pub fh: Fh,
    /// Pages of the content that it has are still right.
    pub keep_cache: bool,
    /// It need not say when a descriptor is closed: nothing depends on it.
    pub no_flush: bool,
}

impl Vfs {
    /// Opens a file; `opener` is the thread that asks.
    ///
    /// # Errors
    /// [`Kind::Stale`] when the file was replaced since it was looked up: the kernel then looks again.
    /// [`Kind::NotFound`], [`Kind::IsADirectory`], [`Kind::TooManyOpen`]; the volume's.
    pub fn open(&self, ino: Ino, mode: OpenMode, opener: u32) -> Result<Opened> {
        self.handles.has_room()?;
        let inode = self.inode(ino)?;
        match inode.kind {
            NodeKind::Directory => Err(Error::new(Kind::IsADirectory, "a directory")),
            NodeKind::Record => self.open_record(inode, mode, opener),
            NodeKind::Attachment => self.open_attachment(inode, mode, opener),
        }
    }

    fn open_record(&self, inode: Arc<Inode>, mode: OpenMode, opener: u32) -> Result<Opened> {
        if self.store.read_only() && (mode.write || mode.truncate) {
            return Err(Error::new(Kind::ReadOnly, "the session is read-only"));
        }
        let keep_cache = {
            let mut body = inode.body();
            let mut keep_cache = self.load(&inode, &mut body, mode)?;
            if mode.truncate {
                self.begin(&inode, &mut body)?.resize(0)?;
                keep_cache = false;
            } else if !body.touched
                && body.writing.is_none()
                && let Some(snapshot) = &body.snapshot
            {
                // Under the lock of an inode that nobody has had open: the kernel has no page of it, no READ of it is
                // under way whose page this would wait for, and its size is this content's.
                keep_cache = self.pages.fill(inode.ino, &snapshot.view);
                body.cached = keep_cache.then_some(snapshot.attributes.version);
            }
            body.opened(mode.write, None);
            keep_cache
        };
        let fh = self.handles.add_file(OpenFile {
            inode,
            opener,
            writer: mode.write,
            append: mode.append,
            attachment: None,
        });
        Ok(Opened {
            fh,
            keep_cache,
            no_flush: !mode.write,
        })
    }

    /// Brings a record's content into memory, as it was when it was looked up. Whether the kernel's pages hold that
    /// content.
    ///
    /// # Errors
    /// [`Kind::Stale`] when it is another by now.
    fn load(&self, inode: &Inode, body: &mut Body, mode: OpenMode) -> Result<bool> {
        let place = self.place(inode);
        let last_place = self.table.last_place(inode);
        let contended = last_place.is_some_and(|place| self.is_contended(&place));
        body.promised = body.promised.take().filter(|_| contended);
        if let Some(promised) = &body.promised
            && body.writing.is_none()
            && (place.is_ok() || !mode.write)
        {
            let unchanged = body.cached == Some(promised.attributes.version);
            body.snapshot = Some(promised.clone());
            return Ok(unchanged);
        }
        let (folder, name) = place.inspect_err(|_| self.contend(inode))?;
        if body.writing.is_some() || body.writers > 0 {
            return Ok(body.cached.is_some());
        }
        let attributes = folder.lookup(&name)?;
        if attributes.kept_draft && self.is_known(inode, &attributes) {
            let draft = folder
                .load_draft(&name)?
                .ok_or_else(stale)?
                .within(&self.drafts)?;
            body.snapshot = folder.open_record(&name).ok();
            body.writing = Some(Writing { draft, saved: true });
            body.cached = None;
            return Ok(false);
        }
        let snapshot = folder.open_record(&name)?;
        if !self.is_known(inode, &snapshot.attributes) {
            if mode.truncate && body.opens == 0 {
                // Of what is replaced, nothing is read.
                body.snapshot = Some(snapshot);
                return Ok(false);
            }
            self.contend(inode);
            return Err(stale());
        }
        let unchanged = body.cached == Some(snapshot.attributes.version);
        body.cached = body.cached.filter(|_| unchanged);
        body.snapshot = Some(snapshot);
        Ok(unchanged)
    }

    fn open_attachment(&self, inode: Arc<Inode>, mode: OpenMode, opener: u32) -> Result<Opened> {
        let writable = mode.write || mode.truncate;
        let (folder, name) = self.place(&inode)?;
        let attachment = Arc::new(folder.open_attachment(&name, access(writable))?);
        let attributes = attachment.attributes()?;
        if self.table.id(&inode) != Some(attributes.id) {
            if inode.body().opens > 0 {
                return Err(stale());
            }
            self.table.became(&inode, &attributes);
        }
        let told = self.table.last_told(&inode);
        if told.is_none_or(|told| told.version != attributes.version) {
            // Others write to it too: the kernel must not go by the old size.
            self.pages.drop_attributes(inode.ino);
        }
        if mode.truncate {
            attachment.resize(0)?;
        }
        let keep_cache = {
            let mut body = inode.body();
            let unchanged = body.cached == Some(attributes.version);
            body.cached = Some(attributes.version);
            body.opened(mode.write, Some(&attachment));
            unchanged && !mode.truncate
        };
        let fh = self.handles.add_file(OpenFile {
            inode,
            opener,
            writer: mode.write,
            append: mode.append,
            attachment: Some(attachment),
        });
        Ok(Opened {
            fh,
            keep_cache,
            no_flush: true,
        })
    }

    /// Creates the file `name` in `parent`, and opens it. A record comes into being in memory, and is on the volume
    /// when it is one.
    ///
    /// # Errors
    /// [`Kind::NotPermitted`] in the root directory and for reserved names, [`Kind::InvalidName`],
    /// [`Kind::NameTaken`] over something hidden, [`Kind::Exists`] where the mode is exclusive; the volume's.
    pub fn create(
        &self,
        parent: Ino,
        name: &[u8],
        permissions: u16,
        mode: OpenMode,
        opener: u32,
    ) -> Result<(Node, Opened)> {
        below_root(parent)?;
        self.handles.has_room()?;
        if self.store.read_only() {
            return Err(Error::new(Kind::ReadOnly, "the session is read-only"));
        }
        let place = Place {
            parent,
            name: EntryName::parse(name)?,
        };
        let folder = self.folder(parent)?;
        let drafted = self.look_up_written(&folder, &place);
        if drafted.is_some() || folder.occupant("create", &place.name)?.is_some() {
            // It came into being since the kernel looked.
            if let Some(node) = drafted {
                self.forget(node.ino, 1);
            }
            if mode.exclusive {
                return Err(Error::new(Kind::Exists, "the name exists"));
            }
            let node = self.lookup(parent, name)?;
            let opened = self
                .open(node.ino, mode, opener)
                .inspect_err(|_| self.forget(node.ino, 1))?;
            return Ok((node, opened));
        }
        match place.name.is_record() {
            true => self.create_record(place, permissions, mode, opener),
            false => {
                let attachment = folder.create_attachment(&place.name, permissions & 0o777)?;
                self.created_attachment(place, attachment, mode, opener)
            }
        }
    }

    fn create_record(
        &self,
        place: Place,
        permissions: u16,
        mode: OpenMode,
        opener: u32,
    ) -> Result<(Node, Opened)> {
        let inode = self.table.enter_draft(place);
        let attributes = {
            let mut body = inode.body();
            let draft = body.begin(self.store.max_record(), &self.drafts)?;
            draft.mode = Some(permissions & 0o777);
            let attributes = Attributes::of_draft(draft, None);
            body.opened(mode.write, None);
            attributes
        };
        let node = node(inode.ino, attributes);
        let fh = self.handles.add_file(OpenFile {
            inode,
            opener,
            writer: mode.write,
            append: mode.append,
            attachment: None,
        });
        let opened = Opened {
            fh,
            keep_cache: false,
            no_flush: !mode.write,
        };
        Ok((node, opened))
    }

    fn created_attachment(
        &self,
        place: Place,
        attachment: Attachment,
        mode: OpenMode,
        opener: u32,
    ) -> Result<(Node, Opened)> {
        let attachment = Arc::new(attachment);
        let attributes = attachment.attributes()?;
        let inode = self.table.enter(place, &attributes);
        inode.body().opened(mode.write, Some(&attachment));
        let node = node(inode.ino, attributes);
        let fh = self.handles.add_file(OpenFile {
            inode,
            opener,
            writer: mode.write,
            append: mode.append,
            attachment: Some(attachment),
        });
        let opened = Opened {
            fh,
            keep_cache: false,
            no_flush: true,
        };
        Ok((node, opened))
    }

    /// Reads up to `size` bytes, fewer only at the end.
    ///
    /// # Errors
    /// [`Kind::BadHandle`]; the volume's.
    pub fn read(&self, fh: Fh, offset: u64, size: usize) -> Result<Vec<u8>> {
        let file = self.handles.file(fh)?;
        if let Some(attachment) = &file.attachment {
            return attachment.read(offset, size);
        }
        let body = file.inode.body();
        let rest = usize::try_from(offset)
            .ok()
            .and_then(|start| body.text().get(start..));
        let rest = rest.unwrap_or_default();
        Ok(rest.get(..size).unwrap_or(rest).to_vec())
    }

    /// Writes all of `bytes`; `from_cache` are pages the kernel writes back, for whom the offset is right even when
    /// the file is open for appending.
    ///
    /// # Errors
    /// [`Kind::BadHandle`], [`Kind::TooLarge`]; the volume's.
    pub fn write(&self, fh: Fh, offset: u64, bytes: &[u8], from_cache: bool) -> Result<()> {
        let file = self.handles.file(fh)?;
        let append = file.append && !from_cache;
        if let Some(attachment) = &file.attachment {
            return match append {
                true => attachment.append(bytes),
                false => attachment.write(offset, bytes),
            };
        }
        let mut body = file.inode.body();
        let draft = self.begin(&file.inode, &mut body)?;
        match append {
            true => draft.append(bytes),
            false => draft.write(offset, bytes),
        }
    }

    /// A descriptor is closed, by the thread `closer`. An attachment's bytes are on the volume already.
    ///
    /// # Errors
    /// What a commit says.
    pub fn flush(&self, fh: Fh, closer: u32) -> Result<()> {
        let file = self.handles.file(fh)?;
        if !file.writer || file.attachment.is_some() {
            return Ok(());
        }
        let mut body = file.inode.body();
        if !body.unsaved() {
            return Ok(());
        }
        let by_opener = file.is_openers(closer);
        self.settle(&file.inode, &mut body, Occasion::Close { by_opener })
    }

    /// Makes a file durable: a record by committing it.
    ///
    /// # Errors
    /// What a commit says; the volume's.
    pub fn fsync(&self, fh: Fh, data_only: bool) -> Result<()> {
        let file = self.handles.file(fh)?;
        if let Some(attachment) = &file.attachment {
            return attachment.sync(data_only);
        }
        let mut body = file.inode.body();
        if body.unsaved() {
            return self.settle(&file.inode, &mut body, Occasion::Sync);
        }
        match self.place(&file.inode) {
            Ok((folder, name)) => folder.sync_record(&name),
            // Without a name there is nothing that could be lost.
            Err(_) => Ok(()),
        }
    }

    /// The last descriptor of an open file is closed, and its last mapping gone.
    pub fn release(&self, fh: Fh) {
        let Some(file) = self.handles.remove_file(fh) else {
            return;
        };
        let mut body = file.inode.body();
        let last_writer = body.closed(file.writer);
        if last_writer && file.inode.kind == NodeKind::Record {
            // Nobody waits for the result: a draft that is kept was reported, and any other stays in memory.
            if let Err(error) = self.settle(&file.inode, &mut body, Occasion::Last) {
                log::debug!("at the last close: {error}");
            }
        }
        body.rest();
        drop(body);
        self.table.forget(file.inode.ino, 0);
    }

    pub(super) fn change_record(&self, inode: &Inode, fh: Option<Fh>, changes: Changes) -> Result<()> {
        let mut body = inode.body();
        if let Some(size) = changes.size {
            if body.opens == 0 || (body.snapshot.is_none() && body.writing.is_none()) {
                self.load(inode, &mut body, OpenMode::default())?;
            }
            self.begin(inode, &mut body)?.resize(size)?;
        }
        if let Some(writing) = &mut body.writing {
            writing.draft.mode = changes.mode.map(|mode| mode & 0o777).or(writing.draft.mode);
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
            folder.set_mode(&name, mode & 0o777)?;
        }
        if changes.times != Times::default() {
            folder.set_times(&name, changes.times)?;
        }
        let attributes = folder.lookup(&name)?;
        // A kept draft is another file after every change.
        self.table.became(inode, &attributes);
        body.refresh(attributes);
        Ok(())
    }

    pub(super) fn change_attachment(&self, inode: &Inode, fh: Option<Fh>, changes: Changes) -> Result<()> {
        let through = fh.and_then(|fh| self.handles.file(fh).ok()?.attachment.clone());
        let writable = changes.size.is_some();
        let attachment = match through.or_else(|| inode.body().attachment(writable)) {
            Some(attachment) => attachment,
            None => {
                let (folder, name) = self.place(inode)?;
                Arc::new(folder.open_attachment(&name, access(writable))?)
            }
        };
        if self.table.id(inode) != Some(attachment.attributes()?.id) {
            return Err(stale());
        }
        if let Some(size) = changes.size {
            attachment.resize(size)?;
        }
        if let Some(mode) = changes.mode {
            attachment.set_mode(mode & 0o777)?;
        }
        if changes.times != Times::default() {
            attachment.set_times(changes.times)?;
        }
        Ok(())
    }

    /// Reserves, punches or zeros a range of a file.
    ///
    /// # Errors
    /// [`Kind::TooLarge`], [`Kind::Unsupported`]; the volume's.
    pub fn allocate(&self, fh: Fh, how: Allocate, offset: u64, len: u64) -> Result<()> {
        let file = self.handles.file(fh)?;
        if let Some(attachment) = &file.attachment {
            return attachment.allocate(how, offset, len);
        }
        let mut body = file.inode.body();
        let end = offset.saturating_add(len);
        let extends = end > body.text().len() as u64;
        let draft = self.begin(&file.inode, &mut body)?;
        if extends && matches!(how, Allocate::Extend | Allocate::ZeroRange) {
            draft.resize(end)?;
        }
        if matches!(
            how,
            Allocate::PunchHole | Allocate::ZeroRange | Allocate::ZeroRangeKeepSize
        ) {
            draft.zero(offset, len);
        }
        Ok(())
    }

    /// The next data or hole at or after `offset`. A record has no holes but the one after its end.
    ///
    /// # Errors
    /// [`Kind::NoData`] when there is none.
    pub fn seek(&self, fh: Fh, what: Seek, offset: u64) -> Result<u64> {
        let file = self.handles.file(fh)?;
        if let Some(attachment) = &file.attachment {
            return attachment.seek(what, offset);
        }
        let size = file.inode.body().text().len() as u64;
        match what {
            _ if offset >= size => Err(Error::new(Kind::NoData, "beyond the end of the file")),
            Seek::Data => Ok(offset),
            Seek::Hole => Ok(size),
        }
    }

    /// Copies within the volume, between two attachments.
    ///
    /// # Errors
    /// [`Kind::Unsupported`] when one is a record: the kernel copies by reading and writing then.
    pub fn copy(&self, from: (Fh, u64), to: (Fh, u64), len: usize) -> Result<usize> {
        let (source, target) = (self.handles.file(from.0)?, self.handles.file(to.0)?);
        match (&source.attachment, &target.attachment) {
            (Some(source), Some(target)) => source.copy_to(from.1, target, to.1, len),
            _ => Err(Error::new(
                Kind::Unsupported,
                "records are written through their drafts",
            )),
        }
    }
}
