//! Bytes on their way to becoming a record.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use zeroize::Zeroizing;

use crate::clock::{self, Timestamp};
use crate::error::{Error, Kind, Result};
use crate::volume::Times;

/// The memory that all drafts of one session may take together: a tenant's budget is not everybody's.
#[derive(Debug)]
pub struct Budget {
    left: AtomicU64,
}

impl Budget {
    /// A budget of so many bytes.
    pub fn new(bytes: u64) -> Self {
        Self {
            left: AtomicU64::new(bytes),
        }
    }

    fn take(&self, bytes: u64) -> Result<()> {
        self.left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                left.checked_sub(bytes)
            })
            .map(drop)
            .map_err(|_| Error::new(Kind::NoSpace, "the session's drafts take all the memory they may"))
    }

    fn give_back(&self, bytes: u64) {
        self.left.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// The text of a record while it is being written: a file in memory.
pub struct Draft {
    /// Whatever its user types: it may hold a secret.
    text: Zeroizing<Vec<u8>>,
    /// What the next commit must put on the record, beside the text.
    pub mode: Option<u16>,
    /// Times set since the last write; a write supersedes the modification time.
    pub times: Times,
    /// Last change of the text.
    pub changed: Timestamp,
    max: u64,
    budget: Option<Arc<Budget>>,
}

impl Draft {
    /// A draft that starts as `text` and may grow to `max` bytes.
    pub fn new(text: Vec<u8>, max: u64) -> Self {
        Self {
            text: Zeroizing::new(text),
            mode: None,
            times: Times::default(),
            changed: clock::now(),
            max,
            budget: None,
        }
    }

    /// The same draft, its text counted against `budget` as long as it lives.
    ///
    /// # Errors
    /// [`Kind::NoSpace`] when the budget is spent.
    pub fn within(mut self, budget: &Arc<Budget>) -> Result<Self> {
        budget.take(self.len())?;
        self.budget = Some(Arc::clone(budget));
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
        if let Some(budget) = &self.budget {
            match size.checked_sub(self.len()) {
                Some(growth) => budget.take(growth)?,
                None => budget.give_back(self.len() - size),
            }
        }
        self.text.resize(len, 0);
        self.touch();
        Ok(())
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

impl Drop for Draft {
    fn drop(&mut self) {
        if let Some(budget) = &self.budget {
            budget.give_back(self.len());
        }
    }
}

impl fmt::Debug for Draft {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Draft({} bytes)", self.text.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn drafts_share_a_budget_and_give_it_back() {
        let budget = Arc::new(Budget::new(10));
        let mut one = Draft::new(b"1234".to_vec(), 100).within(&budget).unwrap();
        let two = Draft::new(b"12345".to_vec(), 100).within(&budget).unwrap();
        assert_eq!(one.append(b"56").unwrap_err().kind(), Kind::NoSpace);
        assert_eq!(one.text(), b"1234");
        drop(two);
        one.append(b"567890").unwrap();
        one.resize(0).unwrap();
        assert!(Draft::new(vec![0; 10], 100).within(&budget).is_ok());
        assert!(Draft::new(vec![0; 11], 100).within(&budget).is_err());
    }
}
