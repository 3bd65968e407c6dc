//! Open files: reading, writing, and what happens when they are closed.

use super::Vfs;
use super::handle::Fh;
use super::settle::Occasion;
use crate::error::{Error, Kind, Result};
use crate::event::{Event, Op};
use crate::store::{Allocate, NodeKind, Seek};

impl Vfs {
    /// Reads up to `size` bytes, fewer only at the end.
    ///
    /// # Errors
    /// [`Kind::BadHandle`]; the volume's.
    pub fn read(&self, fh: Fh, offset: u64, size: usize) -> Result<Vec<u8>> {
        let file = self.handles.file(fh)?;
        let content = match &file.attachment {
            Some(attachment) => attachment.read(offset, size)?,
            None => {
                let body = file.inode.body();
                let rest = usize::try_from(offset)
                    .ok()
                    .and_then(|start| body.text().get(start..));
                let rest = rest.unwrap_or_default();
                rest.get(..size).unwrap_or(rest).to_vec()
            }
        };
        self.transferred(Op::Read, content.len());
        Ok(content)
    }

    /// Writes all of `bytes`; `from_cache` are pages the kernel writes back, for whom the offset is right even when
    /// the file is open for appending.
    ///
    /// # Errors
    /// [`Kind::BadHandle`], [`Kind::TooLarge`]; the volume's.
    pub fn write(&self, fh: Fh, offset: u64, bytes: &[u8], from_cache: bool) -> Result<()> {
        let file = self.handles.file(fh)?;
        let append = file.append && !from_cache;
        match &file.attachment {
            Some(attachment) if append => attachment.append(bytes)?,
            Some(attachment) => attachment.write(offset, bytes)?,
            None => {
                let mut body = file.inode.body();
                let draft = self.begin(&file.inode, &mut body)?;
                match append {
                    true => draft.append(bytes)?,
                    false => draft.write(offset, bytes)?,
                }
            }
        }
        self.transferred(Op::Write, bytes.len());
        Ok(())
    }

    /// Tells of content that goes in or out.
    pub(super) fn transferred(&self, op: Op, bytes: usize) {
        let bytes = bytes as u64;
        self.store.report(&Event::Transferred { op, bytes });
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
            Ok((folder, name)) => folder.record(&name).sync(),
            // Without a name there is nothing that could be lost.
            Err(_) => Ok(()),
        }
    }

    /// The last descriptor of an open file is closed, and its last mapping gone.
    pub fn release(&self, fh: Fh) {
        self.close(fh, true);
    }

    /// As [`release`](Self::release), but nothing is changed on the volume: a draft that is left stays in memory, for
    /// [`settle_closed`](Self::settle_closed).
    pub fn release_without_commit(&self, fh: Fh) {
        self.close(fh, false);
    }

    fn close(&self, fh: Fh, commit: bool) {
        let Some(file) = self.handles.remove_file(fh) else {
            return;
        };
        let mut body = file.inode.body();
        let last_writer = body.closed(file.writer);
        if last_writer && commit && file.inode.kind == NodeKind::Record {
            // Nobody waits for the result: a draft that is kept was reported, and any other stays in memory.
            if let Err(error) = self.settle(&file.inode, &mut body, Occasion::Last) {
                log::debug!("at the last close: {error}");
            }
        }
        body.rest();
        drop(body);
        if last_writer && let Some(place) = self.table.place(&file.inode) {
            // What others did to the name meanwhile was of no matter then.
            self.look_again(place, false);
        }
        self.table.forget(file.inode.ino, 0);
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
