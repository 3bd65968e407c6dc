//! Files that have keys.

use std::fs::{File, Metadata};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use crate::error::{Error, Kind, Result};

/// Opens the file at `path` for reading. `what` says what it is, and `option` what named it, in errors.
///
/// # Errors
/// [`Kind::Config`] when it cannot be opened, or is not a regular file.
pub fn open_key_file(path: &Path, what: &str, option: &str) -> Result<(File, Metadata)> {
    let wrong = |why: String| Error::new(Kind::Config, format!("the {what} {} {why}", path.display()));
    // Whatever the path leads to, opening it must not wait.
    let nonblocking = File::options()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(path);
    let opened = nonblocking.and_then(|file| Ok((file.metadata()?, file)));
    let (metadata, file) =
        opened.map_err(|error| wrong(format!("cannot be read: {error}; correct {option} or its mode")))?;
    match metadata.is_file() {
        true => Ok((file, metadata)),
        false => Err(wrong("is not a regular file".to_owned())),
    }
}
