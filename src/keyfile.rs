//! Files that have keys, or else what others must not be able to change.

use std::fs::{File, Metadata};
use std::io::Read;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use zeroize::Zeroizing;

use crate::error::{Error, Result};
use crate::escape::quoted;

/// What such a file is, for errors.
#[derive(Clone, Copy, Debug)]
pub struct What {
    /// Such as `static keys file`.
    pub name: &'static str,
    /// The option that names it.
    pub option: &'static str,
    /// What others could do who may write it, such as `add keys`.
    pub harm: &'static str,
}

/// Opens the file at `path` for reading.
///
/// # Errors
/// [`Kind::Config`](crate::error::Kind::Config) when it cannot be opened, or is not a regular file.
pub fn open(path: &Path, what: What) -> Result<(File, Metadata)> {
    // Whatever the path leads to, opening it must not wait.
    let nonblocking = File::options()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(path);
    let opened = nonblocking.and_then(|file| Ok((file.metadata()?, file)));
    let (metadata, file) = opened.map_err(|error| unreadable(path, what, &error))?;
    match metadata.is_file() {
        true => Ok((file, metadata)),
        false => {
            let why = format!("the {} {} is not a regular file", what.name, path.display());
            Err(Error::config(why))
        }
    }
}

/// Whether others than root and this process could have written the file.
///
/// # Errors
/// [`Kind::Config`](crate::error::Kind::Config), with how to mend it.
pub fn trusted(path: &Path, what: What, metadata: &Metadata) -> Result<()> {
    let What { name, harm, .. } = what;
    let (shown, owner) = (path.display(), metadata.uid());
    let quoted = quoted(path);
    if owner != 0 && owner != rustix::process::geteuid().as_raw() {
        return Err(Error::config(format!(
            "the {name} {shown} belongs to uid {owner}, who could {harm}; run: chown root {quoted}"
        )));
    }
    if metadata.mode() & 0o022 != 0 {
        return Err(Error::config(format!(
            "the {name} {shown} is writable by others, who could {harm}; run: chmod go-w {quoted}"
        )));
    }
    Ok(())
}

/// Reads all of it, if it has at most `limit` bytes.
///
/// # Errors
/// [`Kind::Config`](crate::error::Kind::Config) when it has more, or cannot be read.
pub fn read(file: File, path: &Path, what: What, limit: u64) -> Result<Zeroizing<Vec<u8>>> {
    let size = file.metadata().map_or(limit, |metadata| metadata.len());
    // With room for all of it from the start, no copy is left behind by growing.
    let room = usize::try_from(size.min(limit)).unwrap_or(0).saturating_add(2);
    let mut bytes = Zeroizing::new(Vec::with_capacity(room));
    file.take(limit.saturating_add(1))
        .read_to_end(&mut bytes)
        .map_err(|error| unreadable(path, what, &error))?;
    match bytes.len() as u64 > limit {
        true => Err(Error::config(format!(
            "the {} {} is larger than {} KiB",
            what.name,
            path.display(),
            limit >> 10
        ))),
        false => Ok(bytes),
    }
}

/// Whoever reads it is named: a server is another account than who starts it.
pub fn unreadable(path: &Path, what: What, error: &std::io::Error) -> Error {
    let What { name, option, .. } = what;
    let (shown, uid) = (path.display(), rustix::process::geteuid().as_raw());
    Error::config(format!(
        "the {name} {shown} cannot be read by uid {uid}: {error}; correct {option} or its mode"
    ))
}

/// What tells one version of a file from another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Version {
    device: u64,
    inode: u64,
    size: u64,
    changed: (i64, i64),
}

impl Version {
    /// That of the file with these attributes.
    pub(crate) fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}
