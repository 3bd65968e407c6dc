//! A directory being listed.

use std::vec;

use super::ids::Ino;
use super::watched::Began;
use crate::budget::Charge;
use crate::name::EntryName;
use crate::volume::ReadAhead;

/// The names as they were when the listing began. Whatever comes and goes meanwhile, an offset goes on meaning what it
/// meant.
pub(super) struct Listing {
    pub(super) ino: Ino,
    /// Those that turned out to be visible. Offsets count these only: gaps would tell how much is hidden, and where.
    shown: Vec<EntryName>,
    /// Those that have not been looked at.
    rest: vec::IntoIter<EntryName>,
    /// What of those is being read already.
    ahead: ReadAhead,
    /// Where the kernel may keep it: when it began.
    began: Option<Began>,
    /// What the names take.
    pub(super) memory: Charge,
    _slot: Charge,
}

impl Listing {
    pub(super) fn new(ino: Ino, memory: Charge, slot: Charge) -> Self {
        Self {
            ino,
            shown: Vec::new(),
            rest: Vec::new().into_iter(),
            ahead: ReadAhead::default(),
            began: None,
            memory,
            _slot: slot,
        }
    }

    /// What so many names take, in bytes.
    pub(super) fn size_of(names: &[EntryName]) -> u64 {
        let size = |name: &EntryName| size_of::<EntryName>() + name.as_str().len();
        names.iter().map(size).sum::<usize>() as u64
    }

    pub(super) fn begin(&mut self, names: Vec<EntryName>, began: Option<Began>) {
        self.shown = Vec::new();
        self.rest = names.into_iter();
        self.ahead = ReadAhead::default();
        self.began = began;
    }

    /// How many names were seen so far.
    pub(super) fn shown(&self) -> usize {
        self.shown.len()
    }

    pub(super) fn began(&self) -> Option<Began> {
        self.began
    }

    /// The name at `index`: one that was seen, or the next that has not been.
    pub(super) fn name(&mut self, index: usize) -> Option<EntryName> {
        if index == self.shown.len() {
            self.shown.extend(self.rest.next());
        }
        self.shown.get(index).cloned()
    }

    /// The last name that was seen is not visible after all.
    pub(super) fn unsee(&mut self) {
        self.shown.pop();
    }

    /// The names to be read ahead now.
    pub(super) fn due(&mut self) -> &[EntryName] {
        self.ahead.due(self.rest.as_slice())
    }
}
