//! What was typed and is no record yet.

use std::ops::ControlFlow;

use super::folder::Folder;
use super::survey::{Survey, Unreadable};
use super::walk::{Below, Visitor, Walked, walk};
use crate::error::{Error, Result};
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
    pub(super) fn find<'a>(roots: impl Iterator<Item = &'a Folder>, most: usize) -> Survey<Self> {
        let mut drafts = Drafts {
            most,
            survey: Survey::default(),
        };
        for root in roots {
            match walk(root, &mut drafts) {
                Ok(ControlFlow::Continue(())) => {}
                Ok(ControlFlow::Break(())) => break,
                Err(error) => drafts.survey.miss_place(root, None, error),
            }
        }
        drafts.survey
    }
}

struct Drafts {
    most: usize,
    survey: Survey<Uncommitted>,
}

impl Visitor<Folder> for Drafts {
    fn visit(&mut self, folder: &Folder) -> Walked {
        let ours = match ours(folder) {
            Ok(ours) => ours,
            Err(error) => {
                self.survey.miss_place(folder, None, error);
                return Ok(ControlFlow::Continue(()));
            }
        };
        for entry in ours {
            let name = match folder.draft_name(&entry) {
                Ok(Some(name)) => name,
                Ok(None) => continue,
                Err(error) => {
                    // It cannot be known what its user calls it.
                    let path = format!("{}/{entry}", folder.path());
                    self.survey.miss(Unreadable { path, error });
                    continue;
                }
            };
            if self.survey.found.len() == self.most {
                self.survey.more = true;
                return Ok(ControlFlow::Break(()));
            }
            self.survey.found.push(Uncommitted {
                path: folder.path_of(&name),
                reason: reason(folder, &name),
            });
        }
        Ok(ControlFlow::Continue(()))
    }

    fn missed(&mut self, folder: &Folder, below: Option<&Below>, error: Error) -> Result<()> {
        self.survey.miss_place(folder, below, error);
        Ok(())
    }
}

/// The names in a directory that its user does not see.
fn ours(folder: &Folder) -> Result<Vec<String>> {
    let mut ours = Vec::new();
    folder.look().dir.entries(|entry| {
        if EntryName::parse(entry).is_err() {
            ours.extend(std::str::from_utf8(entry).ok().map(str::to_owned));
        }
    })?;
    Ok(ours)
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
