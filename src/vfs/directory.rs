//! Listing directories.

use std::collections::HashSet;

use super::entries::Place;
use super::ids::{Fh, Ino, ROOT};
use super::listing::Listing;
use super::lock_order::{Ordered, Rank};
use super::retries::Told;
use super::{NodeInfo, Vfs};
use crate::error::{Error, Kind, Result};
use crate::name::EntryName;
use crate::store::NodeKind;

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
    pub node: NodeInfo,
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
    /// Opens a directory for listing, and says what the kernel may do with what is listed; `asker` is the thread that asks.
    ///
    /// # Errors
    /// [`Kind::Stale`] when others put another directory in its place: the kernel then walks the path again.
    /// [`Kind::NotADirectory`], [`Kind::TooManyOpen`]; the volume's.
    pub fn opendir(&self, ino: Ino, asker: u32) -> Result<OpenedDirectory> {
        let slot = self.limits.handle()?;
        if self.getattr(ino)?.attributes.kind != NodeKind::Directory {
            return Err(Error::new(Kind::NotADirectory, "not a directory"));
        }
        self.follow_to(ino, asker, || {
            let (cache, keep_cache) = self.watched.opened(ino);
            let listing = Listing::new(ino, self.limits.hold(0)?, slot);
            let fh = self.listings.add(Ordered::new(Rank::Listing, listing));
            Ok(OpenedDirectory {
                fh,
                cache,
                keep_cache,
            })
        })
    }

    /// Hands the visible entries from `offset` on to `each`, which says whether it took the entry, until it did not.
    /// An entry that was taken is counted as looked up. Offset 0 begins anew.
    ///
    /// # Errors
    /// [`Kind::BadHandle`]; the volume's.
    pub fn readdir(&self, fh: Fh, offset: u64, mut each: impl FnMut(Listed<'_>) -> bool) -> Result<()> {
        let listing = self.listings.get(fh)?;
        let mut listing = listing.lock();
        if offset == 0 {
            self.rewind(&mut listing)?;
        }
        if !self.list_dots(listing.ino, offset, &mut each)? {
            return Ok(());
        }
        let start = usize::try_from(offset.saturating_sub(DOTS)).unwrap_or(usize::MAX);
        let mut index = start.min(listing.shown());
        while let Some((name, is_new)) = self.next_name(&mut listing, index) {
            let place = Place {
                parent: listing.ino,
                name: name.clone(),
            };
            let node = match self.find(place) {
                Ok(node) => node,
                Err(error) if error.kind() == Kind::NotFound => {
                    match is_new {
                        // Hidden.
                        true => listing.unsee(),
                        // Gone since it was seen.
                        false => index += 1,
                    }
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
        self.listed_to_the_end(&listing, start);
        Ok(())
    }

    /// Begins a listing anew, with the names of now.
    fn rewind(&self, listing: &mut Listing) -> Result<()> {
        let began = self.watched.listing(listing.ino);
        let names = self.names(listing.ino)?;
        listing.memory.set(0);
        listing.memory = self.limits.hold(Listing::size_of(&names))?;
        listing.begin(names, began);
        Ok(())
    }

    /// Returns whether both were taken, or were before.
    fn list_dots(&self, ino: Ino, offset: u64, each: &mut impl FnMut(Listed<'_>) -> bool) -> Result<bool> {
        let node = self.getattr(ino)?;
        let dots = [ListedName::Itself, ListedName::Parent];
        let before = usize::try_from(offset).unwrap_or(usize::MAX);
        let mut rest = (1..).zip(dots).skip(before);
        Ok(rest.all(|(next_offset, name)| {
            each(Listed {
                name,
                next_offset,
                node,
            })
        }))
    }

    /// The name at `index`, and whether nobody has seen it yet.
    fn next_name(&self, listing: &mut Listing, index: usize) -> Option<(EntryName, bool)> {
        let is_new = index == listing.shown();
        if is_new {
            self.read_ahead(listing);
        }
        listing.name(index).map(|name| (name, is_new))
    }

    fn listed_to_the_end(&self, listing: &Listing, start: usize) {
        if let Some(began) = listing.began()
            && start >= listing.shown()
            && !self.watched.listed(listing.ino, began)
        {
            // The kernel has had every entry by now, and keeps what is no longer so.
            self.pages.drop_soon(listing.ino);
        }
    }

    /// Has the volume begin to read what the listing comes to next, but for what the kernel knows: that was read before.
    fn read_ahead(&self, listing: &mut Listing) {
        let parent = listing.ino;
        let due = listing.due();
        if !due.is_empty()
            && let Ok(folder) = self.folder(parent)
        {
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
        let node = self.known(ino)?;
        let removed = self.table.place(node.id()).is_none();
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
        self.listings.remove(fh);
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

    /// Makes the directory `name` in `parent`; `asker` is the thread that asks.
    ///
    /// # Errors
    /// [`Kind::NotPermitted`] in the root directory and for the name of a record; [`Kind::Exists`],
    /// [`Kind::NameTaken`]; [`Kind::Stale`] as for [`unlink`](Self::unlink); the volume's.
    pub fn mkdir(&self, parent: Ino, name: &[u8], mode: u16, asker: u32) -> Result<NodeInfo> {
        super::below_root(parent)?;
        let place = Place {
            parent,
            name: EntryName::parse(name)?,
        };
        self.follow(&[parent], Some(&place.name), (asker, Told::Creation), |_| {
            let folder = self.folder(parent)?;
            let made = self
                .store
                .within_quota(|| folder.make_folder(&place.name, mode & 0o1777))?;
            Ok(self.entered(place.clone(), made.attributes()?))
        })
    }

    /// Removes the directory `name` in `parent`; `asker` is the thread that asks.
    ///
    /// # Errors
    /// [`Kind::DirectoryNotEmpty`], [`Kind::NotADirectory`]; [`Kind::NotPermitted`] in the root directory;
    /// [`Kind::Stale`] as for [`unlink`](Self::unlink).
    pub fn rmdir(&self, parent: Ino, name: &[u8], asker: u32) -> Result<()> {
        super::below_root(parent)?;
        let place = Place {
            parent,
            name: super::existing(name)?,
        };
        self.follow(&[parent], Some(&place.name), (asker, Told::Operation), |_| {
            self.rmdir_at(&place)
        })
    }

    fn rmdir_at(&self, place: &Place) -> Result<()> {
        if let Some(directory) = self.table.at(place)
            && !self.table.draft_names(directory.ino()).is_empty()
        {
            return Err(Error::new(Kind::DirectoryNotEmpty, "the directory has a draft"));
        }
        self.folder(place.parent)?.remove_folder(&place.name)?;
        if let Some(directory) = self.table.unlink(place) {
            self.folders.lock().pop(&directory.ino());
            self.watched.forget(directory.ino());
        }
        Ok(())
    }
}
