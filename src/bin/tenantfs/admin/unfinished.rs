//! An archive while it is written: it gets its name when it is whole.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rustix::fs::{
    AtFlags, FileType, FlockOperation, Mode, OFlags, RenameFlags, flock, fstat, fsync, linkat, openat,
    renameat_with, statat, unlinkat,
};
use rustix::io::Errno;
use tenantfs::error::{At, Doing, Error, Result};

use super::archive::WRITING;
use crate::{say, trusted};

const MAKING: &str = "making the archive";

/// What archives are called meanwhile, before 16 hex digits.
const PREFIX: &str = ".tenantfs-export-";

/// An archive that has no name of its own yet. Dropped before it gets one, it leaves nothing behind.
pub(super) struct Unfinished {
    place: trusted::Place,
    temporary: OsString,
    file: File,
}

impl Unfinished {
    /// Makes it. What an export that was killed has left beside it is removed.
    ///
    /// # Errors
    /// [`Kind::Config`](tenantfs::error::Kind::Config) when something has the name; that it cannot be made.
    pub(super) fn make(place: trusted::Place) -> Result<Self> {
        match statat(&place.directory, &place.name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => {}
            Ok(_) => return Err(taken(&place.path)),
            Err(errno) => return Err(Error::os(errno, MAKING).at(&place.path)),
        }
        remove_left(&place);
        let (file, temporary) = loop {
            if let Some(made) = Self::make_once(&place)? {
                break made;
            }
        };
        Ok(Self {
            file,
            place,
            temporary,
        })
    }

    /// The file, locked, and its name; none when somebody took it for one that was left behind before it was locked.
    fn make_once(place: &trusted::Place) -> Result<Option<(File, OsString)>> {
        let mut random = [0_u8; 8];
        rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty()).doing(MAKING)?;
        let temporary = OsString::from(format!("{PREFIX}{}", hex::encode(random)));
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = openat(&place.directory, &temporary, flags, Mode::from_raw_mode(0o600));
        let file = file.doing(MAKING).at(&place.path)?;
        // As long as this process lives, whatever it dies of.
        flock(&file, FlockOperation::LockExclusive)
            .doing(MAKING)
            .at(&place.path)?;
        let is_there = statat(&place.directory, &temporary, AtFlags::SYMLINK_NOFOLLOW).is_ok();
        Ok(is_there.then(|| (file.into(), temporary)))
    }

    /// Where it is to be.
    pub(super) fn path(&self) -> &Path {
        &self.place.path
    }

    /// What is written to.
    ///
    /// # Errors
    /// [`Kind::TooManyOpen`](tenantfs::error::Kind::TooManyOpen).
    pub(super) fn file(&self) -> Result<File> {
        self.file.try_clone().doing(WRITING).at(&self.place.path)
    }

    /// Gives it its name.
    ///
    /// # Errors
    /// [`Kind::Config`](tenantfs::error::Kind::Config) when something has the name meanwhile; that it cannot be named.
    pub(super) fn name(mut self) -> Result<()> {
        const NAMING: &str = "naming the archive";
        let trusted::Place {
            directory,
            name,
            path,
        } = &self.place;
        let named = match renameat_with(
            directory,
            &self.temporary,
            directory,
            name,
            RenameFlags::NOREPLACE,
        ) {
            // A file system that cannot keep what has the name: a second name can be given, if nothing has it.
            Err(Errno::INVAL) => linkat(directory, &self.temporary, directory, name, AtFlags::empty())
                .and_then(|()| unlinkat(directory, &self.temporary, AtFlags::empty())),
            named => named,
        };
        match named {
            Err(Errno::EXIST) => return Err(taken(path)),
            named => named.doing(NAMING).at(path)?,
        }
        self.temporary.clear();
        // From here on the name survives a power cut.
        let opened = openat(
            directory,
            ".",
            OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        );
        opened.and_then(fsync).doing(NAMING).at(path)
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if !self.temporary.is_empty()
            && let Err(errno) = unlinkat(&self.place.directory, &self.temporary, AtFlags::empty())
        {
            log::warn!(
                "a part of an export stays behind beside {}: {errno}",
                self.place.path.display()
            );
        }
    }
}

/// Removes what exports that were killed have left beside the archive: files of this account's that nobody has locked any more.
fn remove_left(place: &trusted::Place) {
    let entries = openat(
        &place.directory,
        ".",
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .and_then(rustix::fs::Dir::read_from);
    // Where it cannot be looked for, an archive can be made all the same.
    for entry in entries.into_iter().flatten().flatten() {
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        if is_temporary(name) && remove_if_left(place, name) {
            let path = place.path.with_file_name(name);
            say::note(format_args!(
                "removed {}, which an export that was killed had left",
                path.display()
            ));
        }
    }
}

fn is_temporary(name: &OsStr) -> bool {
    let digits = name.to_str().and_then(|name| name.strip_prefix(PREFIX));
    digits.is_some_and(|digits| digits.len() == 16 && hex::decode(digits).is_ok())
}

/// Removes a file of this account's that no process writes; whether it did.
fn remove_if_left(place: &trusted::Place, name: &OsStr) -> bool {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let Ok(file) = openat(&place.directory, name, flags, Mode::empty()) else {
        return false;
    };
    let is_own = fstat(&file).is_ok_and(|stat| {
        FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
            && stat.st_uid == rustix::process::geteuid().as_raw()
    });
    // Removed under its lock: who has just made it, and waits for that, finds it gone.
    is_own
        && flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok()
        && unlinkat(&place.directory, name, AtFlags::empty()).is_ok()
}

/// That something has the name already.
fn taken(path: &Path) -> Error {
    Error::config(format!(
        "--to {}: there is something already, and nothing is overwritten; name another file",
        path.display()
    ))
}
