//! Every directory of a tenant, however deep they are nested.

use std::ops::ControlFlow;

use super::folder::Folder;
use super::reserved::{Reserved, former_name};
use crate::error::{Error, Kind, Result};
use crate::name::EntryName;

/// So many of the directories on the way are open: the last ones, and some above them, as far apart from each other as the way is long. The
/// others are opened anew when the walk comes back to them, from the nearest of these: opening one takes the longer the deeper it is
/// (Landlock looks at every directory above it), so the way from the top must not be gone again and again.
const LAST_OPEN: usize = 32;
const MARKS: usize = 32;

/// A place in a tree of directories: a directory, or several that are walked side by side.
pub(super) trait Place: Clone {
    /// Whether anything in it can be reached, which is asked before it is visited.
    ///
    /// # Errors
    /// The volume's.
    fn enter(&self) -> Result<()> {
        Ok(())
    }

    /// The places in it that are to be visited.
    ///
    /// # Errors
    /// The volume's.
    fn below(&self) -> Result<Vec<Below>>;

    /// Opens one of those.
    ///
    /// # Errors
    /// The volume's.
    fn open(&self, below: &Below) -> Result<Self>;
}

/// A directory in another one.
pub(super) struct Below {
    /// What it is called on the volume.
    entry: String,
    /// What it is called in the mount, or was until it was removed.
    pub(super) name: EntryName,
}

impl Below {
    /// One that is called in the mount as on the volume.
    pub(super) fn named(name: EntryName) -> Self {
        Self {
            entry: name.as_str().to_owned(),
            name,
        }
    }
}

/// Every directory in a directory, and those that were removed and wait.
impl Place for Folder {
    fn enter(&self) -> Result<()> {
        self.look().dir.stat(".").map(drop)
    }

    fn below(&self) -> Result<Vec<Below>> {
        let dir = self.look().dir;
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

    fn open(&self, below: &Below) -> Result<Self> {
        self.child(self.look().dir.open_dir(&below.entry)?, &below.name)
    }
}

/// Whether to go on.
pub(super) type Walked = Result<ControlFlow<()>>;

/// What is done at each place.
pub(super) trait Visitor<P> {
    /// A place, before those in it.
    ///
    /// # Errors
    /// With one, the walk ends.
    fn visit(&mut self, place: &P) -> Walked;

    /// A place that cannot be looked at: `place` itself, or one in it. What is gone meanwhile is none.
    ///
    /// # Errors
    /// With one, the walk ends; else that place is left out.
    fn missed(&mut self, place: &P, below: Option<&Below>, error: Error) -> Result<()>;
}

/// Who only visits leaves out what cannot be opened, and ends with what cannot be listed.
impl<P, F: FnMut(&P) -> Walked> Visitor<P> for F {
    fn visit(&mut self, place: &P) -> Walked {
        self(place)
    }

    fn missed(&mut self, _: &P, below: Option<&Below>, error: Error) -> Result<()> {
        below.map_or(Err(error), |_| Ok(()))
    }
}

/// Visits `root` and every place below it; each before those in it. What is gone meanwhile is left out.
///
/// # Errors
/// Those of the visitor.
pub(super) fn walk<P: Place>(root: &P, visitor: &mut impl Visitor<P>) -> Walked {
    let mut trail = Vec::new();
    let mut frames = Vec::new();
    let mut apart = 1;
    match visit(root.clone(), 0, visitor)? {
        ControlFlow::Continue(frame) => frames.extend(frame),
        ControlFlow::Break(()) => return Ok(ControlFlow::Break(())),
    }
    while let Some(frame) = frames.last_mut() {
        let Some(next) = frame.below.pop() else {
            frames.pop();
            continue;
        };
        trail.truncate(frame.depth);
        if frame.place.is_none() && reopen(root, &mut frames, &trail).is_err() {
            frames.pop();
            continue;
        }
        let opened = match frames.last().and_then(|frame| frame.place.as_ref()) {
            Some(place) => open(place, &next, visitor)?,
            None => None,
        };
        // One with nothing left to enter is closed first: a chain of any length takes two handles.
        frames.pop_if(|frame| frame.below.is_empty());
        let Some(place) = opened else { continue };
        trail.push(next);
        match visit(place, trail.len(), visitor)? {
            ControlFlow::Continue(frame) => frames.extend(frame),
            ControlFlow::Break(()) => return Ok(ControlFlow::Break(())),
        }
        close_some(&mut frames, &mut apart);
    }
    Ok(ControlFlow::Continue(()))
}

/// A place that was visited, and those in it that are still to be.
struct Frame<P> {
    /// How many steps below the root.
    depth: usize,
    /// None while it is closed.
    place: Option<P>,
    below: Vec<Below>,
}

/// Visits a place. None where there is nothing in it that can be visited.
fn visit<P: Place>(
    place: P,
    depth: usize,
    visitor: &mut impl Visitor<P>,
) -> Result<ControlFlow<(), Option<Frame<P>>>> {
    if let Err(error) = place.enter() {
        return visitor
            .missed(&place, None, error)
            .map(|()| ControlFlow::Continue(None));
    }
    if visitor.visit(&place)?.is_break() {
        return Ok(ControlFlow::Break(()));
    }
    match place.below() {
        Ok(below) => Ok(ControlFlow::Continue(Some(Frame {
            depth,
            below,
            place: Some(place),
        }))),
        Err(error) => visitor
            .missed(&place, None, error)
            .map(|()| ControlFlow::Continue(None)),
    }
}

/// None when it is gone, or no directory, or cannot be opened.
fn open<P: Place>(place: &P, below: &Below, visitor: &mut impl Visitor<P>) -> Result<Option<P>> {
    match place.open(below) {
        Ok(opened) => Ok(Some(opened)),
        // What is mounted there is nobody's record.
        Err(error)
            if matches!(
                error.kind(),
                Kind::NotFound | Kind::NotADirectory | Kind::CrossDevice
            ) =>
        {
            Ok(None)
        }
        Err(error) => visitor.missed(place, Some(below), error).map(|()| None),
    }
}

/// Closes the one of `frames` that is none of the last ones any more, unless it is a mark; these are every `apart`-th, and when there are too
/// many of them, every other one goes.
fn close_some<P>(frames: &mut [Frame<P>], apart: &mut usize) {
    let Some(oldest) = frames.len().checked_sub(LAST_OPEN + 1) else {
        *apart = 1;
        return;
    };
    let is_mark = oldest.is_multiple_of(*apart);
    if is_mark && oldest / *apart >= MARKS {
        *apart *= 2;
        let closed = frames.iter_mut().take(oldest).enumerate();
        closed
            .filter(|(index, _)| !index.is_multiple_of(*apart))
            .for_each(|(_, frame)| frame.place = None);
    }
    if let Some(frame) = frames.get_mut(oldest)
        && !oldest.is_multiple_of(*apart)
    {
        frame.place = None;
    }
}

/// Opens the last of `frames` again, which is at the end of `trail`, and as many above it as may be open.
fn reopen<P: Place>(root: &P, frames: &mut [Frame<P>], trail: &[Below]) -> Result<()> {
    let closed = frames.len().saturating_sub(LAST_OPEN);
    let marked = frames.iter().take(closed).rev();
    let mark = marked
        .filter_map(|frame| Some((frame.place.clone()?, frame.depth)))
        .next();
    let (mut at, mut depth) = mark.unwrap_or_else(|| (root.clone(), 0));
    let mut steps = trail.iter().skip(depth);
    for frame in frames.iter_mut().skip(closed) {
        for step in steps.by_ref().take(frame.depth - depth) {
            at = at.open(step)?;
        }
        depth = frame.depth;
        frame.place = Some(at.clone());
    }
    Ok(())
}
