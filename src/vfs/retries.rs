//! Calls that the kernel tries once more.
//!
//! A file is replaced between the kernel's lookup and its open, or a directory on the way was: the answer is that what the
//! kernel knows is stale, and it walks the whole path again, asks for every name on it, and does so no further time. What
//! it finds then, it has to get, or what is replaced without pause could not be opened. So that second walk is followed,
//! thread by thread: what lies below the directories that it found, or below the one where it began, is served from those,
//! wherever they are by now, and the last lookup brings the content along. All of it was there after the call had begun.
//!
//! The operation ends it. A call that only looks (stat) has none, and one that finds nothing does not come to it. So what the
//! kernel is told of the last name is good for no second use, and whoever comes back for it asks again: that is another call.
//! But for one case: where the kernel remembers something at a name, and hears that nothing is there, it forgets that and
//! asks for the same name once more, at once.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::lock_order::{Ordered, Rank};
use crate::clock::Stopwatch;
use crate::error::Result;
use crate::name::EntryName;
use crate::store::{Attachment, Attributes, Draft, NodeKind, Snapshot};

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
    /// The last name of the path, of the first one where the call has two; none of the root directory. Where nothing is at a
    /// name before it, that name.
    last: Option<EntryName>,
    found: Option<Found>,
    stage: Stage,
}

/// What was answered that way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Told {
    /// A lookup: nobody knows what for. The kernel remembers nothing at the last name.
    Lookup,
    /// What makes the last name.
    Creation,
    /// What is done to what the kernel remembers at the last name.
    Operation,
}

/// How far the second walk has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    /// On its way.
    Walking,
    /// Nothing is at a name where the kernel remembers something: it asks once more.
    AsksAgain,
    /// It did.
    AskedAgain,
    /// At the last name.
    Arrived,
    /// Asked for a name after that: it is another call, or the kernel dropped another thread's answer and asks by itself.
    Doubtful,
}

/// On which walk a name is looked up, or an operation done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Walk {
    First,
    /// Because it was told to walk again: where that walk leads is right, wherever this may be by now.
    Second,
    /// The first or the second: what is right for both has to be found.
    Either,
}

/// A file that was looked up for the operation that follows: what it was then.
pub(super) enum Found {
    Record(Snapshot),
    /// What memory had of a record, and the volume had not.
    Typed(Snapshot),
    Kept(Box<KeptDraft>),
    Attachment(Arc<Attachment>),
}

/// An operation at the end of a second walk, and what was looked up for it. The kernel may have another lookup's answer, which
/// came at the same time.
pub(super) struct Retried {
    pub(super) found: Option<Found>,
}

impl Retry {
    fn is_fresh(&self) -> bool {
        let lifetime = match self.stage {
            Stage::Walking | Stage::AskedAgain => UNTIL_LOOKUP,
            Stage::AsksAgain | Stage::Arrived | Stage::Doubtful => UNTIL_OPERATION,
        };
        self.since.elapsed() < lifetime
    }

    fn walk(&self) -> Walk {
        match self.stage {
            Stage::Doubtful => Walk::Either,
            _ => Walk::Second,
        }
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

    /// `thread` looks `name` up: on which walk.
    pub(super) fn walk(&self, thread: u32, name: &EntryName) -> Walk {
        let mut retries = self.by_thread.lock();
        let Some(retry) = retries.get_mut(&thread) else {
            return Walk::First;
        };
        if !retry.is_fresh() {
            retries.remove(&thread);
            return Walk::First;
        }
        let is_same = retry.last.as_ref() == Some(name);
        retry.since = Stopwatch::start();
        retry.stage = match retry.stage {
            Stage::AsksAgain if is_same => Stage::AskedAgain,
            Stage::AsksAgain | Stage::Arrived => Stage::Doubtful,
            stage => stage,
        };
        retry.walk()
    }

    /// This is what the operation that follows gets.
    pub(super) fn found(&self, thread: u32, found: Found) {
        if let Some(retry) = self.by_thread.lock().get_mut(&thread) {
            retry.found = Some(found);
        }
    }

    /// `thread` is told what `name` leads to. What is no directory is the last of the path, whatever was expected: others may
    /// have given the file another name. Nothing needs to follow where that is nothing, or where a lookup was all that was
    /// asked for. Returns whether it is the last name.
    pub(super) fn looked(&self, thread: u32, name: &EntryName, found: Option<NodeKind>) -> bool {
        let mut retries = self.by_thread.lock();
        let Some(retry) = retries.get_mut(&thread) else {
            return true;
        };
        let was_last = retry.last.as_ref() == Some(name);
        let is_last = was_last || found != Some(NodeKind::Directory);
        if is_last && !was_last {
            retry.last = Some(name.clone());
        }
        retry.stage = match (found, retry.stage) {
            (_, Stage::Doubtful) => Stage::Doubtful,
            (None, Stage::Walking) if !was_last || retry.told == Told::Operation => Stage::AsksAgain,
            (None, _) => Stage::Arrived,
            (Some(_), _) if is_last && retry.told == Told::Lookup => Stage::Arrived,
            (Some(_), _) => Stage::Walking,
        };
        is_last
    }

    /// `thread` does what it walked for, to `name` where that is known: on which walk, and what was looked up for it. Of another
    /// name, it is another call.
    pub(super) fn finish(&self, thread: u32, name: Option<&EntryName>) -> (Walk, Option<Retried>) {
        let retry = self.by_thread.lock().remove(&thread);
        let is_other = |last: &EntryName| name.is_some_and(|name| name != last);
        match retry.filter(|retry| retry.is_fresh() && !retry.last.as_ref().is_some_and(is_other)) {
            Some(retry) => (retry.walk(), Some(Retried { found: retry.found })),
            None => (Walk::First, None),
        }
    }
}
