//! A directory that gets the name of one that was removed, or moved away: what waits in that one is for its records.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use super::attributes::NodeKind;
use super::folder::Folder;
use super::found::not_found;
use super::heritage;
use super::reserved::{MOVED_PREFIX, REMOVED_PREFIX, Reserved, forget, former_name, telling};
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
    walk(&Bequest { removed, heir }, &mut Bequest::settle).map(drop)
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
                heritage::gather(&self.removed, &name, Some(self.heir.open_folder(&name)?.id()))?;
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
    walk(&root, &mut Adoption::settle).map(drop)
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
            take_over(&removed, folder)?;
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

/// Moves what waits in `removed` to `folder`. Of a name for which something waits there as well, that counts.
fn take_over(removed: &Folder, folder: &Folder) -> Result<()> {
    for name in names(removed)? {
        match name.is_record() {
            true => take_over_record(removed, folder, &name)?,
            false => {
                for prefix in [REMOVED_PREFIX, MOVED_PREFIX] {
                    take(removed, folder, &telling(prefix, &name))?;
                }
            }
        }
    }
    // What does not tell its name is found by those who ask for that.
    for entry in entries(removed)? {
        take(removed, folder, &entry)?;
    }
    Ok(())
}

fn take_over_record(removed: &Folder, folder: &Folder, name: &EntryName) -> Result<()> {
    let (left, heir) = (removed.record(name), folder.record(name));
    let is_heirs = heir.left()?.is_some();
    let secrets = match is_heirs {
        true => None,
        false => left.left()?,
    };
    for entry in [
        telling(REMOVED_PREFIX, name),
        left.away_entry(),
        left.secrets_entry(),
    ] {
        match is_heirs {
            // Superseded: no secret is dropped that the heir does not have another instead of.
            true => forget(removed.look().dir, &entry).map(drop)?,
            false => take(removed, folder, &entry)?,
        }
    }
    if let Some(secrets) = secrets
        && heir.left()?.is_none()
    {
        // A record that was removed from there without any had its place.
        heir.note_secrets(&secrets)?;
    }
    heir.settle_left()
}

/// Moves `entry`, unless the same waits there too, or its time has come.
fn take(removed: &Folder, folder: &Folder, entry: &str) -> Result<()> {
    let (from, to) = (removed.look().dir, folder.look().dir);
    match from.rename(entry, to, entry, Rename::NoReplace) {
        Err(error) if matches!(error.kind(), Kind::Exists | Kind::NotFound) => Ok(()),
        result => result,
    }
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
