//! When a draft becomes the record: at close, fsync, rename, truncate and the end of the session.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::entries::Place;
use super::node::{RecordNode, stale};
use super::record_state::{Held, Record, RecordState, Verdict};
use super::verdict::{Next, Occasion};
use super::{Target, Vfs};
use crate::clock::Stopwatch;
use crate::error::{Error, Kind, Result};
use crate::event::{Event, Op};
use crate::store::{Draft, Folder, Snapshot, Survey, Uncommitted};
use crate::volume::Durability;

/// How often drafts that nobody has open, and that the volume did not take, are tried again.
const TRY_AGAIN: Duration = Duration::from_secs(1);

impl Vfs {
    /// Changes the text of a record, in its draft; one is begun where there is none.
    ///
    /// # Errors
    /// Those of `change`; [`Kind::NoSpace`] when the session's drafts take too much memory; [`Kind::Stale`] when others
    /// replaced the record and somebody is writing to that one.
    pub(super) fn edit<T>(
        &self,
        node: &RecordNode,
        record: &mut Record,
        change: impl FnOnce(&mut Draft) -> Result<T>,
    ) -> Result<T> {
        let was_unsaved = record.is_unsaved();
        if !was_unsaved {
            self.take_back_name(node)?;
        }
        let (most, memory) = (self.store.max_record(), self.limits.memory());
        let changed = record.edit(
            |text| Draft::new(text.to_vec(), most).within(memory),
            |draft| {
                draft.number = u32::try_from(node.id.ino.0).ok();
                change(draft)
            },
        );
        match (was_unsaved, record.is_unsaved()) {
            (false, true) => {
                self.table.drafting_begins(node.id);
                self.table.typed(node.id);
            }
            // It may have its name back, and nothing was typed after all.
            (false, false) => self.table.drafting_ends(node.id),
            (true, _) => {}
        }
        changed
    }

    /// What is typed into a record that others replaced meanwhile is what its name leads to again: nothing typed is lost.
    fn take_back_name(&self, node: &RecordNode) -> Result<()> {
        match self.table.reclaim(node.id) {
            Some(true) => {
                self.table.drafting_begins(node.id);
                // The kernel was told of the other file.
                if let Some(place) = self.table.place(node.id) {
                    self.forget_name_soon(place);
                }
                Ok(())
            }
            // Without a name, the draft lives in memory as long as somebody has it open: as any removed file.
            None if self.table.is_displaced(node.id) => {
                self.store.report(&Event::Denied {
                    op: Op::Write,
                    path: self.path(Target::Inode(node.id.ino)),
                    kind: Kind::Stale,
                    reason: "others replaced the record since it was opened, and the new one was written, removed or \
                             renamed here since"
                        .to_owned(),
                });
                Err(stale())
            }
            Some(false) | None => Ok(()),
        }
    }

    /// Commits the draft of a record, or keeps it on the volume when it cannot be committed; and answers whoever waits
    /// for that, also when it was tried before. A draft without a name is nobody's any more, and left alone.
    ///
    /// # Errors
    /// What [`Record::commit`](crate::store::Record::commit) says; the draft is kept whatever that is, in memory where the volume cannot have it.
    pub(super) fn settle(&self, node: &RecordNode, record: &mut Record, occasion: Occasion) -> Result<()> {
        match record.state() {
            RecordState::Idle | RecordState::Open(_) => Ok(()),
            RecordState::Drafting { .. } => self.commit(node, record, occasion),
            RecordState::Kept { verdict, .. } | RecordState::Refused { verdict, .. } => {
                match verdict.why.clone() {
                    Some(why) => self.tell_again(node, record, occasion, why),
                    None if record.content().is_empty() => Ok(()),
                    None if occasion == Occasion::Sync => self.commit(node, record, occasion),
                    None => Ok(()),
                }
            }
        }
    }

    fn tell_again(
        &self,
        node: &RecordNode,
        record: &mut Record,
        occasion: Occasion,
        why: Error,
    ) -> Result<()> {
        if !occasion.hears(why.kind()) {
            return Ok(());
        }
        self.report_refusal(node, record, &why);
        Err(why)
    }

    /// The observers are told once what is wrong with a draft.
    fn report_refusal(&self, node: &RecordNode, record: &mut Record, why: &Error) {
        if let Some(verdict) = record.verdict()
            && !std::mem::replace(&mut verdict.reported, true)
        {
            self.store.report(&Event::DraftKept {
                path: self.path(Target::Inode(node.id.ino)),
                kind: why.kind(),
                reason: why.to_string(),
            });
        }
    }

    fn commit(&self, node: &RecordNode, record: &mut Record, occasion: Occasion) -> Result<()> {
        let place = match self.place_to_commit(node) {
            Ok(Some(place)) => place,
            Ok(None) => return Ok(()),
            Err(why) => return self.not_taken(node, record, why, occasion),
        };
        if occasion != Occasion::End {
            // Losing it would be worse than saving what cannot be taken note of.
            if let Err(why) = self.store.admit(Op::Commit) {
                return self.not_taken(node, record, why, occasion);
            }
        }
        let folder = match self.folder(place.parent) {
            Ok(folder) => folder,
            Err(why) => return self.not_taken(node, record, why, occasion),
        };
        let durability = match occasion {
            Occasion::Sync | Occasion::Write => Durability::Durable,
            _ => self.store.durability(),
        };
        let committed = self
            .store
            .within_quota(|| try_commit(&folder, &place, record, durability));
        match committed {
            Ok(snapshot) => {
                self.committed(node, record, snapshot);
                Ok(())
            }
            Err(why) => match occasion.next(record.content().is_empty(), why.kind()) {
                Next::Stay => Ok(()),
                Next::StayAndTell => self.not_taken(node, record, why, occasion),
                next => {
                    let tell = next == Next::KeepAndTell;
                    self.keep(node, record, (&folder, &place), durability, why, tell)?;
                    match record.trouble().cloned().filter(|_| tell && occasion.answers()) {
                        Some(why) => Err(why),
                        None => Ok(()),
                    }
                }
            },
        }
    }

    /// Where the draft is to be committed; nowhere when its name was removed here. Others who put a record there, with
    /// nobody writing to it, do not win over what was typed.
    fn place_to_commit(&self, node: &RecordNode) -> Result<Option<Place>> {
        self.take_back_name(node)?;
        Ok(self.table.place(node.id))
    }

    fn committed(&self, node: &RecordNode, record: &mut Record, snapshot: Snapshot) {
        self.table.became(node.id, &snapshot.attributes);
        let memory = self.limits.hold_counted(snapshot.view.len() as u64);
        let as_written = record.committed(Held {
            snapshot,
            _memory: memory,
        });
        self.table.drafting_ends(node.id);
        if !as_written {
            self.pages.drop_attributes(node.id.ino);
            self.pages.drop_soon(node.id.ino);
        }
    }

    /// The volume did not take it: it stays in memory, and is tried again.
    fn not_taken(
        &self,
        node: &RecordNode,
        record: &mut Record,
        why: Error,
        occasion: Occasion,
    ) -> Result<()> {
        self.hold_back();
        if record.failed(why.clone()) {
            self.store.report(&Event::SaveFailed {
                path: self.path(Target::Inode(node.id.ino)),
                kind: why.kind(),
                reason: why.to_string(),
            });
        }
        match occasion.answers() {
            true => Err(why),
            false => Ok(()),
        }
    }

    fn keep(
        &self,
        node: &RecordNode,
        record: &mut Record,
        (folder, place): (&Folder, &Place),
        durability: Durability,
        why: Error,
        tell: bool,
    ) -> Result<()> {
        let Some(draft) = record.draft() else {
            return Ok(());
        };
        let verdict = Verdict {
            // To have nothing in it yet is no mistake.
            why: (!draft.text().is_empty()).then(|| why.clone()),
            reported: false,
        };
        let kept = self
            .store
            .within_quota(|| folder.record(&place.name).keep(draft, durability));
        match kept {
            Ok(attributes) => {
                record.kept(verdict, attributes);
                self.table.became(node.id, &attributes);
                self.table.drafting_ends(node.id);
            }
            // The name leads to it as long as the session lasts.
            Err(error) if error.kind() == Kind::PlainSecret => record.refused(verdict),
            Err(error) => return self.not_taken(node, record, error, Occasion::Sync),
        }
        if tell {
            self.report_refusal(node, record, &why);
        }
        Ok(())
    }

    /// The drafts that could not be committed, at most so many: those that only memory has, and those that the volume
    /// keeps, as long as `go_on` says so.
    pub fn uncommitted(&self, most: usize, go_on: &dyn Fn() -> bool) -> Survey<Uncommitted> {
        let (mut found, mut more) = (Vec::new(), false);
        for node in self.table.drafting() {
            let why = node.lock().trouble().map(ToString::to_string);
            if let Some(reason) = why
                && let Some(path) = self.table.path(node.id)
            {
                if found.len() == most {
                    more = true;
                    break;
                }
                let reason = format!("{reason}; it is in memory only");
                found.push(Uncommitted { path, reason });
            }
        }
        let mut kept = self.store.uncommitted(most - found.len(), go_on);
        found.append(&mut kept.found);
        more |= kept.more;
        Survey { found, more, ..kept }
    }

    /// Settles the drafts that nobody can write to any more.
    pub fn settle_closed(&self) {
        for node in self.table.drafting() {
            let mut record = node.lock();
            if record.has_writers() {
                continue;
            }
            if let Err(error) = self.settle(&node, &mut record, Occasion::Last) {
                log::debug!("after the last close: {error:#}");
            }
            record.rest();
        }
    }

    /// Drafts that nobody writes any more wait for the volume, or for the observers, to take them.
    fn hold_back(&self) {
        let mut held_back = self.held_back.lock();
        held_back.get_or_insert_with(Stopwatch::start);
        // Before another can take them for settled.
        self.holds_back.store(true, Ordering::Relaxed);
        // Nobody may ask for anything any more.
        self.pages.notice_soon();
    }

    /// Settles the drafts that nobody can write to any more, if some could not be before: at most once a second. Returns
    /// when to try again, if some still wait.
    pub fn settle_held_back(&self) -> Option<Duration> {
        if !self.holds_back.load(Ordering::Relaxed) {
            return None;
        }
        let is_due = self
            .held_back
            .lock()
            .is_some_and(|since| since.elapsed() >= TRY_AGAIN);
        if is_due && self.store.admit(Op::Commit).is_ok() {
            let mut held_back = self.held_back.lock();
            *held_back = None;
            self.holds_back.store(false, Ordering::Relaxed);
            drop(held_back);
            self.settle_closed();
        }
        self.holds_back.load(Ordering::Relaxed).then_some(TRY_AGAIN)
    }

    /// How many drafts only memory has.
    pub fn unsaved(&self) -> usize {
        self.table.drafting().len()
    }

    /// Settles whatever is unsettled, at the end of the session. What cannot be saved even now is reported.
    pub fn settle_all(&self) {
        for node in self.table.drafting() {
            let mut record = node.lock();
            let result = self.settle(&node, &mut record, Occasion::End);
            if let Err(error) = result
                && record.is_unsaved()
            {
                let path = self.path(Target::Inode(node.id.ino));
                self.store.report(&Event::Trouble {
                    what: format!(
                        "the draft of {path:?} is lost with the session, for it could not be saved: {error:#}"
                    ),
                });
            }
        }
    }
}

fn try_commit(folder: &Folder, place: &Place, record: &Record, durability: Durability) -> Result<Snapshot> {
    match record.draft() {
        Some(draft) if !draft.text().is_empty() => folder.record(&place.name).commit(draft, durability),
        _ => Err(Error::new(Kind::IncompleteRecord, "the record is empty")),
    }
}
