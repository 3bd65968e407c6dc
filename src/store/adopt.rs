//! A directory that gets the name of one that was removed: what waits in that one is for its records.

use super::attributes::NodeKind;
use super::folder::Folder;
use super::reserved::{Reserved, former_name};
use super::waiting::Waiting;
use crate::error::{Kind, Result};
use crate::name::EntryName;
use crate::volume::Rename;

/// Has the records of `heir` that have no secret get the one that waits for them in `removed`, in the directories in both as
/// well. What waits goes on waiting: wherever the server is killed from here on, no secret is lost.
///
/// # Errors
/// The volume's.
pub(super) fn bequeath(removed: Folder, heir: Folder) -> Result<()> {
    let mut due = vec![(removed, heir)];
    while let Some((removed, heir)) = due.pop() {
        for entry in entries(&removed)? {
            let Some(name) = former_name(removed.look().dir, &entry) else {
                continue;
            };
            if name.is_record() {
                if let Some(left) = removed.record(&name).left()? {
                    heir.record(&name).inherit(&left)?;
                }
            } else if is_folder(&heir, &name)
                && let Some(inner) = removed.waiting_folder(&name)?
            {
                due.push((inner, heir.open_folder(&name)?));
            }
        }
    }
    Ok(())
}

/// Has the directory `name` take over what waits in the removed one of its name, in the directories in both as well. What
/// waits in both, stays as it is in the new one.
///
/// # Errors
/// The volume's; then what was not taken over goes on waiting where it is.
pub(super) fn adopt(parent: &Folder, name: &EntryName) -> Result<()> {
    let mut due = vec![(parent.clone(), name.clone())];
    while let Some((parent, name)) = due.pop() {
        let Some(removed) = parent.waiting_folder(&name)? else {
            continue;
        };
        let folder = parent.open_folder(&name)?;
        for inner in take_over(&removed, &folder)? {
            if inner.is_record() {
                folder.record(&inner).settle_left()?;
            } else if is_folder(&folder, &inner) {
                due.push((folder.clone(), inner));
            }
        }
        Waiting::new(parent.look(), &name).drop_for_good()?;
    }
    Ok(())
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
        let waits = |entry: &&str| matches!(Reserved::of(entry), Reserved::Removed | Reserved::Away);
        waiting.extend(entry.filter(waits).map(str::to_owned));
    })?;
    Ok(waiting)
}

fn is_folder(parent: &Folder, name: &EntryName) -> bool {
    parent
        .lookup(name)
        .is_ok_and(|found| found.kind == NodeKind::Directory)
}
