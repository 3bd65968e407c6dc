//! Files that are no records: their bytes are the volume's.

use std::fs::File;
use std::os::unix::fs::FileExt;

use rustix::fs::{FallocateFlags, SeekFrom};
use rustix::io::ReadWriteFlags;

use super::attributes::{Attributes, NodeKind};
use super::folder::Folder;
use super::found::not_found;
use super::look::Look;
use super::shown::{change_mode, show_mode};
use crate::error::{Doing, Error, Kind, Result};
use crate::event::Op;
use crate::name::EntryName;
use crate::quota::Tracked;
use crate::volume::{self, Access, FileType, Staged, Stat, Times};

/// An open attachment. It stays open, and readable, when its name is removed.
#[derive(Debug)]
pub struct Attachment {
    file: File,
    access: Access,
    as_opened: Attributes,
    /// What it counts, where that is counted.
    tracked: Option<Tracked>,
    max_size: u64,
}

/// What to look for in a file with holes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Seek {
    /// The next byte that is there.
    Data,
    /// The next byte that is not.
    Hole,
}

/// What is done to a range of a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Allocate {
    /// Reserve space, and extend the file.
    Extend,
    /// Reserve space beyond the end without extending the file.
    KeepSize,
    /// Give the space back: the range reads as zeros.
    PunchHole,
    /// As [`Allocate::Extend`], and the range reads as zeros.
    ZeroRange,
    /// As [`Allocate::KeepSize`], and the range reads as zeros.
    ZeroRangeKeepSize,
}

impl Attachment {
    /// Creates the attachment `name` in `folder`, open for reading and writing; `mode` are the permission bits that the
    /// mount shows.
    ///
    /// # Errors
    /// [`Kind::InvalidArgument`] for the name of a record; [`Kind::Exists`], [`Kind::NameTaken`]; the volume's.
    pub fn create(folder: &Folder, name: &EntryName, mode: u16) -> Result<Self> {
        let look = folder.look();
        look.tenant.claim()?;
        if name.is_record() {
            return Err(Error::new(Kind::InvalidArgument, "this is the name of a record"));
        }
        look.vacant(Op::Create, name)?;
        let staged = Staged::new(look.dir, &look.dir.stat_self()?)?;
        if mode != staged.mode() {
            show_mode(staged.file(), mode)?;
        }
        let file = staged.place_empty(name.as_str())?;
        let stat = volume::stat(&file)?;
        Ok(Self::opened(look, file, &stat, Access::ReadWrite))
    }

    /// What is staged, open for reading and writing, whatever becomes of the name that it gets.
    ///
    /// # Errors
    /// The operating system's.
    pub(super) fn staged(look: Look<'_>, staged: &Staged<'_>) -> Result<Self> {
        let file = staged.file().try_clone();
        let file = file.map_err(|error| Error::io(&error, "opening a file once more"))?;
        let stat = volume::stat(&file)?;
        Ok(Self::opened(look, file, &stat, Access::ReadWrite))
    }

    /// Opens the attachment `name` in `folder`.
    ///
    /// # Errors
    /// [`Kind::NotFound`] when it is absent, hidden or no attachment; the volume's.
    pub fn open(folder: &Folder, name: &EntryName, access: Access) -> Result<Self> {
        if name.is_record() {
            return Err(not_found());
        }
        let look = folder.look();
        if access == Access::ReadWrite {
            look.tenant.claim()?;
        }
        // Not opened at all unless it was seen to be regular: opening a device can do things.
        if look.lookup(name)?.kind != NodeKind::Attachment {
            return Err(not_found());
        }
        let file = look.dir.open_file(name.as_str(), access)?;
        let stat = volume::stat(&file)?;
        match stat.file_type == FileType::Regular && stat.nlink <= 1 {
            true => Ok(Self::opened(look, file, &stat, access)),
            false => Err(not_found()),
        }
    }

    fn opened(look: Look<'_>, file: File, stat: &Stat, access: Access) -> Self {
        let (tenant, kind) = (look.tenant, NodeKind::Attachment);
        let shown = volume::shown(&file);
        let number = tenant.numbers.of(stat, kind, shown);
        Self {
            as_opened: Attributes::of(stat, kind, shown.mode, number),
            tracked: look.dir.tracked(stat),
            max_size: tenant.options.max_attachment,
            file,
            access,
        }
    }

    /// The same file, whatever became of its name, opened once more.
    ///
    /// # Errors
    /// The operating system's.
    pub fn open_again(&self, access: Access) -> Result<Self> {
        Ok(Self {
            file: volume::open_again(&self.file, access)?,
            access,
            as_opened: self.as_opened,
            tracked: self.tracked.as_ref().map(Tracked::open_again),
            max_size: self.max_size,
        })
    }

    /// Whether it was opened for writing too.
    pub fn writable(&self) -> bool {
        self.access == Access::ReadWrite
    }

    /// The attributes when the file was opened, by whoever did that first.
    pub fn as_opened(&self) -> Attributes {
        self.as_opened
    }

    /// The attributes, as of now.
    ///
    /// # Errors
    /// The operating system's.
    pub fn attributes(&self) -> Result<Attributes> {
        let stat = volume::stat(&self.file)?;
        let mode = volume::shown(&self.file).mode;
        Ok(Attributes::of(
            &stat,
            NodeKind::Attachment,
            mode,
            self.as_opened.number,
        ))
    }

    /// Reads up to `size` bytes; fewer only at the end of the file.
    ///
    /// # Errors
    /// The operating system's.
    pub fn read(&self, offset: u64, size: usize) -> Result<Vec<u8>> {
        let mut bytes = Vec::with_capacity(size);
        while bytes.len() < size {
            let at = offset.saturating_add(bytes.len() as u64);
            match rustix::io::pread(&self.file, rustix::buffer::spare_capacity(&mut bytes), at) {
                Ok(0) => break,
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(errno) => return Err(Error::os(errno, "reading a file")),
            }
        }
        bytes.truncate(size);
        Ok(bytes)
    }

    /// Writes all of `bytes`.
    ///
    /// # Errors
    /// The operating system's.
    pub fn write(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        self.extending(offset, bytes.len() as u64, || {
            self.file
                .write_all_at(bytes, offset)
                .map_err(|error| Error::io(&error, "writing to the volume"))
        })
    }

    /// Does what may make the file longer than it is: up to `offset` and `len` bytes more.
    fn extending<T>(&self, offset: u64, len: u64, act: impl FnOnce() -> Result<T>) -> Result<T> {
        let end = self.allowed(offset.saturating_add(len))?;
        match &self.tracked {
            Some(tracked) => tracked.extend(end, act, || self.size()),
            None => act(),
        }
    }

    fn allowed(&self, size: u64) -> Result<u64> {
        match size > self.max_size {
            true => Err(Error::new(
                Kind::TooLarge,
                "the file would be larger than the operator allows",
            )),
            false => Ok(size),
        }
    }

    fn size(&self) -> Result<u64> {
        volume::stat(&self.file).map(|stat| stat.size)
    }

    /// Writes all of `bytes` at the end, wherever that is when they arrive.
    ///
    /// # Errors
    /// The operating system's.
    pub fn append(&self, bytes: &[u8]) -> Result<()> {
        let more = bytes.len() as u64;
        // Every append is at most as much beyond what is allowed as there are who append at once.
        self.allowed(self.size()?.saturating_add(more))?;
        match &self.tracked {
            Some(tracked) => tracked.append(more, || self.append_all(bytes), || self.size()),
            None => self.append_all(bytes),
        }
    }

    fn append_all(&self, bytes: &[u8]) -> Result<()> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let slice = [std::io::IoSlice::new(rest)];
            match rustix::io::pwritev2(&self.file, &slice, 0, ReadWriteFlags::APPEND) {
                Ok(0) => return Err(Error::new(Kind::Io, "the volume takes no more bytes of a file")),
                Ok(written) => rest = rest.get(written..).unwrap_or_default(),
                Err(rustix::io::Errno::INTR) => {}
                Err(errno) => return Err(Error::os(errno, "appending to a file")),
            }
        }
        Ok(())
    }

    /// Cuts or extends the file.
    ///
    /// # Errors
    /// The operating system's.
    pub fn resize(&self, size: u64) -> Result<()> {
        self.allowed(size)?;
        let act = || rustix::fs::ftruncate(&self.file, size).doing("changing a file's size");
        match &self.tracked {
            Some(tracked) => tracked.resize(size, act, || self.size()),
            None => act(),
        }
    }

    /// Reserves, punches or zeros a range.
    ///
    /// # Errors
    /// [`Kind::Unsupported`] where the volume's file system cannot, and for space beyond the end of a file where quotas count
    /// what files have; the operating system's.
    pub fn allocate(&self, how: Allocate, offset: u64, len: u64) -> Result<()> {
        let flags = match how {
            Allocate::Extend => FallocateFlags::empty(),
            Allocate::KeepSize => FallocateFlags::KEEP_SIZE,
            Allocate::PunchHole => FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE,
            Allocate::ZeroRange => FallocateFlags::ZERO_RANGE,
            Allocate::ZeroRangeKeepSize => FallocateFlags::ZERO_RANGE | FallocateFlags::KEEP_SIZE,
        };
        let act = || rustix::fs::fallocate(&self.file, flags, offset, len).doing("allocating space");
        match how {
            Allocate::PunchHole => act(),
            Allocate::Extend | Allocate::ZeroRange => self.extending(offset, len, act),
            Allocate::KeepSize | Allocate::ZeroRangeKeepSize => {
                let end = self.allowed(offset.saturating_add(len))?;
                match self.tracked.is_some() && end > self.size()? {
                    true => Err(Error::new(
                        Kind::Unsupported,
                        "a quota counts what a file has, and this would be beyond its end",
                    )),
                    false => act(),
                }
            }
        }
    }

    /// The next data or hole at or after `offset`.
    ///
    /// # Errors
    /// [`Kind::NoData`] when there is none; the operating system's.
    pub fn seek(&self, what: Seek, offset: u64) -> Result<u64> {
        // The description's own position is nobody's here: every read and write names its offset.
        let position = match what {
            Seek::Data => SeekFrom::Data(offset),
            Seek::Hole => SeekFrom::Hole(offset),
        };
        rustix::fs::seek(&self.file, position).doing("seeking in a file")
    }

    /// Copies up to `len` bytes within the volume; returns how many.
    ///
    /// # Errors
    /// The operating system's.
    pub fn copy_to(&self, offset: u64, target: &Self, target_offset: u64, len: usize) -> Result<usize> {
        let (mut from, mut to) = (offset, target_offset);
        // No more than there is.
        let there = self.size()?.saturating_sub(offset).min(len as u64);
        target.extending(target_offset, there, || {
            rustix::fs::copy_file_range(&self.file, Some(&mut from), &target.file, Some(&mut to), len)
                .doing("copying between files")
        })
    }

    /// Sets times; `None` leaves one as it is.
    ///
    /// # Errors
    /// The operating system's.
    pub fn set_times(&self, times: Times) -> Result<()> {
        volume::set_times(&self.file, times)
    }

    /// Sets the permission bits that the mount shows.
    ///
    /// # Errors
    /// [`Kind::Unsupported`] where the volume's file system has no user attributes.
    pub fn set_mode(&self, mode: u16) -> Result<()> {
        change_mode(&self.file, mode)
    }

    /// Makes the content durable; with `data_only`, attributes that are not needed to read it may lag behind.
    ///
    /// # Errors
    /// The operating system's.
    pub fn sync(&self, data_only: bool) -> Result<()> {
        let synced = match data_only {
            true => rustix::fs::fdatasync(&self.file),
            false => rustix::fs::fsync(&self.file),
        };
        synced.doing("making a file durable")
    }
}
