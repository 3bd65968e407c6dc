//! Bytes on their way to becoming a record.

use std::fmt;
use std::sync::Arc;

use zeroize::Zeroizing;

use crate::budget::{Charge, Share};
use crate::clock::{self, Timestamp};
use crate::error::{Error, Kind, Result};
use crate::store::attributes::{Attributes, NodeKind};
use crate::volume::{FileId, Times, Version};

/// The text of a record while it is being written: a file in memory.
pub struct Draft {
    /// Whatever its user types: it may hold a secret.
    text: Zeroizing<Vec<u8>>,
    /// What the next commit must put on the record, beside the text.
    pub mode: Option<u16>,
    /// The inode number under which it was typed: what it becomes keeps it.
    pub number: Option<u32>,
    /// Times set since the last write; a write supersedes the modification time.
    pub times: Times,
    /// Last change of the text.
    pub changed: Timestamp,
    max: u64,
    charge: Option<Charge>,
}

impl Draft {
    /// A draft that starts as `text` and may grow to `max` bytes.
    pub fn new(text: Vec<u8>, max: u64) -> Self {
        Self {
            text: Zeroizing::new(text),
            mode: None,
            number: None,
            times: Times::default(),
            changed: clock::now(),
            max,
            charge: None,
        }
    }

    /// The same draft, its text counted against `memory` as long as it lives.
    ///
    /// # Errors
    /// [`Kind::NoSpace`] when there is no more.
    pub fn within(mut self, memory: &Arc<Share>) -> Result<Self> {
        self.charge = Some(memory.take(self.len()).ok_or_else(no_memory)?);
        Ok(self)
    }

    fn len(&self) -> u64 {
        self.text.len() as u64
    }

    /// The text.
    pub fn text(&self) -> &[u8] {
        &self.text
    }

    /// The last change of the text, or what a program set in its place.
    pub fn mtime(&self) -> Timestamp {
        self.times.mtime.unwrap_or(self.changed)
    }

    /// The attributes of a record that is shown as this draft; `committed` are those of the record beneath it, if any.
    pub fn attributes(&self, committed: Option<&Attributes>) -> Attributes {
        let size = self.len();
        Attributes {
            id: committed.map_or(FileId { dev: 0, ino: 0 }, |record| record.id),
            number: self.number.or(committed.map(|record| record.number)).unwrap_or(0),
            names: 1,
            kind: NodeKind::Record,
            size,
            blocks: size.div_ceil(512),
            mode: self.mode.or(committed.map(|record| record.mode)).unwrap_or(0o600),
            atime: self
                .times
                .atime
                .or(committed.map(|record| record.atime))
                .unwrap_or(self.changed),
            mtime: self.mtime(),
            ctime: self.changed,
            version: Version {
                size,
                mtime: self.mtime(),
                ctime: self.changed,
            },
            kept_draft: false,
        }
    }

    /// Overwrites and extends the text from `offset` on; a gap is filled with zeros, as in a file.
    ///
    /// # Errors
    /// [`Kind::TooLarge`], [`Kind::NoSpace`].
    pub fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<()> {
        let end = offset.saturating_add(bytes.len() as u64);
        if end > self.len() {
            self.resize(end)?;
        }
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        if let Some(target) = self
            .text
            .get_mut(start..)
            .and_then(|tail| tail.get_mut(..bytes.len()))
        {
            target.copy_from_slice(bytes);
        }
        self.touch();
        Ok(())
    }

    /// Appends to the text.
    ///
    /// # Errors
    /// [`Kind::TooLarge`], [`Kind::NoSpace`].
    pub fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.write(self.len(), bytes)
    }

    /// Cuts the text, or extends it with zeros.
    ///
    /// # Errors
    /// [`Kind::TooLarge`], [`Kind::NoSpace`].
    pub fn resize(&mut self, size: u64) -> Result<()> {
        let len = usize::try_from(size)
            .ok()
            .filter(|_| size <= self.max)
            .ok_or_else(|| Error::new(Kind::TooLarge, "the record would be larger than max_size"))?;
        let before = self.len();
        if let Some(charge) = &mut self.charge {
            match size.checked_sub(before) {
                Some(growth) if !charge.grow(growth) => return Err(no_memory()),
                Some(_) => {}
                None => charge.set(size),
            }
        }
        if len > self.text.capacity() {
            self.make_room(len);
        }
        self.text.resize(len, 0);
        self.touch();
        Ok(())
    }

    /// Room for `len` bytes and more to come. What grew by itself would leave a copy behind.
    fn make_room(&mut self, len: usize) {
        let most = usize::try_from(self.max).unwrap_or(usize::MAX);
        let capacity = self.text.capacity().saturating_mul(2).min(most).max(len);
        let mut roomy = Zeroizing::new(Vec::with_capacity(capacity));
        roomy.extend_from_slice(&self.text);
        self.text = roomy;
    }

    /// Zeros the bytes of a range that are within the text.
    pub fn zero(&mut self, offset: u64, len: u64) {
        let bound = |at: u64| usize::try_from(at).unwrap_or(usize::MAX).min(self.text.len());
        let range = bound(offset)..bound(offset.saturating_add(len));
        if let Some(bytes) = self.text.get_mut(range) {
            bytes.fill(0);
        }
        self.touch();
    }

    fn touch(&mut self) {
        self.changed = clock::now();
        self.times.mtime = None;
    }
}

fn no_memory() -> Error {
    Error::new(Kind::NoSpace, "the session's drafts take all the memory they may")
}

impl fmt::Debug for Draft {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Draft({} bytes)", self.text.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::Pool;

    #[test]
    fn a_draft_is_a_file_in_memory() {
        let mut draft = Draft::new(b"abc".to_vec(), 10);
        draft.write(1, b"XY").unwrap();
        assert_eq!(draft.text(), b"aXY");
        draft.write(5, b"z").unwrap();
        assert_eq!(draft.text(), b"aXY\0\0z");
        draft.resize(2).unwrap();
        draft.append(b"!").unwrap();
        draft.zero(0, 1);
        assert_eq!(draft.text(), b"\0X!");
    }

    #[test]
    fn a_draft_stops_at_its_limit_and_keeps_its_text() {
        let mut draft = Draft::new(b"abc".to_vec(), 4);
        assert_eq!(draft.write(3, b"de").unwrap_err().kind(), Kind::TooLarge);
        assert_eq!(draft.write(u64::MAX, b"d").unwrap_err().kind(), Kind::TooLarge);
        assert_eq!(draft.resize(5).unwrap_err().kind(), Kind::TooLarge);
        assert_eq!(draft.text(), b"abc");
    }

    #[test]
    fn drafts_share_the_memory_and_give_it_back() {
        let memory = Pool::alone(10).share(10);
        let mut one = Draft::new(b"1234".to_vec(), 100).within(&memory).unwrap();
        let two = Draft::new(b"12345".to_vec(), 100).within(&memory).unwrap();
        assert_eq!(one.append(b"56").unwrap_err().kind(), Kind::NoSpace);
        assert_eq!(one.text(), b"1234");
        drop(two);
        one.append(b"567890").unwrap();
        one.resize(0).unwrap();
        assert!(Draft::new(vec![0; 10], 100).within(&memory).is_ok());
        assert!(Draft::new(vec![0; 11], 100).within(&memory).is_err());
    }
}
