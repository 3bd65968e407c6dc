//! Creating files, or opening what came into being meanwhile.

use std::sync::Arc;
use std::time::Duration;

use super::entries::Place;
use super::ids::Ino;
use super::node::{Node, RecordNode, stale};
use super::open::{OpenMode, Opened, Opening};
use super::retries::Told;
use super::{NodeInfo, Vfs, below_root};
use crate::clock::Stopwatch;
use crate::error::{Error, Kind, Result};
use crate::event::Op;
use crate::name::EntryName;
use crate::store::{Attachment, Draft};

/// How long a create is tried again whose name others put something at, and take it away, without pause.
const CREATE_ATTEMPTS: Duration = Duration::from_secs(1);

impl Vfs {
    /// Creates the file `name` in `parent`, and opens it. A record comes into being in memory, and is on the volume
    /// when it is one.
    ///
    /// # Errors
    /// [`Kind::NotPermitted`] in the root directory and for reserved names, [`Kind::InvalidName`],
    /// [`Kind::NameTaken`] over something hidden, [`Kind::Exists`] where the mode is exclusive; the volume's.
    pub fn create(
        &self,
        parent: Ino,
        name: &[u8],
        permissions: u16,
        mode: OpenMode,
        opener: u32,
    ) -> Result<(NodeInfo, Opened)> {
        below_root(parent)?;
        if self.store.read_only() {
            return Err(Error::new(Kind::ReadOnly, "the session is read-only"));
        }
        let place = Place {
            parent,
            name: EntryName::parse(name)?,
        };
        self.follow(&[parent], Some(&place.name), (opener, Told::Creation), |_| {
            self.create_or_open(&place, permissions, mode, opener)
        })
    }

    /// Others make it, replace it and take it away between two looks. The kernel does not try again for a create.
    fn create_or_open(
        &self,
        place: &Place,
        permissions: u16,
        mode: OpenMode,
        opener: u32,
    ) -> Result<(NodeInfo, Opened)> {
        let begun = Stopwatch::start();
        loop {
            let tries = begun.elapsed() < CREATE_ATTEMPTS;
            match self.exists(place)? {
                true if mode.exclusive => return Err(Error::new(Kind::Exists, "the name exists")),
                true => match self.open_existing(place, mode, opener) {
                    Err(error) if tries && matches!(error.kind(), Kind::NotFound | Kind::Stale) => {}
                    opened => return opened,
                },
                false => match self.create_absent(place, permissions, mode, opener) {
                    Err(error) if tries && error.kind() == Kind::Exists && !mode.exclusive => {}
                    created => return created,
                },
            }
        }
    }

    fn exists(&self, place: &Place) -> Result<bool> {
        let folder = self.folder(place.parent)?;
        if let Some(drafted) = self.look_up_unsaved(&folder, place) {
            self.forget(drafted.ino, 1);
            return Ok(true);
        }
        Ok(folder.occupant(Op::Create, &place.name)?.is_some())
    }

    /// Opens what it finds, whatever becomes of the name meanwhile.
    fn open_existing(&self, place: &Place, mode: OpenMode, opener: u32) -> Result<(NodeInfo, Opened)> {
        let mut opening = self.opening(mode, opener)?;
        let (found, content) = self.look_up_with_content(place)?;
        opening.again.content = content;
        let opened = self
            .known(found.ino)
            .and_then(|node| self.open_node(node, opening));
        let opened = opened.inspect_err(|_| self.forget(found.ino, 1))?;
        Ok((found, opened))
    }

    fn create_absent(
        &self,
        place: &Place,
        permissions: u16,
        mode: OpenMode,
        opener: u32,
    ) -> Result<(NodeInfo, Opened)> {
        let opening = self.opening(mode, opener)?;
        match place.name.is_record() {
            true => self.create_record(place.clone(), permissions, opening),
            false => {
                let folder = self.folder(place.parent)?;
                let create = || Attachment::create(&folder, &place.name, permissions & 0o1777);
                let attachment = self.store.within_quota(create)?;
                self.created_attachment(place.clone(), attachment, opening)
            }
        }
    }

    fn create_record(&self, place: Place, permissions: u16, opening: Opening) -> Result<(NodeInfo, Opened)> {
        let node = self.table.enter_draft(place);
        let attributes = {
            let mut record = node.lock();
            let begun = self.edit(&node, &mut record, |draft: &mut Draft| {
                draft.mode = Some(permissions & 0o1777);
                Ok(draft.attributes(None))
            });
            let attributes = begun.inspect_err(|_| self.uncreate(&node))?;
            record.opened(opening.mode.write);
            attributes
        };
        let info = self.info(node.id.ino, None, attributes, true);
        Ok((info, self.opened_record(node, opening, false)))
    }

    /// The kernel is not told of a record whose draft could not be begun.
    fn uncreate(&self, node: &RecordNode) {
        self.table.drafting_ends(node.id);
        self.forget(node.id.ino, 1);
    }

    fn created_attachment(
        &self,
        place: Place,
        attachment: Attachment,
        opening: Opening,
    ) -> Result<(NodeInfo, Opened)> {
        let attachment = Arc::new(attachment);
        let attributes = attachment.as_opened();
        let node = match self.table.enter(place, &attributes) {
            Node::Attachment(node) => node,
            // Not reached: an attachment's attributes enter an attachment.
            Node::Directory(_) | Node::Record(_) => return Err(stale()),
        };
        node.written();
        node.lock().opened(&attachment, opening.mode.write);
        let info = self.info(node.id.ino, None, attributes, true);
        Ok((info, self.opened_attachment(node, attachment, opening, false)))
    }
}
