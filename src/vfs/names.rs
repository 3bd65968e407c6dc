//! Removing and renaming files.

use super::entries::Place;
use super::ids::Ino;
use super::node::Node;
use super::record_state::RecordState;
use super::verdict::Occasion;
use super::{Vfs, below_root, existing};
use crate::error::{Error, Kind, Result};
use crate::event::Op;
use crate::name::EntryName;
use crate::store::Folder;
use crate::volume::Rename;

impl Vfs {
    /// Removes the file `name` in `parent`, and its draft. Whoever has it open goes on having it.
    ///
    /// # Errors
    /// [`Kind::NotFound`], [`Kind::IsADirectory`]; [`Kind::NotPermitted`] in the root directory; the volume's.
    pub fn unlink(&self, parent: Ino, name: &[u8]) -> Result<()> {
        below_root(parent)?;
        let place = Place {
            parent,
            name: existing(name)?,
        };
        let drafting = self.unsaved_at(&place);
        let folder = self.folder(parent)?;
        match folder.remove(&place.name) {
            // Nothing but a draft in memory, and what its commit would have found.
            Err(error) if error.kind() == Kind::NotFound && drafting => {
                folder.record(&place.name).discard_draft().map(drop)?
            }
            result => result?,
        }
        if let Some(node) = self.table.unlink(&place) {
            abandon(&node);
        }
        Ok(())
    }

    fn unsaved_at(&self, place: &Place) -> bool {
        let node = self.table.at(place);
        node.as_ref()
            .and_then(Node::as_record)
            .is_some_and(|node| node.lock().is_unsaved())
    }

    /// Renames `from` to `to`, each a directory and a name in it.
    ///
    /// # Errors
    /// See [`Folder::rename`]; [`Kind::NotPermitted`] in the root directory.
    pub fn rename(&self, from: (Ino, &[u8]), to: (Ino, &[u8]), how: Rename) -> Result<()> {
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
        let (source, target) = (self.folder(from.parent)?, self.folder(to.parent)?);
        self.settle_at(&from)?;
        if how == Rename::Exchange {
            self.settle_at(&to)?;
        }
        let (is_unsaved, is_over_unsaved) = (self.unsaved_at(&from), self.unsaved_at(&to));
        match how {
            Rename::NoReplace if is_over_unsaved => return Err(exists()),
            Rename::Exchange if is_unsaved || is_over_unsaved => {
                return Err(Error::new(
                    Kind::Busy,
                    "a draft cannot be exchanged; complete it first",
                ));
            }
            _ if is_unsaved => self.rename_unsaved(&source, &from, &target, &to, how)?,
            _ => self
                .store
                .within_quota(|| source.rename(&from.name, &target, &to.name, how))?,
        }
        if from == to {
            return Ok(());
        }
        self.renamed((&source, &from), (&target, to), how);
        // Those below a directory that was renamed are called otherwise now.
        self.folders.lock().clear();
        Ok(())
    }

    /// Before a record is renamed it is committed, so that editors find committed what they rename. One that cannot be
    /// is renamed as the draft that it is.
    fn settle_at(&self, place: &Place) -> Result<()> {
        let Some(Node::Record(node)) = self.table.at(place) else {
            return Ok(());
        };
        let mut record = node.lock();
        let result = self.settle(&node, &mut record, Occasion::Last);
        record.rest();
        match record.state() {
            RecordState::Drafting { .. } => result,
            _ => Ok(()),
        }
    }

    /// The draft goes with the node; the volume renames what is beneath it, if anything.
    fn rename_unsaved(
        &self,
        source: &Folder,
        from: &Place,
        target: &Folder,
        to: &Place,
        how: Rename,
    ) -> Result<()> {
        if !to.name.is_record() {
            return Err(Error::new(
                Kind::PlainSecret,
                "a draft that holds a secret in plain cannot become a file on the volume",
            ));
        }
        let occupied = target.occupant(Op::Rename, &to.name)?.is_some();
        if how == Rename::NoReplace && occupied {
            return Err(exists());
        }
        match source.rename(&from.name, target, &to.name, how) {
            Err(error) if error.kind() == Kind::NotFound => Ok(()),
            result => result,
        }
    }

    fn renamed(&self, (source, from): (&Folder, &Place), (target, to): (&Folder, Place), how: Rename) {
        if how == Rename::Exchange {
            self.table.exchange(from, &to);
            self.changed(source, from);
            self.changed(target, &to);
            return;
        }
        let Some(node) = self.table.at(from) else {
            return;
        };
        match target.lookup(&to.name) {
            // A record's draft may be in memory only, and then the volume has nothing, or something beneath it.
            Ok(attributes) if attributes.kind != node.kind() => {
                let nameless = self.table.transform(from, to, &attributes);
                nameless.iter().for_each(abandon);
                // The same content under another size of blocks, another time of change.
                self.pages.drop_attributes(node.ino());
                self.pages.drop_soon(node.ino());
            }
            _ => {
                let displaced = self.table.rename(from, to.clone());
                if let Some(displaced) = displaced {
                    abandon(&displaced);
                }
                self.changed(target, &to);
            }
        }
    }

    /// A record has other attributes through what was done here: another time of change, perhaps another backing file.
    fn changed(&self, folder: &Folder, place: &Place) {
        if let Some(Node::Record(node)) = self.table.at(place)
            && let Ok(attributes) = folder.lookup(&place.name)
        {
            self.table.became(node.id, &attributes);
            node.lock().refresh(attributes);
        }
    }
}

fn exists() -> Error {
    Error::new(Kind::Exists, "the name exists")
}

/// A file that lost its name: its draft will never be committed, and lives as long as somebody has it open.
fn abandon(node: &Node) {
    if let Node::Record(node) = node {
        node.lock().abandon();
    }
}
