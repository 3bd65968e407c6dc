//! A directory that gets the name of one that was removed, or moved away: what waits in that one is for its records.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use super::attributes::NodeKind;
use super::folder::Folder;
use super::found::not_found;
use super::moved;
use super::reserved::{Reserved, former_name};
use super::waiting::Waiting;
use super::walk::{Below, Place, Walked, walk};
use crate::error::{Kind, Result};
use crate::name::EntryName;
use crate::volume::Rename;

/// Has the records of `heir` that have no secret get the one that waits for them in `removed`, in the directories in both as
/// well. What waits goes on waiting: wherever the server is killed from here on, no secret is lost.
///
/// # Errors
/// The volume's.
pub(super) fn bequeath(removed: Folder, heir: Folder) -> Result<()> {
    walk(&Bequest { removed, heir }, Bequest::settle).map(drop)
}

/// A directory that was removed, and the one that gets its name.
#[derive(Clone)]
struct Bequest {
    removed: Folder,
    heir: Folder,
}

impl Bequest {
    fn settle(&self) -> Walked {
        for name in names(&self.removed)? {
            if name.is_record() {
                if let Some(left) = self.removed.record(&name).left()? {
                    self.heir.record(&name).inherit(&left)?;
                }
            } else if is_folder(&self.heir, &name) {
                moved::gather(&self.removed, &name, Some(self.heir.open_folder(&name)?.id()))?;
            }
        }
        Ok(ControlFlow::Continue(()))
    }
}

impl Place for Bequest {
    fn below(&self) -> Result<Vec<Below>> {
        let mut both = names(&self.removed)?;
        both.retain(|name| is_folder(&self.heir, name));
        Ok(both.into_iter().map(Below::named).collect())
    }

    fn open(&self, below: &Below) -> Result<Self> {
        let removed = self.removed.waiting_folder(&below.name)?;
        Ok(Self {
            removed: removed.ok_or_else(not_found)?,
            heir: self.heir.open_folder(&below.name)?,
        })
    }
}

/// Has the directory `name` take over what waits in the removed one of its name, in the directories in both as well. What
/// waits in both, stays as it is in the new one.
///
/// # Errors
/// The volume's; then what was not taken over goes on waiting where it is.
pub(super) fn adopt(parent: &Folder, name: &EntryName) -> Result<()> {
    let Some(root) = Adoption::of(parent, name)? else {
        return Ok(());
    };
    walk(&root, Adoption::settle).map(drop)
}

/// A directory, and the one that it is in, where another of its name may wait.
#[derive(Clone)]
struct Adoption {
    parent: Folder,
    name: EntryName,
    folder: Folder,
}

impl Adoption {
    /// None where nothing waits.
    fn of(parent: &Folder, name: &EntryName) -> Result<Option<Self>> {
        Ok(match parent.waiting_folder(name)? {
            Some(_) => Some(Self {
                parent: parent.clone(),
                name: name.clone(),
                folder: parent.open_folder(name)?,
            }),
            None => None,
        })
    }

    fn settle(&self) -> Walked {
        let folder = &self.folder;
        if let Some(removed) = self.parent.waiting_folder(&self.name)? {
            for inner in take_over(&removed, folder)? {
                if inner.is_record() {
                    folder.record(&inner).settle_left()?;
                }
            }
            Waiting::new(self.parent.look(), &self.name).drop_for_good()?;
        }
        Ok(ControlFlow::Continue(()))
    }
}

impl Place for Adoption {
    fn below(&self) -> Result<Vec<Below>> {
        let folder = &self.folder;
        let mut both = names(folder)?;
        both.retain(|name| is_folder(folder, name) && matches!(folder.waiting_folder(name), Ok(Some(_))));
        Ok(both.into_iter().map(Below::named).collect())
    }

    fn open(&self, below: &Below) -> Result<Self> {
        Ok(Self {
            parent: self.folder.clone(),
            name: below.name.clone(),
            folder: self.folder.open_folder(&below.name)?,
        })
    }
}

/// Moves what waits in `removed` to `folder`; returns what it was called.
fn take_over(removed: &Folder, folder: &Folder) -> Result<Vec<EntryName>> {
    let (from, to) = (removed.look().dir, folder.look().dir);
    let mut names = Vec::new();
    for entry in entries(removed)? {
        match from.rename(&entry, to, &entry, Rename::NoReplace) {
            Ok(()) => names.extend(former_name(to, &entry)),
            // Something waits there too, or its time has come.
            Err(error) if matches!(error.kind(), Kind::Exists | Kind::NotFound) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(names)
}

/// What waits in a directory, as it is called there.
fn entries(folder: &Folder) -> Result<Vec<String>> {
    let mut waiting = Vec::new();
    folder.look().dir.entries(|entry| {
        let entry = std::str::from_utf8(entry).ok();
        waiting.extend(
            entry
                .filter(|entry| Reserved::of(entry).waits())
                .map(str::to_owned),
        );
    })?;
    Ok(waiting)
}

/// The names of which something waits in a directory.
fn names(folder: &Folder) -> Result<Vec<EntryName>> {
    let entries = entries(folder)?;
    let names = entries
        .iter()
        .filter_map(|entry| former_name(folder.look().dir, entry));
    Ok(names.collect::<BTreeSet<_>>().into_iter().collect())
}

fn is_folder(parent: &Folder, name: &EntryName) -> bool {
    parent
        .lookup(name)
        .is_ok_and(|found| found.kind == NodeKind::Directory)
}
