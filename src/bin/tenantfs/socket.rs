//! Unix sockets that the server listens on.

use std::fs::Permissions;
use std::io::ErrorKind;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use tenantfs::error::{At, Doing, Error, Kind, Result};

use crate::trusted::Trust;

/// Listens at `path`, where whoever `mode` admits may connect, for a server of this account. One that nobody listens on any more is replaced. `what` names
/// it in errors, and `setting` where its path comes from.
///
/// # Errors
/// [`Kind::Config`] when something else is there, when others could put something there, or the socket cannot be made.
pub(crate) fn listen(
    path: &Path,
    (mode, account): (u32, u32),
    what: &str,
    setting: &str,
) -> Result<UnixListener> {
    let shown = path.display();
    // From here on the path leads where it leads now: whose name and mode is set below, is what is made below.
    let trust = Trust::of_caller(setting).and(account);
    match rustix::process::geteuid().is_root() {
        true => trust.place_and_make(path)?,
        false => trust.place(path)?,
    };
    let taken = match std::fs::symlink_metadata(path) {
        Ok(there) if !there.file_type().is_socket() => {
            return Err(Error::config(format!(
                "{what} {shown}: something else has this name; remove it, or correct {setting}"
            )));
        }
        Ok(_) if UnixStream::connect(path).is_ok() => {
            return Err(Error::config(format!(
                "{what} {shown}: another daemon listens on it; end it, or correct {setting}"
            )));
        }
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        there => there.map(|_| true),
    };
    taken
        .and_then(|taken| bind(path, mode, taken))
        .doing(format!("making {what}, which {setting} names"))
        .at(path)
        .map_err(|error| error.as_kind(Kind::Config))
}

/// Listens at `path`, where the socket of a daemon that is gone may be.
fn bind(path: &Path, mode: u32, taken: bool) -> std::io::Result<UnixListener> {
    if taken {
        std::fs::remove_file(path)?;
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, Permissions::from_mode(mode))?;
    Ok(listener)
}
