//! Renaming, which is where records and attachments become each other.

use super::attributes::{Attributes, NodeKind};
use super::draft::Draft;
use super::folder::Folder;
use super::records::{Found, not_found};
use crate::error::{Error, Kind, Result};
use crate::event::Op;
use crate::name::EntryName;
use crate::volume::{self, Access, Rename, Staged, Times};

impl Folder {
    /// Renames `from` here to `to` in `target`.
    ///
    /// An attachment that gets a record's name is committed; a record that gets an attachment's leaves its view there,
    /// and keeps its secrets for the next record of its own name.
    ///
    /// # Errors
    /// [`Kind::InvalidArgument`] when an attachment cannot be committed (both files stay as they are), or two different
    /// kinds are exchanged; [`Kind::NotPermitted`] for a directory that would get a record's name;
    /// [`Kind::Exists`], [`Kind::NameTaken`]; the volume's.
    pub fn rename(&self, from: &EntryName, target: &Self, to: &EntryName, how: Rename) -> Result<()> {
        self.claim()?;
        let source = self.lookup(from)?;
        let occupant = target.occupant(Op::Rename, to)?;
        match (how, occupant) {
            (Rename::NoReplace, Some(_)) => return Err(Error::new(Kind::Exists, "the name exists")),
            (Rename::Exchange, None) => return Err(not_found()),
            (Rename::Exchange, Some(other)) => return self.exchange(from, source, target, to, other),
            (Rename::Replace, Some(other)) => check_replaceable(source.kind, other.kind)?,
            (Rename::NoReplace | Rename::Replace, None) => {}
        }
        if (self.id(), from) == (target.id(), to) {
            return Ok(());
        }
        match (source.kind, to.is_record()) {
            (NodeKind::Directory, true) => Err(Error::new(
                Kind::NotPermitted,
                "a directory cannot have the name of a record",
            )),
            (NodeKind::Directory, false) => {
                if occupant.is_some() {
                    target.open_folder(to)?.sweep_if_empty()?;
                }
                self.dir().rename(from.as_str(), target.dir(), to.as_str(), how)
            }
            (NodeKind::Attachment, false) => self.dir().rename(from.as_str(), target.dir(), to.as_str(), how),
            (NodeKind::Attachment, true) => self.attachment_to_record(from, source, target, to),
            (NodeKind::Record, true) => self.record_to_record(from, source, target, to, how),
            (NodeKind::Record, false) => self.record_to_attachment(from, source, target, to),
        }
    }

    fn exchange(
        &self,
        from: &EntryName,
        source: Attributes,
        target: &Self,
        to: &EntryName,
        other: Attributes,
    ) -> Result<()> {
        if source.kind != other.kind || source.kind == NodeKind::Directory {
            return Err(Error::new(
                Kind::InvalidArgument,
                "only two records, or two attachments, can be exchanged",
            ));
        }
        if source.kept_draft || other.kept_draft {
            return Err(Error::new(
                Kind::Busy,
                "a draft cannot be exchanged; complete it first",
            ));
        }
        self.dir()
            .rename(from.as_str(), target.dir(), to.as_str(), Rename::Exchange)
    }

    fn attachment_to_record(
        &self,
        from: &EntryName,
        source: Attributes,
        target: &Self,
        to: &EntryName,
    ) -> Result<()> {
        if source.size > self.max_record() {
            return Err(Error::new(
                Kind::TooLarge,
                "the file is larger than a record can be",
            ));
        }
        let file = self.dir().open_file(from.as_str(), Access::Read)?;
        let text = volume::read_at_most(&file, source.size, self.max_record())?;
        let mut draft = Draft::new(text.to_vec(), self.max_record());
        draft.mode = Some(source.mode);
        draft.times.mtime = Some(source.mtime);
        if text.is_empty() {
            target.keep_draft(to, &draft, self.durability())?;
        } else {
            target
                .commit(to, &draft, self.durability())
                .map_err(|error| match error.kind() {
                    Kind::InvalidRecord | Kind::IncompleteRecord | Kind::PlainSecret => {
                        target.denied(Op::Rename, to, Kind::InvalidArgument, error.to_string());
                        Error::new(Kind::InvalidArgument, error.to_string())
                    }
                    _ => error,
                })?;
        }
        self.dir().unlink(from.as_str())
    }

    fn record_to_record(
        &self,
        from: &EntryName,
        source: Attributes,
        target: &Self,
        to: &EntryName,
        how: Rename,
    ) -> Result<()> {
        let kept = match source.kept_draft {
            true => self.load_draft(from)?,
            false => None,
        };
        match self.read_record(from)? {
            Found::Visible(stored) => {
                if !stored.has_secret && target.has_secret(to)? {
                    // The new content takes the place of the old, which goes on having its secrets.
                    let mut draft = Draft::new(stored.view.to_vec(), self.max_record());
                    draft.mode = stored.mode;
                    draft.times.mtime = Some(stored.stat.mtime);
                    target.commit(to, &draft, self.durability())?;
                    self.dir().unlink(from.as_str())?;
                } else {
                    self.dir().rename(from.as_str(), target.dir(), to.as_str(), how)?;
                    target.discard_draft(to)?;
                    target.discard_away(to)?;
                }
            }
            Found::Absent if kept.is_some() => {}
            Found::Absent | Found::Hidden => return Err(not_found()),
        }
        if let Some(draft) = kept {
            target.keep_draft(to, &draft, self.durability())?;
            self.discard_draft(from)?;
        }
        Ok(())
    }

    fn has_secret(&self, name: &EntryName) -> Result<bool> {
        Ok(match self.read_record(name)? {
            Found::Visible(stored) => stored.has_secret,
            Found::Hidden => false,
            Found::Absent => self.away(name)?.is_some_and(|stored| stored.has_secret),
        })
    }

    fn record_to_attachment(
        &self,
        from: &EntryName,
        source: Attributes,
        target: &Self,
        to: &EntryName,
    ) -> Result<()> {
        let committed = match self.read_record(from)? {
            Found::Visible(stored) => Some(stored),
            Found::Absent => None,
            Found::Hidden => return Err(not_found()),
        };
        let draft = match source.kept_draft {
            true => self.load_draft(from)?,
            false => None,
        };
        let text = match (&draft, &committed) {
            (Some(draft), _) if self.lens().may_hold_secret(draft.text()) => {
                return Err(Error::new(
                    Kind::PlainSecret,
                    "a draft that holds a secret in plain cannot become a file on the volume",
                ));
            }
            (Some(draft), _) => draft.text(),
            (None, Some(stored)) => &stored.view,
            (None, None) => return Err(not_found()),
        };
        let mut staged = Staged::new(target.dir(), &target.dir().stat_self()?)?;
        staged.write(text)?;
        if source.mode != staged.mode() {
            super::change::show_mode(staged.file(), source.mode)?;
        }
        let times = Times {
            mtime: Some(source.mtime),
            ..Times::default()
        };
        volume::set_times(staged.file(), times)?;
        staged.place(to.as_str(), self.durability())?;
        match committed {
            Some(stored) if stored.has_secret => self.put_away(from)?,
            Some(_) => {
                self.dir().unlink(from.as_str())?;
                // The last record of this name had no secret: one that an older record had stays gone.
                self.discard_away(from)?;
            }
            None => {}
        }
        self.discard_draft(from).map(drop)
    }
}

/// rename(2): a directory replaces a directory, anything else anything else.
fn check_replaceable(source: NodeKind, other: NodeKind) -> Result<()> {
    match (source == NodeKind::Directory, other == NodeKind::Directory) {
        (true, false) => Err(Error::new(Kind::NotADirectory, "not a directory")),
        (false, true) => Err(Error::new(Kind::IsADirectory, "a directory")),
        _ => Ok(()),
    }
}
