//! The names of our own that a tenant's directories may have (DESIGN.md section 3).

use zeroize::Zeroizing;

use super::draft_file::{self, DraftFile};
use crate::clock::Timestamp;
use crate::error::{Error, Kind, Result};
use crate::identity::UserId;
use crate::seal::{Closed, Sealer};
use crate::volume::{Stat, TEMPORARY_PREFIX, Volume};

/// The owner marker of a hash directory.
pub const OWNER_MARKER: &str = ".tenantfs-owner";

/// How names of kept drafts begin: they never end in `.json`.
pub(super) const DRAFT_PREFIX: &str = ".tenantfs-draft-";

/// How names of records begin that were renamed to an attachment's name. An editor that makes its backup so writes the
/// record anew a moment later; from here the new one gets its secrets.
pub(super) const AWAY_PREFIX: &str = ".tenantfs-away-";

/// How long a record that was renamed away, or a temporary file of a server that was killed, is kept, in milliseconds.
const KEPT_MILLIS: i64 = 3_600_000;

/// The journal of an erasure, in the volume's root, that is not finished. As long as it is there, its user cannot log in.
pub fn erasure_journal(full_hash: &str) -> String {
    format!(".tenantfs-erasure-{full_hash}")
}

/// # Errors
/// [`Kind::Busy`] when the user's data is being erased, or that was begun and has to be finished.
pub(super) fn not_being_erased(volume: &Volume, full_hash: &str) -> Result<()> {
    match volume.root().stat(&erasure_journal(full_hash)) {
        Err(error) if error.kind() == Kind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(_) => Err(Error::new(
            Kind::Busy,
            "this user's data is being erased: the operator has to finish `tenantfs erase`",
        )),
    }
}

/// What a file under a name of our own is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reserved {
    /// The owner marker.
    Marker,
    /// A kept draft.
    Draft,
    /// A record that was renamed away.
    Away,
    /// A file that is being written.
    Temporary,
    /// Nothing that this version knows.
    Unknown,
}

impl Reserved {
    /// What a file called `name` is.
    pub fn of(name: &str) -> Self {
        match name {
            OWNER_MARKER => Self::Marker,
            _ if name.starts_with(DRAFT_PREFIX) => Self::Draft,
            _ if name.starts_with(AWAY_PREFIX) => Self::Away,
            _ if name.starts_with(TEMPORARY_PREFIX) => Self::Temporary,
            _ => Self::Unknown,
        }
    }

    /// Whether it has outlived its use.
    pub fn is_outdated(self, stat: &Stat, now: Timestamp) -> bool {
        // By the change of the inode, which renaming is too.
        matches!(self, Self::Away | Self::Temporary) && now.millis_since(stat.ctime) > KEPT_MILLIS
    }
}

/// The most that the file of a kept draft may have, in bytes, where records have at most `max_record`.
pub fn draft_limit(max_record: u64) -> u64 {
    draft_file::limit(max_record)
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
