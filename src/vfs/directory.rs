//! Listing directories.

use std::collections::HashSet;
use std::vec;

use super::handle::Fh;
use super::table::Place;
use super::watched::Began;
use super::{Ino, Node, ROOT, Vfs};
use crate::budget::Charge;
use crate::error::{Error, Kind, Result};
use crate::name::EntryName;
use crate::store::NodeKind;
use crate::volume::ReadAhead;

/// A directory being listed: the names as they were when the listing began. Whatever comes and goes meanwhile, an
/// offset goes on meaning what it meant.
pub(super) struct Listing {
    ino: Ino,
    /// Those that turned out to be visible. Offsets count these only: gaps would tell how much is hidden, and where.
    shown: Vec<EntryName>,
    /// Those that have not been looked at.
    rest: vec::IntoIter<EntryName>,
    /// What of those is being read already.
    ahead: ReadAhead,
    /// Where the kernel may keep it: when it began.
    began: Option<Began>,
    /// What the names take.
    memory: Charge,
    _slot: Charge,
}

/// An open directory, and what the kernel may do.
#[derive(Clone, Copy, Debug)]
pub struct OpenedDirectory {
    /// The handle.
    pub fh: Fh,
    /// It may keep what is listed.
    pub cache: bool,
    /// What it has kept is still right.
    pub keep_cache: bool,
}

/// One entry of a listing.
pub struct Listed<'listing> {
    /// Its name; none for the directory itself and its parent, which are not counted as looked up.
    pub name: ListedName<'listing>,
    /// Where a later call goes on after it.
    pub next_offset: u64,
    /// What it is.
    pub node: Node,
}

/// How an entry is called.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ListedName<'listing> {
    /// `.`
    Itself,
    /// `..`
    Parent,
    /// Any other.
    Entry(&'listing str),
}

impl ListedName<'_> {
    /// The name.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Itself => ".",
            Self::Parent => "..",
            Self::Entry(name) => name,
        }
    }
}

/// `.` and `..` come before the names.
const DOTS: u64 = 2;

impl Vfs {
    /// Opens a directory for listing, and says what the kernel may do with what is listed.
    ///
    /// # Errors
    /// [`Kind::NotADirectory`], [`Kind::TooManyOpen`]; the volume's.
    pub fn opendir(&self, ino: Ino) -> Result<OpenedDirectory> {
        let slot = self.limits.handle()?;
        if self.getattr(ino)?.attributes.kind != NodeKind::Directory {
            return Err(Error::new(Kind::NotADirectory, "not a directory"));
        }
        let (cache, keep_cache) = self.watched.opened(ino);
        let fh = self.handles.add_directory(Listing {
            ino,
            shown: Vec::new(),
            rest: Vec::new().into_iter(),
            ahead: ReadAhead::default(),
            began: None,
            memory: self.limits.hold(0)?,
            _slot: slot,
        });
        Ok(OpenedDirectory {
            fh,
            cache,
            keep_cache,
        })
    }

    /// Hands the visible entries from `offset` on to `each`, which says whether it took the entry, until it did not.
    /// An entry that was taken is counted as looked up. Offset 0 begins anew.
    ///
    /// # Errors
    /// [`Kind::BadHandle`]; the volume's.
    pub fn readdir(&self, fh: Fh, offset: u64, mut each: impl FnMut(Listed<'_>) -> bool) -> Result<()> {
        let listing = self.handles.directory(fh)?;
        let mut listing = listing.lock();
        if offset == 0 {
            listing.began = self.watched.listing(listing.ino);
            let names = self.names(listing.ino)?;
            let taken: usize = names
                .iter()
                .map(|name| size_of::<EntryName>() + name.as_str().len())
                .sum();
            listing.memory.set(0);
            listing.memory = self.limits.hold(taken as u64)?;
            listing.shown = Vec::new();
            listing.rest = names.into_iter();
            listing.ahead = ReadAhead::default();
        }
        let directory = self.getattr(listing.ino)?;
        let dots = [ListedName::Itself, ListedName::Parent];
        for (next_offset, name) in (1..)
            .zip(dots)
            .skip(usize::try_from(offset).unwrap_or(usize::MAX))
        {
            let dot = Listed {
                name,
                next_offset,
                node: directory,
            };
            if !each(dot) {
                return Ok(());
            }
        }
        let start = usize::try_from(offset.saturating_sub(DOTS)).unwrap_or(usize::MAX);
        let mut index = start.min(listing.shown.len());
        loop {
            let is_new = index == listing.shown.len();
            if is_new {
                self.read_ahead(&mut listing);
                let next = listing.rest.next();
                listing.shown.extend(next);
            }
            let Some(name) = listing.shown.get(index) else {
                break;
            };
            let node = match self.find(listing.ino, name.as_str().as_bytes()) {
                Ok(node) => node,
                // Hidden.
                Err(error) if error.kind() == Kind::NotFound && is_new => {
                    listing.shown.pop();
                    continue;
                }
                // Gone since it was seen.
                Err(error) if error.kind() == Kind::NotFound => {
                    index += 1;
                    continue;
                }
                Err(error) => return Err(error),
            };
            let entry = Listed {
                name: ListedName::Entry(name.as_str()),
                next_offset: index as u64 + DOTS + 1,
                node,
            };
            // Seen in an earlier listing of this handle.
            let skipped = index < start;
            if skipped || !each(entry) {
                self.forget(node.ino, 1);
                if !skipped {
                    return Ok(());
                }
            }
            index += 1;
        }
        if let Some(began) = listing.began
            && start >= listing.shown.len()
            && !self.watched.listed(listing.ino, began)
        {
            // The kernel has had every entry by now, and keeps what is no longer so.
            self.pages.drop_soon(listing.ino);
        }
        Ok(())
    }

    /// Has the volume begin to read what the listing comes to next, but for what the kernel knows: that was read before.
    fn read_ahead(&self, listing: &mut Listing) {
        let due = listing.ahead.due(listing.rest.as_slice());
        if !due.is_empty()
            && let Ok(folder) = self.folder(listing.ino)
        {
            let parent = listing.ino;
            due.iter()
                .cloned()
                .map(|name| Place { parent, name })
                .filter(|place| self.table.at(place).is_none())
                .for_each(|place| folder.read_ahead(&place.name));
        }
    }

    /// The names that may turn out to be visible, those of drafts in memory among them.
    fn names(&self, ino: Ino) -> Result<Vec<EntryName>> {
        if ino == ROOT {
            return Ok(self.store.roots().map(|(name, _)| name.clone()).collect());
        }
        let inode = self.inode(ino)?;
        let removed = self.table.place(&inode).is_none();
        let mut names = match self.folder(ino) {
            Ok(folder) => folder.names()?,
            // A resource that a read-only session did not find; or it was removed while somebody has it open.
            Err(error) if removed || error.kind() == Kind::NotFound => Vec::new(),
            Err(error) => return Err(error),
        };
        let drafts = self.table.draft_names(ino);
        if !drafts.is_empty() {
            let known: HashSet<&EntryName> = names.iter().collect();
            let new: Vec<EntryName> = drafts.into_iter().filter(|name| !known.contains(name)).collect();
            names.extend(new);
        }
        Ok(names)
    }

    /// Closes a directory.
    pub fn releasedir(&self, fh: Fh) {
        self.handles.remove_directory(fh);
    }

    /// Makes a directory's entries durable.
    ///
    /// # Errors
    /// The volume's.
    pub fn fsyncdir(&self, ino: Ino) -> Result<()> {
        match ino == ROOT {
            true => Ok(()),
            false => self.folder(ino)?.sync(),
        }
    }

    /// Makes the directory `name` in `parent`.
    ///
    /// # Errors
    /// [`Kind::NotPermitted`] in the root directory and for the name of a record; [`Kind::Exists`],
    /// [`Kind::NameTaken`]; the volume's.
    pub fn mkdir(&self, parent: Ino, name: &[u8], mode: u16) -> Result<Node> {
        super::below_root(parent)?;
        let place = Place {
            parent,
            name: EntryName::parse(name)?,
        };
        let made = self.folder(parent)?.make_folder(&place.name, mode & 0o1777)?;
        Ok(self.entered(place, made.attributes()?))
    }

    /// Removes the directory `name` in `parent`.
    ///
    /// # Errors
    /// [`Kind::DirectoryNotEmpty`], [`Kind::NotADirectory`]; [`Kind::NotPermitted`] in the root directory.
    pub fn rmdir(&self, parent: Ino, name: &[u8]) -> Result<()> {
        super::below_root(parent)?;
        let place = Place {
            parent,
            name: super::existing(name)?,
        };
        if let Some(directory) = self.table.at(&place)
            && !self.table.draft_names(directory.ino).is_empty()
        {
            return Err(Error::new(Kind::DirectoryNotEmpty, "the directory has a draft"));
        }
        self.folder(parent)?.remove_folder(&place.name)?;
        if let Some(directory) = self.table.unlink(&place) {
            self.folders.lock().pop(&directory.ino);
            self.watched.forget(directory.ino);
        }
        Ok(())
    }
}
