//! Whether a directory that the kernel asks about is where the caller's path leads now.
//!
//! The kernel goes by the names that it remembers until it is told otherwise, and others can put another directory in a
//! directory's place before that. So whoever opens, creates or removes something is followed here, name by name, on the
//! volume itself. Where a name leads elsewhere by now, the kernel is told that what it knows is stale: it walks the path
//! again then and asks for every name. A second walk that comes here all the same began in the directory, or below it
//! (a working directory), or found it after the call began: it gets what the directory has, as on any file system,
//! provided that it is still among what the tenant sees.

use super::entries::Place;
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
        let retried = self.retries.finish(asker, name);
        self.enter_each(&[dir], is_led(retried.as_ref()), name, asker)?;
        Ok(retried)
    }

    /// As [`enter`](Self::enter), of the two directories of a renaming, the first of which has `name`.
    pub(super) fn enter_both(&self, dirs: [Ino; 2], name: &EntryName, asker: u32) -> Result<()> {
        let retried = self.retries.finish(asker, Some(name));
        self.enter_each(&dirs, is_led(retried.as_ref()), Some(name), asker)
    }

    /// As [`enter`](Self::enter), of a directory that is itself what the path ends with: it is listed, or changed.
    pub(super) fn enter_itself(&self, dir: Ino, asker: u32) -> Result<()> {
        let place = match dir == ROOT {
            true => None,
            false => {
                let node = self.known(dir)?.id();
                if self.table.place(node).is_none() && !self.table.is_displaced(node) {
                    // It was removed in the mount: it is empty, as on any file system.
                    return Ok(());
                }
                self.table.last_place(node)
            }
        };
        let name = place.map(|place| place.name);
        self.enter(dir, name.as_ref(), asker).map(drop)
    }

    fn enter_each(&self, dirs: &[Ino], is_led: bool, name: Option<&EntryName>, asker: u32) -> Result<()> {
        for dir in dirs {
            if is_led {
                self.may_go_on(*dir)?;
            } else if !self.leads_to(*dir)? {
                self.retries.expect(asker, Told::Operation, name.cloned());
                return Err(stale());
            }
        }
        Ok(())
    }

    /// A second walk has come to `dir`.
    ///
    /// # Errors
    /// [`Kind::NotFound`] when the tenant has it no more; the volume's.
    pub(super) fn may_go_on(&self, dir: Ino) -> Result<()> {
        if self.leads_to(dir)? {
            return Ok(());
        }
        let reached = self.folder(dir).and_then(|folder| self.store.reaches(&folder));
        match reached {
            Ok(true) => Ok(()),
            Err(error) if !is_elsewhere(error.kind()) => Err(error),
            _ => Err(not_found()),
        }
    }

    /// Whether the path that the kernel has for `place`, followed by its names alone, leads to nothing.
    ///
    /// # Errors
    /// The volume's.
    pub(super) fn is_nowhere(&self, place: &Place) -> Result<bool> {
        // None where others turned directories inside out.
        let Some(path) = self.table.path(self.known(place.parent)?.id()) else {
            return Ok(false);
        };
        let mut names = path.split('/');
        let resource = names.next().unwrap_or_default();
        let followed = names.try_fold(self.store.folder(resource)?, |folder, name| {
            folder.open_folder(&EntryName::parse(name.as_bytes())?)
        });
        match followed.and_then(|folder| folder.lookup(&place.name)) {
            Ok(_) => Ok(false),
            Err(error) if is_elsewhere(error.kind()) => Ok(!self.is_drafted_at(&path, &place.name)),
            Err(error) => Err(error),
        }
    }

    /// Whether the kernel knows something by this path: a draft may be in memory only.
    fn is_drafted_at(&self, path: &str, name: &EntryName) -> bool {
        let names = path.split('/').chain([name.as_str()]);
        let found = names.into_iter().try_fold(ROOT, |parent, name| {
            let name = EntryName::parse(name.as_bytes()).ok()?;
            self.table.at(&Place { parent, name }).map(|node| node.ino())
        });
        found.is_some()
    }

    /// Whether the path of `dir` leads to it, on the volume, now. It is followed from the root on, as the kernel would.
    ///
    /// # Errors
    /// The volume's.
    pub(super) fn leads_to(&self, dir: Ino) -> Result<bool> {
        if dir == ROOT {
            return Ok(true);
        }
        let Some(way) = self.table.way(dir) else {
            return Ok(false);
        };
        for (place, id) in way.into_iter().rev() {
            if place.parent == ROOT {
                // A session is of the resources' directories as they were at its beginning, whatever has their names later:
                // a migration moves them.
                continue;
            }
            let found = self
                .folder(place.parent)
                .and_then(|folder| folder.peek(&place.name));
            match found {
                Ok(found) if found.map(|stat| stat.id) == id => {}
                Err(error) if !is_elsewhere(error.kind()) => return Err(error),
                _ => return Ok(false),
            }
        }
        Ok(true)
    }
}

/// Whether a name cannot be followed because it leads to something else by now, such as a link to what is not the tenant's.
fn is_elsewhere(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::Stale | Kind::NotFound | Kind::NotADirectory | Kind::AccessDenied | Kind::CrossDevice
    )
}

fn is_led(retried: Option<&Retried>) -> bool {
    retried.is_some_and(|retried| retried.is_led)
}
