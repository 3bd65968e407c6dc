//! What was typed and is no record yet.

use std::ops::ControlFlow;

use super::draft::Kept;
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
    /// The drafts that are kept on the volume in and below `roots`, at most so many, and as long as `go_on` says so.
    pub(super) fn find<'a>(
        roots: impl Iterator<Item = &'a Folder>,
        most: usize,
        go_on: &dyn Fn() -> bool,
    ) -> Survey<Self> {
        let mut drafts = Drafts {
            most,
            go_on,
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

struct Drafts<'g> {
    most: usize,
    go_on: &'g dyn Fn() -> bool,
    survey: Survey<Uncommitted>,
}

impl Visitor<Folder> for Drafts<'_> {
    fn visit(&mut self, folder: &Folder) -> Walked {
        let ours = match ours(folder) {
            Ok(ours) => ours,
            Err(error) => {
                self.survey.miss_place(folder, None, error);
                return Ok(ControlFlow::Continue(()));
            }
        };
        if !(self.go_on)() {
            self.survey.more = true;
            return Ok(ControlFlow::Break(()));
        }
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
            if self.survey.found.len() == self.most || !(self.go_on)() {
                self.survey.more = true;
                return Ok(ControlFlow::Break(()));
            }
            self.survey.found.push(Uncommitted {
                path: folder.path_of(&name),
                reason: reason(folder, &name).unwrap_or_else(|error| error.to_string()),
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

/// Found out once for each draft that is kept: the reason is not kept with it, and may be gone.
///
/// # Errors
/// What keeps it from being read.
fn reason(folder: &Folder, name: &EntryName) -> Result<String> {
    let look = folder.look();
    let judge = || {
        Ok(match folder.record(name).load_draft()? {
            Some(draft) if draft.text().is_empty() => "it is empty".to_owned(),
            Some(draft) => match look.tenant.lens.put(None, draft.text()) {
                Ok(_) => "it was not complete when it was closed; save it again".to_owned(),
                Err(error) => error.to_string(),
            },
            None => "it is gone".to_owned(),
        })
    };
    let stat = look.dir.stat(&Kept::entry(name))?;
    look.tenant.drafts.get(&stat, judge)
}
