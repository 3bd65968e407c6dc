//! Whether a directory that the kernel asks about is where the caller's path leads.
//!
//! **What is done by path is done in a directory that the path led to at some time after the call had begun.** The kernel goes
//! by the names that it remembers until it is told otherwise, and others can put another directory in a directory's place before
//! that. So every operation is let in by [`Vfs::follow`]:
//!
//! 1. On the first walk, each name on the way is compared, by the identity of what it leads to, with what the kernel was told
//!    (one look for each directory below the resource's). Where one leads elsewhere by now, the operation fails as stale: the
//!    kernel walks the path again then, and asks for every name.
//! 2. That second walk is later than the beginning of the call. So what it finds is right, whatever becomes of the names, and
//!    the operation is done there, provided that this is still among what the tenant sees. It may have begun in the directory
//!    itself (a working directory), which goes on being what it is, as on any file system.
//!
//! The kernel makes no third walk: what is lost on the second one is absent.
//!
//! A lookup is where a walk leads through, and only what it does not find is doubted: see `lookup`.

use super::entries::Place;
use super::ids::{Ino, ROOT};
use super::node::stale;
use super::retries::{Retried, Told, Walk};
use super::{Vfs, not_found};
use crate::error::{Error, Kind, Result};
use crate::name::EntryName;

impl Vfs {
    /// Does an `operation` for the thread `asker`, at the end of a path whose last name is `name`, in these directories: two for
    /// a renaming; none for a file that may have been opened before. It is told what the second walk found, at the end of one.
    ///
    /// # Errors
    /// [`Kind::Stale`] on a first walk, when others put another directory in the place of one of these or above, or when the
    /// operation says so: a second walk is expected then. [`Kind::NotFound`] on a second walk. The operation's; the volume's.
    pub(super) fn follow<T>(
        &self,
        dirs: &[Ino],
        name: Option<&EntryName>,
        (asker, told): (u32, Told),
        operation: impl FnOnce(Option<Retried>) -> Result<T>,
    ) -> Result<T> {
        let (walk, retried) = self.retries.finish(asker, name);
        let is_there = dirs.iter().try_for_each(|dir| match walk {
            Walk::Second => self.may_go_on(*dir),
            // It may be the first walk of another call, which would do it in the wrong directory.
            Walk::First | Walk::Either if self.leads_to(*dir)? => Ok(()),
            Walk::First | Walk::Either => Err(stale()),
        });
        match is_there.and_then(|()| operation(retried)) {
            Err(error) if walk == Walk::Second => Err(absent_if_lost(error)),
            Err(error) if error.kind() == Kind::Stale => {
                self.retries.expect(asker, told, name.cloned());
                Err(error)
            }
            done => done,
        }
    }

    /// As [`follow`](Self::follow), of a directory that is itself what the path ends with: it is listed.
    pub(super) fn follow_to<T>(
        &self,
        dir: Ino,
        asker: u32,
        operation: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        if dir == ROOT {
            return self.follow(&[], None, (asker, Told::Operation), |_| operation());
        }
        let node = self.known(dir)?.id();
        if self.table.place(node).is_none() && !self.table.is_displaced(node) {
            // It was removed in the mount: it is empty, as on any file system.
            return operation();
        }
        let name = self.table.last_place(node).map(|place| place.name);
        self.follow(&[dir], name.as_ref(), (asker, Told::Operation), |_| operation())
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

    /// Whether the path of `dir` leads to it, on the volume, now. It is followed from the resource on, as the kernel would.
    ///
    /// # Errors
    /// The volume's.
    pub(super) fn leads_to(&self, dir: Ino) -> Result<bool> {
        let Some(way) = self.table.way(dir) else {
            return Ok(false);
        };
        for (place, id) in way.into_iter().rev() {
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
}

/// On a second walk: what is not where it was found is not there, for the kernel does not look once more.
pub(super) fn absent_if_lost(error: Error) -> Error {
    match error.kind() {
        Kind::Stale => not_found(),
        _ => error,
    }
}

/// Whether a name cannot be followed because it leads to something else by now, such as a link to what is not the tenant's.
fn is_elsewhere(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::Stale | Kind::NotFound | Kind::NotADirectory | Kind::AccessDenied | Kind::CrossDevice
    )
}
