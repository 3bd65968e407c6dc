//! Files that have keys, or else what others must not be able to change.

use std::fs::{File, Metadata};
use std::io::Read;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::OFlags;
use zeroize::Zeroizing;

use crate::account;
use crate::error::{Error, Result};
use crate::escape::quoted;
use crate::input;

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

/// Opens the file at `path` for reading: a regular one, or a pipe that this process has from who started it, as a shell's
/// `<(command)` is.
///
/// # Errors
/// [`Kind::Config`](crate::error::Kind::Config) when it cannot be opened, or is something else.
pub fn open(path: &Path, what: What) -> Result<(File, Metadata)> {
    // Whatever the path leads to, opening it must not wait.
    let nonblocking = File::options()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(path);
    let opened = nonblocking.and_then(|file| Ok((file.metadata()?, file)));
    let (metadata, file) = opened.map_err(|error| unreadable(path, what, &error))?;
    match (
        metadata.is_file(),
        metadata.file_type().is_fifo() && input::is_own_descriptor(path),
    ) {
        (true, _) => Ok((file, metadata)),
        (false, true) => {
            // Whoever started this has a writer at work, who is waited for.
            rustix::fs::fcntl_setfl(&file, OFlags::empty())
                .map_err(|errno| unreadable(path, what, &errno.into()))?;
            Ok((file, metadata))
        }
        (false, false) => {
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
            "the {name} {shown} belongs to {}, who could {harm}; run: chown root {quoted}",
            account::shown(owner)
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
    let shown = path.display();
    if path.starts_with("~") {
        return Error::config(format!(
            "the {name} {shown}: ~ is not expanded here; write the whole path"
        ));
    }
    let reader = account::shown(rustix::process::geteuid().as_raw());
    Error::config(format!(
        "the {name} {shown} cannot be read by {reader}: {error}; correct {option} or its mode"
    ))
}

/// Why a file that should have one JSON object is none, for a text that `error` says is none.
pub fn not_an_object(text: &str, error: &serde_json::Error) -> String {
    match text.trim_start().chars().next() {
        Some('[') => "it is a list, which belongs into an object".to_owned(),
        None => "it is empty".to_owned(),
        _ => error.to_string(),
    }
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
