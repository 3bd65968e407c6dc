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
    // Whatever the path leads to, opening it must not wait.
    let nonblocking = File::options()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(path);
    let opened = nonblocking.and_then(|file| Ok((file.metadata()?, file)));
    let (metadata, file) = opened.map_err(|error| unreadable(path, what, option, &error))?;
    match metadata.is_file() {
        true => Ok((file, metadata)),
        false => {
            let why = format!("the {what} {} is not a regular file", path.display());
            Err(Error::new(Kind::Config, why))
        }
    }
}

/// Whoever reads it is named: a server is another account than who starts it.
pub(super) fn unreadable(path: &Path, what: &str, option: &str, error: &std::io::Error) -> Error {
    let (shown, uid) = (path.display(), rustix::process::geteuid().as_raw());
    let why =
        format!("the {what} {shown} cannot be read by uid {uid}: {error}; correct {option} or its mode");
    Error::new(Kind::Config, why)
}
