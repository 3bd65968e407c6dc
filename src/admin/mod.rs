//! The operator's work on a whole volume, beside live mounts and the live service: looking at everything, and
//! changing nothing that somebody else changed first.
//!
//! Whoever may read and write the whole volume needs no proof of being anybody; what a record says of its owner
//! decides whose it is, as it does everywhere. No tenant's store is opened here but by `way_back`, which hands out
//! none.

mod copy;
mod erase;
mod export;
mod finding;
mod home;
mod journal;
mod list;
mod migrate;
mod movable;
mod reseal;
mod share;
mod sweep;
mod text;
mod trail;
mod unseal;
mod usage;
mod verify;
mod walk;
mod way_back;

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use rustix::io::Errno;
use zeroize::Zeroizing;

pub use copy::copy;
pub use erase::{Erasure, Receipt, would_erase};
pub use export::{Content, Exported, MANIFEST, Target, export};
pub use finding::{Finding, Problem};
pub use list::{Listed, Listing, Users, Whose, list};
pub use migrate::{Migrated, migrate};
pub use reseal::{Reseal, Resealed, reseal};
pub use unseal::unseal;
pub use usage::{Used, usage};
pub use verify::{Verified, verify};
pub use way_back::{discard_draft, drafts, removed, restore};

use crate::error::{Error, Kind, Result};
use crate::identity::UserId;
use crate::layout::Layout;
use crate::name::Resource;
use crate::record::Lens;
use crate::seal::SealingKeys;
use crate::volume::{self, Access, Dir, Reading, Stat, Volume};

/// A volume, and how it is to be understood.
pub struct Ground {
    /// The volume.
    pub volume: Volume,
    /// Where the tenants' directories are.
    pub layout: Layout,
    /// The kinds of record there are.
    pub resources: Vec<Resource>,
    /// The largest record as a mount shows it, in bytes.
    pub max_record: u64,
    /// How long a record that was removed waits.
    pub keep_removed: Duration,
    /// The members that are secret.
    pub secret_fields: Vec<String>,
    /// What opens them.
    pub keys: Option<Arc<SealingKeys>>,
}

/// Is told how far the work is, and may end it.
pub trait Monitor {
    /// One more file was looked at.
    fn looked_at(&mut self) {}

    /// How much of the volume was visited, in 0..1.
    fn progress(&mut self, _: f64) {}

    /// Something was found.
    fn found(&mut self, _: &Finding) {}

    /// Whether to stop before the next file. What is done by then is whole; the rest is done by another run.
    fn stops(&self) -> bool {
        false
    }
}

impl Ground {
    /// The lens for one user's records.
    fn lens(&self, owner: &UserId) -> Lens {
        let sealer = self.keys.as_ref().map(|keys| keys.sealer(owner));
        Lens::new(owner.clone(), self.secret_fields.clone(), sealer)
    }

    /// The directory that has a user's records of one resource; none when there is none.
    ///
    /// # Errors
    /// As [`existing`]; [`Kind::ProblemsFound`] when it cannot be opened.
    fn directory(&self, user: &UserId, resource: &Resource) -> Result<Option<Dir>> {
        let hash = user.hash();
        let there = descend(self.volume.root(), self.layout.components(resource, &hash));
        there.map_err(as_finding)
    }
}

/// The directory that is reached from `root` by these names, one below the other; none when one of them is
/// absent.
///
/// # Errors
/// As [`existing`].
fn descend<'n>(root: &Dir, names: impl IntoIterator<Item = &'n str>) -> Result<Option<Dir>> {
    let mut dir = root.reopen()?;
    for name in names {
        match existing(&dir, name)? {
            Some(below) => dir = below,
            None => return Ok(None),
        }
    }
    Ok(Some(dir))
}

/// The directory `name`; none where nothing has that name.
///
/// # Errors
/// [`Kind::NotADirectory`] for whatever else it is, symbolic links included: [`Dir::open_dir`] takes these
/// for absent, and who works on a whole volume must not say of what lies behind one that it is not there. Any
/// error of opening a directory.
fn existing(dir: &Dir, name: &str) -> Result<Option<Dir>> {
    match dir.open_dir(name) {
        Err(error) if error.errno() == Some(libc::ENOENT) => Ok(None),
        Err(error) if error.errno() == Some(libc::ELOOP) => {
            Err(Error::os(Errno::LOOP, "opening a directory")
                .because("a symbolic link, which is not followed; put the directory itself in its place")
                .as_kind(Kind::NotADirectory)
                .at(dir.path().join(name)))
        }
        opened => opened.map(Some),
    }
}

/// What keeps a part of the volume from being looked at is a finding: the exit code is the same for all commands. Every other
/// error is what it was.
fn as_finding(error: Error) -> Error {
    let conceals = match error.kind() {
        Kind::AccessDenied | Kind::CrossDevice | Kind::Stale | Kind::NotADirectory | Kind::Io => {
            error.errno().is_some()
        }
        _ => false,
    };
    match conceals {
        true => error.as_kind(Kind::ProblemsFound),
        false => error,
    }
}

/// A file of the volume as it was at one moment: what `stat` says is of the very bytes that were read.
struct Read {
    stat: Stat,
    text: Zeroizing<Vec<u8>>,
}

/// How often a file is read again that was written to meanwhile, and how long apart.
const ATTEMPTS: u32 = 6;
const RETRY_AFTER: Duration = Duration::from_millis(2);

/// Reads the regular file `name`, if it has at most `limit` bytes.
///
/// # Errors
/// [`Kind::NotFound`]; [`Kind::Busy`] when it is written to whenever it is read; any error of opening and
/// reading a file.
fn read(dir: &Dir, name: &str, limit: u64) -> Result<Option<Read>> {
    for _ in 0..ATTEMPTS {
        let reading = volume::read_whole(&dir.open_file(name, Access::Read)?, limit);
        match reading.map_err(|error| error.at(dir.path().join(name)))? {
            Reading::Whole(stat, text) => return Ok(Some(Read { stat, text })),
            Reading::TooLarge(_) => return Ok(None),
            Reading::Torn => thread::sleep(RETRY_AFTER),
            Reading::NotRegular(_) => return Err(Error::new(Kind::InvalidArgument, "not a regular file")),
        }
    }
    Err(Error::new(
        Kind::Busy,
        "it is written to whenever it is read; look again when that has ended",
    ))
}
