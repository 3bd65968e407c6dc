//! One tenant's data, as the tenant may see it.
//!
//! A [`Store`] is built from a [`Principal`] and holds handles of that tenant's directories; no later call names a
//! user. Everything in them is verified on the way out and owned on the way in. There are two ways to it: a
//! [`Collection`] is what a web service wants of a resource, records by their ids; a [`Folder`] is what a file system
//! wants, every entry of a directory.
//!
//! ```
//! use std::sync::Arc;
//! use tenantfs::auth::{ApiKey, StaticKeys};
//! use tenantfs::event::LogObserver;
//! use tenantfs::name::{EntryName, RecordId};
//! use tenantfs::store::{Options, Store};
//! use tenantfs::volume::Volume;
//!
//! # fn main() -> tenantfs::error::Result<()> {
//! # let dir = tempfile::tempdir().unwrap();
//! // SHA-256 of the key "sesame", as `tenantfs key-hash` prints it.
//! let keys = StaticKeys::parse(
//!     r#"{"keys":[{"sha256":"d0c04f4b1951e4aeaaec8223ed2039e542f3aae805a6fa7f6d794e5afff5d272","user_id":"alice"}]}"#,
//! )?;
//! let alice = keys.authenticate(&ApiKey::new("sesame")?)?;
//!
//! let volume = Volume::open(dir.path())?;
//! let store = Store::open(&volume, &alice, Options::default(), Arc::new(LogObserver::default()))?;
//! let schedules = store.collection("schedules")?;
//! let nightly = RecordId::new("nightly")?;
//! schedules.save(&nightly, br#"{"at":"02:00"}"#)?;
//! assert_eq!(schedules.load(&nightly)?, r#"{"at":"02:00"}"#);
//!
//! // The same record as a file system sees it, beside a file that is no record.
//! let folder = store.folder("schedules")?;
//! folder.create_attachment(&EntryName::parse(b"plot.png")?, 0o600)?;
//! assert_eq!(folder.list()?, [nightly.file_name(), EntryName::parse(b"plot.png")?]);
//! assert_eq!(schedules.list()?, [nightly]);
//! # Ok(())
//! # }
//! ```

mod attachment;
mod attributes;
mod change;
mod collection;
mod commit;
mod draft;
mod draft_file;
mod facts;
mod folder;
mod kept;
mod layout_mark;
mod links;
mod marker;
mod records;
mod rename;
mod reserved;
mod uncommitted;
mod usage;

use std::sync::Arc;

use parking_lot::Mutex;

pub use attachment::{Allocate, Attachment, Seek};
pub use attributes::{Attributes, NodeKind};
pub use collection::Collection;
pub use draft::Draft;
pub use folder::{Concern, Folder};
pub use layout_mark::LayoutMark;
pub use records::{Snapshot, stored_limit};
pub use reserved::{ForeignDraft, OWNER_MARKER, Reserved, draft_limit, erasure_journal};
pub use uncommitted::Uncommitted;
pub use usage::Usage;

use crate::error::{Error, Kind, Result};
use crate::event::{Event, Observer, Op, Operation};
use crate::identity::{Principal, UserHash, UserId};
use crate::layout::Layout;
use crate::name::{EntryName, Resource, default_resources};
use crate::record::{Attached, DEFAULT_SECRET_FIELDS, Lens};
use crate::seal::SealingKeys;
use crate::volume::{Dir, Durability, Volume};
use facts::Facts;
use marker::Marker;

/// The member that a session's own key is attached as.
pub const SESSION_KEY_FIELD: &str = "api_key";

/// How a store treats the volume.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where the tenant's directories are.
    pub layout: Layout,
    /// The resources shown, in this order.
    pub resources: Vec<Resource>,
    /// What a commit waits for, unless it is asked for more.
    pub durability: Durability,
    /// Refuse every change.
    pub read_only: bool,
    /// The largest record as the mount shows it, in bytes.
    pub max_record: u64,
    /// The members that are secret.
    pub secret_fields: Vec<String>,
    /// What seals them; without it none can be written.
    pub keys: Option<Arc<SealingKeys>>,
    /// The resources whose new records get the session's own key, sealed, where they have none.
    pub attach_session_key: Vec<Resource>,
    /// What views may take that are remembered, to be served again without being read, in bytes.
    pub remembered: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            layout: Layout::default(),
            resources: default_resources(),
            durability: Durability::default(),
            read_only: false,
            max_record: 16 << 20,
            secret_fields: DEFAULT_SECRET_FIELDS.iter().map(ToString::to_string).collect(),
            keys: None,
            attach_session_key: Vec::new(),
            remembered: 8 << 20,
        }
    }
}

/// One tenant's data.
#[derive(Clone)]
pub struct Store {
    tenant: Arc<Tenant>,
    roots: Arc<[(Resource, Option<Folder>)]>,
}

/// What every folder of a tenant shares.
struct Tenant {
    user_id: UserId,
    user: UserHash,
    full_hash: String,
    lens: Lens,
    options: Options,
    observer: Arc<dyn Observer>,
    facts: Mutex<Facts>,
    markers: Vec<Marker>,
    /// The session's own key, for new records of the resources that get it.
    attached: Mutex<Option<Arc<Attached>>>,
}

impl Store {
    /// Opens the principal's part of `volume`, and makes its directories where they are missing (unless read-only).
    ///
    /// # Errors
    /// [`Kind::HashCollision`] when the directories belong to another user id with the same hash; [`Kind::Busy`] while they are
    /// being erased; [`Kind::Config`] when the volume has another layout; [`Kind::AccessDenied`] and the like when the volume refuses.
    pub fn open(
        volume: &Volume,
        principal: &Principal,
        options: Options,
        observer: Arc<dyn Observer>,
    ) -> Result<Self> {
        let user = principal.user().hash();
        let full_hash = principal.user().full_hash();
        LayoutMark::check(volume.root(), options.layout)?;
        reserved::not_being_erased(volume, &full_hash)?;
        let mut directories = Vec::with_capacity(options.resources.len());
        let mut markers: Vec<Marker> = Vec::new();
        for resource in &options.resources {
            let opened =
                descend(volume, options.layout, resource, &user, options.read_only).map_err(|error| {
                    error.context(format_args!(
                        "opening {}/{} of the volume {}",
                        resource.as_str(),
                        user,
                        volume.path().display()
                    ))
                })?;
            let directory = match opened {
                Some((hash_dir, directory)) => {
                    if options.layout == Layout::ResourceFirst || markers.is_empty() {
                        markers.push(Marker::check(hash_dir, &full_hash)?);
                    }
                    Some(directory)
                }
                None => None,
            };
            directories.push((resource.clone(), directory));
        }
        let tenant = Arc::new(Tenant {
            lens: Lens::new(
                principal.user().clone(),
                options.secret_fields.clone(),
                options.keys.as_ref().map(|keys| keys.sealer(principal.user())),
            ),
            user,
            user_id: principal.user().clone(),
            full_hash,
            facts: Mutex::new(Facts::new(options.remembered)),
            options,
            observer,
            markers,
            attached: Mutex::default(),
        });
        let roots = directories
            .into_iter()
            .map(|(resource, directory)| {
                let path = resource.as_str();
                let attaches = tenant.options.attach_session_key.contains(&resource);
                let folder = directory
                    .map(|directory| Folder::new(Arc::clone(&tenant), directory, path.into(), attaches))
                    .transpose()?;
                Ok((resource, folder))
            })
            .collect::<Result<_>>()?;
        Ok(Self { tenant, roots })
    }

    /// The directory of one resource.
    ///
    /// # Errors
    /// [`Kind::NotFound`] when there is no such resource, or a read-only store found no directory for it.
    pub fn folder(&self, resource: &str) -> Result<Folder> {
        self.roots
            .iter()
            .find(|(known, _)| known.as_str() == resource)
            .and_then(|(_, folder)| folder.clone())
            .ok_or_else(|| Error::new(Kind::NotFound, "no such resource"))
    }

    /// The records of one resource.
    ///
    /// # Errors
    /// As [`folder`](Self::folder).
    pub fn collection(&self, resource: &str) -> Result<Collection> {
        self.folder(resource).map(Collection::new)
    }

    /// The resources, in the order they are shown, each with its directory where there is one.
    pub fn roots(&self) -> impl Iterator<Item = (&EntryName, Option<&Folder>)> {
        self.roots
            .iter()
            .map(|(resource, folder)| (resource.as_entry(), folder.as_ref()))
    }

    /// Whose store this is, as it may be logged.
    pub fn user(&self) -> &UserHash {
        &self.tenant.user
    }

    /// Whether every change is refused.
    pub fn read_only(&self) -> bool {
        self.tenant.options.read_only
    }

    /// The largest record as the mount shows it, in bytes.
    pub fn max_record(&self) -> u64 {
        self.tenant.options.max_record
    }

    /// From now on `key` is the session's own, which new records get where the options say so.
    ///
    /// # Errors
    /// [`Kind::Config`] when it is no secret by the options, or cannot be sealed.
    pub fn attach_session_key(&self, key: &str) -> Result<()> {
        if !self.tenant.options.attach_session_key.is_empty() {
            let attached = self.tenant.lens.attach(SESSION_KEY_FIELD, key)?;
            *self.tenant.attached.lock() = Some(Arc::new(attached));
        }
        Ok(())
    }

    /// Tells the store's observer.
    pub fn report(&self, event: &Event) {
        self.tenant.observer.observe(event);
    }

    /// Tells the store's observer of an operation that is done.
    pub fn done(&self, operation: &Operation<'_>) {
        self.tenant.observer.operation(operation);
    }

    /// Whether an operation may begin.
    ///
    /// # Errors
    /// [`Kind::Io`] when the observer could not take note of it.
    pub fn admit(&self, op: Op) -> Result<()> {
        self.tenant.observer.admit(op)
    }

    /// Every directory of the volume that this store needs: what a sandbox must leave open.
    pub fn directories(&self) -> Vec<&Dir> {
        let markers = self.tenant.markers.iter().map(Marker::dir);
        let roots = self
            .roots
            .iter()
            .filter_map(|(_, folder)| folder.as_ref().map(Folder::dir));
        markers.chain(roots).collect()
    }
}

impl Tenant {
    fn writable(&self) -> Result<()> {
        match self.options.read_only {
            true => Err(Error::new(Kind::ReadOnly, "the session is read-only")),
            false => Ok(()),
        }
    }

    /// Before anything is written: the directories say whose they are.
    fn claim(&self) -> Result<()> {
        self.writable()?;
        self.markers
            .iter()
            .try_for_each(|marker| marker.claim(&self.full_hash))
    }
}

/// Opens the hash directory and the resource's directory (the same one in resource-first), making what is missing
/// unless `read_only`: then a tenant who has none yet is `None`.
fn descend(
    volume: &Volume,
    layout: Layout,
    resource: &Resource,
    user: &UserHash,
    read_only: bool,
) -> Result<Option<(Dir, Dir)>> {
    let step = |dir: &Dir, name: &str| match read_only {
        true => match dir.open_dir(name) {
            Err(error) if error.kind() == Kind::NotFound => Ok(None),
            result => result.map(Some),
        },
        false => dir.open_or_make_dir(name).map(Some),
    };
    let components = layout.components(resource, user);
    let (to_hash, below) = components.split_at(layout.marker_depth());
    let mut hash_dir = volume.root().reopen()?;
    for name in to_hash {
        let Some(next) = step(&hash_dir, name)? else {
            return Ok(None);
        };
        hash_dir = next;
    }
    let mut directory = hash_dir.reopen()?;
    for name in below {
        let Some(next) = step(&directory, name)? else {
            return Ok(None);
        };
        directory = next;
    }
    Ok(Some((hash_dir, directory)))
}
