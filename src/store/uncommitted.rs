//! What was typed and is no record yet.

use std::ops::ControlFlow;

use super::folder::Folder;
use super::walk::{Walked, walk};
use crate::error::Result;
use crate::name::EntryName;

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
    pub(super) fn find<'a>(roots: impl Iterator<Item = &'a Folder>, most: usize) -> Result<Vec<Self>> {
        let mut found = Vec::new();
        for root in roots {
            if walk(root, |folder| collect(folder, &mut found, most))?.is_break() {
                break;
            }
        }
        Ok(found)
    }
}

fn collect(folder: &Folder, found: &mut Vec<Uncommitted>, most: usize) -> Walked {
    let mut ours = Vec::new();
    folder.look().dir.entries(|entry| {
        if EntryName::parse(entry).is_err() {
            ours.extend(std::str::from_utf8(entry).ok().map(str::to_owned));
        }
    })?;
    for name in ours.iter().filter_map(|entry| folder.draft_name(entry)) {
        if found.len() == most {
            return Ok(ControlFlow::Break(()));
        }
        found.push(Uncommitted {
            path: folder.path_of(&name),
            reason: reason(folder, &name),
        });
    }
    Ok(ControlFlow::Continue(()))
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
