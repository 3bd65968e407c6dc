//! The way back, asked for beside the mount: records that were removed are restored, and drafts given up. The kernel is told.

use std::sync::Arc;

use super::Vfs;
use super::entries::Place;
use super::ids::ROOT;
use super::node::RecordNode;
use super::record_state::Held;
use crate::error::{Error, Kind, Result};
use crate::event::{Event, Op};
use crate::name::EntryName;
use crate::store::Snapshot;

impl Vfs {
    /// Brings back the record that was removed at `path`: see [`Store::restore`](crate::store::Store::restore). It is in the
    /// mount at once.
    ///
    /// # Errors
    /// Those of the store; [`Kind::Exists`] also when a draft that only memory has is shown there.
    pub fn restore(&self, path: &str) -> Result<()> {
        self.store.admit(Op::Create)?;
        if let Some((_, node)) = self.record_at(path)
            && node.lock().is_unsaved()
        {
            let why = "a draft has this name: discard it, or move it away first";
            return Err(Error::new(Kind::Exists, why));
        }
        self.store.restore(path)?;
        self.look_again_along(path);
        Ok(())
    }

    /// Gives up the draft at `path`, on the volume or in memory: the record is shown as it was last committed, at once and to
    /// whoever has it open. One that was never committed is gone.
    ///
    /// # Errors
    /// [`Kind::NotFound`] when there is no draft; [`Kind::Busy`] while somebody may write to it; [`Kind::ReadOnly`]; the
    /// volume's.
    pub fn discard_draft(&self, path: &str) -> Result<()> {
        self.store.admit(Op::Unlink)?;
        match self.record_at(path) {
            Some((place, node)) => self.discard_draft_of(path, place, &node)?,
            None => self.store.discard_draft(path)?,
        }
        self.look_again_along(path);
        Ok(())
    }

    fn discard_draft_of(&self, path: &str, place: Place, node: &RecordNode) -> Result<()> {
        let mut record = node.lock();
        if self.table.place(node.id).as_ref() != Some(&place) {
            return Err(Error::new(Kind::Busy, "it was renamed just now; look again"));
        }
        if record.draft().is_some() && record.has_writers() {
            return Err(Error::new(
                Kind::Busy,
                "a program has it open for writing, and would write the draft again: end that first",
            ));
        }
        let beneath = match self.folder(place.parent)?.record(&place.name).open() {
            Err(error) if error.kind() == Kind::NotFound => None,
            opened => Some(opened?),
        };
        match self.store.discard_draft(path) {
            Err(error) if error.kind() == Kind::NotFound && record.is_unsaved() => {
                let path = path.to_owned();
                self.store.report(&Event::DraftDiscarded { path });
            }
            discarded => discarded?,
        }
        match beneath {
            Some(snapshot) => {
                self.table.became(node.id, &snapshot.attributes);
                record.discard(self.held(snapshot));
                self.table.drafting_ends(node.id);
                self.pages.drop_attributes(node.id.ino);
                self.pages.drop_soon(node.id.ino);
            }
            None => {
                self.table.unlink(&place);
                record.abandon();
                self.forget_name_soon(place);
            }
        }
        Ok(())
    }

    pub(super) fn held(&self, snapshot: Snapshot) -> Held {
        Held {
            _memory: self.limits.hold_counted(snapshot.view.len() as u64),
            snapshot,
        }
    }

    /// The record at `path`, if the kernel knows it or has a draft of it.
    fn record_at(&self, path: &str) -> Option<(Place, Arc<RecordNode>)> {
        let places = self.places_along(path);
        let is_whole = places.len() == path.split('/').count();
        let place = places.last().filter(|_| is_whole)?;
        let node = self.table.at(place)?.as_record().cloned()?;
        Some((place.clone(), node))
    }

    /// Has somebody look at every name of `path`: directories on the way may be new, too. Not left to those who watch the
    /// volume, for not every directory can be watched.
    fn look_again_along(&self, path: &str) {
        for place in self.places_along(path) {
            if place.parent != ROOT {
                self.look_again(place, true);
            }
        }
    }

    /// The names of `path`, from the root on, as far as the kernel knows the directories that they are in.
    fn places_along(&self, path: &str) -> Vec<Place> {
        let (mut places, mut parent) = (Vec::new(), Some(ROOT));
        for name in path.split('/') {
            let (Some(known), Ok(name)) = (parent, EntryName::parse(name.as_bytes())) else {
                break;
            };
            let place = Place { parent: known, name };
            parent = self.table.at(&place).map(|node| node.ino());
            places.push(place);
        }
        places
    }
}
