//! One directory of a tenant.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use parking_lot::MutexGuard;
use zeroize::Zeroizing;

use super::Tenant;
use super::attachment::Attachment;
use super::attributes::{Attributes, NodeKind};
use super::draft::Draft;
use super::facts::Facts;
use super::records::{Found, Snapshot, not_found};
use crate::error::{Error, Kind, Result};
use crate::event::Event;
use crate::name::{EntryName, RESERVED_PREFIX};
use crate::record::Lens;
use crate::volume::{self, Access, Dir, Durability, FileId, FileType, Staged, Times};

/// A directory of a tenant: a resource, or one inside a resource. Cheap to clone.
#[derive(Clone)]
pub struct Folder {
    tenant: Arc<Tenant>,
    dir: Arc<Dir>,
    id: FileId,
}

impl fmt::Debug for Folder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Folder({:?})", self.id)
    }
}

/// Looking.
impl Folder {
    pub(super) fn new(tenant: Arc<Tenant>, dir: Dir) -> Result<Self> {
        let id = dir.stat_self()?.id;
        Ok(Self {
            tenant,
            dir: Arc::new(dir),
            id,
        })
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
            other => other,
        })
    }

    /// As [`lookup`](Self::lookup), for those who want to create `name`: what is visible there, if anything.
    ///
    /// # Errors
    /// [`Kind::NameTaken`] when it is hidden; the observer is told. The volume's.
    pub fn occupant(&self, op: &'static str, name: &EntryName) -> Result<Option<Attributes>> {
        match self.see(name)? {
            Found::Absent => Ok(None),
            Found::Visible(attributes) => Ok(Some(attributes)),
            Found::Hidden => {
                self.denied(op, name, "the name is taken by something hidden");
                Err(Error::new(Kind::NameTaken, "the name cannot be used"))
            }
        }
    }

    pub(super) fn vacant(&self, op: &'static str, name: &EntryName) -> Result<()> {
        match self.occupant(op, name)? {
            None => Ok(()),
            Some(_) => Err(Error::new(Kind::Exists, "the name exists")),
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
        Self::new(Arc::clone(&self.tenant), dir)
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

/// Changing.
impl Folder {
    /// Commits `text` as the record `name`; see [`commit`](Self::commit).
    ///
    /// # Errors
    /// As `commit`.
    pub fn save(&self, name: &EntryName, text: &[u8]) -> Result<Snapshot> {
        let draft = Draft::new(text.to_vec(), self.max_record());
        self.commit(name, &draft, self.tenant.options.durability)
    }

    /// Makes a draft the record `name`: owned, with the secrets it had, and in place at once. What was kept beside it
    /// is forgotten.
    ///
    /// # Errors
    /// [`Kind::InvalidRecord`], [`Kind::IncompleteRecord`], [`Kind::PlainSecret`], [`Kind::TooLarge`],
    /// [`Kind::NameTaken`]; [`Kind::NoSpace`] and whatever else the volume says. Then nothing has changed.
    pub fn commit(&self, name: &EntryName, draft: &Draft, durability: Durability) -> Result<Snapshot> {
        self.claim()?;
        if !name.is_record() {
            return Err(Error::new(Kind::InvalidArgument, "a record's name ends in .json"));
        }
        if draft.text().len() as u64 > self.max_record() {
            return Err(Error::new(Kind::TooLarge, "the record is larger than max_size"));
        }
        loop {
            match self.try_commit(name, draft, durability) {
                // It was absent, and was created by somebody else meanwhile: now it has to be verified.
                Err(error) if error.kind() == Kind::Exists => {}
                result => return result,
            }
        }
    }

    fn try_commit(&self, name: &EntryName, draft: &Draft, durability: Durability) -> Result<Snapshot> {
        let current = match self.read_record(name)? {
            Found::Visible(stored) => Some(stored),
            Found::Absent => None,
            Found::Hidden => {
                self.denied("commit", name, "the name is taken by something hidden");
                return Err(Error::new(Kind::NameTaken, "the name cannot be used"));
            }
        };
        let away = match &current {
            Some(_) => None,
            None => self.away(name)?,
        };
        let base = current.as_ref().or(away.as_ref());
        let put = self
            .lens()
            .put(base.map(|stored| stored.text.as_slice()), draft.text())?;

        let like = match &current {
            Some(stored) => stored.stat,
            None => self.dir.stat_self()?,
        };
        let mut staged = Staged::new(&self.dir, &like)?;
        let stored = Zeroizing::new(put.stored);
        staged.write(&stored)?;
        let mode = draft.mode.or(current.as_ref().and_then(|stored| stored.mode));
        if let Some(mode) = mode.filter(|mode| *mode != staged.mode()) {
            show_mode(staged.file(), mode)?;
        }
        volume::set_times(
            staged.file(),
            Times {
                mtime: Some(draft.mtime()),
                ..draft.times
            },
        )?;
        let stat = match current {
            Some(_) => staged.place(name.as_str(), durability)?,
            None => staged.place_new(name.as_str(), durability)?,
        };
        if put.owner_overridden {
            self.tenant.observer.observe(&Event::OwnerOverridden {
                path: name.to_string(),
            });
        }
        self.discard_draft(name)?;
        self.discard_away(name)?;
        // Not simply what was written: an owner may have been corrected, a secret removed.
        let view = self.lens().view(&stored).map_err(|reason| {
            Error::new(
                Kind::Io,
                format!("a record was committed that cannot be shown: {reason}"),
            )
        })?;
        let view: Arc<[u8]> = view.text.into();
        let attributes = Attributes::of(&stat, NodeKind::Record, mode).with_view(view.len() as u64);
        Ok(Snapshot { attributes, view })
    }

    /// Creates the attachment `name`, open for reading and writing; `mode` are the permission bits that the mount
    /// shows.
    ///
    /// # Errors
    /// [`Kind::Exists`], [`Kind::NameTaken`]; the volume's.
    pub fn create_attachment(&self, name: &EntryName, mode: u16) -> Result<Attachment> {
        self.claim()?;
        if name.is_record() {
            return Err(Error::new(Kind::InvalidArgument, "this is the name of a record"));
        }
        self.vacant("create", name)?;
        let staged = Staged::new(&self.dir, &self.dir.stat_self()?)?;
        if mode != staged.mode() {
            show_mode(staged.file(), mode)?;
        }
        Ok(Attachment::new(
            staged.place_empty(name.as_str())?,
            Access::ReadWrite,
        ))
    }

    /// Makes the directory `name`.
    ///
    /// # Errors
    /// [`Kind::NotPermitted`] for the name of a record; [`Kind::Exists`], [`Kind::NameTaken`]; the volume's.
    pub fn make_folder(&self, name: &EntryName, mode: u16) -> Result<Self> {
        self.claim()?;
        if name.is_record() {
            return Err(Error::new(
                Kind::NotPermitted,
                "a directory cannot have the name of a record",
            ));
        }
        self.vacant("mkdir", name)?;
        let folder = Self::new(Arc::clone(&self.tenant), self.dir.make_dir(name.as_str())?)?;
        if folder.attributes()?.mode != mode {
            optional(folder.dir.set_shown_mode(".", Some(mode)))?;
        }
        Ok(folder)
    }

    /// Removes the directory `name`.
    ///
    /// # Errors
    /// [`Kind::DirectoryNotEmpty`], also when what is in it is hidden; the volume's.
    pub fn remove_folder(&self, name: &EntryName) -> Result<()> {
        self.claim()?;
        match self.lookup(name)?.kind {
            NodeKind::Directory => {}
            _ => return Err(Error::new(Kind::NotADirectory, "not a directory")),
        }
        self.open_folder(name)?.sweep_if_empty()?;
        self.dir.remove_dir(name.as_str())
    }

    /// Nobody is helped by a directory that looks empty and cannot be removed.
    pub(super) fn sweep_if_empty(&self) -> Result<()> {
        if !self.names()?.is_empty() {
            return Ok(());
        }
        let mut ours = Vec::new();
        self.dir
            .entries(|entry| ours.extend(std::str::from_utf8(entry).ok().map(str::to_owned)))?;
        ours.iter().for_each(|entry| self.sweep(entry, true));
        Ok(())
    }

    /// Removes the record or attachment `name`, and what is kept beside it.
    ///
    /// # Errors
    /// [`Kind::NotFound`], [`Kind::IsADirectory`]; the volume's.
    pub fn remove(&self, name: &EntryName) -> Result<()> {
        self.claim()?;
        let attributes = self.lookup(name)?;
        if attributes.kind == NodeKind::Directory {
            return Err(Error::new(Kind::IsADirectory, "a directory"));
        }
        match self.dir.unlink(name.as_str()) {
            Err(error) if error.kind() == Kind::NotFound && attributes.kept_draft => {}
            result => result?,
        }
        if name.is_record() {
            self.discard_draft(name)?;
            self.discard_away(name)?;
        }
        Ok(())
    }

    /// Sets the permission bits that the mount shows for a file.
    ///
    /// # Errors
    /// [`Kind::NotFound`]; [`Kind::Unsupported`] where the volume's file system has no user attributes.
    pub fn set_mode(&self, name: &EntryName, mode: u16) -> Result<()> {
        self.claim()?;
        let attributes = self.lookup(name)?;
        if attributes.kept_draft {
            return self.change_kept(name, |draft| draft.mode = Some(mode));
        }
        self.dir.set_shown_mode(name.as_str(), Some(mode))
    }

    /// Sets the times of a file.
    ///
    /// # Errors
    /// [`Kind::NotFound`]; the volume's.
    pub fn set_times(&self, name: &EntryName, times: Times) -> Result<()> {
        self.claim()?;
        let attributes = self.lookup(name)?;
        if attributes.kept_draft {
            return self.change_kept(name, |draft| draft.times = times);
        }
        self.dir.set_times(name.as_str(), times)
    }

    fn change_kept(&self, name: &EntryName, change: impl FnOnce(&mut Draft)) -> Result<()> {
        let mut draft = self.load_draft(name)?.ok_or_else(not_found)?;
        change(&mut draft);
        self.keep_draft(name, &draft, self.durability()).map(drop)
    }

    /// Sets the directory's own permission bits, as the mount shows them.
    ///
    /// # Errors
    /// [`Kind::Unsupported`] where the volume's file system has no user attributes.
    pub fn set_own_mode(&self, mode: u16) -> Result<()> {
        self.claim()?;
        self.dir.set_shown_mode(".", Some(mode))
    }

    /// Sets the directory's own times.
    ///
    /// # Errors
    /// The volume's.
    pub fn set_own_times(&self, times: Times) -> Result<()> {
        self.claim()?;
        self.dir.set_times(".", times)
    }

    /// Makes the record `name`, as last committed, durable.
    ///
    /// # Errors
    /// The volume's.
    pub fn sync_record(&self, name: &EntryName) -> Result<()> {
        match self.dir.open_file(name.as_str(), Access::Read) {
            // Nothing but a draft: it was made durable when it was kept.
            Err(error) if error.kind() == Kind::NotFound => Ok(()),
            file => {
                Attachment::new(file?, Access::Read).sync(false)?;
                self.dir.sync()
            }
        }
    }

    /// Makes the directory's entries durable.
    ///
    /// # Errors
    /// The volume's.
    pub fn sync(&self) -> Result<()> {
        self.dir.sync()
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

    pub(super) fn denied(&self, op: &'static str, name: &EntryName, reason: impl Into<String>) {
        self.tenant.denied(op, name, reason);
    }
}

/// What a user's permission bits are worth on a file system that cannot keep them: less than the file.
fn optional(result: Result<()>) -> Result<()> {
    match result {
        Err(error) if error.kind() == Kind::Unsupported => Ok(()),
        result => result,
    }
}

pub(super) fn show_mode(file: &std::fs::File, mode: u16) -> Result<()> {
    optional(volume::set_shown_mode(file, mode))
}
