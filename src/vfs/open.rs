//! Opening files, and creating them.

use std::sync::Arc;

use super::handle::{Fh, OpenFile};
use super::inode::{Body, Inode, Promise, Writing, stale};
use super::table::Place;
use super::{Ino, Node, Vfs, access, below_root};
use crate::budget::Charge;
use crate::error::{Error, Kind, Result};
use crate::event::Op;
use crate::name::EntryName;
use crate::store::{Attachment, Attributes, NodeKind, Snapshot};

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
}

/// An open under way.
struct Opening {
    mode: OpenMode,
    /// The thread that asks.
    opener: u32,
    /// The right to have one more open.
    slot: Charge,
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

impl Vfs {
    /// Opens a file; `opener` is the thread that asks.
    ///
    /// # Errors
    /// [`Kind::Stale`] when the file was replaced since it was looked up: the kernel then looks again.
    /// [`Kind::NotFound`], [`Kind::IsADirectory`], [`Kind::TooManyOpen`]; the volume's.
    pub fn open(&self, ino: Ino, mode: OpenMode, opener: u32) -> Result<Opened> {
        let opening = self.opening(mode, opener)?;
        let inode = self.inode(ino)?;
        match inode.kind {
            NodeKind::Directory => Err(Error::new(Kind::IsADirectory, "a directory")),
            NodeKind::Record => self.open_record(inode, opening),
            NodeKind::Attachment => self.open_attachment(inode, opening),
        }
    }

    fn opening(&self, mode: OpenMode, opener: u32) -> Result<Opening> {
        let slot = self.limits.handle()?;
        Ok(Opening { mode, opener, slot })
    }

    fn open_record(&self, inode: Arc<Inode>, opening: Opening) -> Result<Opened> {
        let mode = opening.mode;
        if self.store.read_only() && (mode.write || mode.truncate) {
            return Err(Error::new(Kind::ReadOnly, "the session is read-only"));
        }
        let keep_cache = {
            let mut body = inode.body();
            let mut keep_cache = self.load(&inode, &mut body, mode)?;
            if body.held.is_none() {
                let held = self.limits.hold(body.snapshot_size());
                body.held = Some(held.inspect_err(|_| body.rest())?);
            } else {
                body.recount();
            }
            if mode.truncate {
                self.begin(&inode, &mut body)?.resize(0)?;
                keep_cache = false;
            } else if !body.touched
                && body.writing.is_none()
                && let Some(snapshot) = &body.snapshot
            {
                // Under the lock of an inode that nobody has had open: the kernel has no page of it, no READ of it is
                // under way whose page this would wait for, and its size is this content's.
                keep_cache = self.pages.fill(inode.ino, &snapshot.view);
                if keep_cache {
                    self.transferred(Op::Open, snapshot.view.len());
                }
                body.cached = keep_cache.then_some(snapshot.attributes.version);
            }
            body.opened(mode.write, None);
            keep_cache
        };
        Ok(self.handle(inode, None, opening, keep_cache))
    }

    /// Brings a record's content into memory, as it was when it was looked up. Whether the kernel's pages hold that
    /// content.
    ///
    /// # Errors
    /// [`Kind::Stale`] when it is another by now.
    pub(super) fn load(&self, inode: &Inode, body: &mut Body, mode: OpenMode) -> Result<bool> {
        let place = self.place(inode);
        let promise = body.promised.take();
        let promised = match mode.truncate {
            // How long ago does not matter of what is not read.
            true => promise.as_ref().map(Promise::looked_up),
            false => promise.as_ref().and_then(Promise::snapshot),
        };
        if let Some(promised) = promised
            && body.writing.is_none()
            && (place.is_ok() || !mode.write)
        {
            let unchanged = body.cached == Some(promised.attributes.version);
            body.snapshot = Some(promised.clone());
            // Others who looked it up meanwhile get the same.
            body.promised = promise;
            return Ok(unchanged);
        }
        let (folder, name) = place.inspect_err(|_| self.contend(inode))?;
        if body.writing.is_some() || body.writers > 0 {
            return Ok(body.cached.is_some());
        }
        let attributes = folder.lookup(&name)?;
        // Of a record that is truncated, nothing is read: it does not matter which it was, or is by now.
        let any = mode.truncate && body.opens == 0;
        let current = any || self.is_known(inode, &attributes);
        if current && attributes.kept_draft {
            let draft = folder.load_draft(&name)?.ok_or_else(stale)?;
            body.snapshot = folder.open_record(&name).ok();
            body.writing = Some(Writing {
                draft: draft.within(self.limits.memory())?,
                saved: true,
                refused: false,
                failed: None,
            });
            body.cached = None;
            return Ok(false);
        }
        let snapshot = match current {
            true => Some(folder.open_seen(&name, &attributes)?),
            false => None,
        };
        let is_wanted = |snapshot: &Snapshot| any || snapshot.attributes.version == attributes.version;
        let Some(snapshot) = snapshot.filter(is_wanted) else {
            self.contend(inode);
            return Err(stale());
        };
        let unchanged = body.cached == Some(snapshot.attributes.version);
        body.cached = body.cached.filter(|_| unchanged);
        body.snapshot = Some(snapshot);
        Ok(unchanged)
    }

    fn open_attachment(&self, inode: Arc<Inode>, opening: Opening) -> Result<Opened> {
        let mode = opening.mode;
        let writable = mode.write || mode.truncate;
        let (folder, name) = self.place(&inode)?;
        let attachment = Arc::new(folder.open_attachment(&name, access(writable))?);
        let attributes = attachment.attributes()?;
        if self.table.id(&inode) != Some(attributes.id) {
            if inode.body().opens > 0 {
                return Err(stale());
            }
            self.table.became(&inode, &attributes);
        }
        let told = self.table.last_told(&inode);
        if told.is_none_or(|told| told.version != attributes.version) {
            // Others write to it too: the kernel must not go by the old size.
            self.pages.drop_attributes(inode.ino);
        }
        if mode.truncate {
            attachment.resize(0)?;
        }
        let keep_cache = {
            let mut body = inode.body();
            let unchanged = body.cached == Some(attributes.version);
            body.cached = Some(attributes.version);
            body.opened(mode.write, Some(&attachment));
            unchanged && !mode.truncate
        };
        Ok(self.handle(inode, Some(attachment), opening, keep_cache))
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
    ) -> Result<(Node, Opened)> {
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
        let drafted = self.look_up_written(&folder, &place);
        if drafted.is_some() || folder.occupant(Op::Create, &place.name)?.is_some() {
            // It came into being since the kernel looked.
            if let Some(node) = drafted {
                self.forget(node.ino, 1);
            }
            if mode.exclusive {
                return Err(Error::new(Kind::Exists, "the name exists"));
            }
            let node = self.lookup(parent, name)?;
            drop(opening);
            let opened = self
                .open(node.ino, mode, opener)
                .inspect_err(|_| self.forget(node.ino, 1))?;
            return Ok((node, opened));
        }
        match place.name.is_record() {
            true => self.create_record(place, permissions, opening),
            false => {
                let attachment = folder.create_attachment(&place.name, permissions & 0o1777)?;
                self.created_attachment(place, attachment, opening)
            }
        }
    }

    fn create_record(&self, place: Place, permissions: u16, opening: Opening) -> Result<(Node, Opened)> {
        let inode = self.table.enter_draft(place);
        let attributes = {
            let mut body = inode.body();
            let draft = body.begin(self.store.max_record(), self.limits.memory())?;
            draft.mode = Some(permissions & 0o1777);
            let attributes = Attributes::of_draft(draft, None);
            body.held = Some(self.limits.hold(0)?);
            body.opened(opening.mode.write, None);
            attributes
        };
        let node = self.node(inode.ino, None, attributes, true);
        Ok((node, self.handle(inode, None, opening, false)))
    }

    fn created_attachment(
        &self,
        place: Place,
        attachment: Attachment,
        opening: Opening,
    ) -> Result<(Node, Opened)> {
        let attachment = Arc::new(attachment);
        let attributes = attachment.attributes()?;
        let inode = self.table.enter(place, &attributes);
        inode.body().opened(opening.mode.write, Some(&attachment));
        let node = self.node(inode.ino, None, attributes, true);
        Ok((node, self.handle(inode, Some(attachment), opening, false)))
    }

    fn handle(
        &self,
        inode: Arc<Inode>,
        attachment: Option<Arc<Attachment>>,
        opening: Opening,
        keep_cache: bool,
    ) -> Opened {
        let Opening { mode, opener, slot } = opening;
        // Closing decides something only about a record that may have been written.
        let no_flush = attachment.is_some() || !mode.write;
        let fh = self.handles.add_file(OpenFile {
            inode,
            opener,
            writer: mode.write,
            append: mode.append,
            attachment,
            _slot: slot,
        });
        Opened {
            fh,
            keep_cache,
            no_flush,
        }
    }
}
