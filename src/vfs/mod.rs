//! The file system in its own words: inodes, handles, drafts being written, and what the kernel may cache.
//!
//! Knows neither the FUSE protocol nor JSON. Every operation is a method of [`Vfs`]; each replies in bounded time.

mod change;
mod directory;
mod file;
mod handle;
mod inode;
mod limits;
mod lookup;
mod names;
mod open;
mod settle;
mod table;
mod watched;

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use lru::LruCache;
use parking_lot::Mutex;

pub use change::Changes;
pub use directory::{Listed, ListedName, OpenedDirectory};
pub use handle::Fh;
pub use limits::{Limits, Pools};
pub use open::{OpenMode, Opened};

use crate::clock::{self, Stopwatch, Timestamp};
use crate::error::{Error, Kind, Result};
use crate::name::EntryName;
use crate::store::{Attributes, Folder, NodeKind, Store, Usage};
use crate::volume::{Access, FileId, Version};
use handle::Handles;
use inode::{Inode, stale};
use table::{Place, Table};
use watched::Watched;

/// An inode number, of this session only.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Ino(pub u64);

/// The root directory, which has the resources.
pub const ROOT: Ino = Ino(1);

/// How long the kernel may believe what it was told, when nobody tells it of changes: changes on the volume show up within
/// a second (DESIGN.md section 8).
const CACHE_LIFETIME: Duration = Duration::from_millis(700);

/// The open directories of the volume that are kept for the next use.
const OPEN_FOLDERS: NonZeroUsize = NonZeroUsize::new(256).unwrap();

/// How long a counted usage is good for.
const USAGE_LIFETIME: Duration = Duration::from_secs(10);

/// What statfs shows as free, in bytes: the truth would tell how much the others have.
const NOMINAL_FREE: u64 = 1 << 40;

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

/// The kernel's cache of file content, as far as it is driven from here.
pub trait PageCache: Send + Sync {
    /// Puts a file's whole content there, and returns whether it is there now. Only called for a file of that size that
    /// nobody has had open.
    fn fill(&self, ino: Ino, content: &[u8]) -> bool;

    /// Drops a file's content and attributes, soon: never waits.
    fn drop_soon(&self, ino: Ino);

    /// Drops a file's attributes, now: never waits.
    fn drop_attributes(&self, ino: Ino);

    /// Has [`Vfs::notice_changes`] called, soon: never waits.
    fn notice_soon(&self);

    /// Drops a name: waits for operations under way in its directory.
    fn drop_name(&self, parent: Ino, name: &EntryName);

    /// Drops a directory's attributes, and what it lists.
    fn drop_listing(&self, ino: Ino);
}

/// What the kernel is told of an inode.
#[derive(Clone, Copy, Debug)]
pub struct Node {
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
}

/// One tenant's file system.
pub struct Vfs {
    store: Store,
    uid: u32,
    gid: u32,
    pages: Arc<dyn PageCache>,
    table: Table,
    handles: Handles,
    watched: Watched,
    folders: Mutex<LruCache<Ino, Folder>>,
    limits: Limits,
    /// Names whose lookup has to bring the content along, and since when; see [`contend`](Self::contend).
    contended: Mutex<HashMap<Place, Stopwatch>>,
    usage: Mutex<Option<(Stopwatch, Usage)>>,
    /// Drafts that nobody writes any more wait for the observers to take note of commits again.
    held_back: AtomicBool,
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
            handles: Handles::default(),
            folders: Mutex::new(LruCache::new(OPEN_FOLDERS)),
            limits,
            contended: Mutex::default(),
            usage: Mutex::default(),
            held_back: AtomicBool::new(false),
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
            let path = self.table.get(ino).and_then(|inode| self.table.path(&inode));
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
        self.handles.count()
    }

    /// Forgets everything that is open, once the kernel cannot ask for it any more. Dropping what is returned closes it,
    /// which takes as long as the volume takes.
    pub fn take_open(&self) -> impl Send + use<> {
        self.handles.take_all()
    }

    /// The kernel forgets `count` lookups of an inode.
    pub fn forget(&self, ino: Ino, count: u64) {
        if self.table.forget(ino, count) {
            self.watched.forget(ino);
        }
    }

    /// The attributes of an inode.
    ///
    /// # Errors
    /// [`Kind::Stale`] for an inode that was never looked up. The volume's.
    pub fn getattr(&self, ino: Ino) -> Result<Node> {
        if ino == ROOT {
            return Ok(self.node(ROOT, Some(ROOT), self.synthetic(ROOT.0, 0o700), false));
        }
        let inode = self.inode(ino)?;
        let linked = self.table.place(&inode);
        let attributes = self.attributes(&inode, linked.as_ref())?;
        let written = inode.body().written().is_some();
        let parent = linked.as_ref().map(|place| place.parent);
        let mut node = self.node(ino, parent, attributes, written);
        if linked.is_none() {
            node.links = 0;
        }
        Ok(node)
    }

    fn attributes(&self, inode: &Inode, place: Option<&Place>) -> Result<Attributes> {
        if inode.kind == NodeKind::Directory {
            return match (place, self.folder(inode.ino)) {
                (_, Ok(folder)) => folder.attributes(),
                (Some(place), Err(_)) if place.parent == ROOT => self.resource(&place.name),
                // Removed, and still somebody's working directory.
                (None, Err(error)) => self.table.last_told(inode).ok_or(error),
                (_, Err(error)) => Err(error),
            };
        }
        if let Some(attributes) = inode.body().of_open_record() {
            return Ok(attributes);
        }
        let found = match place {
            Some(place) => self
                .folder(place.parent)
                .and_then(|folder| folder.lookup(&place.name)),
            None => Err(stale()),
        };
        match found {
            Ok(attributes) if self.is_known(inode, &attributes) => Ok(attributes),
            // Replaced or removed: who has it open, or only found it (O_PATH), goes on having it.
            _ => inode
                .body()
                .open_attributes()
                .or_else(|error| self.table.last_told(inode).ok_or(error)),
        }
    }

    /// What statfs shows.
    ///
    /// # Errors
    /// The volume's.
    pub fn statfs(&self) -> Result<FileSystem> {
        let mut remembered = self.usage.lock();
        let usage = match *remembered {
            Some((counted, usage)) if counted.elapsed() < USAGE_LIFETIME => usage,
            _ => {
                let usage = self.store.usage()?;
                *remembered = Some((Stopwatch::start(), usage));
                usage
            }
        };
        Ok(FileSystem {
            used: usage.bytes,
            free: NOMINAL_FREE,
            files: usage.files,
        })
    }

    fn node(&self, ino: Ino, parent: Option<Ino>, attributes: Attributes, written: bool) -> Node {
        Node {
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
            let inode = self.inode(above)?;
            let place = self.table.place(&inode).ok_or_else(stale)?;
            if place.parent == ROOT {
                let folder = self.store.folder(place.name.as_str())?;
                self.watched.watch(above, &folder);
                self.folders.lock().put(above, folder.clone());
                break folder;
            }
            above = place.parent;
            below.push((inode, place.name));
        };
        for (inode, name) in below.into_iter().rev() {
            folder = folder.open_folder(&name)?;
            if self.table.id(&inode) != Some(folder.id()) {
                return Err(stale());
            }
            self.watched.watch(inode.ino, &folder);
            self.folders.lock().put(inode.ino, folder.clone());
        }
        Ok(folder)
    }

    /// Whether the inode stands for the file with these attributes: for a record, for this version of it.
    fn is_known(&self, inode: &Inode, attributes: &Attributes) -> bool {
        let told = self.table.last_told(inode).map(|told| told.version);
        let same_version = inode.kind != NodeKind::Record || told == Some(attributes.version);
        same_version && self.table.id(inode) == Some(attributes.id)
    }

    fn inode(&self, ino: Ino) -> Result<Arc<Inode>> {
        self.table.get(ino).ok_or_else(stale)
    }

    /// Where a file is; stale when it is nowhere.
    fn place(&self, inode: &Inode) -> Result<(Folder, EntryName)> {
        let place = self.table.place(inode).ok_or_else(stale)?;
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
            None => Err(Error::new(Kind::NotFound, "no such file or directory")),
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
        _ => Error::new(Kind::NotFound, "no such file or directory"),
    })
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
