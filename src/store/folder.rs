//! One directory of a tenant, and what can be seen in it.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use parking_lot::MutexGuard;

use super::Tenant;
use super::attachment::Attachment;
use super::attributes::{Attributes, NodeKind};
use super::facts::Facts;
use super::records::{Found, Snapshot, not_found};
use super::reserved::DRAFT_PREFIX;
use crate::error::{Error, Kind, Result};
use crate::event::{Event, Op};
use crate::identity::UserId;
use crate::name::{EntryName, RESERVED_PREFIX};
use crate::record::{Attached, Lens};
use crate::volume::{self, Access, Dir, Durability, FileId, FileType, Stat, Watch, Watcher, Watching};

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
    pub(super) fn new(tenant: Arc<Tenant>, dir: Dir, path: Arc<str>, attaches: bool) -> Result<Self> {
        let id = dir.stat_self()?.id;
        Ok(Self {
            tenant,
            dir: Arc::new(dir),
            id,
            path,
            attaches,
        })
    }

    /// The directory `name` in this one.
    pub(super) fn child(&self, dir: Dir, name: &EntryName) -> Result<Self> {
        let path = self.path_of(name).into();
        Self::new(Arc::clone(&self.tenant), dir, path, self.attaches)
    }

    /// What `name` is called in the mount.
    pub fn path_of(&self, name: &EntryName) -> String {
        format!("{}/{name}", self.path)
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
        Ok(Attributes::of(
            &stat,
            NodeKind::Directory,
            self.dir.shown_mode("."),
        ))
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
        let mut names = Vec::new();
        let mut ours = Vec::new();
        self.dir.entries(|entry| match EntryName::parse(entry) {
            Ok(name) => names.push(name),
            Err(_) if entry.starts_with(RESERVED_PREFIX.as_bytes()) => {
                ours.extend(std::str::from_utf8(entry).ok().map(str::to_owned));
            }
            Err(_) => {}
        })?;
        if ours.is_empty() {
            return Ok(names);
        }
        let drafts: BTreeSet<EntryName> = ours.iter().filter_map(|entry| self.draft_name(entry)).collect();
        if !drafts.is_empty() {
            let committed: BTreeSet<&EntryName> = names.iter().collect();
            let only: Vec<EntryName> = drafts
                .into_iter()
                .filter(|name| !committed.contains(name))
                .collect();
            names.extend(only);
        }
        if self.tenant.writable().is_ok() {
            ours.iter().for_each(|entry| self.sweep(entry, false));
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
        self.see(name)?.visible()
    }

    /// What is under `name`, kept drafts included.
    fn see(&self, name: &EntryName) -> Result<Found<Attributes>> {
        let committed = self.examine(name)?;
        if !name.is_record() {
            return Ok(committed);
        }
        Ok(match committed {
            Found::Absent => match self.kept(name)? {
                Some(kept) => Found::Visible(kept.attributes(None)),
                None => Found::Absent,
            },
            Found::Visible(record) if record.kind == NodeKind::Record => match self.kept(name)? {
                Some(kept) => Found::Visible(kept.attributes(Some(record))),
                None => Found::Visible(record),
            },
            Found::Hidden => {
                // To whoever has a clock, hidden is as absent: the same is asked of the volume.
                let _ = self.kept(name);
                Found::Hidden
            }
            other => other,
        })
    }

    /// As [`lookup`](Self::lookup), for those who want to create `name`: what is visible there, if anything.
    ///
    /// # Errors
    /// [`Kind::NameTaken`] when it is hidden; the observer is told. The volume's.
    pub fn occupant(&self, op: Op, name: &EntryName) -> Result<Option<Attributes>> {
        match self.see(name)? {
            Found::Absent => Ok(None),
            Found::Visible(attributes) => Ok(Some(attributes)),
            Found::Hidden => {
                self.denied(op, name, Kind::NameTaken, "the name is taken by something hidden");
                Err(Error::new(Kind::NameTaken, "the name cannot be used"))
            }
        }
    }

    pub(super) fn vacant(&self, op: Op, name: &EntryName) -> Result<()> {
        match self.occupant(op, name)? {
            None => Ok(()),
            Some(_) => Err(Error::new(Kind::Exists, "the name exists")),
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
                    .and_then(|entry| self.draft_name(entry));
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

    /// The record `name` as committed: one read, verified, and its view.
    ///
    /// # Errors
    /// [`Kind::NotFound`] when it is absent, hidden, or no more than a draft. The volume's.
    pub fn open_record(&self, name: &EntryName) -> Result<Snapshot> {
        match name.is_record() {
            true => self.snapshot(name)?.visible(),
            false => Err(not_found()),
        }
    }

    /// As [`open_record`](Self::open_record), for those who have just looked it up and found `attributes`: what is
    /// remembered of that version is not asked for again.
    ///
    /// # Errors
    /// As `open_record`.
    pub fn open_seen(&self, name: &EntryName, attributes: &Attributes) -> Result<Snapshot> {
        match self.recall_content(name, attributes) {
            Some(snapshot) => Ok(snapshot),
            None => self.open_record(name),
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
                // Of a file that is hidden, not even that it is no directory.
                Kind::NotADirectory => self.lookup(name).err().unwrap_or(error),
                _ => error,
            })?;
        self.child(dir, name)
    }

    /// The attachment `name`.
    ///
    /// # Errors
    /// [`Kind::NotFound`] when it is absent, hidden or no attachment; the volume's.
    pub fn open_attachment(&self, name: &EntryName, access: Access) -> Result<Attachment> {
        if name.is_record() {
            return Err(not_found());
        }
        if access == Access::ReadWrite {
            self.claim()?;
        }
        // Not opened at all unless it was seen to be regular: opening a device can do things.
        if self.lookup(name)?.kind != NodeKind::Attachment {
            return Err(not_found());
        }
        let file = self.dir.open_file(name.as_str(), access)?;
        let stat = volume::stat(&file)?;
        match stat.file_type == FileType::Regular && stat.nlink <= 1 {
            true => Ok(Attachment::new(file, access)),
            false => Err(not_found()),
        }
    }
}

/// For the other files of the store.
impl Folder {
    pub(super) fn dir(&self) -> &Dir {
        &self.dir
    }

    pub(super) fn lens(&self) -> &Lens {
        &self.tenant.lens
    }

    pub(super) fn facts(&self) -> MutexGuard<'_, Facts> {
        self.tenant.facts.lock()
    }

    pub(super) fn user_id(&self) -> &UserId {
        &self.tenant.user_id
    }

    /// The session's own key, if new records get it here.
    pub(super) fn attached(&self) -> Option<Arc<Attached>> {
        self.tenant.attached.lock().clone().filter(|_| self.attaches)
    }

    pub(super) fn full_hash(&self) -> &str {
        &self.tenant.full_hash
    }

    pub(super) fn max_record(&self) -> u64 {
        self.tenant.options.max_record
    }

    /// What a commit waits for, unless it is asked for more.
    pub fn durability(&self) -> Durability {
        self.tenant.options.durability
    }

    pub(super) fn claim(&self) -> Result<()> {
        self.tenant.claim()
    }

    pub(super) fn observe(&self, event: &Event) {
        self.tenant.observer.observe(event);
    }

    pub(super) fn denied(&self, op: Op, name: &EntryName, kind: Kind, reason: impl Into<String>) {
        self.observe(&Event::Denied {
            op,
            path: self.path_of(name),
            kind,
            reason: reason.into(),
        });
    }
}
