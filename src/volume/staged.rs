//! New files, complete before anybody can see them.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;

use rustix::io::Errno;

use super::dir::Dir;
use super::inherit::{inherit_owner, set_mode};
use super::remote;
use super::stat::{FileId, Stat, stat};
use super::write_back::write_back;
use crate::error::{Doing, Kind, Result};
use crate::name::RESERVED_PREFIX;
use crate::quota::{Amount, Reservation};

/// How much of a commit is on the disk when it returns.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Durability {
    /// All of it: content and name survive a power cut.
    #[default]
    Durable,
    /// The content goes to the disk before the name does: after a power cut there is the old file or the new one. (On
    /// ext4 in its default mode, and wherever what was written before a change of names is there when that is.)
    Ordered,
}

/// Whether something has the name that a file is to get, and is replaced.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Occupant {
    /// Nothing may be replaced.
    Never,
    /// Most likely nothing is there.
    Perhaps,
    /// Something is there, unless it was just removed.
    Surely,
}

/// A file that has no name yet, or where the file system knows no such thing, one of ours. Dropped before it is
/// placed, it leaves nothing behind.
#[derive(Debug)]
pub struct Staged<'dir> {
    dir: &'dir Dir,
    file: File,
    mode: u16,
    /// Only on file systems whose unnamed files cannot be trusted.
    name: Option<String>,
    /// The right to have it, where that is counted.
    reservation: Option<Reservation>,
    /// What goes when it is placed, or soon after.
    replaces: Amount,
    written: u64,
}

impl<'dir> Staged<'dir> {
    /// An empty file in `dir` with the owner, group and permission bits of `like` (execute bits left out when it is
    /// a directory).
    ///
    /// # Errors
    /// [`QuotaExceeded`](crate::error::Kind::QuotaExceeded); the operating system's.
    pub fn new(dir: &'dir Dir, like: &Stat) -> Result<Self> {
        Self::instead_of(&[], dir, like)
    }

    /// As [`new`](Self::new), for what comes in the place of these entries: only what it takes more than they do has to be
    /// within the quota.
    ///
    /// # Errors
    /// As `new`.
    pub fn instead_of(replaced: &[&str], dir: &'dir Dir, like: &Stat) -> Result<Self> {
        let replaces = dir.amount_of(replaced);
        let reservation = dir.reserve(Amount::file(0) - replaces)?;
        let mode = match like.file_type {
            super::FileType::Directory => like.mode & 0o666,
            _ => like.mode & 0o777,
        };
        let (file, name) = match dir.abilities()?.has_unnamed_files {
            true => {
                let file = dir.create_unnamed(mode);
                (
                    file.map_err(|errno| dir.failed(errno, "creating a file", "."))?,
                    None,
                )
            }
            false => {
                let name = temporary_name()?;
                (dir.create_file(&name, mode)?, Some(name))
            }
        };
        let staged = Self {
            dir,
            file,
            mode,
            name,
            reservation,
            replaces,
            written: 0,
        };
        let new = stat(&staged.file)?;
        inherit_owner(&staged.file, like, &new);
        if new.mode != mode {
            set_mode(staged.file.as_fd(), mode)
                .map_err(|errno| dir.failed(errno, "setting a file's mode", "."))?;
        }
        Ok(staged)
    }

    /// An empty file in `dir`, for its owner alone.
    ///
    /// # Errors
    /// The operating system's.
    pub fn private(dir: &'dir Dir) -> Result<Self> {
        let like = Stat {
            mode: 0o600,
            ..dir.stat_self()?
        };
        Self::new(dir, &like)
    }

    /// Its permission bits on the volume.
    pub fn mode(&self) -> u16 {
        self.mode
    }

    /// The file, for times and attributes.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Appends `bytes`.
    ///
    /// # Errors
    /// [`QuotaExceeded`](crate::error::Kind::QuotaExceeded); the operating system's:
    /// [`NoSpace`](crate::error::Kind::NoSpace) among them.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.written = self.written.saturating_add(bytes.len() as u64);
        if let Some(reservation) = &mut self.reservation {
            reservation.raise_to(Amount::file(self.written) - self.replaces)?;
        }
        let written = self.file.write_all(bytes).doing("writing to the volume");
        written.map_err(|error| error.at(self.dir.path()))
    }

    /// Writes `bytes` at `offset`: what is left out is a hole.
    ///
    /// # Errors
    /// The operating system's: [`NoSpace`](crate::error::Kind::NoSpace) among them.
    pub fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        let written = self
            .file
            .write_all_at(bytes, offset)
            .doing("writing to the volume");
        written.map_err(|error| error.at(self.dir.path()))
    }

    /// Says how large the file is, where it ends with a hole.
    ///
    /// # Errors
    /// The operating system's.
    pub fn set_size(&self, size: u64) -> Result<()> {
        let set = self.file.set_len(size).doing("writing to the volume");
        set.map_err(|error| error.at(self.dir.path()))
    }

    /// Gives the file its name, atomically, in place of whatever file has it.
    ///
    /// # Errors
    /// The operating system's; then the name leads to what it did before.
    pub fn place(self, name: &str, durability: Durability) -> Result<Stat> {
        self.place_as(name, Occupant::Perhaps, durability)
    }

    /// As [`place`](Self::place), faster where some file has the name.
    ///
    /// # Errors
    /// As `place`.
    pub fn replace(self, name: &str, durability: Durability) -> Result<Stat> {
        self.place_as(name, Occupant::Surely, durability)
    }

    /// Gives the file its name, atomically, if nothing else has it.
    ///
    /// # Errors
    /// [`Exists`](crate::error::Kind::Exists) when something has; the operating system's.
    pub fn place_new(self, name: &str, durability: Durability) -> Result<Stat> {
        self.place_as(name, Occupant::Never, durability)
    }

    /// Gives the file its name, durably, in place of the very version of a file that `expected` describes. Whether it
    /// did; when the name leads to anything else by then, nothing has changed. Whoever else gives the name away at the
    /// same time wins; readers see one or the other throughout. (Should this process be killed in the microseconds in
    /// which it gives the name back, what came first is left under a temporary name.)
    ///
    /// On a file system that cannot exchange two files it is compared first, and then replaced: whoever gives the name away
    /// between the two, which is the time of two calls, loses what they gave it.
    ///
    /// # Errors
    /// The operating system's.
    pub fn place_over(mut self, name: &str, expected: &Stat) -> Result<bool> {
        self.sync(name)?;
        let own = stat(&self.file)?.id;
        let temporary = match self.name.take() {
            Some(name) => name,
            None => {
                let temporary = temporary_name()?;
                self.link(&temporary)?;
                temporary
            }
        };
        // From here on it is removed if anything fails.
        self.name = Some(temporary.clone());
        match self.dir.stat(name) {
            Ok(there) if is_same(&there, expected) => {}
            Ok(_) => return Ok(false),
            Err(error) if error.kind() == Kind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        }
        if !self.dir.abilities()?.exchanges {
            self.dir
                .rename(&temporary, self.dir, name, super::Rename::Replace)?;
            self.name = None;
            self.dir.sync()?;
            return Ok(true);
        }
        match self
            .dir
            .rename(&temporary, self.dir, name, super::Rename::Exchange)
        {
            Err(error) if error.kind() == Kind::NotFound => return Ok(false),
            result => result?,
        }
        // Now the name belongs to what was there, and that must not be removed before it is known.
        self.name = None;
        let held = self.dir.stat(&temporary)?;
        let replaced = is_same(&held, expected);
        if !replaced {
            give_back(self.dir, &temporary, name, own, held.id)?;
        }
        self.dir.unlink(&temporary)?;
        self.dir.sync()?;
        Ok(replaced)
    }

    fn place_as(mut self, name: &str, occupant: Occupant, durability: Durability) -> Result<Stat> {
        match durability {
            Durability::Durable => self.sync(name)?,
            Durability::Ordered => write_back(&self.file)?,
        }
        let before = match self.dir.file_system().engine().is_local() {
            true => None,
            false => Some(stat(&self.file)?),
        };
        let reservation = self.reservation.take();
        let (dir, amount) = (self.dir, Amount::file(self.written));
        dir.placing(name, reservation, amount, || self.give_name(name, occupant))?;
        if durability == Durability::Durable {
            self.dir.sync()?;
        }
        match (stat(&self.file), before) {
            // It had its name, and another host has given that away since.
            (Err(error), Some(before)) if remote::says_replaced(&error) => Ok(before),
            (placed, _) => placed,
        }
    }

    fn give_name(&mut self, name: &str, occupant: Occupant) -> Result<()> {
        if self.name.is_none() {
            if occupant != Occupant::Surely {
                match self.dir.link(&self.file, name) {
                    Ok(()) => return Ok(()),
                    Err(Errno::EXIST) if occupant == Occupant::Perhaps => {}
                    Err(errno) => return Err(self.dir.failed(errno, "naming a file", name)),
                }
            }
            // A name cannot be taken over by linkat; a second one can be, by rename.
            let temporary = temporary_name()?;
            self.link(&temporary)?;
            self.name = Some(temporary);
        }
        if let Some(temporary) = &self.name {
            let how = match occupant {
                Occupant::Never => super::Rename::NoReplace,
                Occupant::Perhaps | Occupant::Surely => super::Rename::Replace,
            };
            self.dir.rename_uncounted(temporary, self.dir, name, how)?;
            self.name = None;
        }
        Ok(())
    }

    fn sync(&self, name: &str) -> Result<()> {
        rustix::fs::fsync(&self.file).map_err(|errno| self.dir.failed(errno, "making a file durable", name))
    }

    fn link(&self, name: &str) -> Result<()> {
        let linked = self.dir.link(&self.file, name);
        linked.map_err(|errno| self.dir.failed(errno, "naming a file", name))
    }

    /// The file, staged and placed at once: for content that is written in place afterwards.
    ///
    /// # Errors
    /// As [`Staged::place_new`].
    pub fn place_empty(self, name: &str) -> Result<File> {
        let file = self.file.try_clone().doing("opening a new file")?;
        self.place_as(name, Occupant::Never, Durability::Ordered)?;
        Ok(file)
    }
}

/// Gives `name` back to what came first, which is at `temporary` now and is `held`; unless something else came after what
/// was `placed` there. Leaves at `temporary` what came before what has the name.
fn give_back(dir: &Dir, temporary: &str, name: &str, mut placed: FileId, mut held: FileId) -> Result<()> {
    loop {
        match dir.rename(temporary, dir, name, super::Rename::Exchange) {
            // Removed meanwhile: that came last.
            Err(error) if error.kind() == Kind::NotFound => return Ok(()),
            result => result?,
        }
        let met = dir.stat(temporary)?.id;
        if met == placed {
            return Ok(());
        }
        (placed, held) = (held, met);
    }
}

/// Whether it is the same file, unchanged. Not by the time of change of the inode: giving it another name changes that.
fn is_same(one: &Stat, other: &Stat) -> bool {
    (one.id, one.size, one.mtime) == (other.id, other.size, other.mtime)
}

impl Drop for Staged<'_> {
    fn drop(&mut self) {
        if let Some(name) = &self.name
            && let Err(error) = self.dir.unlink_uncounted(name)
        {
            log::warn!("a temporary file stays behind on the volume ({name}): {error}");
        }
    }
}

/// How names of temporary files begin.
pub const TEMPORARY_PREFIX: &str = ".tenantfs-tmp-";

pub(super) fn temporary_name() -> Result<String> {
    debug_assert!(TEMPORARY_PREFIX.starts_with(RESERVED_PREFIX));
    random_name(TEMPORARY_PREFIX)
}

/// A name that begins so and that nothing else has.
pub(super) fn random_name(prefix: &str) -> Result<String> {
    let mut random = [0_u8; 8];
    rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty())
        .doing("getting random bytes")?;
    Ok(format!("{prefix}{}", hex::encode(random)))
}
