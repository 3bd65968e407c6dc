//! Unix sockets that the server listens on.

use std::fs::Permissions;
use std::io::ErrorKind;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use tenantfs::error::{Error, Kind, Result};

/// Listens at `path`, where whoever `mode` admits may connect. One that nobody listens on any more is replaced. `what` names
/// it in errors, and `setting` where its path comes from.
///
/// # Errors
/// [`Kind::Config`] when that cannot be.
pub(crate) fn listen(path: &Path, mode: u32, what: &str, setting: &str) -> Result<UnixListener> {
    let shown = path.display();
    let wrong = |why: String| Error::new(Kind::Config, format!("{what} {shown}: {why}"));
    let cannot = |error: std::io::Error| {
        wrong(format!(
            "{error}; correct {setting}, or make its directory: root's, mode 0755"
        ))
    };
    match std::fs::symlink_metadata(path) {
        Ok(there) if !there.file_type().is_socket() => {
            return Err(wrong("something else has this name; remove it".to_owned()));
        }
        Ok(_) => match UnixStream::connect(path) {
            Ok(_) => return Err(wrong("another daemon listens on it".to_owned())),
            // Of a daemon that is gone.
            Err(_) => std::fs::remove_file(path).map_err(cannot)?,
        },
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(cannot(error)),
    }
    if let (Some(directory), true) = (path.parent(), rustix::process::geteuid().is_root()) {
        std::fs::create_dir_all(directory).map_err(cannot)?;
    }
    let listener = UnixListener::bind(path).map_err(cannot)?;
    std::fs::set_permissions(path, Permissions::from_mode(mode)).map_err(cannot)?;
    Ok(listener)
}
