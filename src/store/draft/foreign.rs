//! Kept drafts as those see them who look at everybody's.

use zeroize::Zeroizing;

use super::file::{self, DraftFile};
use crate::error::{Error, Kind, Result};
use crate::identity::UserId;
use crate::seal::{Closed, Sealer};

/// The most that the file of a kept draft may have, in bytes, where records have at most `max_record`.
pub fn draft_limit(max_record: u64) -> u64 {
    file::limit(max_record)
}

/// A kept draft as those see it who look at everybody's.
pub struct ForeignDraft(DraftFile);

impl ForeignDraft {
    /// Understands the file of a kept draft.
    ///
    /// # Errors
    /// [`Kind::InvalidRecord`] when it is none.
    pub fn parse(file: Zeroizing<Vec<u8>>) -> Result<Self> {
        let wrong = || Error::new(Kind::InvalidRecord, "not a draft that this version knows");
        DraftFile::parse(file).map(Self).ok_or_else(wrong)
    }

    /// The full hash of the user whose draft it is.
    pub fn owner(&self) -> &str {
        &self.0.header.owner
    }

    /// The record it would become, as it was called when it was kept.
    pub fn name(&self) -> &str {
        &self.0.header.name
    }

    /// The text.
    ///
    /// # Errors
    /// Why it cannot be opened.
    pub fn text(&self, sealer: Option<&Sealer>) -> std::result::Result<Zeroizing<Vec<u8>>, Closed> {
        self.0.text(sealer)
    }

    /// For whom it is sealed, if it is.
    pub fn sealed_by(&self) -> Option<UserId> {
        self.0.sealed_by()
    }

    /// The file with its text sealed under the active key of its user; none when it is so already, or not sealed.
    ///
    /// # Errors
    /// [`Kind::InvalidRecord`] when it cannot be opened.
    pub fn reseal(&self, user: &UserId, sealer: &Sealer) -> Result<Option<Zeroizing<Vec<u8>>>> {
        if !self.0.is_outdated(sealer) {
            return Ok(None);
        }
        let text = self
            .0
            .text(Some(sealer))
            .map_err(|why| Error::new(Kind::InvalidRecord, format!("the draft cannot be opened: {why}")))?;
        let header = &self.0.header;
        let new = DraftFile::new(user, Some(sealer), &header.name, header.mode, &text)?;
        Ok(Some(Zeroizing::new(new.bytes().to_vec())))
    }
}
