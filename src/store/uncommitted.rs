//! What was typed and is no record yet.

use super::folder::Folder;
use crate::error::Result;
use crate::name::EntryName;

/// Directories deeper than this are not looked at.
const MAX_DEPTH: u32 = 32;

/// A draft that was kept because it could not be committed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Uncommitted {
    /// The record that it is shown as, as in the mount: `schedules/nightly.json`.
    pub path: String,
    /// What is wrong with it.
    pub reason: String,
}

impl Uncommitted {
    /// The drafts that are kept on the volume in and below `roots`, at most so many.
    ///
    /// # Errors
    /// The volume's.
    pub(super) fn find<'a>(
        roots: impl Iterator<Item = (&'a EntryName, &'a Folder)>,
        most: usize,
    ) -> Result<Vec<Self>> {
        let mut found = Vec::new();
        for (resource, folder) in roots {
            collect(folder, resource.as_str(), &mut found, most, MAX_DEPTH)?;
        }
        Ok(found)
    }
}

fn collect(folder: &Folder, path: &str, found: &mut Vec<Uncommitted>, most: usize, depth: u32) -> Result<()> {
    let (mut drafts, mut others) = (Vec::new(), Vec::new());
    folder.look().dir.entries(|entry| match EntryName::parse(entry) {
        Ok(name) if !name.is_record() => others.push(name),
        Ok(_) => {}
        Err(_) => drafts.extend(std::str::from_utf8(entry).ok().map(str::to_owned)),
    })?;
    for name in drafts.iter().filter_map(|entry| folder.draft_name(entry)) {
        if found.len() == most {
            return Ok(());
        }
        found.push(Uncommitted {
            path: format!("{path}/{name}"),
            reason: reason(folder, &name),
        });
    }
    for name in others {
        if depth > 0
            && let Ok(below) = folder.open_folder(&name)
        {
            collect(&below, &format!("{path}/{name}"), found, most, depth - 1)?;
        }
    }
    Ok(())
}

/// Found out anew: the reason is not kept with the draft, and may be gone.
fn reason(folder: &Folder, name: &EntryName) -> String {
    match folder.record(name).load_draft() {
        Ok(Some(draft)) if draft.text().is_empty() => "it is empty".to_owned(),
        Ok(Some(draft)) => match folder.look().tenant.lens.put(None, draft.text()) {
            Ok(_) => "it was not complete when it was closed; save it again".to_owned(),
            Err(error) => error.to_string(),
        },
        Ok(None) => "it is gone".to_owned(),
        Err(error) => error.to_string(),
    }
}
