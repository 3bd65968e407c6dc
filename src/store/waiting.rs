//! What was removed, and waits in its directory under a name of ours: for the next of its name, or to be restored.

use super::draft::KnownDrafts;
use super::found::{Stored, Verified, not_found};
use super::look::Look;
use super::reserved::{
    REMOVED_PREFIX, Reserved, forget, forget_noted_name, former_name, note_name, note_name_at, telling,
};
use crate::clock;
use crate::error::{Error, Kind, Result};
use crate::event::Event;
use crate::name::EntryName;
use crate::volume::{Dir, FileType, Rename, Stat};

/// The record, or the directory, that was removed last under one name of a directory.
pub(super) struct Waiting<'a> {
    look: Look<'a>,
    name: &'a EntryName,
    entry: String,
}

impl<'a> Waiting<'a> {
    pub(super) fn new(look: Look<'a>, name: &'a EntryName) -> Self {
        Self {
            look,
            name,
            entry: telling(REMOVED_PREFIX, name),
        }
    }

    /// What it is called while it waits.
    pub(super) fn entry(&self) -> &str {
        &self.entry
    }

    /// Its attributes on the volume; none when nothing waits, or has for too long.
    ///
    /// # Errors
    /// The volume's.
    pub(super) fn stat(&self) -> Result<Option<Stat>> {
        match self.look.dir.stat(&self.entry) {
            Ok(stat) if is_outdated(self.look, &self.entry, &stat) => Ok(None),
            Err(error) if error.kind() == Kind::NotFound => Ok(None),
            stat => stat.map(Some),
        }
    }

    /// The record, verified to be the tenant's own.
    ///
    /// # Errors
    /// The volume's.
    pub(super) fn record(&self) -> Result<Option<Stored>> {
        match self.stat()? {
            Some(_) => verified(self.look, &self.entry),
            None => Ok(None),
        }
    }

    /// Whether a directory waits.
    ///
    /// # Errors
    /// The volume's.
    pub(super) fn is_directory(&self) -> Result<bool> {
        let stat = self.stat()?;
        Ok(stat.is_some_and(|stat| stat.file_type == FileType::Directory))
    }

    /// Puts what has the name here. A record that waited is no more then; a directory would not be replaced.
    ///
    /// # Errors
    /// [`Kind::NotFound`] when it is gone; the volume's.
    pub(super) fn put(&self) -> Result<()> {
        let dir = self.look.dir;
        if dir.are_one_file(self.name.as_str(), &self.entry) {
            return Err(not_found());
        }
        note_name(dir, self.name, &self.entry);
        dir.rename(self.name.as_str(), dir, &self.entry, Rename::Replace)?;
        self.recount_links()
    }

    /// Gives what waits its name again, if nothing else has it.
    ///
    /// # Errors
    /// [`Kind::Exists`]; [`Kind::NotFound`] when nothing waits any more; the volume's.
    pub(super) fn give_back(&self) -> Result<()> {
        let dir = self.look.dir;
        dir.rename(&self.entry, dir, self.name.as_str(), Rename::NoReplace)?;
        forget_noted_name(dir, self.name, &self.entry);
        self.recount_links()
    }

    /// The links of a directory are remembered by the number of its names, and that is as it was.
    fn recount_links(&self) -> Result<()> {
        if !self.name.is_record() {
            let id = self.look.dir.stat_self()?.id;
            self.look.tenant.facts.lock().forget_links(id);
        }
        Ok(())
    }

    /// The directory that waits, or a new one that does.
    ///
    /// # Errors
    /// The volume's.
    pub(super) fn open_or_make_dir(&self) -> Result<Dir> {
        let dir = self.look.dir;
        if self.is_directory()? {
            return dir.open_dir(&self.entry);
        }
        self.drop_for_good()?;
        let made = dir.make_dir(&self.entry)?;
        note_name_at(dir, self.name, &self.entry);
        Ok(made)
    }

    /// Removes what waits for good, and tells of the secrets that are lost so.
    ///
    /// # Errors
    /// The volume's.
    pub(super) fn drop_for_good(&self) -> Result<()> {
        match self.look.dir.stat(&self.entry) {
            Err(error) if error.kind() == Kind::NotFound => Ok(()),
            stat => drop_entry(self.look, &self.entry, &stat?),
        }
    }
}

/// The record `entry`, one of ours; none when it is not the tenant's own.
///
/// # Errors
/// The volume's.
pub(super) fn verified(look: Look<'_>, entry: &str) -> Result<Option<Stored>> {
    Ok(match look.read_verified(entry)? {
        Verified::Owned(stored) => Some(stored),
        Verified::Absent | Verified::Unfit(..) | Verified::Unread(_) => None,
    })
}

/// Whether `entry`, one of ours, has outlived its use.
pub(super) fn is_outdated(look: Look<'_>, entry: &str, stat: &Stat) -> bool {
    let since = look.dir.waits_since(entry, stat);
    Reserved::of(entry).is_outdated(since, clock::now(), look.tenant.options.keep_removed)
}

/// Removes `entry` if it is one of ours that has outlived its use.
pub(super) fn sweep(look: Look<'_>, entry: &str) {
    let what = Reserved::of(entry);
    if !(what == Reserved::Temporary || what.waits()) {
        return;
    }
    let outdated = match look.dir.stat(entry) {
        Ok(stat) if is_outdated(look, entry, &stat) => stat,
        _ => return,
    };
    if let Err(error) = drop_entry(look, entry, &outdated) {
        log::warn!("removing {entry}, which is no longer needed: {error}");
    }
}

/// Removes `entry`, one of ours, and tells of the secrets that are lost so.
///
/// # Errors
/// The volume's; [`Kind::DirectoryNotEmpty`] for a directory in which somebody has put something else.
pub(super) fn drop_entry(look: Look<'_>, entry: &str, stat: &Stat) -> Result<()> {
    match (stat.file_type, Reserved::of(entry)) {
        (FileType::Directory, _) => drop_directory(look, entry),
        (FileType::Regular, Reserved::Away | Reserved::Removed) => drop_record(look, entry),
        // The secrets in a note are also those of the record that left it: with it, none is lost.
        _ => forget(look.dir, entry).map(drop),
    }
}

fn drop_record(look: Look<'_>, entry: &str) -> Result<()> {
    let path = former_path(look, entry);
    let had_secret = verified(look, entry).is_ok_and(|stored| stored.is_some_and(|stored| stored.has_secret));
    // Of two who do so at once, one tells.
    if forget(look.dir, entry)? && had_secret {
        look.tenant.observe(&Event::SecretDropped { path });
    }
    Ok(())
}

/// However deep directories are nested in it, no more than one is open: each is brought up beside it, and emptied there.
fn drop_directory(look: Look<'_>, entry: &str) -> Result<()> {
    let mut due = vec![(entry.to_owned(), former_path(look, entry))];
    while let Some((entry, path)) = due.pop() {
        let dir = look.dir.open_dir(&entry)?;
        let inner = Look {
            dir: &dir,
            path: &path,
            drafts: &KnownDrafts::default(),
            ..look
        };
        for ours in entries(inner)? {
            let stat = match dir.stat(&ours) {
                Err(error) if error.kind() == Kind::NotFound => continue,
                stat => stat?,
            };
            let what = Reserved::of(&ours);
            match (what == Reserved::Temporary || what.waits(), stat.file_type) {
                (true, FileType::Directory) => {
                    let raised = format!("{REMOVED_PREFIX}{:016x}", stat.id.ino);
                    let path = former_path(inner, &ours);
                    dir.rename(&ours, look.dir, &raised, Rename::NoReplace)?;
                    due.push((raised, path));
                }
                (true, _) => drop_entry(inner, &ours, &stat)?,
                // Somebody's who has put it there since: then the directory cannot be removed.
                (false, _) => {}
            }
        }
        look.dir.remove_dir(&entry)?;
    }
    Ok(())
}

fn former_path(look: Look<'_>, entry: &str) -> String {
    match former_name(look.dir, entry) {
        Some(name) => look.path_of(&name),
        None => format!("{}/{entry}", look.path),
    }
}

/// Everything in a directory; names that are not UTF-8 are as those of strangers.
fn entries(look: Look<'_>) -> Result<Vec<String>> {
    let mut names = Vec::new();
    look.dir
        .entries(|entry| names.push(String::from_utf8_lossy(entry).into_owned()))?;
    Ok(names)
}

/// What is in a directory.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Content {
    /// Nothing.
    Nothing,
    /// Only what was removed from it or renamed away, and waits.
    Waiting,
    /// Something that its user sees, or that is hidden.
    More,
}

impl Content {
    /// What is in the directory at hand, once what nobody needs is out of it.
    ///
    /// # Errors
    /// The volume's.
    pub(super) fn of(look: Look<'_>) -> Result<Self> {
        let mut content = Self::Nothing;
        for entry in entries(look)? {
            let is = match Reserved::of(&entry) {
                Reserved::Temporary => {
                    forget(look.dir, &entry)?;
                    Self::Nothing
                }
                Reserved::Away | Reserved::Removed | Reserved::Secrets | Reserved::Moved => {
                    sweep(look, &entry);
                    match look.dir.stat(&entry) {
                        Err(error) if error.kind() == Kind::NotFound => Self::Nothing,
                        stat => stat.map(|_| Self::Waiting)?,
                    }
                }
                Reserved::Marker | Reserved::Draft | Reserved::Unknown => return Ok(Self::More),
            };
            content = content.max(is);
        }
        Ok(content)
    }
}

/// rmdir(2) of a directory in which something is.
pub(super) fn not_empty() -> Error {
    Error::new(Kind::DirectoryNotEmpty, "the directory is not empty")
}
