//! The names of our own that a tenant's directories may have.

use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::clock::Timestamp;
use crate::error::{Error, Kind, Result};
use crate::name::{EntryName, MAX_NAME};
use crate::volume::{self, Dir, Staged, TEMPORARY_PREFIX, Volume};

/// The owner marker of a hash directory.
pub const OWNER_MARKER: &str = ".tenantfs-owner";

/// How names of kept drafts begin: they never end in `.json`.
pub(super) const DRAFT_PREFIX: &str = ".tenantfs-draft-";

/// How names of records begin that were renamed to an attachment's name. An editor that makes its backup so writes the
/// record anew a moment later; from here the new one gets its secrets.
pub(super) const AWAY_PREFIX: &str = ".tenantfs-away-";

/// How names begin of records that were removed, and of directories that were removed with nothing but such records in
/// them. They wait for the next of their name, or to be restored.
pub(super) const REMOVED_PREFIX: &str = ".tenantfs-removed-";

/// How names begin of what a record left at its name that was renamed to another record's: its secrets, which it has
/// there as well, and nothing else of it.
pub(super) const SECRETS_PREFIX: &str = ".tenantfs-secrets-";

/// How names of notes begin that say where the directories went that had a name.
pub(super) const MOVED_PREFIX: &str = ".tenantfs-moved-";

/// Names that begin so tell what they are for.
const TELLING: [&str; 3] = [REMOVED_PREFIX, SECRETS_PREFIX, MOVED_PREFIX];

/// How names that tell end, so that none is a record's.
const ENDING: &str = "~";

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
        Ok(_) => Err(being_erased()),
    }
}

pub(super) fn being_erased() -> Error {
    Error::new(
        Kind::Busy,
        "this user's data is being erased: the operator has to finish `tenantfs erase`",
    )
}

pub(super) fn ended_everywhere() -> Error {
    Error::new(Kind::Busy, "the user's sessions were ended on every host")
}

/// What a file under a name of our own is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reserved {
    /// The owner marker.
    Marker,
    /// A kept draft.
    Draft,
    /// A record that was renamed to an attachment's name.
    Away,
    /// The secrets of a record that was renamed to another record's name.
    Secrets,
    /// Where the directories of one name went.
    Moved,
    /// A record that was removed, or a directory.
    Removed,
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
            _ if name.starts_with(REMOVED_PREFIX) => Self::Removed,
            _ if name.starts_with(SECRETS_PREFIX) => Self::Secrets,
            _ if name.starts_with(MOVED_PREFIX) => Self::Moved,
            _ if name.starts_with(TEMPORARY_PREFIX) => Self::Temporary,
            _ => Self::Unknown,
        }
    }

    /// Whether it is a record: the next of its name gets its secrets.
    pub fn is_record(self) -> bool {
        matches!(self, Self::Away | Self::Removed | Self::Secrets)
    }

    /// Whether it waits for the next record, or directory, of its name.
    pub fn waits(self) -> bool {
        self.is_record() || self == Self::Moved
    }

    /// Whether it has outlived its use when it has been there since `since`, where what is removed is kept for so long.
    pub fn is_outdated(self, since: Timestamp, now: Timestamp, keep_removed: Duration) -> bool {
        let kept_millis = match self {
            Self::Away | Self::Temporary => KEPT_MILLIS,
            Self::Removed | Self::Secrets | Self::Moved => {
                i64::try_from(keep_removed.as_millis()).unwrap_or(i64::MAX)
            }
            Self::Marker | Self::Draft | Self::Unknown => return false,
        };
        now.millis_since(since) > kept_millis || kept_millis == 0
    }
}

/// The name of ours that belongs to `name`: as long for every name, for names may be as long as can be.
pub(super) fn beside(prefix: &str, name: &EntryName) -> String {
    let digest = Sha256::digest(name.as_str().as_bytes());
    let (half, _) = digest.split_at(digest.len() / 2);
    format!("{prefix}{}", hex::encode(half))
}

/// The name of ours that belongs to `name`, and tells it, unless that would be too long.
pub(super) fn telling(prefix: &str, name: &EntryName) -> String {
    let telling = format!("{prefix}{name}{ENDING}");
    match telling.len() > MAX_NAME {
        true => beside(prefix, name),
        false => telling,
    }
}

/// What was called `entry` in `dir` before it was removed or renamed away, or what that was left for; none where nothing
/// tells.
pub(super) fn former_name(dir: &Dir, entry: &str) -> Option<EntryName> {
    let rest = TELLING.iter().find_map(|prefix| entry.strip_prefix(prefix));
    let name = match rest.and_then(|rest| rest.strip_suffix(ENDING)) {
        Some(name) => EntryName::parse(name.as_bytes()).ok()?,
        None => EntryName::parse(dir.former_name(entry)?.as_bytes()).ok()?,
    };
    let is_its =
        entry == beside(AWAY_PREFIX, &name) || TELLING.iter().any(|prefix| entry == telling(prefix, &name));
    is_its.then_some(name)
}

/// Notes what is called `name` where `entry`, the name of ours that it gets, does not tell.
pub(super) fn note_name(dir: &Dir, name: &EntryName, entry: &str) {
    if !entry.ends_with(ENDING) {
        noted(dir.set_former_name(name.as_str(), Some(name.as_str())));
    }
}

/// As [`note_name`], for a new file that is going to be called `entry`.
pub(super) fn note_name_of(staged: &Staged<'_>, name: &EntryName, entry: &str) {
    if !entry.ends_with(ENDING) {
        noted(volume::set_former_name(staged.file(), name.as_str()));
    }
}

/// As [`note_name`], for what is called `entry` already.
pub(super) fn note_name_at(dir: &Dir, name: &EntryName, entry: &str) {
    if !entry.ends_with(ENDING) {
        noted(dir.set_former_name(entry, Some(name.as_str())));
    }
}

/// Where it cannot be noted, it is found by those who ask for its name, and is not listed.
fn noted(result: Result<()>) {
    if let Err(error) = result {
        log::debug!("noting a name: {error}");
    }
}

/// Forgets what [`note_name`] noted of what was called `entry`, and is called `name` again.
pub(super) fn forget_noted_name(dir: &Dir, name: &EntryName, entry: &str) {
    if !entry.ends_with(ENDING)
        && let Err(error) = dir.set_former_name(name.as_str(), None)
    {
        log::debug!("forgetting a name that was noted: {error}");
    }
}

/// Removes the file `entry`. Whether there was one.
///
/// # Errors
/// The volume's.
pub(super) fn forget(dir: &Dir, entry: &str) -> Result<bool> {
    match dir.unlink(entry) {
        Err(error) if error.kind() == Kind::NotFound => Ok(false),
        removed => removed.map(|()| true),
    }
}
