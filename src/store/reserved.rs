//! The names of our own that a tenant's directories may have.

use sha2::{Digest, Sha256};

use crate::clock::{self, Timestamp};
use crate::error::{Error, Kind, Result};
use crate::name::EntryName;
use crate::volume::{Dir, Stat, TEMPORARY_PREFIX, Volume};

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

/// The name of ours that belongs to `name`: as long for every name, for names may be as long as can be.
pub(super) fn beside(prefix: &str, name: &EntryName) -> String {
    let digest = hex::encode(Sha256::digest(name.as_str().as_bytes()));
    let (half, _) = digest.split_at(digest.len() / 2);
    format!("{prefix}{half}")
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

/// Removes `entry` if it is one of ours that has outlived its use; `all` also removes what is still useful, but no draft.
pub(super) fn sweep(dir: &Dir, entry: &str, all: bool) {
    let what = Reserved::of(entry);
    if !matches!(what, Reserved::Temporary | Reserved::Away) {
        return;
    }
    let stat = dir.stat(entry);
    let useless = stat.is_ok_and(|stat| all || what.is_outdated(&stat, clock::now()));
    if useless && let Err(error) = forget(dir, entry) {
        log::warn!("removing {entry}, which is no longer needed: {error}");
    }
}
