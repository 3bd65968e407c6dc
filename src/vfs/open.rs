//! Opening files.

use std::sync::Arc;

use super::entries::Place;
use super::ids::{Fh, Ino};
use super::node::{AttachmentNode, Descriptions, Node, NodeId, RecordNode, stale};
use super::open_file::{Content, Holding, OpenFile};
use super::record_state::{Held, Pages, Record, RecordState};
use super::retries::{Found, Retried, Told};
use super::{Vfs, access, not_found};
use crate::budget::Charge;
use crate::error::{Error, Kind, Result};
use crate::event::Op;
use crate::name::EntryName;
use crate::store::{Attachment, Attributes, Folder, NodeKind, Snapshot};

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
pub(super) struct Opening {
    pub(super) mode: OpenMode,
    /// The thread that asks.
    opener: u32,
    /// The right to have one more open.
    slot: Charge,
    pub(super) again: Again,
}

/// What is different where the kernel tries once more.
#[derive(Default)]
pub(super) struct Again {
    /// What was looked up for it.
    pub(super) content: Option<Found>,
    /// Nobody tries again after that.
    pub(super) is_last_try: bool,
}

impl From<Option<Retried>> for Again {
    fn from(retried: Option<Retried>) -> Self {
        Self {
            is_last_try: retried.is_some(),
            content: retried.and_then(|retried| retried.found),
        }
    }
}

impl From<Opening> for Holding {
    fn from(
        Opening {
            mode, opener, slot, ..
        }: Opening,
    ) -> Self {
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
        let mut opening = self.opening(mode, opener)?;
        let node = self.known(ino)?;
        let id = node.id();
        // None where others have put something else, or taken it away.
        let parent = self.table.place(id).map(|place| place.parent);
        let name = self.table.last_place(id).map(|place| place.name);
        self.follow(
            parent.as_slice(),
            name.as_ref(),
            (opener, Told::Operation),
            |retried| {
                opening.again = retried.into();
                if opening.again.is_last_try && opening.again.content.is_none() {
                    // Before it is locked: another node may be what is there.
                    opening.again.content = self.content_at_last_place(id)?;
                }
                self.open_node(node, opening)
            },
        )
    }

    pub(super) fn open_node(&self, node: Node, opening: Opening) -> Result<Opened> {
        match node {
            Node::Directory(_) => Err(Error::new(Kind::IsADirectory, "a directory")),
            Node::Record(node) => self.open_record(node, opening),
            Node::Attachment(node) => self.open_attachment(node, opening),
        }
    }

    pub(super) fn opening(&self, mut mode: OpenMode, opener: u32) -> Result<Opening> {
        // Truncating is writing, whatever may be written then.
        mode.write |= mode.truncate;
        Ok(Opening {
            mode,
            opener,
            slot: self.limits.handle()?,
            again: Again::default(),
        })
    }

    fn open_record(&self, node: Arc<RecordNode>, mut opening: Opening) -> Result<Opened> {
        let mode = opening.mode;
        if self.store.read_only() && mode.write {
            return Err(Error::new(Kind::ReadOnly, "the session is read-only"));
        }
        let mut record = node.lock();
        let mut keep_cache = self.load(&node, &mut record, mode, std::mem::take(&mut opening.again))?;
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

    pub(super) fn opened_record(&self, node: Arc<RecordNode>, opening: Opening, keep_cache: bool) -> Opened {
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

    /// Brings a record's content into memory, as it is on the volume now, or as the same thread found it when it was told to
    /// look `again`. Returns whether the kernel's pages hold that content.
    ///
    /// # Errors
    /// [`Kind::Stale`] when the name leads to another record than the one that was looked up.
    pub(super) fn load(
        &self,
        node: &RecordNode,
        record: &mut Record,
        mode: OpenMode,
        again: Again,
    ) -> Result<bool> {
        let is_its = |content: &Found| {
            // What was committed here since is newer.
            let attributes = content.attributes();
            attributes.is_ok_and(|attributes| self.is_known_record(node.id, &attributes))
        };
        let (content, others) = match again.content {
            Some(content) if is_its(&content) => (Some(content), None),
            content => (None, content),
        };
        let place = self.place(node.id);
        let loaded = match Source::of(record.is_unsaved(), place.is_ok(), content.is_some()) {
            Source::Memory => Ok(false),
            Source::Retry => self.take(record, content),
            Source::Volume => {
                let (folder, name) = place?;
                self.load_from(node, record, (&folder, &name), mode)
            }
            Source::Gone => Err(place.err().unwrap_or_else(stale)),
        };
        match loaded {
            Err(error) if again.is_last_try && error.kind() == Kind::Stale => {
                self.load_anyway(node, record, others)
            }
            loaded => loaded,
        }
    }

    /// The kernel has another lookup's answer, which came at the same time, and the node is not what the name leads to any
    /// more. Who has it open has what it was then; where nobody has, it becomes what was found under its name.
    fn load_anyway(&self, node: &RecordNode, record: &mut Record, content: Option<Found>) -> Result<bool> {
        if record.attributes().is_some() {
            return Ok(false);
        }
        match content {
            Some(Found::Typed(typed)) => self.hold(record, typed),
            Some(content @ (Found::Record(_) | Found::Kept(_))) => {
                self.table.became(node.id, &content.attributes()?);
                // The kernel was told another size.
                self.pages.drop_attributes(node.id.ino);
                record.pages = Pages::Any;
                self.take(record, Some(content))
            }
            Some(Found::Attachment(_)) | None => Err(not_found()),
        }
    }

    /// The content of what has the name now that a node had last; where nothing has, what the kernel was told is there, if
    /// that is remembered: another thread's lookup found it after the call had begun. None of a directory.
    fn content_at_last_place(&self, node: NodeId) -> Result<Option<Found>> {
        let Some(place) = self.table.last_place(node) else {
            return Ok(None);
        };
        match self.look_up_with_content(&place) {
            Ok((info, content)) => {
                self.forget(info.ino, 1);
                Ok(content)
            }
            Err(error) if matches!(error.kind(), Kind::NotFound | Kind::Stale) => {
                Ok(self.content_as_told(node, &place))
            }
            Err(error) => Err(error),
        }
    }

    fn content_as_told(&self, node: NodeId, place: &Place) -> Option<Found> {
        let told = self.table.last_told(node)?;
        let is_stored = told.kind == NodeKind::Record && !told.kept_draft;
        let folder = self.folder(place.parent).ok().filter(|_| is_stored)?;
        let snapshot = folder.record(&place.name).open_seen(&told);
        snapshot.ok().map(Found::Record)
    }

    /// Returns whether the kernel's pages hold this content.
    fn take(&self, record: &mut Record, content: Option<Found>) -> Result<bool> {
        match content {
            Some(Found::Record(snapshot)) => self.hold(record, snapshot),
            Some(Found::Kept(_)) if record.draft().is_some() => {
                // The very draft that memory has, by its version.
                Ok(false)
            }
            Some(Found::Kept(kept)) => {
                record.found_kept(kept.draft, kept.beneath, kept.shown);
                Ok(false)
            }
            Some(Found::Typed(_) | Found::Attachment(_)) | None => Err(stale()),
        }
    }

    fn load_from(
        &self,
        node: &RecordNode,
        record: &mut Record,
        (folder, name): (&Folder, &EntryName),
        mode: OpenMode,
    ) -> Result<bool> {
        // Gone since it was looked up: the kernel finds that out, and creates it where that was asked for.
        let or_stale = |error: Error| match error.kind() {
            Kind::NotFound => stale(),
            _ => error,
        };
        let attributes = folder.lookup(name).map_err(or_stale)?;
        // Of a record that is truncated, nothing is read: it does not matter which it was, or is by now.
        let any = mode.truncate && !record.is_open();
        if !any && !self.is_known_record(node.id, &attributes) {
            return Err(stale());
        }
        let content = self.content(folder, name, &attributes).map_err(or_stale)?;
        if !any && content.attributes()?.version != attributes.version {
            return Err(stale());
        }
        self.take(record, Some(content))
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
        let (attachment, attributes) = self.choose_attachment(&node, mode, &opening.again)?;
        let told = self.table.last_told(node.id);
        // Another file can have the same size and the same times.
        let is_same_file = self.table.id(node.id) == Some(attributes.id);
        if !is_same_file {
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

    /// What was looked up for this, or what the name leads to. But who has another file open under the node goes on having
    /// that, so it is what the node is.
    fn choose_attachment(
        &self,
        node: &AttachmentNode,
        mode: OpenMode,
        again: &Again,
    ) -> Result<(Arc<Attachment>, Attributes)> {
        let found = match &again.content {
            Some(Found::Attachment(found)) if found.writable() || !mode.write => found
                .attributes()
                .map(|attributes| (Arc::clone(found), attributes)),
            _ => self
                .open_named_attachment(node, mode, again.is_last_try)
                .map(|opened| (opened.as_opened(), opened))
                .map(|(attributes, opened)| (Arc::new(opened), attributes)),
        };
        let id = self.table.id(node.id);
        let mut open = node.lock();
        match found {
            Ok((found, attributes)) if id == Some(attributes.id) || open.any(false).is_none() => {
                Ok((found, attributes))
            }
            Ok(_) if again.is_last_try => open_as(&mut open, mode)?.ok_or_else(stale),
            Ok(_) => Err(stale()),
            // Gone since it was looked up: the kernel finds that out, and creates it where that was asked for.
            Err(error) if error.kind() == Kind::NotFound && !again.is_last_try => Err(stale()),
            Err(error) if again.is_last_try => open_as(&mut open, mode)?.ok_or(error),
            Err(error) => Err(error),
        }
    }

    /// `anyway`: also where something else has the name by now.
    fn open_named_attachment(
        &self,
        node: &AttachmentNode,
        mode: OpenMode,
        anyway: bool,
    ) -> Result<Attachment> {
        let place = match anyway {
            true => self.table.last_place(node.id),
            false => self.table.place(node.id),
        };
        let place = place.ok_or_else(stale)?;
        let folder = self.folder(place.parent)?;
        Attachment::open(&folder, &place.name, access(mode.write))
    }

    pub(super) fn opened_attachment(
        &self,
        node: Arc<AttachmentNode>,
        attachment: Arc<Attachment>,
        opening: Opening,
        keep_cache: bool,
    ) -> Opened {
        let mode = opening.mode;
        let content = Content::Attachment(node, attachment);
        let fh = self.files.add(OpenFile::new(content, opening.into()));
        Opened {
            fh,
            keep_cache,
            // It may be a record by then.
            no_flush: !mode.write,
        }
    }
}

/// What others have open under a node; opened once more where they only read it and `mode` is to write.
fn open_as(open: &mut Descriptions, mode: OpenMode) -> Result<Option<(Arc<Attachment>, Attributes)>> {
    let opened = match (open.any(mode.write), open.any(false)) {
        (None, Some(read)) => Some(Arc::new(read.open_again(access(mode.write))?)),
        (open, _) => open,
    };
    opened
        .map(|opened| opened.attributes().map(|attributes| (opened, attributes)))
        .transpose()
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
