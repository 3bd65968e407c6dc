//! The store as a library, without FUSE: its promises one by one, and against a reference model under random
//! operations of two tenants and the service.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod model;
mod promises;
mod random;
mod removed;
mod renamed;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use tempfile::TempDir;
use tenantfs::auth::{ApiKey, StaticKeys, key_hash};
use tenantfs::error::Result;
use tenantfs::event::{Event, Observer};
use tenantfs::identity::{Principal, UserId};
use tenantfs::layout::Layout;
use tenantfs::name::EntryName;
use tenantfs::store::{Options, Store};
use tenantfs::volume::{Durability, Volume};

/// Part of every secret that these tests put on a volume, and of nothing else.
const SECRET: &str = "sk-8f2e";

/// A volume of its own for a test.
struct Disk {
    root: TempDir,
    volume: Volume,
    layout: Layout,
}

impl Disk {
    fn new(layout: Layout) -> Self {
        let root = TempDir::new().unwrap();
        let volume = Volume::open(root.path()).unwrap();
        Self { root, volume, layout }
    }

    /// Options for tests that do not ask what survives a power cut.
    fn options(&self) -> Options {
        Options {
            layout: self.layout,
            durability: Durability::Ordered,
            ..Options::default()
        }
    }

    fn open(&self, user: &str) -> Store {
        self.open_with(user, self.options()).unwrap()
    }

    fn open_with(&self, user: &str, options: Options) -> Result<Store> {
        Store::open(
            &self.volume,
            &principal(user),
            options,
            Arc::new(Noted::default()),
        )
    }

    /// Where the volume has a user's resource.
    fn directory(&self, user: &str, resource: &str) -> PathBuf {
        let hash = UserId::new(user).unwrap().hash();
        let root = self.root.path();
        match self.layout {
            Layout::ResourceFirst => root.join(resource).join(hash.as_str()),
            Layout::UserFirst => root.join("users").join(hash.as_str()).join(resource),
        }
    }
}

/// The proof that `user` was authenticated: by a key file, like everybody's.
fn principal(user: &str) -> Principal {
    let key = ApiKey::new("sesame").unwrap();
    let keys = format!(
        r#"{{"keys":[{{"sha256":"{}","user_id":"{user}"}}]}}"#,
        key_hash(&key)
    );
    StaticKeys::parse(&keys).unwrap().authenticate(&key).unwrap()
}

fn name(text: &str) -> EntryName {
    EntryName::parse(text.as_bytes()).unwrap()
}

/// Writes a file as a careful service does: complete, then renamed into place.
fn replace(path: &Path, content: &[u8]) {
    let temporary = path.with_file_name(".service-writes");
    fs::write(&temporary, content).unwrap();
    fs::rename(&temporary, path).unwrap();
}

/// Takes note of what it is told.
#[derive(Default)]
struct Noted {
    events: Mutex<Vec<Event>>,
}

impl Observer for Noted {
    fn observe(&self, event: &Event) {
        self.events.lock().push(event.clone());
    }
}
