//! Making, changing and removing directories, and removing what is in them.

use super::attributes::NodeKind;
use super::folder::Folder;
use super::heritage;
use super::look::Look;
use super::shown::{change_mode_of, optional};
use super::waiting::{Content, Waiting, not_empty};
use crate::clock;
use crate::error::{Error, Kind, Result};
use crate::event::Op;
use crate::name::EntryName;
use crate::volume::Times;

/// Directories in one directory, at most so many of which are counted: the counting is done anew whenever one comes or goes.
const MAX_COUNTED: u32 = 256;

/// What a directory has for links that are not counted: programs then expect any number of directories in it.
const NOT_COUNTED: u32 = 1;

impl Folder {
    /// Makes the directory `name`. One of this name that was removed not long ago comes back, as empty as a new one looks,
    /// but with the secrets that wait in it; of one that was renamed, they are copied.
    ///
    /// # Errors
    /// [`Kind::NotPermitted`] for the name of a record; [`Kind::Exists`], [`Kind::NameTaken`]; the volume's.
    pub fn make_folder(&self, name: &EntryName, mode: u16) -> Result<Self> {
        let look = self.look();
        look.tenant.claim()?;
        if name.is_record() {
            return Err(no_directorys_name());
        }
        look.vacant(Op::Mkdir, name)?;
        let folder = match self.bring_back(name)? {
            Some(folder) => folder,
            None => self.child(look.dir.make_dir(name.as_str())?, name)?,
        };
        if folder.attributes()?.mode != mode {
            optional(change_mode_of(folder.look().dir, ".", mode))?;
        }
        Ok(folder)
    }

    /// The directory of this name that waits, where it was before; none when there is none that looks empty.
    fn bring_back(&self, name: &EntryName) -> Result<Option<Self>> {
        heritage::gather(self, name, None)?;
        let Some(folder) = self.waiting_folder(name)? else {
            return Ok(None);
        };
        if Content::of(folder.look())? == Content::More {
            return Ok(None);
        }
        match Waiting::new(self.look(), name).give_back() {
            // Somebody else was first, or its time has come.
            Err(error) if error.kind() == Kind::NotFound => return Ok(None),
            result => result?,
        }
        let now = Some(clock::now());
        let times = Times {
            atime: now,
            mtime: now,
        };
        folder.look().dir.set_times(".", times)?;
        Ok(Some(folder))
    }

    /// The directory of this name that was removed and waits.
    ///
    /// # Errors
    /// The volume's.
    pub(super) fn waiting_folder(&self, name: &EntryName) -> Result<Option<Self>> {
        let waiting = Waiting::new(self.look(), name);
        if !waiting.is_directory()? {
            return Ok(None);
        }
        match self.look().dir.open_dir(waiting.entry()) {
            Err(error) if error.kind() == Kind::NotFound => Ok(None),
            dir => self.child(dir?, name).map(Some),
        }
    }

    /// Removes the directory `name`. With records in it that were removed and wait, it waits too.
    ///
    /// # Errors
    /// [`Kind::DirectoryNotEmpty`], also when what is in it is hidden; the volume's.
    pub fn remove_folder(&self, name: &EntryName) -> Result<()> {
        let look = self.look();
        look.tenant.claim()?;
        match look.lookup(name)?.kind {
            NodeKind::Directory => {}
            _ => return Err(Error::new(Kind::NotADirectory, "not a directory")),
        }
        let folder = self.open_folder(name)?;
        match Content::of(folder.look())? {
            Content::Nothing => look.dir.remove_dir(name.as_str()),
            Content::Waiting => self.put_aside(name, &folder),
            Content::More => {
                self.tell_of_hidden(name, &folder);
                Err(not_empty())
            }
        }
    }

    /// Puts `folder`, the directory `name`, where what is in it waits.
    ///
    /// # Errors
    /// [`Kind::DirectoryNotEmpty`] when somebody has put something into it; the volume's.
    pub(super) fn put_aside(&self, name: &EntryName, folder: &Self) -> Result<()> {
        let waiting = Waiting::new(self.look(), name);
        // One that was removed before is superseded.
        waiting.drop_for_good()?;
        waiting.put()?;
        match self.look().tenant.options.keep_removed.is_zero() {
            true => waiting.drop_for_good(),
            false if Content::of(folder.look())? == Content::More => {
                waiting.give_back()?;
                Err(not_empty())
            }
            false => {
                self.look().waits(waiting.entry());
                Ok(())
            }
        }
    }

    /// Nobody but the operator can help with a directory that looks empty and cannot be removed.
    fn tell_of_hidden(&self, name: &EntryName, folder: &Self) {
        if folder.list().is_ok_and(|visible| visible.is_empty()) {
            let reason = "it looks empty, and has something hidden in it";
            let look = self.look();
            look.denied(Op::Rmdir, name, Kind::DirectoryNotEmpty, reason);
        }
    }

    /// Removes the record or attachment `name`; of a record, see [`Record::remove`](super::Record::remove).
    ///
    /// # Errors
    /// [`Kind::NotFound`], [`Kind::IsADirectory`]; the volume's.
    pub fn remove(&self, name: &EntryName) -> Result<()> {
        if name.is_record() {
            return self.record(name).remove();
        }
        let look = self.look();
        look.tenant.claim()?;
        match look.lookup(name)?.kind {
            NodeKind::Directory => Err(Error::new(Kind::IsADirectory, "a directory")),
            _ => look.dir.unlink(name.as_str()),
        }
    }

    /// Sets the directory's own permission bits, as the mount shows them.
    ///
    /// # Errors
    /// [`Kind::Unsupported`] where the volume's file system has no user attributes.
    pub fn set_own_mode(&self, mode: u16) -> Result<()> {
        let Look { tenant, dir, .. } = self.look();
        tenant.claim()?;
        change_mode_of(dir, ".", mode)?;
        tenant.facts.lock().forget(dir.stat_self()?.id);
        Ok(())
    }

    /// Sets the directory's own times.
    ///
    /// # Errors
    /// The volume's.
    pub fn set_own_times(&self, times: Times) -> Result<()> {
        let Look { tenant, dir, .. } = self.look();
        tenant.claim()?;
        dir.set_times(".", times)
    }

    /// Makes the directory's entries durable.
    ///
    /// # Errors
    /// The volume's.
    pub fn sync(&self) -> Result<()> {
        self.look().dir.sync()
    }

    /// The number of links to show where the volume's directory has so many `names`: 2, and one for each visible directory
    /// in it. The volume's own number would count what is hidden. What others do to those that are hidden shows with the
    /// next change of that number.
    ///
    /// # Errors
    /// The volume's.
    pub fn links(&self, names: u32) -> Result<u32> {
        if names <= 2 {
            // None is in it; or 1, from a file system that does not count either.
            return Ok(names);
        }
        if names > 2 + MAX_COUNTED {
            return Ok(NOT_COUNTED);
        }
        let look = self.look();
        if let Some(links) = look.tenant.facts.lock().links(self.id(), names) {
            return Ok(links);
        }
        let mut links = 2;
        for entry in look.dir.directories()? {
            let Ok(name) = EntryName::parse(&entry) else {
                continue;
            };
            let found = look.lookup(&name);
            links += u32::from(found.is_ok_and(|found| found.kind == NodeKind::Directory));
        }
        // Counted while others came or went, it holds for no number.
        if look.dir.stat_self()?.nlink == names {
            let mut facts = look.tenant.facts.lock();
            facts.remember_links(self.id(), names, links);
        }
        Ok(links)
    }
}

/// What is said of a directory that would have the name of a record.
pub(super) fn no_directorys_name() -> Error {
    Error::new(Kind::NotPermitted, "a directory cannot have the name of a record")
}
