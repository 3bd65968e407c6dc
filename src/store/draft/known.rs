//! Which drafts are kept in a directory, as it was listed a moment ago.
//!
//! Each look at a record asks for its draft, and there are next to none. A client of a distributed file system does not remember
//! that a name is missing, so that each time costs a call to a server; a listing tells of all of them at once.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::time::Duration;

use parking_lot::Mutex;

use super::kept::Kept;
use crate::clock::Moment;
use crate::error::Result;
use crate::name::EntryName;
use crate::store::reserved::DRAFT_PREFIX;
use crate::volume::Dir;

/// For how long a listing is believed: another host may keep a draft meanwhile.
const HOLDS: Duration = Duration::from_millis(500);

/// After how many questions for single drafts the directory is listed.
const ASKED: u32 = 64;

/// The most entries that are listed for it.
const MOST_LISTED: usize = 4096;

/// What is known of one directory.
#[derive(Debug, Default)]
pub(in crate::store) struct KnownDrafts(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    listed: Option<Listed>,
    /// How often was asked since it was listed.
    asked: u32,
}

/// The drafts of a directory, and when it was asked for them.
#[derive(Debug)]
struct Listed {
    since: Since,
    kept: BTreeSet<String>,
}

/// When a listing began.
#[derive(Clone, Copy, Debug)]
pub(in crate::store) struct Since {
    at: Moment,
    /// How many drafts the session had kept by then: its own show at once.
    kept: u64,
}

impl Since {
    pub(in crate::store) fn now(kept: u64) -> Self {
        Self {
            at: Moment::now(),
            kept,
        }
    }

    fn still_holds(self, now: Self) -> bool {
        self.kept == now.kept && now.at.saturating_duration_since(self.at) < HOLDS
    }
}

impl KnownDrafts {
    /// Takes note of a listing that began at `since`: of all of the directory's entries, or of those that are ours.
    pub(in crate::store) fn listed<'e>(&self, since: Since, entries: impl Iterator<Item = &'e String>) {
        let drafts = entries.filter(|entry| entry.starts_with(DRAFT_PREFIX));
        let kept = drafts.cloned().collect();
        *self.0.lock() = Known {
            listed: Some(Listed { since, kept }),
            asked: 0,
        };
    }

    /// Whether `dir` may have a draft of `name`, where the session has kept so many. On a file system of this host it is asked itself,
    /// which costs nothing.
    pub(in crate::store) fn may_have(&self, dir: &Dir, name: &EntryName, kept: u64) -> bool {
        if dir.file_system().engine().is_local() {
            return true;
        }
        let (entry, now) = (Kept::entry(name), Since::now(kept));
        let mut known = self.0.lock();
        if let Some(listed) = &known.listed
            && listed.since.still_holds(now)
        {
            return listed.kept.contains(&entry);
        }
        known.asked += 1;
        if known.asked < ASKED {
            return true;
        }
        known.asked = 0;
        drop(known);
        match list(dir) {
            Ok(Some(drafts)) => {
                self.listed(now, drafts.iter());
                drafts.contains(&entry)
            }
            // Too many, or what is wrong with it shows when the entry is looked at.
            _ => true,
        }
    }
}

/// The drafts of a directory; none when it has too many entries to list them for that.
fn list(dir: &Dir) -> Result<Option<BTreeSet<String>>> {
    let (mut drafts, mut count) = (BTreeSet::new(), 0);
    dir.entries_until(|entry| {
        count += 1;
        if let Ok(entry) = std::str::from_utf8(entry)
            && entry.starts_with(DRAFT_PREFIX)
        {
            drafts.insert(entry.to_owned());
        }
        match count > MOST_LISTED {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    })?;
    Ok((count <= MOST_LISTED).then_some(drafts))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listing_holds_for_a_moment_and_until_the_session_keeps_a_draft() {
        let begun = Since::now(3);
        let later = |millis, kept| Since {
            at: begun.at + Duration::from_millis(millis),
            kept,
        };
        assert!(begun.still_holds(later(0, 3)) && begun.still_holds(later(499, 3)));
        assert!(!begun.still_holds(later(500, 3)));
        assert!(!begun.still_holds(later(1, 4)));
    }
}
