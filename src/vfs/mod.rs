//! The file system in its own words: inodes, handles, drafts being written, and what the kernel may cache.
//!
//! Knows neither the FUSE protocol nor JSON. Every operation is a method of [`Vfs`]; each replies in bounded time.

mod cache;
mod change;
mod create;
mod directory;
mod entries;
mod file;
mod handles;
mod ids;
mod known;
mod limits;
mod listing;
mod lock_order;
mod lookup;
mod names;
mod node;
mod notice;
mod open;
mod open_file;
mod record_state;
mod retries;
mod settle;
mod table;
mod verdict;
mod watched;
mod way;
mod way_back;

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use lru::LruCache;

pub use cache::PageCache;
pub use change::Changes;
pub use directory::{Listed, ListedName, OpenedDirectory};
pub use ids::{Fh, Ino, ROOT};
pub use limits::{Capacity, Limits, Pools};
pub use open::{OpenMode, Opened};

use crate::clock::{self, Stopwatch, Timestamp};
use crate::error::{Error, Kind, Result};
use crate::name::EntryName;
use crate::quota::Standing;
use crate::store::{Attributes, Folder, NodeKind, Store, Usage};
use crate::volume::{Access, FileId, Version};
use entries::Place;
use handles::HandleTable;
use known::Known;
use listing::Listing;
use lock_order::{Ordered, Rank};
use node::{Node, NodeId, stale};
use open_file::OpenFile;
use retries::Retries;
use table::Table;
use watched::Watched;

/// The open directories of the volume that are kept for the next use.
const OPEN_FOLDERS: NonZeroUsize = NonZeroUsize::new(256).unwrap();

/// How long a counted usage is good for.
const USAGE_LIFETIME: Duration = Duration::from_secs(10);

/// What statfs shows as free, in bytes: the truth would tell how much the others have.
const NOMINAL_FREE: u64 = 1 << 40;

/// And in files and directories.
const NOMINAL_FREE_FILES: u64 = 1 << 28;

/// What an operation is about, to be named if somebody wants to know.
#[derive(Clone, Copy, Debug)]
pub enum Target<'a> {
    /// A file or directory.
    Inode(Ino),
    /// An entry of a directory, which need not exist.
    Entry(Ino, &'a [u8]),
    /// Nothing in particular.
    Nothing,
}

/// What the kernel is told of an inode.
#[derive(Clone, Copy, Debug)]
pub struct NodeInfo {
    /// Its number.
    pub ino: Ino,
    /// 1, and 0 once the name is gone. For a directory, 2 and one for each directory in it; 1 says that these are not counted.
    pub links: u32,
    /// Everything else.
    pub attributes: Attributes,
    /// How long the kernel may believe it.
    pub lifetime: Duration,
}

/// What statfs shows: nothing but the user's own.
#[derive(Clone, Copy, Debug)]
pub struct FileSystem {
    /// Bytes in use.
    pub used: u64,
    /// Bytes free, nominally.
    pub free: u64,
    /// Files and directories.
    pub files: u64,
    /// How many more there may be, nominally.
    pub free_files: u64,
}

impl FileSystem {
    /// The quota, and what is used of it.
    fn within(standing: &Standing) -> Self {
        let Standing { limits, used, .. } = standing;
        let free =
            |limit: Option<u64>, used, nominal| limit.map_or(nominal, |limit| limit.saturating_sub(used));
        Self {
            used: used.bytes(),
            free: free(limits.bytes, used.bytes(), NOMINAL_FREE),
            files: used.files(),
            free_files: free(limits.files, used.files(), NOMINAL_FREE_FILES),
        }
    }
}

/// One tenant's file system.
pub struct Vfs {
    store: Store,
    uid: u32,
    gid: u32,
    pages: Arc<dyn PageCache>,
    table: Table,
    files: HandleTable<OpenFile>,
    listings: HandleTable<Ordered<Listing>>,
    watched: Watched,
    folders: Ordered<LruCache<Ino, Folder>>,
    known: Known,
    limits: Limits,
    retries: Retries,
    usage: Ordered<Option<(Stopwatch, Usage)>>,
    /// Since when drafts that nobody writes any more wait to be taken.
    held_back: Ordered<Option<Stopwatch>>,
    /// Whether there are any: what every request asks.
    holds_back: AtomicBool,
    begun: Timestamp,
}

impl Vfs {
    /// The file system of `store`, shown as belonging to `uid` and `gid`.
    pub fn new(store: Store, uid: u32, gid: u32, pages: Arc<dyn PageCache>, limits: Limits) -> Self {
        Self {
            store,
            uid,
            gid,
            watched: Watched::new(Arc::clone(&pages)),
            pages,
            table: Table::default(),
            files: HandleTable::default(),
            listings: HandleTable::default(),
            folders: Ordered::new(Rank::Folders, LruCache::new(OPEN_FOLDERS)),
            known: Known::new(limits.inodes()),
            limits,
            retries: Retries::default(),
            usage: Ordered::new(Rank::Usage, None),
            held_back: Ordered::new(Rank::HeldBack, None),
            holds_back: AtomicBool::new(false),
            begun: clock::now(),
        }
    }

    /// Whose it is, as (uid, gid).
    pub fn owner(&self) -> (u32, u32) {
        (self.uid, self.gid)
    }

    /// The store behind it.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// What the target is called in the mount: `schedules/nightly.json`; the root directory is `.`. Of what has lost its
    /// name, the last one.
    pub fn path(&self, target: Target<'_>) -> String {
        let of = |ino: Ino| {
            let path = self.table.get(ino).and_then(|node| self.table.path(node.id()));
            path.unwrap_or_else(|| ".".to_owned())
        };
        match target {
            Target::Inode(ino) => of(ino),
            Target::Entry(ROOT, name) => String::from_utf8_lossy(name).into_owned(),
            Target::Entry(parent, name) => format!("{}/{}", of(parent), String::from_utf8_lossy(name)),
            Target::Nothing => ".".to_owned(),
        }
    }

    /// Every inode number that the kernel may know.
    pub fn known_inodes(&self) -> Vec<Ino> {
        let mut all = self.table.all();
        all.push(ROOT);
        all
    }

    /// Every name that the kernel may know, as (directory, name).
    pub fn known_names(&self) -> Vec<(Ino, EntryName)> {
        self.table.names()
    }

    /// How many files and directories are open.
    pub fn open_handles(&self) -> usize {
        self.files.count() + self.listings.count()
    }

    /// Forgets everything that is open, once the kernel cannot ask for it any more. Dropping what is returned closes it,
    /// which takes as long as the volume takes.
    pub fn take_open(&self) -> impl Send + use<> {
        (self.files.take_all(), self.listings.take_all())
    }

    /// The kernel forgets `count` lookups of an inode.
    pub fn forget(&self, ino: Ino, count: u64) {
        if self.table.forget(ino, count) {
            self.watched.forget(ino);
            let mut folders = self.folders.lock();
            // Its number may be another directory's next, or the same one's by now.
            let id = self.table.get(ino).and_then(|node| self.table.id(node.id()));
            if folders.peek(&ino).is_some_and(|folder| Some(folder.id()) != id) {
                folders.pop(&ino);
            }
        }
    }

    /// Whether the handle of a directory is at hand.
    fn has_open(&self, ino: Ino, id: FileId) -> bool {
        self.folders
            .lock()
            .get(&ino)
            .is_some_and(|folder| folder.id() == id)
    }

    /// The attributes of an inode.
    ///
    /// # Errors
    /// [`Kind::Stale`] for an inode that was never looked up. The volume's.
    pub fn getattr(&self, ino: Ino) -> Result<NodeInfo> {
        if ino == ROOT {
            return Ok(self.info(ROOT, Some(ROOT), self.synthetic(ROOT.0, 0o700), false));
        }
        let node = self.known(ino)?;
        let place = self.table.place(node.id());
        let (attributes, written) = match &node {
            Node::Directory(id) => (self.directory_attributes(*id, place.as_ref())?, false),
            Node::Record(record) => {
                let (in_memory, written, is_former) = {
                    let content = record.lock();
                    let written = content.is_unsaved() || content.has_writers();
                    (content.attributes(), written, record.is_former())
                };
                if is_former {
                    // Renamed while it was waited for: its number stands for what it became.
                    return self.getattr(ino);
                }
                // What was opened is what is read, and nothing else.
                match in_memory {
                    Some(attributes) => (attributes, written),
                    None => (self.stored_attributes(&node, place.as_ref(), || None)?, written),
                }
            }
            Node::Attachment(file) => {
                let open = || file.lock().any(false)?.attributes().ok();
                (self.stored_attributes(&node, place.as_ref(), open)?, false)
            }
        };
        let parent = place.as_ref().map(|place| place.parent);
        let mut info = self.info(ino, parent, attributes, written);
        if place.is_none() {
            info.links = 0;
        }
        Ok(info)
    }

    fn directory_attributes(&self, node: NodeId, place: Option<&Place>) -> Result<Attributes> {
        match (place, self.folder(node.ino)) {
            (_, Ok(folder)) => folder.attributes(),
            (Some(place), Err(_)) if place.parent == ROOT => self.resource(&place.name),
            // Removed, and still somebody's working directory.
            (None, Err(error)) => self.table.last_told(node).ok_or(error),
            (_, Err(error)) => Err(error),
        }
    }

    /// The attributes of a file as the volume has it; of one that was replaced or removed, those of an `open` description:
    /// who has it open, or only found it (O_PATH), goes on having it.
    fn stored_attributes(
        &self,
        node: &Node,
        place: Option<&Place>,
        open: impl FnOnce() -> Option<Attributes>,
    ) -> Result<Attributes> {
        let found = match place {
            Some(place) => self
                .folder(place.parent)
                .and_then(|folder| folder.lookup(&place.name)),
            None => Err(stale()),
        };
        match found {
            Ok(attributes) if self.is_known(node, &attributes) => Ok(attributes),
            _ => open()
                .or_else(|| self.table.last_told(node.id()))
                .ok_or_else(stale),
        }
    }

    /// What statfs shows.
    pub fn statfs(&self) -> FileSystem {
        if let Some(standing) = self.store.standing() {
            return FileSystem::within(&standing);
        }
        let mut remembered = self.usage.lock();
        let usage = match *remembered {
            Some((counted, usage)) if counted.elapsed() < USAGE_LIFETIME => usage,
            _ => {
                let usage = self.store.usage();
                *remembered = Some((Stopwatch::start(), usage));
                usage
            }
        };
        FileSystem {
            used: usage.bytes,
            free: NOMINAL_FREE,
            files: usage.files,
            free_files: NOMINAL_FREE_FILES,
        }
    }

    fn info(&self, ino: Ino, parent: Option<Ino>, attributes: Attributes, written: bool) -> NodeInfo {
        NodeInfo {
            ino,
            links: self.links(ino, &attributes),
            lifetime: self.lifetime(ino, parent, &attributes, written),
            attributes,
        }
    }

    /// The directory of the volume that an inode stands for.
    fn folder(&self, ino: Ino) -> Result<Folder> {
        // Not by recursion: a user nests directories as deep as they like.
        let (mut above, mut below) = (ino, Vec::new());
        let mut folder = loop {
            if let Some(folder) = self.folders.lock().get(&above) {
                break folder.clone();
            }
            let id = self.known(above)?.id();
            let place = self.table.place(id).ok_or_else(stale)?;
            if place.parent == ROOT {
                let folder = self.store.folder(place.name.as_str())?;
                self.watched.watch(above, &folder);
                self.folders.lock().put(above, folder.clone());
                break folder;
            }
            above = place.parent;
            below.push((id, place.name));
            // Others can turn directories inside out, and the kernel be told of one end only.
            if below.len() > self.table.len() {
                return Err(stale());
            }
        };
        for (id, name) in below.into_iter().rev() {
            folder = folder.open_folder(&name)?;
            if self.table.id(id) != Some(folder.id()) {
                return Err(stale());
            }
            self.watched.watch(id.ino, &folder);
            self.folders.lock().put(id.ino, folder.clone());
        }
        Ok(folder)
    }

    /// Whether the node stands for the file with these attributes: for a record, for this version of it.
    fn is_known(&self, node: &Node, attributes: &Attributes) -> bool {
        match node {
            Node::Record(node) => self.is_known_record(node.id, attributes),
            Node::Directory(id) => self.table.id(*id) == Some(attributes.id),
            Node::Attachment(node) => self.table.id(node.id) == Some(attributes.id),
        }
    }

    fn is_known_record(&self, node: NodeId, attributes: &Attributes) -> bool {
        let told = self.table.last_told(node).map(|told| told.version);
        told == Some(attributes.version) && self.table.id(node) == Some(attributes.id)
    }

    fn known(&self, ino: Ino) -> Result<Node> {
        self.table.get(ino).ok_or_else(stale)
    }

    /// Where a file is; stale when it is nowhere.
    fn place(&self, node: NodeId) -> Result<(Folder, EntryName)> {
        let place = self.table.place(node).ok_or_else(stale)?;
        Ok((self.folder(place.parent)?, place.name))
    }

    /// The attributes of a resource's directory. One that a read-only session did not find is shown empty.
    fn resource(&self, name: &EntryName) -> Result<Attributes> {
        let found = self
            .store
            .roots()
            .enumerate()
            .find(|(_, (known, _))| *known == name);
        match found {
            Some((_, (_, Some(folder)))) => folder.attributes(),
            Some((index, (_, None))) => Ok(self.synthetic(ROOT.0 + 1 + index as u64, 0o500)),
            None => Err(not_found()),
        }
    }

    /// The links to show.
    fn links(&self, ino: Ino, attributes: &Attributes) -> u32 {
        let names = attributes.names;
        match attributes.kind {
            NodeKind::Directory if ino == ROOT => {
                names + u32::try_from(self.store.roots().count()).unwrap_or_default()
            }
            NodeKind::Directory if names <= 2 => names,
            NodeKind::Directory => {
                let folder = self.folder(ino);
                folder.and_then(|folder| folder.links(names)).unwrap_or(1)
            }
            NodeKind::Record | NodeKind::Attachment => 1,
        }
    }

    /// The attributes of a directory that is not on the volume.
    fn synthetic(&self, number: u64, mode: u16) -> Attributes {
        let begun = self.begun;
        Attributes {
            id: FileId { dev: 0, ino: number },
            number: 0,
            names: 2,
            kind: NodeKind::Directory,
            size: 0,
            blocks: 0,
            mode,
            atime: begun,
            mtime: begun,
            ctime: begun,
            version: Version {
                size: 0,
                mtime: begun,
                ctime: begun,
            },
            kept_draft: false,
        }
    }
}

/// The name of something that may exist: what cannot exist is absent.
fn existing(name: &[u8]) -> Result<EntryName> {
    EntryName::parse(name).map_err(|error| match error.kind() {
        Kind::NameTooLong => error,
        _ => not_found(),
    })
}

fn not_found() -> Error {
    Error::new(Kind::NotFound, "no such file or directory")
}

/// Root's entries are the resources, and only the configuration changes those.
fn below_root(parent: Ino) -> Result<()> {
    match parent == ROOT {
        true => Err(Error::new(
            Kind::NotPermitted,
            "the root directory has the resources and nothing else",
        )),
        false => Ok(()),
    }
}

/// How an attachment has to be opened.
fn access(write: bool) -> Access {
    match write {
        true => Access::ReadWrite,
        false => Access::Read,
    }
}
