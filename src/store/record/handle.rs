//! A record by its name: reading it, and changing what is not its text.

use crate::error::{Doing, Kind, Result};
use crate::event::Event;
use crate::name::EntryName;
use crate::store::attributes::Attributes;
use crate::store::found::{Snapshot, not_found};
use crate::store::look::Look;
use crate::store::shown::{change_mode_of, change_times_of};
use crate::volume::{Access, Dir, Times};

/// The record of one name in one directory, whether there is one or not yet.
#[derive(Clone, Copy)]
pub struct Record<'f> {
    pub(in crate::store) look: Look<'f>,
    pub(in crate::store) name: &'f EntryName,
    /// Whether a new one gets the session's own key.
    pub(in crate::store) attaches: bool,
}

impl<'f> Record<'f> {
    /// The record as committed: one read, verified, and its view.
    ///
    /// # Errors
    /// [`Kind::NotFound`] when it is absent, hidden, no more than a draft, or its name is not a record's. The volume's.
    pub fn open(&self) -> Result<Snapshot> {
        match self.name.is_record() {
            true => self.look.snapshot(self.name)?.visible(),
            false => Err(not_found()),
        }
    }

    /// As [`open`](Self::open), for those who have just looked it up and found `attributes`: what is remembered of that
    /// version is not asked for again.
    ///
    /// # Errors
    /// As `open`.
    pub fn open_seen(&self, attributes: &Attributes) -> Result<Snapshot> {
        match self.look.recall_content(self.name, attributes) {
            Some(snapshot) => Ok(snapshot),
            None => self.open(),
        }
    }

    /// Sets the permission bits that the mount shows.
    ///
    /// # Errors
    /// [`Kind::NotFound`]; [`Kind::Unsupported`] where the volume's file system has no user attributes.
    pub fn set_mode(&self, mode: u16) -> Result<()> {
        self.look.tenant.claim()?;
        let known = self.look.lookup(self.name)?;
        match known.kept_draft {
            true => self.change_draft(|draft| draft.mode = Some(mode)),
            false => {
                change_mode_of(self.dir(), self.name.as_str(), mode)?;
                self.look.tenant.facts.lock().forget(known.id);
                Ok(())
            }
        }
    }

    /// Sets the times.
    ///
    /// # Errors
    /// [`Kind::NotFound`]; the volume's.
    pub fn set_times(&self, times: Times) -> Result<()> {
        self.look.tenant.claim()?;
        let known = self.look.lookup(self.name)?;
        match known.kept_draft {
            true => self.change_draft(|draft| draft.times = times),
            false => change_times_of(self.dir(), self.name.as_str(), times, &known),
        }
    }

    /// Makes it durable, as last committed.
    ///
    /// # Errors
    /// The volume's.
    pub fn sync(&self) -> Result<()> {
        match self.dir().open_file(self.name.as_str(), Access::Read) {
            // Nothing but a draft: it was made durable when it was kept.
            Err(error) if error.kind() == Kind::NotFound => Ok(()),
            file => {
                rustix::fs::fsync(&file?).doing("making a record durable")?;
                self.dir().sync()
            }
        }
    }

    pub(super) fn dir(&self) -> &'f Dir {
        self.look.dir
    }

    /// What it is called in the mount.
    pub(super) fn path(&self) -> String {
        self.look.path_of(self.name)
    }

    pub(super) fn observe(&self, event: &Event) {
        self.look.tenant.observe(event);
    }
}
