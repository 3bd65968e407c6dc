//! When a draft becomes the record: at close, fsync, rename, truncate and the end of the session.

use std::sync::atomic::Ordering;

use super::inode::{Body, Inode};
use super::{Target, Vfs};
use crate::error::{Error, Kind, Result};
use crate::event::{Event, Op};
use crate::store::{Draft, Uncommitted};
use crate::volume::Durability;

/// Why a draft is settled, which decides how an unfinished one is taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Occasion {
    /// A descriptor is closed, by the process that opened it or by one that inherited it: `(cat a; cat b) > x.json`
    /// closes it twice, and the first time is not the end of the write.
    Close {
        /// Whether it is the opener's.
        by_opener: bool,
    },
    /// The caller wants to know that it is on the disk.
    Sync,
    /// Nobody is left who could go on writing, and nobody to hear of an error.
    Last,
    /// The session ends: whatever is not saved now is lost.
    End,
    /// The size was changed by path: what is left need not be a record yet.
    Resize,
}

impl Occasion {
    /// Whether a draft may stay as it is, in memory, because more is likely to come.
    fn can_wait(self, draft: &Draft, verdict: Kind) -> bool {
        match self {
            // A shell duplicates the descriptor and closes the first before anything is written.
            Self::Close { .. } if draft.text().is_empty() => true,
            Self::Close { by_opener } => !by_opener && verdict == Kind::IncompleteRecord,
            Self::Sync | Self::Last | Self::End | Self::Resize => false,
        }
    }

    /// Whether a draft that is kept is no error to the caller.
    fn forgives(self, draft: &Draft, verdict: Kind) -> bool {
        draft.text().is_empty() || (self == Self::Resize && verdict == Kind::IncompleteRecord)
    }
}

/// What is wrong with the draft itself: keeping it is all that can be done.
fn is_verdict(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::InvalidRecord | Kind::IncompleteRecord | Kind::PlainSecret | Kind::TooLarge
    )
}

impl Vfs {
    /// The draft of a record, begun where there is none, about to be changed.
    ///
    /// # Errors
    /// [`Kind::NoSpace`] when the session's drafts take too much memory.
    pub(super) fn begin<'body>(&self, inode: &Inode, body: &'body mut Body) -> Result<&'body mut Draft> {
        let begins = !body.unsaved();
        let draft = body.begin(self.store.max_record(), self.limits.memory())?;
        if begins && self.table.place(inode).is_some() {
            self.table.set_drafting(inode, true);
        }
        Ok(draft)
    }

    /// Commits the draft of a record, or keeps it on the volume when it cannot be committed. One without a name is
    /// nobody's any more, and left alone.
    ///
    /// # Errors
    /// What [`Folder::commit`](crate::store::Folder::commit) says; the draft is kept whatever that is, in memory where
    /// the volume cannot have it.
    pub(super) fn settle(&self, inode: &Inode, body: &mut Body, occasion: Occasion) -> Result<()> {
        let settled = self.try_to_settle(inode, body, occasion);
        if let Err(error) = &settled
            && !is_verdict(error.kind())
        {
            self.note_failure(inode, body, error);
        }
        settled
    }

    /// Reports why a draft is in memory only: when that begins, and when it is for another reason.
    fn note_failure(&self, inode: &Inode, body: &mut Body, error: &Error) {
        let Some(writing) = body.writing.as_mut().filter(|writing| !writing.saved) else {
            return;
        };
        let before = writing.failed.replace(error.clone());
        if before.is_none_or(|before| before.kind() != error.kind()) {
            self.store.report(&Event::SaveFailed {
                path: self.path(Target::Inode(inode.ino)),
                kind: error.kind(),
                reason: error.to_string(),
            });
        }
    }

    fn try_to_settle(&self, inode: &Inode, body: &mut Body, occasion: Occasion) -> Result<()> {
        let Some(place) = self.table.place(inode) else {
            return Ok(());
        };
        let Some(writing) = body.writing.as_mut().filter(|writing| !writing.saved) else {
            return Ok(());
        };
        if writing.refused && matches!(occasion, Occasion::Last | Occasion::End) {
            // Whoever closed it was told.
            return Err(Error::new(Kind::PlainSecret, "the draft holds a secret in plain"));
        }
        if occasion != Occasion::End {
            // Losing it would be worse than saving what cannot be taken note of.
            let admitted = self.store.admit(Op::Commit);
            admitted.inspect_err(|_| self.held_back.store(true, Ordering::Relaxed))?;
        }
        let folder = self.folder(place.parent)?;
        let durability = match occasion {
            Occasion::Sync => Durability::Durable,
            _ => folder.durability(),
        };
        let committed = match writing.draft.text().is_empty() {
            true => Err(Error::new(Kind::IncompleteRecord, "the record is empty")),
            false => folder.commit(&place.name, &writing.draft, durability),
        };
        let error = match committed {
            Ok(snapshot) => {
                let as_written = *snapshot.view == *writing.draft.text();
                body.cached = as_written.then_some(snapshot.attributes.version);
                self.table.became(inode, &snapshot.attributes);
                body.snapshot = Some(snapshot);
                body.writing = None;
                body.recount();
                self.table.set_drafting(inode, false);
                if !as_written {
                    self.pages.drop_attributes(inode.ino);
                    self.pages.drop_soon(inode.ino);
                }
                return Ok(());
            }
            Err(error) if !is_verdict(error.kind()) => return Err(error),
            Err(error) if occasion.can_wait(&writing.draft, error.kind()) => return Ok(()),
            Err(error) => error,
        };
        let forgiven = occasion.forgives(&writing.draft, error.kind());
        if !forgiven {
            self.store.report(&Event::DraftKept {
                path: folder.path_of(&place.name),
                kind: error.kind(),
                reason: error.to_string(),
            });
        }
        match folder.keep_draft(&place.name, &writing.draft, durability) {
            Ok(attributes) => {
                writing.saved = true;
                self.table.became(inode, &attributes);
                self.table.set_drafting(inode, false);
            }
            // It stays where it is, in memory: the name leads to it as long as the session lasts.
            Err(kept) if kept.kind() == Kind::PlainSecret => writing.refused = true,
            Err(kept) => return Err(kept),
        }
        match forgiven {
            true => Ok(()),
            false => Err(error),
        }
    }

    /// The drafts that could not be committed, at most so many: those that only memory has, and those that the volume
    /// keeps.
    ///
    /// # Errors
    /// The volume's.
    pub fn uncommitted(&self, most: usize) -> Result<Vec<Uncommitted>> {
        let unsaved = self.table.drafting().into_iter().filter_map(|inode| {
            let reason = {
                let body = inode.body();
                let writing = body.writing.as_ref().filter(|writing| !writing.saved)?;
                match (&writing.failed, writing.refused) {
                    (Some(error), _) => {
                        format!("it is in memory only, for the volume cannot have it: {error}")
                    }
                    (None, true) => "it holds a secret in plain text, and is in memory only".to_owned(),
                    (None, false) => return None,
                }
            };
            Some(Uncommitted {
                path: self.table.path(&inode)?,
                reason,
            })
        });
        let mut found: Vec<Uncommitted> = unsaved.take(most).collect();
        found.extend(self.store.uncommitted(most - found.len())?);
        Ok(found)
    }

    /// Settles the drafts that nobody can write to any more.
    pub fn settle_closed(&self) {
        for inode in self.table.drafting() {
            let mut body = inode.body();
            if body.writers == 0
                && let Err(error) = self.settle(&inode, &mut body, Occasion::Last)
            {
                log::debug!("after the last close: {error}");
            }
        }
    }

    /// Settles the drafts that nobody can write to any more, if some could not be before because no observer could take
    /// note of it.
    pub fn settle_held_back(&self) {
        if self.held_back.load(Ordering::Relaxed) && self.store.admit(Op::Commit).is_ok() {
            self.held_back.store(false, Ordering::Relaxed);
            self.settle_closed();
        }
    }

    /// Settles whatever is unsettled, at the end of the session. What cannot be saved even now is reported.
    pub fn settle_all(&self) {
        for inode in self.table.drafting() {
            let mut body = inode.body();
            let result = self.settle(&inode, &mut body, Occasion::End);
            if let Err(error) = result
                && body.unsaved()
            {
                let path = self.path(Target::Inode(inode.ino));
                self.store.report(&Event::Trouble {
                    what: format!(
                        "the draft of {path:?} is lost with the session, for it could not be saved: {error}"
                    ),
                });
            }
        }
    }
}
