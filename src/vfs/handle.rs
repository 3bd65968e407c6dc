//! What the kernel has open.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock};

use super::directory::Listing;
use super::inode::Inode;
use crate::budget::Charge;
use crate::error::{Error, Kind, Result};
use crate::store::Attachment;

/// A file handle, of this session only.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Fh(pub u64);

/// An open file.
pub(super) struct OpenFile {
    pub(super) inode: Arc<Inode>,
    /// The thread that opened it.
    pub(super) opener: u32,
    pub(super) writer: bool,
    pub(super) append: bool,
    /// Where the bytes are, unless it is a record.
    pub(super) attachment: Option<Arc<Attachment>>,
    /// The right to be open. A record takes no descriptor of the process, but memory: it counts all the same.
    pub(super) _slot: Charge,
}

impl OpenFile {
    /// Whether `closer` belongs to the process that opened the file. Both are threads, for that is what the kernel
    /// tells; a thread that is gone by now belongs to nobody.
    pub(super) fn is_openers(&self, closer: u32) -> bool {
        let opener = self.opener;
        closer == opener || Path::new(&format!("/proc/{closer}/task/{opener}")).exists()
    }
}

enum Handle {
    File(Arc<OpenFile>),
    Directory(Arc<Mutex<Listing>>),
}

/// All open handles of a session.
#[derive(Default)]
pub(super) struct Handles {
    open: RwLock<HashMap<Fh, Handle>>,
    next: AtomicU64,
}

impl Handles {
    pub(super) fn count(&self) -> usize {
        self.open.read().len()
    }

    pub(super) fn add_file(&self, file: OpenFile) -> Fh {
        self.add(Handle::File(Arc::new(file)))
    }

    pub(super) fn add_directory(&self, listing: Listing) -> Fh {
        self.add(Handle::Directory(Arc::new(Mutex::new(listing))))
    }

    fn add(&self, handle: Handle) -> Fh {
        let fh = Fh(self.next.fetch_add(1, Ordering::Relaxed));
        self.open.write().insert(fh, handle);
        fh
    }

    /// # Errors
    /// [`Kind::BadHandle`].
    pub(super) fn file(&self, fh: Fh) -> Result<Arc<OpenFile>> {
        match self.open.read().get(&fh) {
            Some(Handle::File(file)) => Ok(Arc::clone(file)),
            _ => Err(bad_handle()),
        }
    }

    /// # Errors
    /// [`Kind::BadHandle`].
    pub(super) fn directory(&self, fh: Fh) -> Result<Arc<Mutex<Listing>>> {
        match self.open.read().get(&fh) {
            Some(Handle::Directory(listing)) => Ok(Arc::clone(listing)),
            _ => Err(bad_handle()),
        }
    }

    pub(super) fn remove_file(&self, fh: Fh) -> Option<Arc<OpenFile>> {
        match self.open.write().remove(&fh)? {
            Handle::File(file) => Some(file),
            Handle::Directory(_) => None,
        }
    }

    /// Everything that is open, to be closed by the caller. May be much.
    pub(super) fn take_all(&self) -> impl Send + use<> {
        std::mem::take(&mut *self.open.write())
    }

    pub(super) fn remove_directory(&self, fh: Fh) {
        self.open.write().remove(&fh);
    }
}

fn bad_handle() -> Error {
    Error::new(Kind::BadHandle, "no such open file")
}
