//! Open files: reading, writing, and what happens when they are closed.

use super::Vfs;
use super::ids::Fh;
use super::open_file::{OpenContent, OpenRecord};
use super::verdict::Occasion;
use crate::error::{Error, Kind, Result};
use crate::event::{Event, Op};
use crate::store::{Allocate, Seek};

impl Vfs {
    /// Reads up to `size` bytes, fewer only at the end.
    ///
    /// # Errors
    /// [`Kind::BadHandle`]; the volume's.
    pub fn read(&self, fh: Fh, offset: u64, size: usize) -> Result<Vec<u8>> {
        let file = self.files.get(fh)?;
        let content = match &file.content {
            OpenContent::Attachment(_, attachment) => attachment.read(offset, size)?,
            OpenContent::Record(open) => {
                let record = open.node.lock();
                let start = usize::try_from(offset).unwrap_or(usize::MAX);
                let rest = record.content().get(start..).unwrap_or_default();
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
        let file = self.files.get(fh)?;
        let append = file.append && !from_cache;
        match &file.content {
            OpenContent::Attachment(node, attachment) => {
                node.written();
                self.store.within_quota(|| match append {
                    true => attachment.append(bytes),
                    false => attachment.write(offset, bytes),
                })?;
            }
            OpenContent::Record(open) => {
                let mut record = open.node.lock();
                match from_cache {
                    true => record.written_back = true,
                    false => open.written(),
                }
                self.edit(&open.node, &mut record, |draft| match append {
                    true => draft.append(bytes),
                    false => draft.write(offset, bytes),
                })?;
                if !from_cache {
                    open.sync_follows();
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
    /// What a commit says, as long as it says so: every close of a descriptor that wrote is told.
    pub fn flush(&self, fh: Fh, closer: u32) -> Result<()> {
        let file = self.files.get(fh)?;
        let OpenContent::Record(open) = &file.content else {
            return Ok(());
        };
        if !open.writer {
            return Ok(());
        }
        let mut record = open.node.lock();
        if record.draft().is_none() {
            return Ok(());
        }
        let occasion = Occasion::Close {
            by_opener: open.is_openers(closer),
            wrote: open.wrote() || record.written_back,
        };
        self.settle(&open.node, &mut record, occasion)
    }

    /// Makes a file durable: a record by committing it.
    ///
    /// # Errors
    /// What a commit says, as long as it says so; the volume's.
    pub fn fsync(&self, fh: Fh, data_only: bool) -> Result<()> {
        let file = self.files.get(fh)?;
        match &file.content {
            OpenContent::Attachment(_, attachment) => attachment.sync(data_only),
            OpenContent::Record(open) => self.sync_record(open),
        }
    }

    fn sync_record(&self, open: &OpenRecord) -> Result<()> {
        let occasion = match open.is_part_of_write() {
            true => Occasion::Write,
            false => Occasion::Sync,
        };
        let mut record = open.node.lock();
        if record.draft().is_some() {
            return self.settle(&open.node, &mut record, occasion);
        }
        drop(record);
        match self.place(open.node.id) {
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
        let Some(file) = self.files.remove(fh) else {
            return;
        };
        match &file.content {
            OpenContent::Record(open) => self.close_record(open, commit),
            OpenContent::Attachment(node, _) => {
                self.table.forget(node.id.ino, 0);
            }
        }
    }

    fn close_record(&self, open: &OpenRecord, commit: bool) {
        let node = &open.node;
        let mut record = node.lock();
        let last_writer = record.closed(open.writer);
        if last_writer && commit {
            // Nobody waits for the result: a draft that is kept was reported, and any other stays in memory.
            if let Err(error) = self.settle(node, &mut record, Occasion::Last) {
                log::debug!("at the last close: {error:#}");
            }
        }
        if last_writer {
            record.written_back = false;
        }
        match self.table.place(node.id) {
            Some(_) => record.rest(),
            None => record.abandon(),
        }
        if !record.is_unsaved() {
            self.table.drafting_ends(node.id);
        }
        drop(record);
        if last_writer && let Some(place) = self.table.place(node.id) {
            // What others did to the name meanwhile was of no matter then.
            self.look_again(place, false);
        }
        self.table.forget(node.id.ino, 0);
    }

    /// Reserves, punches or zeros a range of a file.
    ///
    /// # Errors
    /// [`Kind::TooLarge`], [`Kind::Unsupported`]; the volume's.
    pub fn allocate(&self, fh: Fh, how: Allocate, offset: u64, len: u64) -> Result<()> {
        let file = self.files.get(fh)?;
        let open = match &file.content {
            OpenContent::Attachment(node, attachment) => {
                node.written();
                return self.store.within_quota(|| attachment.allocate(how, offset, len));
            }
            OpenContent::Record(open) => open,
        };
        let zeroes = matches!(
            how,
            Allocate::PunchHole | Allocate::ZeroRange | Allocate::ZeroRangeKeepSize
        );
        let extends = matches!(how, Allocate::Extend | Allocate::ZeroRange);
        let end = offset.saturating_add(len);
        let mut record = open.node.lock();
        let grows = extends && end > record.content().len() as u64;
        if !grows && !zeroes {
            // The space is there: a record's is reserved with it.
            return Ok(());
        }
        open.written();
        self.edit(&open.node, &mut record, |draft| {
            if grows {
                draft.resize(end)?;
            }
            if zeroes {
                draft.zero(offset, len);
            }
            Ok(())
        })
    }

    /// The next data or hole at or after `offset`. A record has no holes but the one after its end.
    ///
    /// # Errors
    /// [`Kind::NoData`] when there is none.
    pub fn seek(&self, fh: Fh, what: Seek, offset: u64) -> Result<u64> {
        let file = self.files.get(fh)?;
        let size = match &file.content {
            OpenContent::Attachment(_, attachment) => return attachment.seek(what, offset),
            OpenContent::Record(open) => open.node.lock().content().len() as u64,
        };
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
        let (source, target) = (self.files.get(from.0)?, self.files.get(to.0)?);
        match (&source.content, &target.content) {
            (OpenContent::Attachment(_, source), OpenContent::Attachment(node, target)) => {
                node.written();
                self.store
                    .within_quota(|| source.copy_to(from.1, target, to.1, len))
            }
            _ => Err(Error::new(
                Kind::Unsupported,
                "records are written through their drafts",
            )),
        }
    }
}
