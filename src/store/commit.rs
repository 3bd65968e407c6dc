//! Making a draft the record.

use std::sync::Arc;

use zeroize::Zeroizing;

use super::attributes::{Attributes, NodeKind};
use super::change::show_mode;
use super::draft::Draft;
use super::folder::Folder;
use super::records::{Found, Snapshot};
use crate::error::{Error, Kind, Result};
use crate::event::{Event, Op};
use crate::name::EntryName;
use crate::volume::{self, Durability, Staged, Times};

impl Folder {
    /// Commits `text` as the record `name`; see [`commit`](Self::commit).
    ///
    /// # Errors
    /// As `commit`.
    pub fn save(&self, name: &EntryName, text: &[u8]) -> Result<Snapshot> {
        let draft = Draft::new(text.to_vec(), self.max_record());
        self.commit(name, &draft, self.durability())
    }

    /// Makes a draft the record `name`: owned, with the secrets it had, and in place at once. What was kept beside it
    /// is forgotten.
    ///
    /// # Errors
    /// [`Kind::InvalidRecord`], [`Kind::IncompleteRecord`], [`Kind::PlainSecret`], [`Kind::TooLarge`],
    /// [`Kind::NameTaken`]; [`Kind::NoSpace`] and whatever else the volume says. Then nothing has changed.
    pub fn commit(&self, name: &EntryName, draft: &Draft, durability: Durability) -> Result<Snapshot> {
        let committed = self.put_in_place(name, draft, durability)?;
        if self.discard_draft(name)? && durability == Durability::Durable {
            // A draft that comes back after a power cut would hide what was committed.
            self.dir().sync()?;
        }
        Ok(committed)
    }

    /// As [`commit`](Self::commit), for somebody else than who types in the mount: what is kept there stays, and wins when it is
    /// completed.
    ///
    /// # Errors
    /// As `commit`.
    pub(super) fn put_in_place(
        &self,
        name: &EntryName,
        draft: &Draft,
        durability: Durability,
    ) -> Result<Snapshot> {
        self.claim()?;
        if !name.is_record() {
            return Err(Error::new(Kind::InvalidArgument, "a record's name ends in .json"));
        }
        if draft.text().len() as u64 > self.max_record() {
            return Err(Error::new(Kind::TooLarge, "the record is larger than max_size"));
        }
        loop {
            match self.try_commit(name, draft, durability) {
                // It was absent, and was created by somebody else meanwhile: now it has to be verified.
                Err(error) if error.kind() == Kind::Exists => {}
                result => return result,
            }
        }
    }

    fn try_commit(&self, name: &EntryName, draft: &Draft, durability: Durability) -> Result<Snapshot> {
        let current = match self.read_record(name)? {
            Found::Visible(stored) => Some(stored),
            Found::Absent => None,
            Found::Hidden => {
                self.denied(
                    Op::Commit,
                    name,
                    Kind::NameTaken,
                    "the name is taken by something hidden",
                );
                return Err(Error::new(Kind::NameTaken, "the name cannot be used"));
            }
        };
        let away = match &current {
            Some(_) => None,
            None => self.away(name)?,
        };
        let base = current.as_ref().or(away.as_ref());
        let put = match (base, self.attached()) {
            (None, Some(attached)) => self.lens().put_attaching(draft.text(), &attached)?,
            (base, _) => self
                .lens()
                .put(base.map(|stored| stored.text.as_slice()), draft.text())?,
        };

        let like = match &current {
            Some(stored) => stored.stat,
            None => self.dir().stat_self()?,
        };
        let mut staged = Staged::new(self.dir(), &like)?;
        let stored = Zeroizing::new(put.stored);
        staged.write(&stored)?;
        let mode = draft.mode.or(current.as_ref().and_then(|stored| stored.mode));
        if let Some(mode) = mode.filter(|mode| *mode != staged.mode()) {
            show_mode(staged.file(), mode)?;
        }
        volume::set_times(
            staged.file(),
            Times {
                mtime: Some(draft.mtime()),
                ..draft.times
            },
        )?;
        let stat = match current {
            Some(_) => staged.place(name.as_str(), durability)?,
            None => staged.place_new(name.as_str(), durability)?,
        };
        self.observe(&Event::Committed {
            path: self.path_of(name),
        });
        if put.owner_overridden {
            self.observe(&Event::OwnerOverridden {
                path: self.path_of(name),
            });
        }
        self.discard_away(name)?;
        // Not simply what was written: an owner may have been corrected, a secret removed.
        let view = self.lens().view(&stored).map_err(|reason| {
            Error::new(
                Kind::Io,
                format!("a record was committed that cannot be shown: {reason}"),
            )
        })?;
        let view: Arc<[u8]> = view.text.into();
        let attributes = Attributes::of(&stat, NodeKind::Record, mode).with_view(view.len() as u64);
        Ok(Snapshot { attributes, view })
    }
}
