//! Making, changing and removing what is in a directory.

use super::attachment::Attachment;
use super::attributes::NodeKind;
use super::draft::Draft;
use super::folder::Folder;
use super::records::not_found;
use crate::error::{Error, Kind, Result};
use crate::event::Op;
use crate::name::EntryName;
use crate::volume::{self, Access, Staged, Times};

impl Folder {
    /// Creates the attachment `name`, open for reading and writing; `mode` are the permission bits that the mount
    /// shows.
    ///
    /// # Errors
    /// [`Kind::Exists`], [`Kind::NameTaken`]; the volume's.
    pub fn create_attachment(&self, name: &EntryName, mode: u16) -> Result<Attachment> {
        self.claim()?;
        if name.is_record() {
            return Err(Error::new(Kind::InvalidArgument, "this is the name of a record"));
        }
        self.vacant(Op::Create, name)?;
        let staged = Staged::new(self.dir(), &self.dir().stat_self()?)?;
        if mode != staged.mode() {
            show_mode(staged.file(), mode)?;
        }
        Ok(Attachment::new(
            staged.place_empty(name.as_str())?,
            Access::ReadWrite,
        ))
    }

    /// Makes the directory `name`.
    ///
    /// # Errors
    /// [`Kind::NotPermitted`] for the name of a record; [`Kind::Exists`], [`Kind::NameTaken`]; the volume's.
    pub fn make_folder(&self, name: &EntryName, mode: u16) -> Result<Self> {
        self.claim()?;
        if name.is_record() {
            return Err(Error::new(
                Kind::NotPermitted,
                "a directory cannot have the name of a record",
            ));
        }
        self.vacant(Op::Mkdir, name)?;
        let folder = self.child(self.dir().make_dir(name.as_str())?, name)?;
        if folder.attributes()?.mode != mode {
            optional(folder.dir().set_shown_mode(".", Some(mode)))?;
        }
        Ok(folder)
    }

    /// Removes the directory `name`.
    ///
    /// # Errors
    /// [`Kind::DirectoryNotEmpty`], also when what is in it is hidden; the volume's.
    pub fn remove_folder(&self, name: &EntryName) -> Result<()> {
        self.claim()?;
        match self.lookup(name)?.kind {
            NodeKind::Directory => {}
            _ => return Err(Error::new(Kind::NotADirectory, "not a directory")),
        }
        self.open_folder(name)?.sweep_if_empty()?;
        self.dir().remove_dir(name.as_str())
    }

    /// Nobody is helped by a directory that looks empty and cannot be removed.
    pub(super) fn sweep_if_empty(&self) -> Result<()> {
        if !self.names()?.is_empty() {
            return Ok(());
        }
        let mut ours = Vec::new();
        self.dir()
            .entries(|entry| ours.extend(std::str::from_utf8(entry).ok().map(str::to_owned)))?;
        ours.iter().for_each(|entry| self.sweep(entry, true));
        Ok(())
    }

    /// Removes the record or attachment `name`, and what is kept beside it.
    ///
    /// # Errors
    /// [`Kind::NotFound`], [`Kind::IsADirectory`]; the volume's.
    pub fn remove(&self, name: &EntryName) -> Result<()> {
        self.claim()?;
        let attributes = self.lookup(name)?;
        if attributes.kind == NodeKind::Directory {
            return Err(Error::new(Kind::IsADirectory, "a directory"));
        }
        match self.dir().unlink(name.as_str()) {
            Err(error) if error.kind() == Kind::NotFound && attributes.kept_draft => {}
            result => result?,
        }
        match name.is_record() {
            true => self.discard_kept(name),
            false => Ok(()),
        }
    }

    /// Forgets what is kept beside the record `name`: its draft, and the secrets of one that was renamed away.
    ///
    /// # Errors
    /// [`Kind::ReadOnly`]; the volume's.
    pub fn discard_kept(&self, name: &EntryName) -> Result<()> {
        self.discard_draft(name)?;
        self.discard_away(name)
    }

    /// Sets the permission bits that the mount shows for a file.
    ///
    /// # Errors
    /// [`Kind::NotFound`]; [`Kind::Unsupported`] where the volume's file system has no user attributes.
    pub fn set_mode(&self, name: &EntryName, mode: u16) -> Result<()> {
        self.claim()?;
        let attributes = self.lookup(name)?;
        if attributes.kept_draft {
            return self.change_kept(name, |draft| draft.mode = Some(mode));
        }
        self.dir().set_shown_mode(name.as_str(), Some(mode))
    }

    /// Sets the times of a file.
    ///
    /// # Errors
    /// [`Kind::NotFound`]; the volume's.
    pub fn set_times(&self, name: &EntryName, times: Times) -> Result<()> {
        self.claim()?;
        let attributes = self.lookup(name)?;
        if attributes.kept_draft {
            return self.change_kept(name, |draft| draft.times = times);
        }
        self.dir().set_times(name.as_str(), times)
    }

    fn change_kept(&self, name: &EntryName, change: impl FnOnce(&mut Draft)) -> Result<()> {
        let mut draft = self.load_draft(name)?.ok_or_else(not_found)?;
        change(&mut draft);
        self.keep_draft(name, &draft, self.durability()).map(drop)
    }

    /// Sets the directory's own permission bits, as the mount shows them.
    ///
    /// # Errors
    /// [`Kind::Unsupported`] where the volume's file system has no user attributes.
    pub fn set_own_mode(&self, mode: u16) -> Result<()> {
        self.claim()?;
        self.dir().set_shown_mode(".", Some(mode))
    }

    /// Sets the directory's own times.
    ///
    /// # Errors
    /// The volume's.
    pub fn set_own_times(&self, times: Times) -> Result<()> {
        self.claim()?;
        self.dir().set_times(".", times)
    }

    /// Makes the record `name`, as last committed, durable.
    ///
    /// # Errors
    /// The volume's.
    pub fn sync_record(&self, name: &EntryName) -> Result<()> {
        match self.dir().open_file(name.as_str(), Access::Read) {
            // Nothing but a draft: it was made durable when it was kept.
            Err(error) if error.kind() == Kind::NotFound => Ok(()),
            file => {
                Attachment::new(file?, Access::Read).sync(false)?;
                self.dir().sync()
            }
        }
    }

    /// Makes the directory's entries durable.
    ///
    /// # Errors
    /// The volume's.
    pub fn sync(&self) -> Result<()> {
        self.dir().sync()
    }
}

/// What a user's permission bits are worth on a file system that cannot keep them: less than the file.
fn optional(result: Result<()>) -> Result<()> {
    match result {
        Err(error) if error.kind() == Kind::Unsupported => Ok(()),
        result => result,
    }
}

pub(super) fn show_mode(file: &std::fs::File, mode: u16) -> Result<()> {
    optional(volume::set_shown_mode(file, mode))
}
