//! Every directory of a tenant, however deep they are nested.

use std::ops::ControlFlow;

use super::folder::Folder;
use super::reserved::{Reserved, former_name};
use crate::error::Result;
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
pub(super) type Walked = Result<ControlFlow<()>>;

/// Calls `visit` with every directory in and below `root`, and with those that were removed and wait; each before those in it.
/// What is gone meanwhile is left out.
///
/// # Errors
/// Those of `visit`; the volume's.
pub(super) fn walk(root: &Folder, mut visit: impl FnMut(&Folder) -> Walked) -> Walked {
    if visit(root)?.is_break() {
        return Ok(ControlFlow::Break(()));
    }
    let mut trail = Vec::new();
    let mut frames = vec![Frame::new(root.clone(), 0)?];
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
        let Some(folder) = opened else { continue };
        trail.push(next);
        if visit(&folder)?.is_break() {
            return Ok(ControlFlow::Break(()));
        }
        frames.push(Frame::new(folder, trail.len())?);
        let beyond = frames.len().checked_sub(MOST_OPEN + 1);
        if let Some(oldest) = beyond.and_then(|beyond| frames.get_mut(beyond)) {
            oldest.folder = None;
        }
    }
    Ok(ControlFlow::Continue(()))
}

/// A directory that was visited, and those in it that are still to be.
struct Frame {
    /// How many steps below the root.
    depth: usize,
    /// None while it is closed.
    folder: Option<Folder>,
    below: Vec<Below>,
}

impl Frame {
    fn new(folder: Folder, depth: usize) -> Result<Self> {
        Ok(Self {
            depth,
            below: below(&folder)?,
            folder: Some(folder),
        })
    }
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

fn open(folder: &Folder, below: &Below) -> Option<Folder> {
    let dir = folder.look().dir.open_dir(&below.entry).ok()?;
    folder.child(dir, &below.name).ok()
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
