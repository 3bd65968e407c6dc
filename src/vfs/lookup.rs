//! What a name leads to.

use std::sync::Arc;
use std::time::Duration;

use super::entries::Place;
use super::ids::{Ino, ROOT};
use super::node::{Node, stale};
use super::retries::{Found, KeptDraft, Told, Walk};
use super::way::absent_if_lost;
use super::{NodeInfo, Vfs, existing, not_found};
use crate::error::{Error, Kind, Result};
use crate::event::Op;
use crate::name::EntryName;
use crate::store::{Attachment, Attributes, Folder, NodeKind, Snapshot};
use crate::volume::Access;

/// How often a file is looked for that is replaced while it is read.
const CONTENT_ATTEMPTS: u32 = 8;

impl Vfs {
    /// What `name` in `parent` leads to, asked by the thread `asker`; counted until it is forgotten.
    ///
    /// # Errors
    /// [`NotFound`](Kind::NotFound) for what is absent, hidden, or has a name that cannot exist;
    /// [`NameTooLong`](Kind::NameTooLong). [`Kind::Stale`] when it is absent from a directory that others put another in
    /// the place of: the kernel then walks the whole path again.
    pub fn lookup(&self, parent: Ino, name: &[u8], asker: u32) -> Result<NodeInfo> {
        let place = Place {
            parent,
            name: existing(name)?,
        };
        let mut info = match self.retries.walk(asker, &place.name) {
            Walk::First => self.look_on_first_walk(place, asker, |place| self.find_to_go_on(place))?,
            walk => self.look_once_more(place, asker, walk)?,
        };
        if info.attributes.kind == NodeKind::Directory
            && self.folder(info.ino).is_ok()
            && !info.lifetime.is_zero()
        {
            // It is watched from now on: what the kernel is told holds for long.
            info.lifetime = self.lifetime(info.ino, Some(parent), &info.attributes, false);
        }
        Ok(info)
    }

    /// As [`lookup`](Self::lookup), for listings too, which nobody asks for one name: what is not used is not watched.
    pub(super) fn find(&self, place: Place) -> Result<NodeInfo> {
        self.admit_inode(&place)?;
        if place.parent == ROOT {
            let attributes = self.resource(&place.name)?;
            return Ok(self.entered(place, attributes));
        }
        let folder = self.folder(place.parent)?;
        if let Some(info) = self.look_up_unsaved(&folder, &place) {
            return Ok(info);
        }
        let attributes = folder.lookup(&place.name)?;
        Ok(self.entered(place, attributes))
    }

    /// As [`find`](Self::find). A directory is opened with that: it is the one that was found, whatever has its name next.
    fn find_to_go_on(&self, place: Place) -> Result<NodeInfo> {
        let info = self.find(place.clone())?;
        let is_open = info.attributes.kind != NodeKind::Directory
            || place.parent == ROOT
            || self.has_open(info.ino, info.attributes.id);
        if is_open {
            return Ok(info);
        }
        let opened = self
            .folder(place.parent)
            .and_then(|folder| folder.open_folder(&place.name));
        let opened = opened.and_then(|folder| self.enter_open(&place, folder));
        match opened {
            Err(error) if !is_lost(&error) => Ok(info),
            opened => {
                self.forget(info.ino, 1);
                opened
            }
        }
    }

    /// What is found where the kernel goes by its memory is what it remembers, and an open of it looks where that is. But
    /// nothing is absent only because the kernel remembers the wrong directory.
    fn look_on_first_walk(
        &self,
        place: Place,
        asker: u32,
        find: impl FnOnce(Place) -> Result<NodeInfo>,
    ) -> Result<NodeInfo> {
        let result = find(place.clone());
        if result.as_ref().err().is_none_or(|error| !is_lost(error)) || self.leads_to(place.parent)? {
            return result;
        }
        // The kernel does not walk again for a mkdir that was told so here. But it does for the MKDIR itself.
        if self.is_nowhere(&place)? {
            return Err(not_found());
        }
        // Once more what the kernel may remember, so that it goes on and opens it: an error might make it ask the same again
        // before it gives up this walk, and nobody could tell that from the second walk of who stands here.
        if let Some(info) = self.remembered_once(&place) {
            return Ok(info);
        }
        self.retries.expect(asker, Told::Lookup, Some(place.name));
        Err(stale())
    }

    /// What the kernel was told of a node that is not at `place` any more, good for one use.
    fn remembered_once(&self, place: &Place) -> Option<NodeInfo> {
        let (node, attributes) = self.table.cover_loss(place)?;
        self.table.look_up(node).then(|| NodeInfo {
            lifetime: Duration::ZERO,
            ..self.info(node.ino, None, attributes, false)
        })
    }

    /// What is found by whoever was told to look again is what there is.
    fn look_once_more(&self, place: Place, asker: u32, walk: Walk) -> Result<NodeInfo> {
        let name = place.name.clone();
        let look = |place: Place| self.look_up_for_operation(&place, asker);
        let result = match walk {
            Walk::Second => self
                .may_go_on(place.parent)
                .and_then(|()| look(place))
                .map_err(absent_if_lost),
            Walk::First | Walk::Either => self.look_on_first_walk(place, asker, look),
        };
        if result.as_ref().is_err_and(|error| error.kind() == Kind::Stale) {
            // A second walk begins.
            return result;
        }
        let kind = result.as_ref().ok().map(|info| info.attributes.kind);
        let is_last = self.retries.looked(asker, &name, kind);
        result.map(|info| match is_last {
            // Whoever comes back for it asks again.
            true => NodeInfo {
                lifetime: Duration::ZERO,
                ..info
            },
            false => info,
        })
    }

    /// What a second walk ends with, or leads through. Its content is for the operation that follows.
    fn look_up_for_operation(&self, place: &Place, asker: u32) -> Result<NodeInfo> {
        if place.parent == ROOT {
            return self.find(place.clone());
        }
        let (info, content) = self.look_up_with_content(place)?;
        if let Some(content) = content {
            self.retries.found(asker, content);
        }
        Ok(info)
    }

    /// A file with its content, which it keeps whatever becomes of its name. None comes with a directory.
    pub(super) fn look_up_with_content(&self, place: &Place) -> Result<(NodeInfo, Option<Found>)> {
        for _ in 1..CONTENT_ATTEMPTS {
            match self.try_with_content(place) {
                // It was replaced by something of another kind between two looks.
                Err(error) if error.kind() == Kind::Stale => {}
                found => return found,
            }
        }
        self.try_with_content(place)
    }

    fn try_with_content(&self, place: &Place) -> Result<(NodeInfo, Option<Found>)> {
        let folder = self.folder(place.parent)?;
        if let Some(info) = self.look_up_unsaved(&folder, place) {
            return Ok((info, self.typed(info.ino)));
        }
        let found = folder.lookup(&place.name)?;
        if found.kind == NodeKind::Directory {
            let info = self.enter_open(place, folder.open_folder(&place.name)?)?;
            return Ok((info, None));
        }
        let content = self.content(&folder, &place.name, &found)?;
        let info = self.entered(place.clone(), content.attributes()?);
        Ok((info, Some(content)))
    }

    /// What memory has of a record: who closes it may give it up.
    fn typed(&self, ino: Ino) -> Option<Found> {
        let node = self.table.get(ino)?;
        let record = node.as_record()?.lock();
        let snapshot = Snapshot {
            attributes: record.unsaved_attributes()?,
            view: record.content().into(),
        };
        Some(Found::Typed(snapshot))
    }

    /// The content of a file of which this was `seen`, or of another that has its name by now.
    pub(super) fn content(&self, folder: &Folder, name: &EntryName, seen: &Attributes) -> Result<Found> {
        if seen.kind == NodeKind::Attachment {
            return Ok(Found::Attachment(self.open_for_any_use(folder, name)?));
        }
        let record = folder.record(name);
        if seen.kept_draft {
            let mut draft = record.load_draft()?.ok_or_else(stale)?;
            if (draft.text().len() as u64, draft.changed) != (seen.size, seen.mtime) {
                // Another session kept another one meanwhile.
                return Err(stale());
            }
            draft.number = Some(seen.number);
            return Ok(Found::Kept(Box::new(KeptDraft {
                draft: draft.within(self.limits.memory())?,
                beneath: record.open().ok().map(|snapshot| snapshot.attributes),
                shown: *seen,
            })));
        }
        record.open_seen(seen).map(Found::Record)
    }

    /// A directory that goes on being served from where it was found.
    fn enter_open(&self, place: &Place, folder: Folder) -> Result<NodeInfo> {
        let info = self.entered(place.clone(), folder.attributes()?);
        self.watched.watch(info.ino, &folder);
        self.folders.lock().put(info.ino, folder);
        Ok(info)
    }

    /// Nobody knows yet what it will be opened for.
    fn open_for_any_use(&self, folder: &Folder, name: &EntryName) -> Result<Arc<Attachment>> {
        let opened = match self.store.read_only() {
            true => Attachment::open(folder, name, Access::Read),
            false => match Attachment::open(folder, name, Access::ReadWrite) {
                Err(error) if error.kind() == Kind::AccessDenied => {
                    Attachment::open(folder, name, Access::Read)
                }
                opened => opened,
            },
        };
        opened.map(Arc::new)
    }

    pub(super) fn entered(&self, place: Place, attributes: Attributes) -> NodeInfo {
        let parent = place.parent;
        let ino = self.table.enter(place, &attributes).ino();
        self.info(ino, Some(parent), attributes, false)
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

/// Whether what was looked for is not there, or not where it was.
fn is_lost(error: &Error) -> bool {
    matches!(error.kind(), Kind::NotFound | Kind::Stale)
}
