//! What a name leads to.

use super::entries::Place;
use super::ids::{Ino, ROOT};
use super::node::{Node, NodeId};
use super::{NodeInfo, Vfs, existing};
use crate::error::Result;
use crate::event::Op;
use crate::store::{Attributes, Folder, NodeKind, Snapshot};

impl Vfs {
    /// What `name` in `parent` leads to, asked by the thread `asker`; counted until it is forgotten.
    ///
    /// # Errors
    /// [`NotFound`](crate::error::Kind::NotFound) for what is absent, hidden, or has a name that cannot exist;
    /// [`NameTooLong`](crate::error::Kind::NameTooLong).
    pub fn lookup(&self, parent: Ino, name: &[u8], asker: u32) -> Result<NodeInfo> {
        let mut info = self.find(parent, name, Some(asker))?;
        if info.attributes.kind == NodeKind::Directory && self.folder(info.ino).is_ok() {
            // It is watched from now on: what the kernel is told holds for long.
            info.lifetime = self.lifetime(info.ino, Some(parent), &info.attributes, false);
        }
        Ok(info)
    }

    /// As [`lookup`](Self::lookup), for listings too, which nobody asks for one name: what is not used is not watched.
    pub(super) fn find(&self, parent: Ino, name: &[u8], asker: Option<u32>) -> Result<NodeInfo> {
        let place = Place {
            parent,
            name: existing(name)?,
        };
        self.admit_inode(&place)?;
        if parent == ROOT {
            let attributes = self.resource(&place.name)?;
            return Ok(self.entered(place, attributes));
        }
        let folder = self.folder(parent)?;
        if let Some(info) = self.look_up_unsaved(&folder, &place) {
            return Ok(info);
        }
        if let Some(asker) = asker
            && let Some(found) = self.retries.looks_again(asker, &place)
            && let Some(info) = self.look_up_with_content(&folder, &place, asker, found)?
        {
            return Ok(info);
        }
        let attributes = folder.lookup(&place.name)?;
        Ok(self.entered(place, attributes))
    }

    /// What an open that the kernel tries once more will get: what it `found` before, for the kernel may look up twice before
    /// it opens, or what is there now.
    fn look_up_with_content(
        &self,
        folder: &Folder,
        place: &Place,
        asker: u32,
        found: Option<(Ino, Snapshot)>,
    ) -> Result<Option<NodeInfo>> {
        if let Some((ino, snapshot)) = found
            && let Some(node) = self.table.get(ino)
            && self.is_known_record(node.id(), &snapshot.attributes)
            && self.table.look_up(node.id())
        {
            return Ok(Some(self.info(ino, None, snapshot.attributes, false)));
        }
        if folder.lookup(&place.name)?.kept_draft {
            return Ok(None);
        }
        let snapshot = folder.record(&place.name).open()?;
        let ino = self.table.enter(place.clone(), &snapshot.attributes).ino();
        let attributes = snapshot.attributes;
        self.retries.found(asker, place.clone(), ino, snapshot);
        Ok(Some(self.info(ino, None, attributes, false)))
    }

    pub(super) fn entered(&self, place: Place, attributes: Attributes) -> NodeInfo {
        let parent = place.parent;
        let ino = self.table.enter(place, &attributes).ino();
        self.info(ino, Some(parent), attributes, false)
    }

    /// A record was found replaced between its lookup and its open by `asker`: the kernel looks it up once more.
    pub(super) fn look_once_more(&self, node: NodeId, asker: u32) {
        if let Some(place) = self.table.last_place(node) {
            self.retries.expect(asker, place);
        }
    }

    /// The record at `place`, if memory has text of it that the volume has not: that is what the name leads to, whatever
    /// others do to the record meanwhile, so that nothing written is lost. Unless the volume has something there that must
    /// not be shown.
    pub(super) fn look_up_unsaved(&self, folder: &Folder, place: &Place) -> Option<NodeInfo> {
        let Node::Record(node) = self.table.at(place)? else {
            return None;
        };
        let attributes = node.lock().unsaved_attributes()?;
        folder.occupant(Op::Lookup, &place.name).ok()?;
        self.table
            .look_up(node.id)
            .then(|| self.info(node.id.ino, None, attributes, true))
    }
}
