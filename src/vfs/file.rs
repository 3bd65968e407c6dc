//! Open files: reading, writing, and what happens when they are closed.

use std::sync::Arc;

use super::Vfs;
use super::ids::Fh;
use super::lock_order::OrderedGuard;
use super::node::RecordNode;
use super::open_file::{Current, OpenFile};
use super::record_state::Record;
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
        let content = self.with(&file, |current| match current {
            Current::Attachment(_, attachment, descriptions) => {
                // Readers do not wait for each other.
                drop(descriptions);
                attachment.read(offset, size)
            }
            Current::Record(_, record) => {
                let start = usize::try_from(offset).unwrap_or(usize::MAX);
                let rest = record.content().get(start..).unwrap_or_default();
                Ok(rest.get(..size).unwrap_or(rest).to_vec())
            }
        })?;
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
        self.with(&file, |current| match current {
            Current::Attachment(node, attachment, _descriptions) => {
                node.written();
                match append {
                    true => attachment.append(bytes),
                    false => attachment.write(offset, bytes),
                }
            }
            Current::Record(node, mut record) => {
                match from_cache {
                    true => record.written_back = true,
                    false => file.written(),
                }
                self.edit(node, &mut record, |draft| match append {
                    true => draft.append(bytes),
                    false => draft.write(offset, bytes),
                })?;
                if !from_cache {
                    file.sync_follows();
                }
                Ok(())
            }
        })?;
        self.transferred(Op::Write, bytes.len());
        Ok(())
    }

    /// Does something with what an open file is by now.
    pub(super) fn with<T>(&self, file: &OpenFile, work: impl FnOnce(Current<'_>) -> Result<T>) -> Result<T> {
        file.with(|ino| self.known(ino), work)
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
        if !file.writer {
            return Ok(());
        }
        self.with(&file, |current| match current {
            Current::Record(node, mut record) if record.draft().is_some() => {
                let occasion = Occasion::Close {
                    by_opener: file.is_openers(closer),
                    wrote: file.wrote() || record.written_back,
                };
                self.settle(node, &mut record, occasion)
            }
            Current::Record(..) | Current::Attachment(..) => Ok(()),
        })
    }

    /// Makes a file durable: a record by committing it.
    ///
    /// # Errors
    /// What a commit says, as long as it says so; the volume's.
    pub fn fsync(&self, fh: Fh, data_only: bool) -> Result<()> {
        let file = self.files.get(fh)?;
        let occasion = match file.is_part_of_write() {
            true => Occasion::Write,
            false => Occasion::Sync,
        };
        self.with(&file, |current| match current {
            Current::Attachment(_, attachment, descriptions) => {
                drop(descriptions);
                attachment.sync(data_only)
            }
            Current::Record(node, record) => self.sync_record(node, record, occasion),
        })
    }

    fn sync_record(
        &self,
        node: &RecordNode,
        mut record: OrderedGuard<'_, Record>,
        occasion: Occasion,
    ) -> Result<()> {
        if record.draft().is_some() {
            return self.settle(node, &mut record, occasion);
        }
        drop(record);
        match self.place(node.id) {
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
        let closed = self.with(&file, |current| {
            match current {
                Current::Record(node, record) => self.close_record(node, record, file.writer, commit),
                Current::Attachment(node, _, mut descriptions) => {
                    descriptions.closed(file.writer);
                    drop(descriptions);
                    self.table.forget(node.id.ino, 0);
                }
            }
            Ok(())
        });
        if let Err(error) = closed {
            log::debug!("at a close: {error:#}");
        }
    }

    fn close_record(
        &self,
        node: &Arc<RecordNode>,
        mut record: OrderedGuard<'_, Record>,
        writer: bool,
        commit: bool,
    ) {
        let last_writer = record.closed(writer);
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
        self.with(&file, |current| match current {
            Current::Attachment(node, attachment, _descriptions) => {
                node.written();
                attachment.allocate(how, offset, len)
            }
            Current::Record(node, mut record) => {
                let changed = self.allocate_in_record(node, &mut record, how, (offset, len))?;
                if changed {
                    file.written();
                }
                Ok(())
            }
        })
    }

    /// Returns whether that changed anything: the space is there, a record's is reserved with it.
    fn allocate_in_record(
        &self,
        node: &RecordNode,
        record: &mut Record,
        how: Allocate,
        (offset, len): (u64, u64),
    ) -> Result<bool> {
        let zeroes = matches!(
            how,
            Allocate::PunchHole | Allocate::ZeroRange | Allocate::ZeroRangeKeepSize
        );
        let extends = matches!(how, Allocate::Extend | Allocate::ZeroRange);
        let end = offset.saturating_add(len);
        let grows = extends && end > record.content().len() as u64;
        if !grows && !zeroes {
            return Ok(false);
        }
        self.edit(node, record, |draft| {
            if grows {
                draft.resize(end)?;
            }
            if zeroes {
                draft.zero(offset, len);
            }
            Ok(true)
        })
    }

    /// The next data or hole at or after `offset`. A record has no holes but the one after its end.
    ///
    /// # Errors
    /// [`Kind::NoData`] when there is none.
    pub fn seek(&self, fh: Fh, what: Seek, offset: u64) -> Result<u64> {
        let file = self.files.get(fh)?;
        self.with(&file, |current| match current {
            Current::Attachment(_, attachment, descriptions) => {
                drop(descriptions);
                attachment.seek(what, offset)
            }
            Current::Record(_, record) => match (what, record.content().len() as u64) {
                (_, size) if offset >= size => Err(Error::new(Kind::NoData, "beyond the end of the file")),
                (Seek::Data, _) => Ok(offset),
                (Seek::Hole, size) => Ok(size),
            },
        })
    }

    /// Copies within the volume, between two attachments.
    ///
    /// # Errors
    /// [`Kind::Unsupported`] when one is a record: the kernel copies by reading and writing then.
    pub fn copy(&self, from: (Fh, u64), to: (Fh, u64), len: usize) -> Result<usize> {
        let (source, target) = (self.files.get(from.0)?, self.files.get(to.0)?);
        // Not held: two attachments could be copied into each other.
        let source = self.with(&source, |current| match current {
            Current::Attachment(_, attachment, _) => Ok(Arc::clone(attachment)),
            Current::Record(..) => Err(no_copy()),
        })?;
        self.with(&target, |current| match current {
            Current::Attachment(node, target, _descriptions) => {
                node.written();
                source.copy_to(from.1, target, to.1, len)
            }
            Current::Record(..) => Err(no_copy()),
        })
    }
}

fn no_copy() -> Error {
    Error::new(Kind::Unsupported, "records are written through their drafts")
}
