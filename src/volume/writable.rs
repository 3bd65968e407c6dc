//! Whether the volume can be written, found out before anybody relies on it.

use super::Volume;
use super::dir::Dir;
use crate::account;
use crate::error::{Error, Kind, Result};

impl Dir {
    /// Finds out whether files can be made here, by making one; and whether the file system can do all that saving needs. That
    /// there is no room, or no quota, is no error: it may be another matter in a moment.
    ///
    /// # Errors
    /// [`Kind::ReadOnly`], [`Kind::AccessDenied`] and the like, and [`Kind::Unsupported`], with what to do about it.
    pub fn check_writable(&self) -> Result<()> {
        let checked = self.abilities().and_then(|abilities| {
            abilities.check()?;
            let made = match abilities.has_unnamed_files {
                true => self.create_unnamed(0o600).map(drop),
                false => self.may_be_written(),
            };
            made.map_err(|errno| self.failed(errno, "writing to the volume", "."))
        });
        match checked {
            Err(error) if matches!(error.kind(), Kind::NoSpace | Kind::QuotaExceeded) => Ok(()),
            checked => checked.map_err(explained),
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

fn explained(error: Error) -> Error {
    match error.kind() {
        Kind::ReadOnly => error.because(
            "it is read-only for this process: mount it writable; if it is, a unit's sandbox keeps it so, and wants it in \
             ReadWritePaths=; or serve it with --read-only",
        ),
        Kind::AccessDenied | Kind::NotPermitted => error.because(format!(
            "{} may make no files here: correct its owner or mode; or serve it with --read-only",
            account::shown(rustix::process::geteuid().as_raw())
        )),
        _ => error,
    }
}
