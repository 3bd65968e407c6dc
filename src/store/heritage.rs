//! What a directory that was moved away has for the next one of its name.

use std::collections::{BTreeSet, HashSet};

use super::folder::Folder;
use super::found::Found;
use super::moved::{HERE, Identity, Move, Moved};
use super::reserved::{Reserved, former_name};
use super::waiting::Waiting;
use crate::error::{Kind, Result};
use crate::name::EntryName;
use crate::volume::{Durability, FileId, FileType};

/// The longest way that is followed, in directories, and how many names are tried on it.
const MOST_STEPS: usize = 256;
const MOST_TRIES: usize = 1024;

/// Has what a directory that was moved away from `name` has for the next of that name wait there, as what was in a removed
/// one does. `heir` is the directory that is going to have the name, if that is there already.
///
/// # Errors
/// The volume's. Then, as when the server is killed, the same is done again for the next directory.
pub(super) fn gather(folder: &Folder, name: &EntryName, heir: Option<FileId>) -> Result<()> {
    let moved = Moved::new(folder, name);
    let Some(last) = moved.unsettled()? else {
        return Ok(());
    };
    if let Some(former) = find(folder, &last)?
        && Some(former.id()) != heir
    {
        let waiting = Waiting::new(folder.look(), name).open_or_make_dir()?;
        let waiting = folder.child(waiting, name)?;
        copy(&former, &waiting)?;
        if folder.look().tenant.options.durability == Durability::Durable {
            waiting.sync()?;
        }
    }
    moved.settle()
}

/// Leaves in `waiting` the secrets of the records in `former` and of those that wait there, and where its directories are.
fn copy(former: &Folder, waiting: &Folder) -> Result<()> {
    let mut names = BTreeSet::new();
    let dir = former.look().dir;
    dir.entries(|entry| {
        let Ok(entry) = std::str::from_utf8(entry) else {
            return;
        };
        names.extend(match Reserved::of(entry).waits() {
            true => former_name(dir, entry),
            false => EntryName::parse(entry.as_bytes()).ok(),
        });
    })?;
    for name in names {
        match name.is_record() {
            true => copy_record(former, waiting, &name)?,
            false => copy_directory(former, waiting, &name)?,
        }
    }
    Ok(())
}

fn copy_record(former: &Folder, waiting: &Folder, name: &EntryName) -> Result<()> {
    let record = former.record(name);
    let stored = match former.look().read_record(name)? {
        Found::Visible(stored) => Some(stored).filter(|stored| stored.has_secret),
        Found::Absent => record.left()?,
        Found::Hidden => None,
    };
    match stored {
        Some(stored) => waiting.record(name).note_secrets(&stored),
        None => Ok(()),
    }
}

fn copy_directory(former: &Folder, waiting: &Folder, name: &EntryName) -> Result<()> {
    let there = match former.look().dir.stat(name.as_str()) {
        Err(error) if error.kind() == Kind::NotFound => Waiting::new(former.look(), name).stat()?,
        stat => Some(stat?),
    };
    let moved = Moved::new(waiting, name);
    match there {
        Some(stat) if stat.file_type == FileType::Directory => {
            moved.add(Identity::of(&stat), &former.path_of(name), Vec::new())
        }
        Some(_) => Ok(()),
        None => match Moved::new(former, name).unsettled()? {
            Some(last) => moved.add(last.directory, &path_of(former, &last.way), Vec::new()),
            None => Ok(()),
        },
    }
}

/// The way that a note in `folder` gives, as in the mount.
fn path_of(folder: &Folder, way: &str) -> String {
    match way.strip_prefix(HERE) {
        Some(below) if below.starts_with('/') => format!("{}{below}", folder.look().path),
        _ => way.to_owned(),
    }
}

/// One name that is tried on the way to a directory.
struct Try {
    folder: Folder,
    /// The names that are still to be gone through, the next one last.
    steps: Vec<EntryName>,
    way: Way,
}

/// How a name leads on.
#[derive(Clone, Copy)]
enum Way {
    /// To the directory that has it.
    Live,
    /// To the one that was removed.
    Removed,
    /// To where those went that had it.
    Noted,
}

/// The directory that went from a name of `folder` where `last` says, or on from there: it may have been moved again, or
/// removed, and so may the directories on the way. None when it is not found.
fn find(folder: &Folder, last: &Move) -> Result<Option<Folder>> {
    let (mut due, mut followed) = (Vec::new(), HashSet::new());
    begin(folder, last, Vec::new(), &mut due);
    for _ in 0..MOST_TRIES {
        let Some(mut next) = due.pop() else { break };
        let Some(step) = next.steps.pop() else { continue };
        let at = match next.way {
            Way::Live => next.folder.open_folder(&step).ok(),
            Way::Removed => next.folder.waiting_folder(&step)?,
            Way::Noted => {
                if followed.insert((next.folder.id(), step.clone(), next.steps.clone())) {
                    follow(&next, &step, last.directory, &mut due)?;
                }
                None
            }
        };
        match at {
            Some(at) if !next.steps.is_empty() => push(&at, next.steps, &mut due),
            Some(at) if Identity::of(&at.look().dir.stat_self()?) == last.directory => return Ok(Some(at)),
            _ => {}
        }
    }
    Ok(None)
}

/// Goes on where the directories went that were called `step`; of those at the end of the way, only where `wanted` did.
fn follow(from: &Try, step: &EntryName, wanted: Identity, due: &mut Vec<Try>) -> Result<()> {
    for noted in Moved::new(&from.folder, step).read()?.iter().rev() {
        if !from.steps.is_empty() || noted.directory == wanted {
            begin(&from.folder, noted, from.steps.clone(), due);
        }
    }
    Ok(())
}

/// Goes where `noted`, of a note in `folder`, says, and then through `rest`.
fn begin(folder: &Folder, noted: &Move, mut rest: Vec<EntryName>, due: &mut Vec<Try>) {
    let mut way = noted.way.split('/');
    let base = match way.next() {
        Some(HERE) => Some(folder.clone()),
        Some(resource) => folder.resource(resource),
        None => None,
    };
    let steps: Result<Vec<_>> = way.rev().map(|step| EntryName::parse(step.as_bytes())).collect();
    if let (Some(base), Ok(steps)) = (base, steps) {
        rest.extend(steps);
        push(&base, rest, due);
    }
}

fn push(folder: &Folder, steps: Vec<EntryName>, due: &mut Vec<Try>) {
    if steps.len() <= MOST_STEPS {
        // The last one is tried first.
        due.extend([Way::Noted, Way::Removed, Way::Live].map(|way| Try {
            folder: folder.clone(),
            steps: steps.clone(),
            way,
        }));
    }
}
