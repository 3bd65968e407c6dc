//! Calls that the kernel tries once more.
//!
//! A file is replaced between the kernel's lookup and its open, or a directory on the way was: the answer is that what the
//! kernel knows is stale, and it walks the whole path again, asks for every name on it, and does so no further time. What
//! it finds then, it has to get, or what is replaced without pause could not be opened. So that second walk is followed,
//! thread by thread: what lies below the directories that it found, or below the one where it began, is served from those,
//! wherever they are by now, and the last lookup brings the content along. All of it was there after the call had begun.
//!
//! The operation ends it. A call that only looks (stat) has none. So what the kernel is told of the last name is good for no
//! second use, and whoever comes back for it asks again; and if it was a lookup that had to be done again, whoever does
//! come back is taken for another call, which has to find the right directory by itself.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::lock_order::{Ordered, Rank};
use crate::clock::Stopwatch;
use crate::error::Result;
use crate::name::EntryName;
use crate::store::{Attachment, Attributes, Draft, Snapshot};

/// How long the second walk is waited for, at each step. The kernel makes it at once, or not at all.
const UNTIL_LOOKUP: Duration = Duration::from_secs(5);

/// How long the operation is waited for after that. A thread that did none then might do another later, and must find what
/// is there then.
const UNTIL_OPERATION: Duration = Duration::from_millis(250);

/// The second walks of all threads that were told to look again.
pub(super) struct Retries {
    by_thread: Ordered<HashMap<u32, Retry>>,
}

struct Retry {
    /// Since it was told to look, or last looked.
    since: Stopwatch,
    told: Told,
    /// The last name of the path, of the first one where the call has two; none of the root directory.
    last: Option<EntryName>,
    found: Option<Found>,
    stage: Stage,
}

/// What was answered that way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Told {
    /// A lookup: nobody knows what for.
    Lookup,
    /// What the walk was for.
    Operation,
}

/// How far the second walk has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    /// On its way.
    Walking,
    /// At the last name: another lookup is another call's.
    Arrived,
    /// Another call has begun.
    Over,
}

/// A file that was looked up for the operation that follows: what it was then.
pub(super) enum Found {
    Record(Snapshot),
    /// What memory had of a record, and the volume had not.
    Typed(Snapshot),
    Kept(Box<KeptDraft>),
    Attachment(Arc<Attachment>),
}

/// A lookup on a second walk.
pub(super) struct Step {
    /// Whether this is the last name of the path.
    pub(super) is_last: bool,
    /// Whether it is where that walk led, wherever this may be by now.
    pub(super) is_led: bool,
}

/// An operation at the end of a second walk.
pub(super) struct Retried {
    /// What was looked up for it. The kernel may have another lookup's answer, which came at the same time.
    pub(super) found: Option<Found>,
    /// As in [`Step`]. Otherwise it may be another call's: the kernel asks for some names twice.
    pub(super) is_led: bool,
}

impl Retry {
    fn is_fresh(&self) -> bool {
        let lifetime = match self.stage {
            Stage::Walking => UNTIL_LOOKUP,
            Stage::Arrived | Stage::Over => UNTIL_OPERATION,
        };
        self.since.elapsed() < lifetime
    }
}

/// The draft of a record that the volume keeps.
pub(super) struct KeptDraft {
    pub(super) draft: Draft,
    /// The record beneath it.
    pub(super) beneath: Option<Attributes>,
    /// What is shown of it.
    pub(super) shown: Attributes,
}

impl Found {
    /// Whose content it is.
    ///
    /// # Errors
    /// The volume's.
    pub(super) fn attributes(&self) -> Result<Attributes> {
        match self {
            Self::Record(snapshot) | Self::Typed(snapshot) => Ok(snapshot.attributes),
            Self::Kept(kept) => Ok(kept.shown),
            Self::Attachment(attachment) => attachment.attributes(),
        }
    }
}

impl Default for Retries {
    fn default() -> Self {
        Self {
            by_thread: Ordered::new(Rank::Retries, HashMap::new()),
        }
    }
}

impl Retries {
    /// `thread` is told to walk its path again, which ends in `last`.
    pub(super) fn expect(&self, thread: u32, told: Told, last: Option<EntryName>) {
        let mut retries = self.by_thread.lock();
        retries.retain(|_, retry| retry.is_fresh());
        let retry = Retry {
            since: Stopwatch::start(),
            told,
            last,
            found: None,
            stage: Stage::Walking,
        };
        retries.insert(thread, retry);
    }

    /// `thread` looks `name` up: whether because it was told to.
    pub(super) fn step(&self, thread: u32, name: &EntryName) -> Option<Step> {
        let mut retries = self.by_thread.lock();
        let retry = retries.get_mut(&thread)?;
        if !retry.is_fresh() {
            retries.remove(&thread);
            return None;
        }
        retry.since = Stopwatch::start();
        if retry.stage == Stage::Arrived {
            retry.stage = Stage::Over;
        }
        Some(Step {
            is_last: retry.last.as_ref() == Some(name),
            is_led: retry.stage == Stage::Walking,
        })
    }

    /// This is what the operation that follows gets.
    pub(super) fn found(&self, thread: u32, found: Found) {
        if let Some(retry) = self.by_thread.lock().get_mut(&thread) {
            retry.found = Some(found);
        }
    }

    /// `thread` knows now what the last name leads to. Nothing needs to follow where that is nothing, or where a lookup was
    /// all that was asked for.
    pub(super) fn arrived(&self, thread: u32, at_something: bool) {
        if let Some(retry) = self.by_thread.lock().get_mut(&thread)
            && !(at_something && retry.told == Told::Operation)
            && retry.stage == Stage::Walking
        {
            retry.stage = Stage::Arrived;
        }
    }

    /// The walk of `thread` ends before the last name: no operation follows.
    pub(super) fn give_up(&self, thread: u32) {
        self.by_thread.lock().remove(&thread);
    }

    /// `thread` does what it walked for, to `name` where that is known: whether it did so because it was told to. Of another
    /// name, it is another call.
    pub(super) fn finish(&self, thread: u32, name: Option<&EntryName>) -> Option<Retried> {
        let retry = self.by_thread.lock().remove(&thread)?;
        let is_other = name.is_some() && retry.last.is_some() && name != retry.last.as_ref();
        (retry.is_fresh() && !is_other).then_some(Retried {
            is_led: retry.stage != Stage::Over,
            found: retry.found,
        })
    }
}
