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
//! use tenantfs::store::{Attachment, Options, Store};
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
//! Attachment::create(&folder, &EntryName::parse(b"plot.png")?, 0o600)?;
//! assert_eq!(folder.list()?, [nightly.file_name(), EntryName::parse(b"plot.png")?]);
//! assert_eq!(schedules.list()?, [nightly]);
//! # Ok(())
//! # }
//! ```

mod adopt;
mod attachment;
mod attributes;
mod collection;
mod directory;
mod draft;
mod facts;
mod folder;
mod found;
mod heritage;
mod homes;
mod judged;
mod layout_mark;
mod look;
mod marker;
mod moved;
mod numbers;
mod options;
mod places;
mod record;
mod removed;
mod rename;
mod reserved;
mod room;
mod shown;
mod survey;
mod tenant;
mod uncommitted;
mod usage;
mod waiting;
mod walk;

use std::sync::Arc;
use std::time::Duration;

pub use attachment::{Allocate, Attachment, Seek};
pub use attributes::{Attributes, NodeKind};
pub use collection::Collection;
pub use draft::{Draft, ForeignDraft, draft_limit};
pub use folder::{Concern, Folder};
pub use found::Snapshot;
pub use layout_mark::LayoutMark;
pub use look::stored_limit;
pub use marker::{Lockout, lock_out_sessions};
pub use options::Options;
pub use record::Record;
pub use removed::{Kept, Removed};
pub use rename::Became;
pub use reserved::{OWNER_MARKER, Reserved, erasure_journal};
pub use survey::{Survey, Unreadable};
pub use uncommitted::Uncommitted;
pub use usage::Usage;

use crate::clock::Moment;
use crate::error::{Error, Kind, Result};
use crate::event::{Event, Observer, Op, Operation, Pace};
use crate::identity::{Principal, UserHash};
use crate::layout::Layout;
use crate::name::{EntryName, Resource};
use crate::quota::{Count, Standing};
use crate::volume::{Dir, Durability, FileId, Volume};
use found::not_found;
use homes::Homes;
use marker::Marker;
use numbers::Numbers;
use places::{Root, Roots};
use room::Room;
use tenant::{Parts, Tenant};
use usage::Census;

/// The member that a session's own key is attached as.
pub const SESSION_KEY_FIELD: &str = "api_key";

/// One tenant's data.
#[derive(Clone)]
pub struct Store {
    tenant: Arc<Tenant>,
    roots: Roots,
    room: Room,
    /// As long as this lives, what the user has is counted.
    _census: Option<Arc<dyn Count>>,
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
        let user = principal.user();
        LayoutMark::check(volume.root(), options.layout, &options.resources)?;
        let opened = Moment::now();
        reserved::not_being_erased(volume, &user.full_hash())?;
        let homes = Homes::open(
            volume,
            options.layout,
            &options.resources,
            user,
            options.read_only,
        )?;
        let numbers = Numbers::open(volume, user, options.read_only);
        let quotas = options.quotas.clone();
        let account = quotas
            .as_ref()
            .map(|quotas| quotas.account(user))
            .unwrap_or_default();
        let Homes { markers, directories } = homes;
        let metered = |dir: Dir| Arc::new(dir.metered(account.meter().cloned()));
        let directories = directories
            .into_iter()
            .map(|(resource, dir)| (resource, dir.map(metered)));
        let parts = Parts {
            markers,
            roots: directories.collect(),
            numbers,
            marks: Arc::clone(volume.marks()),
            opened,
            earlier_orders: volume.marks().orders()?,
        };
        let tenant = Tenant::new(principal, options, observer, parts, Arc::clone(&account));
        let tenant = Arc::new(tenant);
        let root = |resource: &Resource| {
            Ok(Root {
                resource: resource.clone(),
                folder: Folder::root(&tenant, resource.as_str())?,
            })
        };
        let roots = tenant.roots.iter().map(|(resource, _)| root(resource));
        let roots = roots.collect::<Result<Roots>>()?;
        let census = quotas.map(|quotas| {
            let census: Arc<dyn Count> = Arc::new(Census::new(&roots, &account));
            quotas.attend(&account, Arc::downgrade(&census)).map(|()| census)
        });
        Ok(Self {
            room: Room::new(&account, &roots),
            _census: census.transpose()?,
            tenant,
            roots,
        })
    }

    /// The directory of one resource.
    ///
    /// # Errors
    /// [`Kind::NotFound`] when there is no such resource, or a read-only store found no directory for it.
    pub fn folder(&self, resource: &str) -> Result<Folder> {
        self.roots
            .iter()
            .find(|root| root.resource.as_str() == resource)
            .and_then(|root| root.folder.clone())
            .ok_or_else(|| Error::new(Kind::NotFound, "no such resource"))
    }

    /// The records of one resource.
    ///
    /// # Errors
    /// As [`folder`](Self::folder).
    pub fn collection(&self, resource: &str) -> Result<Collection> {
        let folder = self.folder(resource)?;
        Ok(Collection::new(folder, self.room.clone()))
    }

    /// The resources, in the order they are shown, each with its directory where there is one.
    pub fn roots(&self) -> impl Iterator<Item = (&EntryName, Option<&Folder>)> {
        self.roots
            .iter()
            .map(|root| (root.resource.as_entry(), root.folder.as_ref()))
    }

    /// Whether `folder`, wherever it was opened, is in a directory of the tenant now, under names that can be seen.
    ///
    /// # Errors
    /// The volume's.
    pub fn reaches(&self, folder: &Folder) -> Result<bool> {
        let roots: Vec<FileId> = self.present_roots().map(Folder::id).collect();
        places::is_below(folder, &roots)
    }

    fn present_roots(&self) -> impl Iterator<Item = &Folder> {
        self.roots.iter().filter_map(|root| root.folder.as_ref())
    }

    /// What the user has of what they may have, in all sessions of this process; none where there are no quotas.
    pub fn standing(&self) -> Option<Standing> {
        self.tenant.account.meter().map(|meter| meter.standing())
    }

    /// Does what may take more than the user may have. As long as it does, what the user removed and has waited longest is
    /// gone for good, and it is tried again.
    ///
    /// # Errors
    /// [`Kind::QuotaExceeded`] when nothing is left that waits; those of `act`.
    pub fn within_quota<T>(&self, act: impl FnMut() -> Result<T>) -> Result<T> {
        self.room.making(act)
    }

    /// Returns when the user's data begins to be erased, or the user's sessions are ended, on whatever host that is, with what to say of it; as far as somebody
    /// [follows](crate::volume::Followed) the volume.
    pub async fn withdrawn(&self) -> Error {
        let Tenant {
            full_hash,
            erasure,
            marks,
            opened,
            earlier_orders,
            ..
        } = &*self.tenant;
        tokio::select! {
            () = marks.appears(erasure, *opened) => reserved::being_erased(),
            () = marks.ordered(full_hash, earlier_orders, *opened) => reserved::ended_everywhere(),
        }
    }

    /// Returns when the volume that this store is of is dead, and another one is served in its place; as far as somebody
    /// [follows](crate::volume::Followed) it.
    pub async fn volume_replaced(&self) {
        self.tenant.marks.replaced().await;
    }

    /// Counts what is visible, and what was removed and waits. A tenant with very many files, or with some that cannot be read, gets a
    /// lower bound.
    pub fn usage(&self) -> Usage {
        Usage::count(self.present_roots())
    }

    /// The drafts that are kept on the volume, at most so many, and as long as `go_on` says so.
    pub fn uncommitted(&self, most: usize, go_on: &dyn Fn() -> bool) -> Survey<Uncommitted> {
        Uncommitted::find(self.present_roots(), most, go_on)
    }

    /// The records that were removed and wait: of more than so many the last removed, and these first. As long as `go_on` says so.
    pub fn removed(&self, most: usize, go_on: &dyn Fn() -> bool) -> Survey<Removed> {
        Removed::find(self.present_roots(), most, go_on)
    }

    /// What was removed and waits, all together; as far as `go_on` says so.
    pub fn kept(&self, go_on: &dyn Fn() -> bool) -> Kept {
        Kept::count(self.present_roots(), go_on)
    }

    /// The resources for which `volume` has another directory by now than this store: replaced, or made since. One that was moved
    /// to the other layout's place is the same.
    ///
    /// # Errors
    /// The volume's.
    pub fn replaced(&self, volume: &Volume) -> Result<Vec<&Resource>> {
        let mut replaced = Vec::new();
        for root in self.roots.iter() {
            let own = root.folder.as_ref().map(Folder::id);
            let mut there = Vec::new();
            for layout in [Layout::ResourceFirst, Layout::UserFirst] {
                there.extend(homes::find(volume, layout, &root.resource, &self.tenant.user)?);
            }
            if own.is_some_and(|own| !there.contains(&own)) || own.is_none() && !there.is_empty() {
                replaced.push(&root.resource);
            }
        }
        Ok(replaced)
    }

    /// Brings back the record that was removed at `path`, which is as in the mount (`schedules/a/nightly.json`): its
    /// content, its secrets, its mode and its times. Directories on the way that were removed come back too; so does one
    /// that `path` names.
    ///
    /// # Errors
    /// [`Kind::Exists`] when something has its name again; [`Kind::NotFound`] when nothing of that name waits;
    /// [`Kind::ReadOnly`]; the volume's.
    pub fn restore(&self, path: &str) -> Result<()> {
        let (folder, names) = self.resolve(path)?;
        removed::restore(&folder, &names)
    }

    /// Gives up the draft that is kept of the record at `path`, as in the mount: it shows again as it was last committed.
    ///
    /// # Errors
    /// [`Kind::NotFound`] when none is kept; [`Kind::ReadOnly`]; the volume's.
    pub fn discard_draft(&self, path: &str) -> Result<()> {
        let (folder, names) = self.resolve(path)?;
        removed::discard_draft(&folder, &names)
    }

    fn resolve(&self, path: &str) -> Result<(Folder, Vec<EntryName>)> {
        let (resource, rest) = path.split_once('/').ok_or_else(not_found)?;
        let names = rest.split('/').map(|name| EntryName::parse(name.as_bytes()));
        let names: Result<_> = names.collect();
        Ok((self.folder(resource)?, names.map_err(|_| not_found())?))
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

    /// What a commit waits for, unless it is asked for more.
    pub fn durability(&self) -> Durability {
        self.tenant.options.durability
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

    /// Whether an operation may begin, for who can wait and has `waited` so long: under no lock.
    ///
    /// # Errors
    /// [`Kind::Io`] when the observer cannot take note of it.
    pub fn pace(&self, op: Op, waited: Duration) -> Result<Pace> {
        self.tenant.observer.pace(op, waited)
    }

    /// Every directory of the volume that this store needs: what a sandbox must leave open.
    pub fn directories(&self) -> Vec<&Dir> {
        let markers = self.tenant.markers.iter().map(Marker::dir);
        let roots = self.present_roots().map(|folder| folder.look().dir);
        markers.chain(roots).collect()
    }
}
