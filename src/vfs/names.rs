//! Removing and renaming files.
//!
//! Whoever does that holds the nodes that the names lead to: a commit, a write or a close comes before it or after it, and
//! not in between.

use std::sync::Arc;

use super::entries::Place;
use super::ids::Ino;
use super::node::{AttachmentNode, Descriptions, Locked, Node, RecordNode};
use super::record_state::{Record, RecordState};
use super::retries::Told;
use super::table::Changing;
use super::verdict::Occasion;
use super::{Vfs, below_root, existing};
use crate::error::{Error, Kind, Result};
use crate::event::Op;
use crate::name::EntryName;
use crate::store::{Attributes, Became, Folder};
use crate::volume::Rename;

/// One end of a renaming: a name in a directory, and the node that it leads to.
struct End<'a> {
    folder: &'a Folder,
    place: &'a Place,
    node: Option<Locked<'a>>,
}

impl End<'_> {
    fn is_unsaved(&self) -> bool {
        self.node.as_ref().is_some_and(Locked::is_unsaved)
    }

    fn abandon(&mut self) {
        if let Some(node) = &mut self.node {
            node.abandon();
        }
    }
}

impl Vfs {
    /// Removes the file `name` in `parent`, and its draft; `asker` is the thread that asks. Whoever has it open goes on having
    /// it.
    ///
    /// # Errors
    /// [`Kind::Stale`] when others put another directory in the place of `parent`: the kernel then walks the path again.
    /// [`Kind::NotFound`], [`Kind::IsADirectory`]; [`Kind::NotPermitted`] in the root directory; the volume's.
    pub fn unlink(&self, parent: Ino, name: &[u8], asker: u32) -> Result<()> {
        below_root(parent)?;
        let place = Place {
            parent,
            name: existing(name)?,
        };
        self.follow(&[parent], Some(&place.name), (asker, Told::Operation), |_| {
            self.unlink_at(&place)
        })
    }

    fn unlink_at(&self, place: &Place) -> Result<()> {
        let folder = self.folder(place.parent)?;
        loop {
            let node = self.table.at(place);
            let locked = node.as_ref().map(Node::lock);
            // Otherwise the name was given to another node while that one was waited for.
            if let Some(_changing) = self.table.change_names(&[(place, node.as_ref().map(Node::id))]) {
                return self.unlink_locked(End {
                    folder: &folder,
                    place,
                    node: locked,
                });
            }
        }
    }

    fn unlink_locked(&self, mut end: End<'_>) -> Result<()> {
        match end.folder.remove(&end.place.name) {
            // Nothing but a draft in memory, and what its commit would have found.
            Err(error) if error.kind() == Kind::NotFound && end.is_unsaved() => {
                let record = end.folder.record(&end.place.name);
                record.discard_draft().map(drop)?;
            }
            result => result?,
        }
        self.table.unlink(end.place);
        end.abandon();
        Ok(())
    }

    /// Renames `from` to `to`, each a directory and a name in it. Whoever has the file open goes on having it, under whatever
    /// name.
    ///
    /// # Errors
    /// [`Kind::Stale`] as for [`unlink`](Self::unlink). See [`Folder::rename`]; [`Kind::NotPermitted`] in the root directory.
    pub fn rename(&self, from: (Ino, &[u8]), to: (Ino, &[u8]), how: Rename, asker: u32) -> Result<()> {
        below_root(from.0)?;
        below_root(to.0)?;
        let from = Place {
            parent: from.0,
            name: existing(from.1)?,
        };
        let to = Place {
            parent: to.0,
            name: EntryName::parse(to.1)?,
        };
        let dirs = [from.parent, to.parent];
        self.follow(&dirs, Some(&from.name), (asker, Told::Operation), |_| {
            self.rename_at(&from, &to, how)
        })
    }

    fn rename_at(&self, from: &Place, to: &Place, how: Rename) -> Result<()> {
        let (source, target) = (self.folder(from.parent)?, self.folder(to.parent)?);
        if from == to {
            return match self.table.at(from) {
                Some(_) => Ok(()),
                None => source.lookup(&from.name).map(drop),
            };
        }
        loop {
            let (one, other) = (self.table.at(from), self.table.at(to));
            let (locked, other_locked) = lock(one.as_ref(), other.as_ref());
            // Otherwise a name was given to another node while that one was waited for.
            if let Some(_changing) = self.change(from, one.as_ref(), to, other.as_ref()) {
                let from = End {
                    folder: &source,
                    place: from,
                    node: locked,
                };
                let to = End {
                    folder: &target,
                    place: to,
                    node: other_locked,
                };
                return self.rename_locked(from, to, how);
            }
        }
    }

    fn change(
        &self,
        from: &Place,
        one: Option<&Node>,
        to: &Place,
        other: Option<&Node>,
    ) -> Option<Changing<'_>> {
        let names = [(from, one.map(Node::id)), (to, other.map(Node::id))];
        self.table.change_names(&names)
    }

    fn rename_locked(&self, mut from: End<'_>, mut to: End<'_>, how: Rename) -> Result<()> {
        self.settle_end(&mut from)?;
        if how == Rename::Exchange {
            self.settle_end(&mut to)?;
        }
        self.check_directory(&to)?;
        let (is_unsaved, is_over_unsaved) = (from.is_unsaved(), to.is_unsaved());
        let became = match how {
            Rename::NoReplace if is_over_unsaved => return Err(exists()),
            Rename::Exchange if is_unsaved || is_over_unsaved => {
                return Err(Error::new(
                    Kind::Busy,
                    "a draft cannot be exchanged; complete it first",
                ));
            }
            _ if is_unsaved => self.rename_unsaved(&from, &to, how)?,
            _ => self.store.within_quota(|| {
                from.folder
                    .rename(&from.place.name, to.folder, &to.place.name, how)
            })?,
        };
        match became {
            Some(became) => self.transform(&mut from, &mut to, became),
            None if how == Rename::Exchange => {
                self.table.exchange(from.place, to.place);
                self.changed(&mut from.node, (to.folder, to.place));
                self.changed(&mut to.node, (from.folder, from.place));
            }
            None => {
                self.table.rename(from.place, to.place.clone());
                to.abandon();
                self.changed(&mut from.node, (to.folder, to.place));
            }
        }
        // Those below a directory that was renamed are called otherwise now.
        self.folders.lock().clear();
        Ok(())
    }

    /// Before a record is renamed it is committed, so that editors find committed what they rename. One that cannot be
    /// is renamed as the draft that it is.
    fn settle_end(&self, end: &mut End<'_>) -> Result<()> {
        let Some(Locked::Record(node, record)) = &mut end.node else {
            return Ok(());
        };
        let result = self.settle(node, record, Occasion::Last);
        record.rest();
        match record.state() {
            RecordState::Drafting { .. } => result,
            _ => Ok(()),
        }
    }

    /// The volume knows nothing of the drafts in a directory that only memory has: it would take it for empty.
    fn check_directory(&self, to: &End<'_>) -> Result<()> {
        match &to.node {
            Some(Locked::Directory(id)) if !self.table.draft_names(id.ino).is_empty() => {
                Err(Error::new(Kind::DirectoryNotEmpty, "the directory has a draft"))
            }
            _ => Ok(()),
        }
    }

    /// The draft goes with the node; the volume renames what is beneath it, if anything.
    fn rename_unsaved(&self, from: &End<'_>, to: &End<'_>, how: Rename) -> Result<Option<Became>> {
        if !to.place.name.is_record() {
            return Err(Error::new(
                Kind::PlainSecret,
                "a draft that holds a secret in plain cannot become a file on the volume",
            ));
        }
        let occupied = to.folder.occupant(Op::Rename, &to.place.name)?.is_some();
        if how == Rename::NoReplace && occupied {
            return Err(exists());
        }
        match from
            .folder
            .rename(&from.place.name, to.folder, &to.place.name, how)
        {
            Err(error) if error.kind() == Kind::NotFound => Ok(None),
            result => result,
        }
    }

    /// The file is of the other kind now, and its number stands for another node: whoever has it open goes on with that.
    fn transform(&self, from: &mut End<'_>, to: &mut End<'_>, became: Became) {
        let target = to.place.clone();
        match (&mut from.node, became) {
            (Some(Locked::Record(node, record)), Became::Attachment(attachment, attributes)) => {
                let descriptions = Descriptions::that_was_record(record.hand_over(), attachment);
                node.retire();
                let make = |id| Node::Attachment(Arc::new(AttachmentNode::new(id, descriptions)));
                self.transformed(self.table.transform(from.place, target, &attributes, make));
            }
            (Some(Locked::Attachment(node, descriptions)), Became::Record(snapshot)) => {
                let attributes = snapshot.attributes;
                let mut record = Record::that_was_attachment(descriptions.hand_over());
                record.hold(self.held(snapshot));
                node.retire();
                self.now_record(from.place, target, &attributes, record);
            }
            (Some(Locked::Attachment(node, descriptions)), Became::Draft(draft, attributes)) => {
                let mut record = Record::that_was_attachment(descriptions.hand_over());
                let beneath = to.folder.record(&to.place.name).open().ok();
                record.found_kept(draft, beneath.map(|snapshot| snapshot.attributes), attributes);
                node.retire();
                self.now_record(from.place, target, &attributes, record);
            }
            // The kernel knows nothing of it.
            _ => self.table.rename(from.place, target),
        }
        to.abandon();
    }

    fn now_record(&self, from: &Place, to: Place, attributes: &Attributes, mut record: Record) {
        record.rest();
        let make = |id| Node::Record(Arc::new(RecordNode::with(id, record)));
        self.transformed(self.table.transform(from, to, attributes, make));
    }

    /// The kernel has the same content under another size of blocks, another time of change.
    fn transformed(&self, ino: Option<Ino>) {
        if let Some(ino) = ino {
            self.pages.drop_attributes(ino);
            self.pages.drop_soon(ino);
        }
    }

    /// A record has other attributes through what was done here: another time of change, perhaps another backing file.
    fn changed(&self, node: &mut Option<Locked<'_>>, (folder, place): (&Folder, &Place)) {
        if let Some(Locked::Record(node, record)) = node
            && let Ok(attributes) = folder.lookup(&place.name)
        {
            self.table.became(node.id, &attributes);
            record.refresh(attributes);
        }
    }
}

/// Waits for the nodes at two names.
fn lock<'a>(one: Option<&'a Node>, other: Option<&'a Node>) -> (Option<Locked<'a>>, Option<Locked<'a>>) {
    match (one, other) {
        (Some(one), Some(other)) => {
            let (one, other) = Node::lock_both(one, other);
            (Some(one), Some(other))
        }
        (one, other) => (one.map(Node::lock), other.map(Node::lock)),
    }
}

fn exists() -> Error {
    Error::new(Kind::Exists, "the name exists")
}
