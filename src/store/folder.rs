//! One directory of a tenant, and what can be seen in it.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use super::attributes::{Attributes, NodeKind};
use super::draft::{Kept, KnownDrafts, Since};
use super::found::not_found;
use super::look::Look;
use super::reserved::DRAFT_PREFIX;
use super::tenant::Tenant;
use super::waiting::sweep;
use crate::error::{Error, Kind, Result};
use crate::event::Op;
use crate::name::{EntryName, RESERVED_PREFIX};
use crate::store::record::Record;
use crate::volume::{Dir, FileId, Stat, Watch, Watcher, Watching};

/// A directory of a tenant: a resource, or one inside a resource. Cheap to clone.
#[derive(Clone)]
pub struct Folder {
    tenant: Arc<Tenant>,
    dir: Arc<Dir>,
    id: FileId,
    /// As in the mount, when it was opened.
    path: Arc<str>,
    /// Whether new records get the session's own key.
    attaches: bool,
    /// Which drafts are kept in it.
    drafts: Arc<KnownDrafts>,
}

/// What a change of an entry on the volume is a change of.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Concern {
    /// What this name leads to.
    Name(EntryName),
    /// A draft that was kept, and is gone: nothing says any more which.
    Drafts,
    /// Nothing that is shown.
    Nothing,
}

impl fmt::Debug for Folder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Folder({:?})", self.id)
    }
}

impl Folder {
    fn new(tenant: Arc<Tenant>, dir: Arc<Dir>, path: Arc<str>, attaches: bool) -> Result<Self> {
        let id = dir.stat_self()?.id;
        Ok(Self {
            tenant,
            dir,
            id,
            path,
            attaches,
            drafts: Arc::default(),
        })
    }

    /// The directory of one of the tenant's resources, where there is one.
    ///
    /// # Errors
    /// The volume's.
    pub(super) fn root(tenant: &Arc<Tenant>, resource: &str) -> Result<Option<Self>> {
        let mut roots = tenant.roots.iter();
        let root = roots.find(|(known, _)| known.as_str() == resource);
        let Some((resource, Some(dir))) = root else {
            return Ok(None);
        };
        let attaches = tenant.options.attach_session_key.contains(resource);
        let (tenant, dir, path) = (Arc::clone(tenant), Arc::clone(dir), resource.as_str().into());
        Self::new(tenant, dir, path, attaches).map(Some)
    }

    /// As [`root`](Self::root), of this directory's tenant.
    pub(super) fn resource(&self, resource: &str) -> Option<Self> {
        Self::root(&self.tenant, resource).ok()?
    }

    /// What `name` is called in the mount.
    pub fn path_of(&self, name: &EntryName) -> String {
        self.look().path_of(name)
    }

    /// What the directory is called in the mount.
    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// The identity of the directory.
    pub fn id(&self) -> FileId {
        self.id
    }

    /// The directory's own attributes.
    ///
    /// # Errors
    /// The volume's.
    pub fn attributes(&self) -> Result<Attributes> {
        let stat = self.dir.stat_self()?;
        let shown = self.dir.shown_self();
        Ok(self.tenant.attributes(&stat, NodeKind::Directory, shown))
    }

    /// The visible names, sorted.
    ///
    /// # Errors
    /// The volume's.
    pub fn list(&self) -> Result<Vec<EntryName>> {
        let mut visible = Vec::new();
        for name in self.names()? {
            match self.lookup(&name) {
                Ok(_) => visible.push(name),
                Err(error) if error.kind() == Kind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        visible.sort();
        Ok(visible)
    }

    /// The names that may turn out to be visible when they are looked up, in the file system's order. Faster than
    /// [`list`](Self::list) for a caller who looks up each anyway.
    ///
    /// # Errors
    /// The volume's.
    pub fn names(&self) -> Result<Vec<EntryName>> {
        let since = Since::now(self.look().drafts_kept());
        let mut names = Vec::new();
        let mut ours = Vec::new();
        self.dir.entries(|entry| match EntryName::parse(entry) {
            Ok(name) => names.push(name),
            Err(_) if entry.starts_with(RESERVED_PREFIX.as_bytes()) => {
                ours.extend(std::str::from_utf8(entry).ok().map(str::to_owned));
            }
            Err(_) => {}
        })?;
        self.drafts.listed(since, ours.iter());
        if ours.is_empty() {
            return Ok(names);
        }
        let drafts: BTreeSet<EntryName> = ours
            .iter()
            .filter_map(|entry| self.draft_name(entry).ok()?)
            .collect();
        if !drafts.is_empty() {
            let committed: BTreeSet<&EntryName> = names.iter().collect();
            let only: Vec<EntryName> = drafts
                .into_iter()
                .filter(|name| !committed.contains(name))
                .collect();
            names.extend(only);
        }
        if self.tenant.writable().is_ok() {
            ours.iter().for_each(|entry| sweep(self.look(), entry));
        }
        Ok(names)
    }

    /// Has the volume begin to read `name`, for a [`lookup`](Self::lookup) that comes soon, and then need not wait as long.
    pub fn read_ahead(&self, name: &EntryName) {
        // Of everything else, a lookup reads nothing.
        if name.is_record() {
            self.dir.read_ahead(name.as_str());
        }
    }

    /// The attributes of `name`, verified; those of its kept draft where it has one.
    ///
    /// # Errors
    /// [`Kind::NotFound`] when it is absent or hidden. The volume's.
    pub fn lookup(&self, name: &EntryName) -> Result<Attributes> {
        self.look().lookup(name)
    }

    /// As [`lookup`](Self::lookup), for those who want to create `name`: what is visible there, if anything.
    ///
    /// # Errors
    /// [`Kind::NameTaken`] when it is hidden; the observer is told. The volume's.
    pub fn occupant(&self, op: Op, name: &EntryName) -> Result<Option<Attributes>> {
        self.look().occupant(op, name)
    }

    /// The record `name`, whether there is one or not yet.
    pub fn record<'f>(&'f self, name: &'f EntryName) -> Record<'f> {
        Record {
            look: self.look(),
            name,
            attaches: self.attaches,
        }
    }

    /// Has somebody told of every change in the directory; none where that cannot be.
    pub fn watch(&self, watcher: &'static Watcher, watching: Arc<dyn Watching>) -> Option<Watch> {
        watcher.watch(&self.dir, watching)
    }

    /// What it means that an entry changed.
    pub fn concern(&self, entry: &[u8]) -> Concern {
        match EntryName::parse(entry) {
            Ok(name) => Concern::Name(name),
            Err(_) if entry.starts_with(DRAFT_PREFIX.as_bytes()) => {
                let name = std::str::from_utf8(entry)
                    .ok()
                    .and_then(|entry| self.draft_name(entry).ok()?);
                name.map_or(Concern::Drafts, Concern::Name)
            }
            Err(_) => Concern::Nothing,
        }
    }

    /// What the volume has under `name`, unverified: to be compared, never to be shown.
    ///
    /// # Errors
    /// The volume's.
    pub fn peek(&self, name: &EntryName) -> Result<Option<Stat>> {
        match self.dir.stat(name.as_str()) {
            Err(error) if error.kind() == Kind::NotFound => Ok(None),
            stat => stat.map(Some),
        }
    }

    /// The directory `name`.
    ///
    /// # Errors
    /// [`Kind::NotFound`], [`Kind::NotADirectory`]; the volume's.
    pub fn open_folder(&self, name: &EntryName) -> Result<Self> {
        let dir = self
            .dir
            .open_dir(name.as_str())
            .map_err(|error| match error.kind() {
                Kind::CrossDevice => not_found(),
                Kind::NotADirectory => match self.lookup(name) {
                    // It is one by now.
                    Ok(found) if found.kind == NodeKind::Directory => {
                        Error::new(Kind::Stale, "the directory was replaced; look it up again")
                    }
                    Ok(_) => error,
                    // Of a file that is hidden, not even that it is no directory.
                    Err(hidden) => hidden,
                },
                _ => error,
            })?;
        self.child(dir, name)
    }

    /// The directory `name` in this one, which was opened as `dir`.
    pub(super) fn child(&self, dir: Dir, name: &EntryName) -> Result<Self> {
        let path = self.path_of(name).into();
        let dir = Arc::new(dir);
        let attaches = self.attaches;
        Self::new(Arc::clone(&self.tenant), dir, path, attaches)
    }

    pub(super) fn look(&self) -> Look<'_> {
        Look {
            tenant: &self.tenant,
            dir: &self.dir,
            path: &self.path,
            drafts: &self.drafts,
        }
    }

    /// Of which record `entry`, one of ours, is the draft; none when it is no draft of this tenant's.
    ///
    /// # Errors
    /// The volume's.
    pub(super) fn draft_name(&self, entry: &str) -> Result<Option<EntryName>> {
        Kept::name_of(&self.dir, &self.tenant.full_hash, entry)
    }
}
