//! Records that were renamed to an attachment's name: they leave their secrets to the next record of their own.

use super::handle::Record;
use crate::clock;
use crate::error::{Kind, Result};
use crate::store::found::{Found, Stored, Verified};
use crate::store::reserved::{AWAY_PREFIX, Reserved, beside, forget};
use crate::volume::Rename;

impl Record<'_> {
    /// Puts it where only its next commit finds it.
    pub(in crate::store) fn put_away(&self) -> Result<()> {
        let entry = beside(AWAY_PREFIX, self.name);
        self.dir()
            .rename(self.name.as_str(), self.dir(), &entry, Rename::Replace)
    }

    /// The record as it was when it was put away, within the hour.
    pub(in crate::store) fn away(&self) -> Result<Option<Stored>> {
        let entry = beside(AWAY_PREFIX, self.name);
        match self.dir().stat(&entry) {
            Ok(stat) if !Reserved::Away.is_outdated(&stat, clock::now()) => {}
            Err(error) if error.kind() != Kind::NotFound => return Err(error),
            _ => return Ok(None),
        }
        Ok(match self.look.read_verified(&entry)? {
            Verified::Owned(stored) => Some(stored),
            Verified::Absent | Verified::Unfit(..) | Verified::Unread(_) => None,
        })
    }

    /// Forgets the record that was put away, if there is one.
    pub(in crate::store) fn discard_away(&self) -> Result<()> {
        forget(self.dir(), &beside(AWAY_PREFIX, self.name)).map(drop)
    }

    /// Whether the next commit would carry a secret over.
    ///
    /// # Errors
    /// The volume's.
    pub(in crate::store) fn has_secret(&self) -> Result<bool> {
        Ok(match self.look.read_record(self.name)? {
            Found::Visible(stored) => stored.has_secret,
            Found::Hidden => false,
            Found::Absent => self.away()?.is_some_and(|stored| stored.has_secret),
        })
    }
}
