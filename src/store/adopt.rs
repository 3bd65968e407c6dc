//! A directory that gets the name of one that was removed: what waits in that one waits in it from now on.

use super::attributes::NodeKind;
use super::folder::Folder;
use super::reserved::{Reserved, former_name};
use super::waiting::Waiting;
use crate::error::{Kind, Result};
use crate::name::EntryName;
use crate::volume::Rename;

/// Has the directory `name` take over what waits in the removed one of its name, in the directories in both as well. Its
/// records that have no secret get the one that waits for them; what waits in both, stays as it is in the new one.
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
                folder.record(&inner).take_left()?;
            } else if folder
                .lookup(&inner)
                .is_ok_and(|found| found.kind == NodeKind::Directory)
            {
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
    let mut waiting = Vec::new();
    from.entries(|entry| waiting.extend(std::str::from_utf8(entry).ok().map(str::to_owned)))?;
    for entry in waiting {
        if !matches!(Reserved::of(&entry), Reserved::Removed | Reserved::Away) {
            continue;
        }
        match from.rename(&entry, to, &entry, Rename::NoReplace) {
            Ok(()) => names.extend(former_name(to, &entry)),
            // Something waits there too, or its time has come.
            Err(error) if matches!(error.kind(), Kind::Exists | Kind::NotFound) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(names)
}
