//! What a name leads to.

use super::inode::{Inode, PROMISE_LIFETIME, Promise};
use super::table::Place;
use super::{Ino, Node, ROOT, Vfs, existing};
use crate::clock::Stopwatch;
use crate::error::Result;
use crate::event::Op;
use crate::store::{Attributes, Folder, NodeKind, Snapshot};

impl Vfs {
    /// What `name` in `parent` leads to; counted until it is forgotten.
    ///
    /// # Errors
    /// [`NotFound`](crate::error::Kind::NotFound) for what is absent, hidden, or has a name that cannot exist;
    /// [`NameTooLong`](crate::error::Kind::NameTooLong).
    pub fn lookup(&self, parent: Ino, name: &[u8]) -> Result<Node> {
        let mut node = self.find(parent, name)?;
        if node.attributes.kind == NodeKind::Directory && self.folder(node.ino).is_ok() {
            // It is watched from now on: what the kernel is told holds for long.
            node.lifetime = self.lifetime(node.ino, Some(parent), &node.attributes, false);
        }
        Ok(node)
    }

    /// As [`lookup`](Self::lookup), for listings: what is not used is not watched.
    pub(super) fn find(&self, parent: Ino, name: &[u8]) -> Result<Node> {
        let place = Place {
            parent,
            name: existing(name)?,
        };
        if parent == ROOT {
            let attributes = self.resource(&place.name)?;
            return Ok(self.entered(place, attributes));
        }
        let folder = self.folder(parent)?;
        if let Some(node) = self.look_up_written(&folder, &place) {
            return Ok(node);
        }
        let attributes = folder.lookup(&place.name)?;
        let is_record = attributes.kind == NodeKind::Record && !attributes.kept_draft;
        if is_record && self.is_contended(&place) {
            return self.promise(&folder, place);
        }
        Ok(self.entered(place, attributes))
    }

    /// Looks a record up together with its content, which is what the open that follows gets.
    fn promise(&self, folder: &Folder, place: Place) -> Result<Node> {
        // The kernel may look up twice before it opens.
        if let Some(inode) = self.table.at(&place) {
            let body = inode.body();
            let promised = body.promised.as_ref().and_then(Promise::snapshot);
            if let Some(Snapshot { attributes, .. }) = promised
                && self.table.look_up(&inode)
            {
                return Ok(self.node(inode.ino, None, *attributes, false));
            }
        }
        let snapshot = folder.record(&place.name).open()?;
        let inode = self.table.enter(place, &snapshot.attributes);
        let node = self.node(inode.ino, None, snapshot.attributes, false);
        inode.body().promised = Some(Promise::new(snapshot));
        Ok(node)
    }

    pub(super) fn entered(&self, place: Place, attributes: Attributes) -> Node {
        let parent = place.parent;
        let ino = self.table.enter(place, &attributes).ino;
        self.bound_memory();
        self.node(ino, Some(parent), attributes, false)
    }

    /// A record was found replaced between its lookup and its open. The kernel looks it up once more, and no further time:
    /// what it finds then, it has to get.
    pub(super) fn contend(&self, inode: &Inode) {
        let mut contended = self.contended.lock();
        contended.retain(|_, since| since.elapsed() < PROMISE_LIFETIME);
        contended.extend(
            self.table
                .last_place(inode)
                .map(|place| (place, Stopwatch::start())),
        );
    }

    fn is_contended(&self, place: &Place) -> bool {
        let contended = self.contended.lock();
        contended
            .get(place)
            .is_some_and(|since| since.elapsed() < PROMISE_LIFETIME)
    }

    /// The inode at `place`, if it is being written: that is what the name leads to, whatever others do to the record
    /// meanwhile, so that nothing written is lost. Unless the volume has something there that must not be shown.
    pub(super) fn look_up_written(&self, folder: &Folder, place: &Place) -> Option<Node> {
        let inode = self
            .table
            .at(place)
            .filter(|inode| inode.kind == NodeKind::Record)?;
        let (attributes, drafted) = {
            let body = inode.body();
            (body.written()?, body.writing.is_some())
        };
        let occupant = folder.occupant(Op::Lookup, &place.name).ok()?;
        if occupant.is_none() && !drafted {
            return None;
        }
        self.table
            .look_up(&inode)
            .then(|| self.node(inode.ino, None, attributes, true))
    }
}
