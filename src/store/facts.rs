//! Verified facts, remembered by identity and version so that nothing is read twice for nothing.

use std::num::NonZeroUsize;
use std::sync::Arc;

use lru::LruCache;

use super::attributes::NodeKind;
use crate::clock::Timestamp;
use crate::volume::{FileId, FileType, Shown, Stat, Version};

/// Views longer than this are not remembered, only their length.
const MAX_VIEW: usize = 64 << 10;

/// The most files about which something is remembered. Fewer than a directory has would be none: a listing would find
/// the oldest forgotten, and forget the next.
const MAX_FACTS: usize = 1 << 17;

/// The most directories whose links are remembered.
const MAX_DIRECTORIES: NonZeroUsize = NonZeroUsize::new(1 << 12).unwrap();

/// The most removed records of which it is remembered that they have no secret.
const MAX_REMOVED: usize = 1 << 13;

/// What was found out about one version of one file.
#[derive(Clone, Debug)]
pub(super) struct Fact {
    pub(super) version: Version,
    /// What else is shown of it.
    pub(super) shown: Shown,
    pub(super) verdict: Verdict,
}

impl Fact {
    fn forget_view(&mut self) {
        if let Verdict::Record(_, view) = &mut self.verdict {
            *view = None;
        }
    }
}

/// Whether a record's bytes may be served.
#[derive(Clone, Debug)]
pub(super) enum Verdict {
    /// No record: there is nothing to verify in it.
    Plain(NodeKind),
    /// Verified; the view's length, and the view while it is remembered.
    Record(u64, Option<Arc<[u8]>>),
    /// Not to be shown.
    Hidden,
}

/// Of which file, and how it was looked at: one file can have names that make it a record and names that do not, and be
/// mounted over others that make it nothing to be shown.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct Subject {
    pub(super) id: FileId,
    pub(super) as_record: bool,
    pub(super) as_type: FileType,
}

/// The memory: least recently used facts go first, and views before the facts that they belong to.
#[derive(Debug)]
pub(super) struct Facts {
    known: LruCache<Subject, Fact>,
    /// Those whose views are remembered too.
    viewed: LruCache<Subject, ()>,
    /// By directory: the volume's number of its names, and that of its links as shown.
    links: LruCache<FileId, (u32, u32)>,
    /// Files that were records without a secret when they were removed, and are as they were then.
    no_secret: LruCache<FileId, Version>,
    view_bytes: usize,
    max_view_bytes: usize,
}

impl Facts {
    /// A memory in which all views together may take so many bytes.
    pub(super) fn new(max_view_bytes: usize) -> Self {
        Self {
            known: LruCache::unbounded(),
            viewed: LruCache::unbounded(),
            links: LruCache::new(MAX_DIRECTORIES),
            no_secret: LruCache::unbounded(),
            view_bytes: 0,
            max_view_bytes,
        }
    }

    /// Forgets what is known of a file: it was changed in a way that its version need not tell. The client of a distributed file
    /// system may go on with the one that it remembers.
    pub(super) fn forget(&mut self, id: FileId) {
        for as_record in [true, false] {
            for as_type in [FileType::Regular, FileType::Directory] {
                let subject = Subject {
                    id,
                    as_record,
                    as_type,
                };
                if let Some(fact) = self.known.pop(&subject) {
                    self.viewed.pop(&subject);
                    self.view_bytes -= view_bytes(&fact);
                }
            }
        }
    }

    /// What is known of this version of the file.
    pub(super) fn get(&mut self, subject: Subject, version: &Version) -> Option<&Fact> {
        self.viewed.promote(&subject);
        self.known.get(&subject).filter(|fact| fact.version == *version)
    }

    /// Remembers what was found at `now`, unless the file changed too recently to be sure.
    pub(super) fn remember(&mut self, subject: Subject, mut fact: Fact, now: Timestamp) {
        if !fact.version.is_settled(now) {
            return;
        }
        if view_bytes(&fact) > MAX_VIEW {
            fact.forget_view();
        }
        let bytes = view_bytes(&fact);
        self.view_bytes += bytes;
        if let Some((replaced, old)) = self.known.push(subject, fact) {
            self.view_bytes -= view_bytes(&old);
            self.viewed.pop(&replaced);
        }
        if bytes > 0 {
            self.viewed.push(subject, ());
        }
        self.shrink();
    }

    /// Forgets what is too much. A listing of more than fits would find the oldest forgotten, and forget the next: so the facts
    /// stay when their views go.
    fn shrink(&mut self) {
        while self.view_bytes > self.max_view_bytes {
            let Some((subject, ())) = self.viewed.pop_lru() else {
                break;
            };
            if let Some(fact) = self.known.peek_mut(&subject) {
                self.view_bytes -= view_bytes(fact);
                fact.forget_view();
            }
        }
        while self.known.len() > MAX_FACTS {
            let Some((subject, old)) = self.known.pop_lru() else {
                break;
            };
            self.viewed.pop(&subject);
            self.view_bytes -= view_bytes(&old);
        }
    }

    /// The links that were counted in a directory when it had so many names, as it has now.
    pub(super) fn links(&mut self, directory: FileId, names: u32) -> Option<u32> {
        let (counted_at, links) = *self.links.get(&directory)?;
        (counted_at == names).then_some(links)
    }

    /// One of the directories in it is shown from now on, or no longer, and has a name all the same.
    pub(super) fn forget_links(&mut self, directory: FileId) {
        self.links.pop(&directory);
    }

    /// Whether this is known to be a record without a secret that was removed.
    pub(super) fn has_no_secret(&mut self, stat: &Stat) -> bool {
        self.no_secret.get(&stat.id) == Some(&stat.version())
    }

    pub(super) fn remember_no_secret(&mut self, stat: &Stat) {
        self.no_secret.put(stat.id, stat.version());
        if self.no_secret.len() > MAX_REMOVED {
            self.no_secret.pop_lru();
        }
    }

    pub(super) fn remember_links(&mut self, directory: FileId, names: u32, links: u32) {
        self.links.put(directory, (names, links));
    }
}

fn view_bytes(fact: &Fact) -> usize {
    match &fact.verdict {
        Verdict::Record(_, Some(view)) => view.len(),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fact(seconds: i64, view: usize) -> Fact {
        let time = Timestamp { seconds, nanos: 0 };
        Fact {
            version: Version {
                size: 1,
                mtime: time,
                ctime: time,
            },
            shown: Shown::default(),
            verdict: Verdict::Record(view as u64, Some(vec![b' '; view].into())),
        }
    }

    fn subject(ino: u64) -> Subject {
        Subject {
            id: FileId { dev: 1, ino },
            as_record: true,
            as_type: FileType::Regular,
        }
    }

    const NOW: Timestamp = Timestamp {
        seconds: 1000,
        nanos: 0,
    };

    #[test]
    fn a_fact_holds_for_its_version_only() {
        let subject = subject(1);
        let mut facts = Facts::new(1 << 20);
        facts.remember(subject, fact(10, 3), NOW);
        assert!(facts.get(subject, &fact(10, 3).version).is_some());
        assert!(facts.get(subject, &fact(11, 3).version).is_none());
    }

    #[test]
    fn a_file_that_just_changed_is_not_remembered() {
        let subject = subject(1);
        let mut facts = Facts::new(1 << 20);
        facts.remember(subject, fact(1000, 3), NOW);
        assert!(facts.get(subject, &fact(1000, 3).version).is_none());
    }

    #[test]
    fn memory_is_bounded_and_accounted() {
        let mut facts = Facts::new(1 << 20);
        for ino in 0..1000 {
            facts.remember(subject(ino), fact(1, 60 << 10), NOW);
            facts.remember(subject(5), fact(1, 10), NOW);
        }
        assert!(facts.view_bytes <= facts.max_view_bytes);
        assert_eq!(
            facts.known.len(),
            1000,
            "what was found out stays when the view goes"
        );
        let counted: usize = facts.known.iter().map(|(_, fact)| view_bytes(fact)).sum();
        assert_eq!(facts.view_bytes, counted);
    }
}
