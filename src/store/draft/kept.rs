//! A draft that could not be committed, on the volume beside its record.

use super::file::{DraftFile, MAX_HEADER};
use crate::error::{Kind, Result};
use crate::name::EntryName;
use crate::store::attributes::{Attributes, NodeKind};
use crate::store::numbers::Numbers;
use crate::store::reserved::{DRAFT_PREFIX, beside};
use crate::volume::{self, Access, Dir, FileType, Shown, Stat};

/// A draft on the volume that is verified to be this tenant's.
pub(in crate::store) struct Kept {
    pub(in crate::store) stat: Stat,
    shown: Shown,
    pub(in crate::store) file: DraftFile,
}

impl Kept {
    /// What the kept draft of the record `name` is called.
    pub(in crate::store) fn entry(name: &EntryName) -> String {
        beside(DRAFT_PREFIX, name)
    }

    /// The draft of `name` that the tenant of this full hash has in `dir`, as far as its attributes need it.
    ///
    /// # Errors
    /// The volume's.
    pub(in crate::store) fn peek(dir: &Dir, full_hash: &str, name: &EntryName) -> Result<Option<Self>> {
        Self::read(dir, full_hash, name, MAX_HEADER)
    }

    /// As [`peek`](Self::peek), with `limit` bytes of its file.
    ///
    /// # Errors
    /// The volume's.
    pub(in crate::store) fn read(
        dir: &Dir,
        full_hash: &str,
        name: &EntryName,
        limit: u64,
    ) -> Result<Option<Self>> {
        Self::open(dir, full_hash, &Self::entry(name), limit)
            .map(|kept| kept.filter(|kept| kept.file.header.name == name.as_str()))
    }

    /// Of which record `entry`, one of ours, is the draft; none when it is no draft of this tenant's.
    ///
    /// # Errors
    /// The volume's.
    pub(in crate::store) fn name_of(dir: &Dir, full_hash: &str, entry: &str) -> Result<Option<EntryName>> {
        if !entry.starts_with(DRAFT_PREFIX) {
            return Ok(None);
        }
        let kept = Self::open(dir, full_hash, entry, MAX_HEADER)?;
        let name = kept.and_then(|kept| EntryName::parse(kept.file.header.name.as_bytes()).ok());
        Ok(name.filter(|name| Self::entry(name) == entry))
    }

    fn open(dir: &Dir, full_hash: &str, entry: &str, limit: u64) -> Result<Option<Self>> {
        match dir.stat(entry) {
            Err(error) if error.kind() == Kind::NotFound => return Ok(None),
            Err(error) => return Err(error),
            Ok(stat) if stat.file_type != FileType::Regular || stat.nlink != 1 => return Ok(None),
            Ok(_) => {}
        }
        let opened = match dir.open_file(entry, Access::Read) {
            Err(error) if error.kind() == Kind::NotFound => return Ok(None),
            result => result?,
        };
        let stat = volume::stat(&opened)?;
        if stat.file_type != FileType::Regular {
            return Ok(None);
        }
        let bytes = volume::read_at_most(&opened, stat.size, limit)?;
        let file = DraftFile::parse(bytes).filter(|file| file.header.owner == full_hash);
        let shown = volume::shown(&opened);
        Ok(file.map(|file| Self { stat, shown, file }))
    }

    /// The number that it is shown under where there is no record beneath it.
    pub(in crate::store) fn own_number(&self, numbers: &Numbers) -> u32 {
        numbers.of(&self.stat, NodeKind::Record, self.shown)
    }

    /// Attributes of the record that this draft is shown as; `committed` are those of the record beneath it.
    pub(in crate::store) fn attributes(
        &self,
        committed: Option<Attributes>,
        numbers: &Numbers,
    ) -> Attributes {
        let mode = self.file.header.mode;
        let number = committed.map_or_else(|| self.own_number(numbers), |record| record.number);
        let own = Attributes::of(&self.stat, NodeKind::Record, mode, number);
        Attributes {
            id: committed.map_or(own.id, |record| record.id),
            mode: mode.or(committed.map(|record| record.mode)).unwrap_or(own.mode),
            kept_draft: true,
            ..own.with_view(self.file.text_size(self.stat.size))
        }
    }
}
