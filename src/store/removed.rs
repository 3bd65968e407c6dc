//! What was removed and can be restored.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::ops::ControlFlow;

use super::folder::Folder;
use super::found::not_found;
use super::look::Look;
use super::reserved::{Reserved, former_name};
use super::survey::{Survey, Unreadable};
use super::waiting::Waiting;
use super::walk::{Below, Visitor, Walked, walk};
use crate::clock::Timestamp;
use crate::error::{Error, Kind, Result};
use crate::event::{Event, Op};
use crate::name::EntryName;
use crate::volume::{Durability, Stat};

/// A record that was removed and waits.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Removed {
    /// What it was called in the mount: `schedules/nightly.json`.
    pub path: String,
    /// When it was removed.
    pub removed: Timestamp,
    /// How long it waits.
    pub until: Timestamp,
    /// In bytes, as its user saw it.
    pub size: u64,
    /// Whether the next record of its name gets a secret from it.
    pub has_secret: bool,
}

impl Removed {
    /// Those in and below `roots`, of more than so many the last removed; these first. As long as `go_on` says so.
    pub(super) fn find<'a>(
        roots: impl Iterator<Item = &'a Folder>,
        most: usize,
        go_on: &dyn Fn() -> bool,
    ) -> Survey<Self> {
        let mut newest = Newest {
            most,
            go_on,
            records: BTreeMap::new(),
            survey: Survey::default(),
        };
        for root in roots {
            match walk(root, &mut newest) {
                Ok(ControlFlow::Continue(())) => {}
                Ok(ControlFlow::Break(())) => break,
                Err(error) => newest.survey.miss_place(root, None, error),
            }
        }
        Survey {
            found: newest.records.into_values().rev().collect(),
            ..newest.survey
        }
    }
}

/// What waits to be restored, or to go by itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Kept {
    /// In bytes, as its user saw it.
    pub bytes: u64,
    /// Records.
    pub records: u64,
    /// Whether that is all: it was not counted to the end else.
    pub is_all: bool,
}

impl Kept {
    /// What waits in and below `roots`, as far as `go_on` says so.
    pub(super) fn count<'a>(roots: impl Iterator<Item = &'a Folder>, go_on: &dyn Fn() -> bool) -> Self {
        let mut kept = Self::default();
        for root in roots {
            let mut add = |folder: &Folder| -> Walked {
                for removed in waiting_in(folder)?.flatten() {
                    if !go_on() {
                        return Ok(ControlFlow::Break(()));
                    }
                    kept.bytes = kept.bytes.saturating_add(removed.size);
                    kept.records += 1;
                }
                Ok(ControlFlow::Continue(()))
            };
            if !matches!(walk(root, &mut add), Ok(ControlFlow::Continue(()))) {
                return kept;
            }
        }
        kept.is_all = true;
        kept
    }
}

/// The last removed of what was met, at most so many.
struct Newest<'g> {
    most: usize,
    go_on: &'g dyn Fn() -> bool,
    records: BTreeMap<(Timestamp, Reverse<String>), Removed>,
    survey: Survey<Removed>,
}

impl Visitor<Folder> for Newest<'_> {
    fn visit(&mut self, folder: &Folder) -> Walked {
        let waiting = match waiting_in(folder) {
            Ok(waiting) => waiting,
            Err(error) => {
                self.survey.miss_place(folder, None, error);
                return Ok(ControlFlow::Continue(()));
            }
        };
        // Read one by one, as they are asked for.
        for removed in waiting {
            if !(self.go_on)() {
                self.survey.more = true;
                return Ok(ControlFlow::Break(()));
            }
            match removed {
                Ok(removed) => {
                    let order = (removed.removed, Reverse(removed.path.clone()));
                    self.records.insert(order, removed);
                }
                Err(unreadable) => self.survey.miss(unreadable),
            }
            if self.records.len() > self.most {
                self.records.pop_first();
                self.survey.more = true;
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    fn missed(&mut self, folder: &Folder, below: Option<&Below>, error: Error) -> Result<()> {
        self.survey.miss_place(folder, below, error);
        Ok(())
    }
}

/// The records that were removed from one directory, read one by one.
///
/// # Errors
/// The volume's.
pub(super) fn waiting_in(
    folder: &Folder,
) -> Result<impl Iterator<Item = std::result::Result<Removed, Unreadable>> + use<'_>> {
    let look = folder.look();
    let mut names = Vec::new();
    look.dir.entries(|entry| {
        let entry = std::str::from_utf8(entry).ok();
        let removed = entry.filter(|entry| Reserved::of(entry) == Reserved::Removed);
        names.extend(removed.and_then(|entry| former_name(look.dir, entry)));
    })?;
    let records = names.into_iter().filter(EntryName::is_record);
    Ok(records.filter_map(move |name| {
        let path = look.path_of(&name);
        let waiting = Waiting::new(look, &name);
        match what_waits(look, &waiting).transpose()? {
            Ok((stat, size, has_secret)) => {
                let removed = look.dir.waits_since(waiting.entry(), &stat);
                Some(Ok(Removed {
                    path,
                    removed,
                    until: removed.after(look.tenant.options.keep_removed),
                    size,
                    has_secret,
                }))
            }
            Err(error) => Some(Err(Unreadable { path, error })),
        }
    }))
}

/// The attributes of the record that waits, the size of its view, and whether it has a secret; none where it is not the tenant's own.
///
/// # Errors
/// The volume's.
fn what_waits(look: Look<'_>, waiting: &Waiting<'_>) -> Result<Option<(Stat, u64, bool)>> {
    let Some(stat) = waiting.stat()? else {
        return Ok(None);
    };
    let judge = || {
        let stored = waiting.record()?;
        Ok(stored.map(|stored| (stored.view.len() as u64, stored.has_secret)))
    };
    let known = look.tenant.removed.get(&stat, judge)?;
    Ok(known.map(|(size, has_secret)| (stat, size, has_secret)))
}

/// Brings back what was removed last at the end of `path`, and the directories above it that were removed after it.
///
/// # Errors
/// [`Kind::Exists`] when something has its name again; [`Kind::NotFound`] when nothing of that name waits;
/// [`Kind::ReadOnly`]; the volume's.
pub(super) fn restore(root: &Folder, path: &[EntryName]) -> Result<()> {
    let (name, above) = path.split_last().ok_or_else(not_found)?;
    root.look().tenant.claim()?;
    // Which file it is that is not there says nothing to anybody.
    let or = |told: fn() -> Error| {
        move |error: Error| match error.kind() {
            Kind::NotFound => told(),
            _ => error,
        }
    };
    // Before anything is brought back: for what is not there, nothing is.
    let (folder, removed) = find(root, name, above).map_err(or(nothing_waits))?;
    bring_back(&folder, name, removed).map_err(or(gone_meanwhile))
}

/// A directory that was removed, and the one that it was in.
type RemovedIn<'p> = (Folder, &'p EntryName);

/// The directory in which `name` waits, and the directories above it that were removed.
fn find<'p>(root: &Folder, name: &EntryName, above: &'p [EntryName]) -> Result<(Folder, Vec<RemovedIn<'p>>)> {
    let mut folder = root.clone();
    let mut removed = Vec::new();
    for step in above {
        let next = match folder.open_folder(step) {
            Err(error) if error.kind() == Kind::NotFound => {
                removed.push((folder.clone(), step));
                folder.waiting_folder(step)?.ok_or_else(nothing_waits)?
            }
            opened => opened?,
        };
        folder = next;
    }
    let waits = match name.is_record() {
        true => Waiting::new(folder.look(), name).record()?.is_some(),
        false => folder.waiting_folder(name)?.is_some(),
    };
    match folder.lookup(name) {
        Ok(_) => Err(Error::new(
            Kind::Exists,
            "something has this name: move it away first",
        )),
        Err(error) if error.kind() == Kind::NotFound && waits => Ok((folder, removed)),
        Err(error) => Err(error),
    }
}

fn bring_back(folder: &Folder, name: &EntryName, above: Vec<RemovedIn<'_>>) -> Result<()> {
    for (parent, step) in above {
        restore_folder(&parent, step)?;
    }
    match name.is_record() {
        true => folder.record(name).restore(),
        false => {
            restore_folder(folder, name)?;
            let path = folder.path_of(name);
            folder.look().tenant.observe(&Event::Restored { path });
            Ok(())
        }
    }
}

fn nothing_waits() -> Error {
    Error::new(
        Kind::NotFound,
        "nothing of this name was removed, or it does not wait any more",
    )
}

fn gone_meanwhile() -> Error {
    Error::new(
        Kind::NotFound,
        "it waited a moment ago, and is gone for good since: its time was over, or its room was needed within the quota",
    )
}

fn restore_folder(parent: &Folder, name: &EntryName) -> Result<()> {
    let look = parent.look();
    look.vacant(Op::Mkdir, name)?;
    Waiting::new(look, name).give_back()?;
    match look.tenant.options.durability {
        Durability::Durable => look.dir.sync(),
        Durability::Ordered => Ok(()),
    }
}

/// Gives up the draft of the record at the end of `path`.
///
/// # Errors
/// [`Kind::NotFound`] when none is kept; [`Kind::ReadOnly`]; the volume's.
pub(super) fn discard_draft(root: &Folder, path: &[EntryName]) -> Result<()> {
    let (name, above) = path.split_last().ok_or_else(not_found)?;
    let mut folder = root.clone();
    for step in above {
        folder = folder.open_folder(step)?;
    }
    if !folder.record(name).discard_draft()? {
        return Err(Error::new(Kind::NotFound, "there is no draft of this name"));
    }
    if folder.look().tenant.options.durability == Durability::Durable {
        folder.sync()?;
    }
    let path = folder.path_of(name);
    folder.look().tenant.observe(&Event::DraftDiscarded { path });
    Ok(())
}
