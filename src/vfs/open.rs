//! Opening files, and creating them.

use std::sync::Arc;

use super::entries::Place;
use super::ids::{Fh, Ino};
use super::node::{AttachmentNode, Node, RecordNode, stale};
use super::open_file::{Content, Holding, OpenFile};
use super::record_state::{Held, Pages, Record, RecordState};
use super::{NodeInfo, Vfs, access, below_root};
use crate::budget::Charge;
use crate::error::{Error, Kind, Result};
use crate::event::Op;
use crate::name::EntryName;
use crate::store::{Attachment, Attributes, Draft, Folder, Snapshot};

/// How a file is opened. What may be read and written then, the kernel sees to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct OpenMode {
    /// O_WRONLY or O_RDWR.
    pub write: bool,
    /// O_APPEND: every write goes to the end, wherever that is by then.
    pub append: bool,
    /// O_TRUNC.
    pub truncate: bool,
    /// O_EXCL: fail if it exists.
    pub exclusive: bool,
    /// O_SYNC or O_DSYNC: the kernel has every write synced.
    pub synchronous: bool,
}

/// An open under way.
struct Opening {
    mode: OpenMode,
    /// The thread that asks.
    opener: u32,
    /// The right to have one more open.
    slot: Charge,
}

impl From<Opening> for Holding {
    fn from(Opening { mode, opener, slot }: Opening) -> Self {
        Self {
            opener,
            writer: mode.write,
            append: mode.append,
            synchronous: mode.synchronous,
            slot,
        }
    }
}

/// An open file, and what the kernel may do.
#[derive(Clone, Copy, Debug)]
pub struct Opened {
    /// The handle.
    pub fh: Fh,
    /// Pages of the content that it has are still right.
    pub keep_cache: bool,
    /// It need not say when a descriptor is closed: nothing depends on it.
    pub no_flush: bool,
}

/// Where the content of a record comes from that is opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Source {
    /// Memory has text that the volume has not: that is what the name leads to.
    Memory,
    /// What the same thread found when it was told to look again.
    Retry,
    /// The volume, which is asked what the name leads to now.
    Volume,
    /// Nowhere: the name leads to something else by now.
    Gone,
}

impl Source {
    fn of(is_unsaved: bool, has_name: bool, retried: bool) -> Self {
        match () {
            () if is_unsaved && has_name => Self::Memory,
            () if retried && !is_unsaved => Self::Retry,
            () if has_name => Self::Volume,
            () => Self::Gone,
        }
    }
}

impl Vfs {
    /// Opens a file; `opener` is the thread that asks.
    ///
    /// # Errors
    /// [`Kind::Stale`] when the file was replaced since it was looked up: the kernel then looks again.
    /// [`Kind::NotFound`], [`Kind::IsADirectory`], [`Kind::TooManyOpen`]; the volume's.
    pub fn open(&self, ino: Ino, mode: OpenMode, opener: u32) -> Result<Opened> {
        let opening = self.opening(mode, opener)?;
        match self.known(ino)? {
            Node::Directory(_) => Err(Error::new(Kind::IsADirectory, "a directory")),
            Node::Record(node) => self.open_record(node, opening),
            Node::Attachment(node) => self.open_attachment(node, opening),
        }
    }

    fn opening(&self, mut mode: OpenMode, opener: u32) -> Result<Opening> {
        // Truncating is writing, whatever may be written then.
        mode.write |= mode.truncate;
        let slot = self.limits.handle()?;
        Ok(Opening { mode, opener, slot })
    }

    fn open_record(&self, node: Arc<RecordNode>, opening: Opening) -> Result<Opened> {
        let mode = opening.mode;
        if self.store.read_only() && mode.write {
            return Err(Error::new(Kind::ReadOnly, "the session is read-only"));
        }
        let mut record = node.lock();
        let mut keep_cache = self.load(&node, &mut record, mode, opening.opener)?;
        if mode.truncate {
            let truncated = self.edit(&node, &mut record, |draft| draft.resize(0));
            truncated.inspect_err(|_| record.rest())?;
            keep_cache = false;
        } else if record.pages == Pages::None
            && let RecordState::Open(Held { snapshot, .. }) = record.state()
        {
            // Under the lock of a node that nobody has had open: the kernel has no page of it, no READ of it is under way
            // whose page this would wait for, and its size is this content's.
            keep_cache = self.pages.fill(node.id.ino, &snapshot.view);
            if keep_cache {
                self.transferred(Op::Open, snapshot.view.len());
                record.pages = Pages::Of(snapshot.attributes.version);
            }
        }
        record.opened(mode.write);
        drop(record);
        Ok(self.opened_record(node, opening, keep_cache))
    }

    fn opened_record(&self, node: Arc<RecordNode>, opening: Opening, keep_cache: bool) -> Opened {
        let mode = opening.mode;
        let file = OpenFile::new(Content::Record(node), opening.into());
        if mode.truncate {
            file.written();
        }
        let fh = self.files.add(file);
        Opened {
            fh,
            keep_cache,
            // Closing decides something only about a record that may have been written.
            no_flush: !mode.write,
        }
    }

    /// Brings a record's content into memory, as it is on the volume now. Returns whether the kernel's pages hold that
    /// content.
    ///
    /// # Errors
    /// [`Kind::Stale`] when the name leads to another record than the one that was looked up.
    pub(super) fn load(
        &self,
        node: &RecordNode,
        record: &mut Record,
        mode: OpenMode,
        opener: u32,
    ) -> Result<bool> {
        let retry = self.retries.take(opener, node.id.ino);
        // What was committed here since is newer.
        let retry = retry.filter(|found| self.is_known_record(node.id, &found.attributes));
        let place = self.place(node.id);
        match Source::of(record.is_unsaved(), place.is_ok(), retry.is_some()) {
            Source::Memory => Ok(false),
            Source::Retry => match retry {
                Some(snapshot) => self.hold(record, snapshot),
                None => Err(stale()),
            },
            Source::Volume => {
                let (folder, name) = place?;
                self.load_from(node, record, (&folder, &name), mode)
                    .inspect_err(|error| self.look_again_if_stale(node, opener, error))
            }
            Source::Gone => {
                self.look_once_more(node.id, opener);
                Err(place.err().unwrap_or_else(stale))
            }
        }
    }

    fn look_again_if_stale(&self, node: &RecordNode, opener: u32, error: &Error) {
        if error.kind() == Kind::Stale {
            self.look_once_more(node.id, opener);
        }
    }

    fn load_from(
        &self,
        node: &RecordNode,
        record: &mut Record,
        (folder, name): (&Folder, &EntryName),
        mode: OpenMode,
    ) -> Result<bool> {
        let attributes = match folder.lookup(name) {
            // Gone since it was looked up: the kernel finds that out, and creates it where that was asked for.
            Err(error) if error.kind() == Kind::NotFound => return Err(stale()),
            found => found?,
        };
        // Of a record that is truncated, nothing is read: it does not matter which it was, or is by now.
        let any = mode.truncate && !record.is_open();
        if !any && !self.is_known_record(node.id, &attributes) {
            return Err(stale());
        }
        if attributes.kept_draft {
            return self.load_kept(record, (folder, name), &attributes);
        }
        let snapshot = folder.record(name).open_seen(&attributes)?;
        if !any && snapshot.attributes.version != attributes.version {
            return Err(stale());
        }
        self.hold(record, snapshot)
    }

    fn load_kept(
        &self,
        record: &mut Record,
        (folder, name): (&Folder, &EntryName),
        seen: &Attributes,
    ) -> Result<bool> {
        if record.draft().is_some() {
            // The very draft that memory has, by its version.
            return Ok(false);
        }
        let mut draft = folder.record(name).load_draft()?.ok_or_else(stale)?;
        if (draft.text().len() as u64, draft.changed) != (seen.size, seen.mtime) {
            // Another session kept another one meanwhile.
            return Err(stale());
        }
        draft.number = Some(seen.number);
        let beneath = folder
            .record(name)
            .open()
            .ok()
            .map(|snapshot| snapshot.attributes);
        record.found_kept(draft.within(self.limits.memory())?, beneath, *seen);
        Ok(false)
    }

    /// Returns whether the kernel's pages hold this content.
    fn hold(&self, record: &mut Record, snapshot: Snapshot) -> Result<bool> {
        let version = snapshot.attributes.version;
        if record.holds(&snapshot) {
            return Ok(record.pages == Pages::Of(version));
        }
        let memory = self.limits.hold(snapshot.view.len() as u64)?;
        record.hold(Held {
            snapshot,
            _memory: memory,
        });
        Ok(record.pages == Pages::Of(version))
    }

    fn open_attachment(&self, node: Arc<AttachmentNode>, opening: Opening) -> Result<Opened> {
        let mode = opening.mode;
        let (folder, name) = self.place(node.id)?;
        let attachment = Arc::new(Attachment::open(&folder, &name, access(mode.write))?);
        let attributes = attachment.attributes()?;
        let told = self.table.last_told(node.id);
        // Another file can have the same size and the same times.
        let is_same_file = self.table.id(node.id) == Some(attributes.id);
        if !is_same_file {
            if node.lock().any(false).is_some() {
                return Err(stale());
            }
            self.table.became(node.id, &attributes);
        }
        if !is_same_file || told.is_none_or(|told| told.version != attributes.version) {
            // Others write to it too: the kernel must not go by the old size.
            self.pages.drop_attributes(node.id.ino);
        }
        let keep_cache = {
            let mut open = node.lock();
            if node.is_former() {
                return Err(stale());
            }
            if mode.truncate {
                node.written();
                attachment.resize(0)?;
            }
            let pages = std::mem::replace(&mut open.pages, Pages::Of(attributes.version));
            open.opened(&attachment, mode.write);
            is_same_file && pages == Pages::Of(attributes.version) && !mode.truncate
        };
        Ok(self.opened_attachment(node, attachment, opening, keep_cache))
    }

    fn opened_attachment(
        &self,
        node: Arc<AttachmentNode>,
        attachment: Arc<Attachment>,
        opening: Opening,
        keep_cache: bool,
    ) -> Opened {
        let content = Content::Attachment(node, attachment);
        let fh = self.files.add(OpenFile::new(content, opening.into()));
        Opened {
            fh,
            keep_cache,
            no_flush: true,
        }
    }

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
        let opening = self.opening(mode, opener)?;
        if self.store.read_only() {
            return Err(Error::new(Kind::ReadOnly, "the session is read-only"));
        }
        let place = Place {
            parent,
            name: EntryName::parse(name)?,
        };
        let folder = self.folder(parent)?;
        if self.exists(&folder, &place)? {
            // It came into being since the kernel looked.
            if mode.exclusive {
                return Err(Error::new(Kind::Exists, "the name exists"));
            }
            drop(opening);
            return self.open_existing(parent, name, mode, opener);
        }
        match place.name.is_record() {
            true => self.create_record(place, permissions, opening),
            false => {
                let create = || Attachment::create(&folder, &place.name, permissions & 0o1777);
                let attachment = self.store.within_quota(create)?;
                self.created_attachment(place, attachment, opening)
            }
        }
    }

    fn exists(&self, folder: &Folder, place: &Place) -> Result<bool> {
        if let Some(drafted) = self.look_up_unsaved(folder, place) {
            self.forget(drafted.ino, 1);
            return Ok(true);
        }
        Ok(folder.occupant(Op::Create, &place.name)?.is_some())
    }

    /// Nobody tries again for a create: what is replaced between the lookup and the open is looked up again here.
    fn open_existing(
        &self,
        parent: Ino,
        name: &[u8],
        mode: OpenMode,
        opener: u32,
    ) -> Result<(NodeInfo, Opened)> {
        let mut found = self.lookup(parent, name, opener)?;
        let mut opened = self.open(found.ino, mode, opener);
        if opened.as_ref().is_err_and(|error| error.kind() == Kind::Stale) {
            self.forget(found.ino, 1);
            found = self.lookup(parent, name, opener)?;
            opened = self.open(found.ino, mode, opener);
        }
        let opened = opened.inspect_err(|_| self.forget(found.ino, 1))?;
        Ok((found, opened))
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
        let attributes = attachment.attributes()?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_the_content_of_an_opened_record_comes_from() {
        for (is_unsaved, has_name, retried, source) in [
            (false, true, false, Source::Volume),
            (false, true, true, Source::Retry),
            // It was replaced once more: what was there when the open began is right, and what is written takes the name back.
            (false, false, true, Source::Retry),
            (false, false, false, Source::Gone),
            (true, true, false, Source::Memory),
            (true, true, true, Source::Memory),
            (true, false, false, Source::Gone),
        ] {
            let decided = Source::of(is_unsaved, has_name, retried);
            assert_eq!(decided, source, "{is_unsaved} {has_name} {retried}");
        }
    }
}
