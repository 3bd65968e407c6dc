//! The owner marker: whose hash directory this is, in full.

use std::fs::File;
use std::io::Read;
use std::sync::OnceLock;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::reserved::OWNER_MARKER;
use crate::error::{Error, Kind, Result};
use crate::volume::{Access, Dir, Durability, Staged};

/// The longest marker, in bytes.
const MAX: u64 = 128;

/// A hash directory whose marker is either ours or absent.
#[derive(Debug)]
pub(super) struct Marker {
    dir: Dir,
    /// The marker, once it is there: as long as it is open, it is locked, and nobody erases what is here. The lock is the
    /// file's and not the directory's: of a directory's other hosts know nothing.
    held: OnceLock<File>,
}

impl Marker {
    /// Reads the marker in `dir`, and has nobody erase what is there as long as this lives.
    ///
    /// # Errors
    /// [`Kind::HashCollision`] when it names another user; [`Kind::Busy`] while it is being erased; [`Kind::Io`] when it
    /// cannot be understood.
    pub(super) fn check(dir: Dir, full_hash: &str) -> Result<Self> {
        let marker = Self {
            dir,
            held: OnceLock::new(),
        };
        match marker.hold(full_hash) {
            Err(error) if error.kind() == Kind::NotFound => {}
            held => held?,
        }
        Ok(marker)
    }

    pub(super) fn dir(&self) -> &Dir {
        &self.dir
    }

    /// Whether it was there already when it was looked for last.
    pub(super) fn is_held(&self) -> bool {
        self.held.get().is_some()
    }

    /// Writes the marker, once.
    ///
    /// # Errors
    /// [`Kind::HashCollision`] when another user was first; [`Kind::Busy`] while it is being erased.
    pub(super) fn claim(&self, full_hash: &str) -> Result<()> {
        if self.is_held() {
            return Ok(());
        }
        let mut staged = Staged::new(&self.dir, &self.dir.stat_self()?)?;
        staged.write(full_hash.as_bytes())?;
        match staged.place_new(OWNER_MARKER, Durability::Durable) {
            Err(error) if error.kind() != Kind::Exists => return Err(error),
            _ => {}
        }
        self.hold(full_hash)
    }

    /// Opens the marker, which has to be ours, and locks it.
    fn hold(&self, full_hash: &str) -> Result<()> {
        let context = |error: Error| error.context("reading the owner marker .tenantfs-owner");
        let marker = match open(&self.dir) {
            Err(error) if error.kind() == Kind::NotFound => return Err(error),
            opened => opened.map_err(context)?,
        };
        if read(&marker).map_err(context)? != full_hash {
            return Err(Error::new(
                Kind::HashCollision,
                "hash_collision: the directory of this user's hash belongs to another user id; \
                 the operator must give one of the two another id",
            ));
        }
        match flock(&marker, FlockOperation::NonBlockingLockShared) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => return Err(Error::new(Kind::Busy, "this user's data is being erased")),
            // A file system without locks: the erasure's journal has to do.
            Err(errno) => log::debug!("locking the owner marker: {errno}"),
        }
        // Where another thread was first, that one's lock is as good.
        let _ = self.held.set(marker);
        Ok(())
    }
}

/// The marker of `dir`, open.
fn open(dir: &Dir) -> Result<File> {
    match dir.stat(OWNER_MARKER)?.is_regular() {
        true => dir.open_file(OWNER_MARKER, Access::Read),
        false => Err(Error::new(Kind::Io, "it is not a regular file")),
    }
}

fn read(marker: &File) -> Result<String> {
    let mut text = String::new();
    marker
        .take(MAX)
        .read_to_string(&mut text)
        .map_err(|error| Error::io(&error, "reading"))?;
    Ok(text.trim_end().to_owned())
}

/// Waits for nobody: whether no session has what is in this hash directory, nor gets it as long as the file that is returned
/// is open. None where a session has it.
///
/// # Errors
/// The operating system's.
pub fn lock_out_sessions(dir: &Dir) -> Result<Option<Lockout>> {
    // NFS has exclusive locks only of what is open for writing.
    let marker = match dir.open_file(OWNER_MARKER, Access::ReadWrite) {
        Err(error) if error.kind() == Kind::NotFound => return Ok(Some(Lockout { _marker: None })),
        opened => opened?,
    };
    match flock(&marker, FlockOperation::NonBlockingLockExclusive) {
        Err(Errno::WOULDBLOCK) => Ok(None),
        // A file system without locks: the erasure's journal has to do.
        _ => Ok(Some(Lockout {
            _marker: Some(marker),
        })),
    }
}

/// A hash directory that no session has, or gets, as long as this lives.
#[derive(Debug)]
pub struct Lockout {
    /// None where nobody has ever written there.
    _marker: Option<File>,
}
