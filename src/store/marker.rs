//! The owner marker: whose hash directory this is, in full.

use std::io::Read;
use std::sync::atomic::{AtomicBool, Ordering};

use super::reserved::OWNER_MARKER;
use crate::error::{Error, Kind, Result};
use crate::volume::{Access, Dir, Durability, Lock, Staged};

/// A hash directory whose marker is either ours or absent.
#[derive(Debug)]
pub(super) struct Marker {
    dir: Dir,
    present: AtomicBool,
}

impl Marker {
    /// Reads the marker in `dir`, and has nobody erase what is there as long as this lives.
    ///
    /// # Errors
    /// [`Kind::HashCollision`] when it names another user; [`Kind::Busy`] while it is being erased; [`Kind::Io`] when it
    /// cannot be understood.
    pub(super) fn check(dir: Dir, full_hash: &str) -> Result<Self> {
        match dir.lock(Lock::Shared) {
            Ok(true) => {}
            Ok(false) => return Err(Error::new(Kind::Busy, "this user's data is being erased")),
            // A file system without locks: the erasure's journal has to do.
            Err(error) => log::debug!("locking a user's directory: {error}"),
        }
        let present = match read(&dir) {
            Ok(found) if found == full_hash => true,
            Ok(_) => {
                return Err(Error::new(
                    Kind::HashCollision,
                    "hash_collision: the directory of this user's hash belongs to another user id; \
                     the operator must give one of the two another id",
                ));
            }
            Err(error) if error.kind() == Kind::NotFound => false,
            Err(error) => return Err(error.context("reading the owner marker .tenantfs-owner")),
        };
        Ok(Self {
            dir,
            present: AtomicBool::new(present),
        })
    }

    pub(super) fn dir(&self) -> &Dir {
        &self.dir
    }

    /// Writes the marker, once.
    ///
    /// # Errors
    /// [`Kind::HashCollision`] when another user was first.
    pub(super) fn claim(&self, full_hash: &str) -> Result<()> {
        if self.present.load(Ordering::Acquire) {
            return Ok(());
        }
        let mut staged = Staged::new(&self.dir, &self.dir.stat_self()?)?;
        staged.write(full_hash.as_bytes())?;
        match staged.place_new(OWNER_MARKER, Durability::Durable) {
            Ok(_) => {}
            Err(error) if error.kind() == Kind::Exists => {
                if read(&self.dir)? != full_hash {
                    return Err(Error::new(
                        Kind::HashCollision,
                        "hash_collision: another user was first",
                    ));
                }
            }
            Err(error) => return Err(error),
        }
        self.present.store(true, Ordering::Release);
        Ok(())
    }
}

fn read(dir: &Dir) -> Result<String> {
    if !dir.stat(OWNER_MARKER)?.is_regular() {
        return Err(Error::new(Kind::Io, "it is not a regular file"));
    }
    let mut text = String::new();
    dir.open_file(OWNER_MARKER, Access::Read)?
        .take(128)
        .read_to_string(&mut text)
        .map_err(|error| Error::io(&error, "reading"))?;
    Ok(text.trim_end().to_owned())
}
