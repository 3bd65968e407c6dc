//! Whether a directory that the kernel asks about is where the caller's path leads now.
//!
//! The kernel goes by the names that it remembers until it is told otherwise, and others can put another directory in a
//! directory's place before that. So whoever opens, creates or removes something is followed here, name by name, on the
//! volume itself. Where a name leads elsewhere by now, the kernel is told that what it knows is stale: it walks the path
//! again then and asks for every name. A second walk that comes here all the same began in the directory, or below it
//! (a working directory), or found it after the call began: it gets what the directory has, as on any file system,
//! provided that it is still among what the tenant sees.

use super::ids::{Ino, ROOT};
use super::node::stale;
use super::retries::{Retried, Told};
use super::{Vfs, not_found};
use crate::error::{Kind, Result};
use crate::name::EntryName;

impl Vfs {
    /// `asker` does something in `dir`, to its entry `name` where it is one alone. Returns what its second walk found, if
    /// this is the end of one.
    ///
    /// # Errors
    /// [`Kind::Stale`] when others put another directory in the place of `dir` or of one above, for the first time;
    /// [`Kind::NotFound`] when the tenant has it no more; the volume's.
    pub(super) fn enter(&self, dir: Ino, name: Option<&EntryName>, asker: u32) -> Result<Option<Retried>> {
        let retried = self.retries.finish(asker);
        if retried.as_ref().is_some_and(|retried| retried.is_led) {
            self.may_go_on(dir)?;
        } else if !self.leads_to(dir)? {
            self.retries.expect(asker, Told::Operation, name.cloned());
            return Err(stale());
        }
        Ok(retried)
    }

    /// A second walk has come to `dir`.
    ///
    /// # Errors
    /// [`Kind::NotFound`] when the tenant has it no more; the volume's.
    pub(super) fn may_go_on(&self, dir: Ino) -> Result<()> {
        if self.leads_to(dir)? {
            return Ok(());
        }
        match self.folder(dir) {
            Ok(folder) if self.store.reaches(&folder)? => Ok(()),
            Err(error) if error.kind() != Kind::Stale => Err(error),
            _ => Err(not_found()),
        }
    }

    /// Whether the path of `dir` leads to it, on the volume, now. It is followed from the root on, as the kernel would.
    ///
    /// # Errors
    /// [`Kind::Io`] when it ends in the root because the tenant's own directory is another one; the volume's.
    pub(super) fn leads_to(&self, dir: Ino) -> Result<bool> {
        if dir == ROOT {
            return Ok(true);
        }
        let Some(way) = self.table.way(dir) else {
            return Ok(false);
        };
        for (place, id) in way.into_iter().rev() {
            if place.parent == ROOT {
                self.store.check_place(&place.name)?;
                continue;
            }
            let found = self
                .folder(place.parent)
                .and_then(|folder| folder.peek(&place.name));
            match found {
                Ok(found) if found.map(|stat| stat.id) == id => {}
                Err(error) if error.kind() != Kind::Stale && error.kind() != Kind::NotFound => {
                    return Err(error);
                }
                _ => return Ok(false),
            }
        }
        Ok(true)
    }
}
