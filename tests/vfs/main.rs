//! The file system without a kernel: what it promises on inode numbers, handles and drafts can be asked of it directly.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod drafts;
mod handles;
mod model;
mod others;
mod promises;
mod session;
#[allow(
    dead_code,
    reason = "of the store's model, directories and attachments are not needed"
)]
#[path = "../store/model.rs"]
mod tree;
mod way_back;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use tempfile::TempDir;
use tenantfs::auth::{ApiKey, StaticKeys, key_hash};
use tenantfs::error::Kind;
use tenantfs::event::{LogObserver, Observer};
use tenantfs::name::EntryName;
use tenantfs::store::{Options, Store};
use tenantfs::vfs::{Fh, Ino, Limits, NodeInfo, OpenMode, PageCache, Pools, ROOT, Vfs};
use tenantfs::volume::{Durability, Volume};

const UID: u32 = 1000;
const ALICE: &str = "2bd806c97f0e00af";

const READ: OpenMode = OpenMode {
    write: false,
    append: false,
    truncate: false,
    exclusive: false,
    synchronous: false,
};
const WRITE: OpenMode = OpenMode { write: true, ..READ };

/// A kernel that notes what it is asked to keep, and to forget.
#[derive(Default)]
struct Pages {
    filled: Mutex<Vec<(Ino, Vec<u8>)>>,
    dropped: Mutex<Vec<Ino>>,
    dropped_names: Mutex<Vec<String>>,
    /// The directories of which it was told that their listings are no longer so.
    noticed: Mutex<Vec<Ino>>,
}

impl PageCache for Pages {
    fn fill(&self, ino: Ino, content: &[u8]) -> bool {
        self.filled.lock().push((ino, content.to_vec()));
        true
    }

    fn drop_soon(&self, ino: Ino) {
        self.dropped.lock().push(ino);
    }

    fn drop_attributes(&self, _: Ino) {}

    fn notice_soon(&self) {}

    fn drop_name(&self, _: Ino, name: &EntryName) {
        self.dropped_names.lock().push(name.as_str().to_owned());
    }

    fn drop_listing(&self, ino: Ino) {
        self.noticed.lock().push(ino);
    }
}

struct Mounted {
    vfs: Vfs,
    pages: Arc<Pages>,
    schedules: Ino,
    volume: Arc<TempDir>,
}

impl Mounted {
    fn new() -> Self {
        Self::within(Pools::alone().limits())
    }

    fn within(limits: Limits) -> Self {
        Self::on(Arc::new(TempDir::new().unwrap()), limits)
    }

    /// Another session of the same user, on the same volume.
    fn again(&self) -> Self {
        Self::on(Arc::clone(&self.volume), Pools::alone().limits())
    }

    fn on(volume: Arc<TempDir>, limits: Limits) -> Self {
        let observer = Arc::new(LogObserver::default());
        Self::observed(volume, limits, observer, Options::default().max_record)
    }

    fn observed(volume: Arc<TempDir>, limits: Limits, observer: Arc<dyn Observer>, max_record: u64) -> Self {
        let pages = Arc::new(Pages::default());
        let store = store(volume.path(), observer, max_record);
        let vfs = Vfs::new(store, UID, UID, Arc::clone(&pages) as _, limits);
        let schedules = vfs.lookup(ROOT, b"schedules", 1).unwrap().ino;
        Self {
            vfs,
            pages,
            schedules,
            volume,
        }
    }

    /// Where the volume has a record.
    fn path(&self, name: &str) -> PathBuf {
        self.volume.path().join("schedules").join(ALICE).join(name)
    }

    /// Replaces a record as the service does.
    fn replace(&self, name: &str, record: &str) {
        let temporary = self.path("temporary");
        fs::write(&temporary, record).unwrap();
        fs::rename(temporary, self.path(name)).unwrap();
    }

    fn lookup(&self, name: &str) -> NodeInfo {
        self.vfs.lookup(self.schedules, name.as_bytes(), 1).unwrap()
    }

    fn absent(&self, name: &str) -> bool {
        let result = self.vfs.lookup(self.schedules, name.as_bytes(), 1);
        result.is_err_and(|error| error.kind() == Kind::NotFound)
    }

    /// Writes a file as a program does: create, write, close.
    fn write(&self, name: &str, text: &str) {
        let me = std::process::id();
        let (node, opened) = self
            .vfs
            .create(self.schedules, name.as_bytes(), 0o644, WRITE, me)
            .unwrap();
        self.vfs.write(opened.fh, 0, text.as_bytes(), false).unwrap();
        self.vfs.flush(opened.fh, me).unwrap();
        self.vfs.release(opened.fh);
        self.vfs.forget(node.ino, 1);
    }

    fn read(&self, name: &str) -> String {
        let node = self.lookup(name);
        let opened = self.vfs.open(node.ino, READ, 1).unwrap();
        let text = self.vfs.read(opened.fh, 0, 1 << 20).unwrap();
        self.vfs.release(opened.fh);
        self.vfs.forget(node.ino, 1);
        String::from_utf8(text).unwrap()
    }

    /// Creates a file and leaves it open; the kernel goes on knowing it.
    fn create(&self, name: &str, mode: OpenMode) -> (Ino, Fh) {
        let (node, opened) = self
            .vfs
            .create(self.schedules, name.as_bytes(), 0o644, mode, 1)
            .unwrap();
        (node.ino, opened.fh)
    }

    fn stored(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }
}

fn store(volume: &Path, observer: Arc<dyn Observer>, max_record: u64) -> Store {
    let key = ApiKey::new("sesame").unwrap();
    let keys = format!(
        r#"{{"keys":[{{"sha256":"{}","user_id":"alice"}}]}}"#,
        key_hash(&key)
    );
    let alice = StaticKeys::parse(&keys).unwrap().authenticate(&key).unwrap();
    let options = Options {
        durability: Durability::Ordered,
        max_record,
        ..Options::default()
    };
    let volume = Volume::open(volume).unwrap();
    Store::open(&volume, &alice, options, observer).unwrap()
}
