//! Every directory of a tenant, however deep they are nested.

use std::ops::ControlFlow;

use super::folder::Folder;
use super::reserved::{Reserved, former_name};
use super::survey::Unreadable;
use crate::error::{Kind, Result};
use crate::name::EntryName;

/// At most so many directories are open at once. Those above are opened anew when the walk comes back to them.
const MOST_OPEN: usize = 64;

/// A directory in another one.
pub(super) struct Below {
    /// What it is called on the volume.
    entry: String,
    /// What it is called in the mount, or was until it was removed.
    name: EntryName,
}

/// Whether to go on.
pub(super) type Walked = ControlFlow<()>;

/// What is done at each place.
pub(super) trait Visitor {
    /// A directory that can be entered.
    fn folder(&mut self, folder: &Folder) -> Walked;

    /// Something that cannot be looked at. The rest goes on.
    fn unreadable(&mut self, what: Unreadable);
}

/// Visits every directory in and below `root`, and those that were removed and wait; each before those in it. What is gone
/// meanwhile is left out.
pub(super) fn walk(root: &Folder, visitor: &mut impl Visitor) -> Walked {
    let mut trail = Vec::new();
    let mut frames = Vec::new();
    frames.extend(visit(root.clone(), 0, visitor)?);
    while let Some(frame) = frames.last_mut() {
        let Some(next) = frame.below.pop() else {
            frames.pop();
            continue;
        };
        trail.truncate(frame.depth);
        if frame.folder.is_none() && reopen(root, &mut frames, &trail).is_err() {
            frames.pop();
            continue;
        }
        let opened = frames
            .last()
            .and_then(|frame| open(frame.folder.as_ref()?, &next));
        // One with nothing left to enter is closed first: a chain of any length takes two handles.
        frames.pop_if(|frame| frame.below.is_empty());
        let folder = match opened {
            Some(Ok(folder)) => folder,
            Some(Err(what)) => {
                visitor.unreadable(what);
                continue;
            }
            None => continue,
        };
        trail.push(next);
        frames.extend(visit(folder, trail.len(), visitor)?);
        let beyond = frames.len().checked_sub(MOST_OPEN + 1);
        if let Some(oldest) = beyond.and_then(|beyond| frames.get_mut(beyond)) {
            oldest.folder = None;
        }
    }
    ControlFlow::Continue(())
}

/// Visits a directory; none where it cannot be entered.
fn visit(folder: Folder, depth: usize, visitor: &mut impl Visitor) -> ControlFlow<(), Option<Frame>> {
    // Once, and not for everything in it.
    let entered = folder.look().dir.stat(".").and_then(|_| below(&folder));
    let below = match entered {
        Ok(below) => below,
        Err(error) => {
            let path = folder.path().to_owned();
            visitor.unreadable(Unreadable { path, error });
            return ControlFlow::Continue(None);
        }
    };
    visitor.folder(&folder)?;
    ControlFlow::Continue(Some(Frame {
        depth,
        below,
        folder: Some(folder),
    }))
}

/// A directory that was visited, and those in it that are still to be.
struct Frame {
    /// How many steps below the root.
    depth: usize,
    /// None while it is closed.
    folder: Option<Folder>,
    below: Vec<Below>,
}

/// Opens the last of `frames` again, which is at the end of `trail`, and as many above it as may be open.
fn reopen(root: &Folder, frames: &mut [Frame], trail: &[Below]) -> Result<()> {
    let closed = frames.len().saturating_sub(MOST_OPEN);
    let (mut at, mut steps) = (root.clone(), trail.iter());
    let mut depth = 0;
    for frame in frames.iter_mut().skip(closed) {
        for step in steps.by_ref().take(frame.depth - depth) {
            at = at.child(at.look().dir.open_dir(&step.entry)?, &step.name)?;
        }
        depth = frame.depth;
        frame.folder = Some(at.clone());
    }
    Ok(())
}

/// None when it is gone, or no directory.
fn open(folder: &Folder, below: &Below) -> Option<std::result::Result<Folder, Unreadable>> {
    let dir = folder.look().dir.open_dir(&below.entry);
    match dir.and_then(|dir| folder.child(dir, &below.name)) {
        Ok(folder) => Some(Ok(folder)),
        // What is mounted there is nobody's record.
        Err(error)
            if matches!(
                error.kind(),
                Kind::NotFound | Kind::NotADirectory | Kind::CrossDevice
            ) =>
        {
            None
        }
        Err(error) => {
            let path = folder.path_of(&below.name);
            Some(Err(Unreadable { path, error }))
        }
    }
}

/// The directories in one.
fn below(folder: &Folder) -> Result<Vec<Below>> {
    let dir = folder.look().dir;
    let below = |entry: Vec<u8>| {
        let entry = String::from_utf8(entry).ok()?;
        let name = match Reserved::of(&entry) {
            Reserved::Removed => former_name(dir, &entry)?,
            _ => EntryName::parse(entry.as_bytes()).ok()?,
        };
        Some(Below { entry, name })
    };
    Ok(dir.directories()?.into_iter().filter_map(below).collect())
}
