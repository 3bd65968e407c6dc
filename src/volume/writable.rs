//! Whether the volume can be written, found out before anybody relies on it.

use rustix::io::Errno;

use super::Volume;
use super::dir::Dir;
use crate::error::{Error, Kind, Result};

impl Dir {
    /// Finds out whether files can be made here, by making one that never has a name. That there is no room for it, or no
    /// quota, is no error: it may be another matter in a moment.
    ///
    /// # Errors
    /// [`Kind::ReadOnly`], [`Kind::AccessDenied`] and the like, with what to do about it.
    pub fn check_writable(&self) -> Result<()> {
        let made = match self.create_unnamed(0o600) {
            // Where there are no such files, it is only asked.
            Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::NOENT | Errno::INVAL) => self.may_be_written(),
            made => made.map(drop),
        };
        match made {
            Ok(()) | Err(Errno::NOSPC | Errno::DQUOT) => Ok(()),
            Err(errno) => Err(explained(errno, self.failed(errno, "writing to the volume", "."))),
        }
    }
}

impl Volume {
    /// Finds out whether what is in `outermost` can be written, or those directories be made where they are missing.
    ///
    /// # Errors
    /// [`Kind::Config`] when they cannot, with what to do about it.
    pub fn check_writable(&self, outermost: &[&str]) -> Result<()> {
        for name in outermost {
            let checked = match self.root().open_dir(name) {
                Err(error) if error.kind() == Kind::NotFound => self.root().check_writable(),
                opened => opened.and_then(|dir| dir.check_writable()),
            };
            checked.map_err(|error| error.as_kind(Kind::Config))?;
        }
        Ok(())
    }
}

fn explained(errno: Errno, error: Error) -> Error {
    match errno {
        Errno::ROFS => error.because(
            "it is read-only for this process: mount it writable; if it is, a unit's sandbox keeps it so, and wants it in \
             ReadWritePaths=; or serve it with --read-only",
        ),
        Errno::ACCESS | Errno::PERM => error.because(format!(
            "uid {} may make no files here: correct its owner or mode; or serve it with --read-only",
            rustix::process::geteuid().as_raw()
        )),
        _ => error,
    }
}
