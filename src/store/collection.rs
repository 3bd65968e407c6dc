//! The records of one resource as a web service wants them: by id, whole, and nothing else.

use std::fmt;

use super::attributes::NodeKind;
use super::draft::Draft;
use super::folder::Folder;
use super::found::Found;
use super::room::Room;
use crate::error::{Error, Kind, Result};
use crate::name::{EntryName, RecordId};

/// The records of one resource, without what else its directory has: attachments, directories, and drafts, which are
/// the mount's. Cheap to clone; every call may wait for the disk.
#[derive(Clone)]
pub struct Collection {
    folder: Folder,
    room: Room,
}

impl fmt::Debug for Collection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Collection({:?})", self.folder)
    }
}

impl Collection {
    pub(super) fn new(folder: Folder, room: Room) -> Self {
        Self { folder, room }
    }

    /// Stores `text`, one JSON object, as the record `id`: with its owner in it, its secrets sealed, and in place at
    /// once. A secret that it does not mention is carried over from the record that it replaces. What a user has typed in
    /// a mount and could not be committed stays there.
    ///
    /// # Errors
    /// As [`Record::commit`](super::Record::commit); then nothing has changed.
    pub fn save(&self, id: &RecordId, text: &[u8]) -> Result<()> {
        let options = &self.folder.look().tenant.options;
        let draft = Draft::new(text.to_vec(), options.max_record);
        let name = id.file_name();
        let record = self.folder.record(&name);
        self.room
            .making(|| record.put_in_place(&draft, options.durability))
            .map(drop)
    }

    /// The record `id` as its user wrote it: verified, without its secrets.
    ///
    /// # Errors
    /// [`Kind::NotFound`] when there is none that is this user's. The volume's.
    pub fn load(&self, id: &RecordId) -> Result<String> {
        let record = self.folder.record(&id.file_name()).open().map_err(absent)?;
        String::from_utf8(record.view.to_vec())
            .map_err(|_| Error::new(Kind::Io, "a record was verified that is not UTF-8"))
    }

    /// The ids of this user's records, sorted.
    ///
    /// # Errors
    /// The volume's.
    pub fn list(&self) -> Result<Vec<RecordId>> {
        let mut ids = Vec::new();
        for name in self.folder.names()? {
            if let Some(id) = name.record_id()
                && self.has(&name)?
            {
                ids.push(id);
            }
        }
        ids.sort();
        Ok(ids)
    }

    /// Removes the record `id` for good: its secrets, what the mount kept as a draft of it, and what waits of records of
    /// this id that were removed in a mount.
    ///
    /// # Errors
    /// [`Kind::NotFound`] when there is none that is this user's. The volume's.
    pub fn delete(&self, id: &RecordId) -> Result<()> {
        self.folder.record(&id.file_name()).delete().map_err(absent)
    }

    fn has(&self, name: &EntryName) -> Result<bool> {
        let found = self.folder.look().examine(name)?;
        Ok(matches!(found, Found::Visible(entry) if entry.kind == NodeKind::Record))
    }
}

fn no_record() -> Error {
    Error::new(Kind::NotFound, "there is no such record")
}

/// In a service's words.
fn absent(error: Error) -> Error {
    match error.kind() {
        Kind::NotFound => no_record(),
        _ => error,
    }
}
