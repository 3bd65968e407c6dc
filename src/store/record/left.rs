//! What a record leaves to the next one of its name when it is removed, or renamed to an attachment's name: its secrets,
//! and nothing else.

use super::handle::Record;
use crate::error::{Kind, Result};
use crate::event::Event;
use crate::store::found::{Found, Stored};
use crate::store::reserved::{AWAY_PREFIX, Reserved, beside, forget, note_name};
use crate::store::waiting::{Waiting, is_outdated, verified};
use crate::volume::Rename;

impl<'f> Record<'f> {
    /// Leaves its secrets: puts it where only its next commit finds it.
    ///
    /// # Errors
    /// The volume's.
    pub(in crate::store) fn put_away(&self) -> Result<()> {
        let entry = self.away_entry();
        note_name(self.dir(), self.name, &entry);
        self.dir()
            .rename(self.name.as_str(), self.dir(), &entry, Rename::Replace)?;
        // What was left before is superseded.
        forget(self.dir(), self.waiting().entry()).map(drop)
    }

    /// The record that left secrets to the next of this name, if there is one.
    ///
    /// # Errors
    /// The volume's.
    pub(in crate::store) fn left(&self) -> Result<Option<Stored>> {
        let candidates = [self.waiting().record()?, self.away()?];
        let with_secret = candidates
            .into_iter()
            .flatten()
            .filter(|stored| stored.has_secret);
        // Each takes the other's place: there are two only if the server was killed in between.
        Ok(with_secret.max_by_key(|stored| stored.stat.ctime))
    }

    /// Whether the next commit would carry a secret over.
    ///
    /// # Errors
    /// The volume's.
    pub(in crate::store) fn has_secret(&self) -> Result<bool> {
        Ok(match self.look.read_record(self.name)? {
            Found::Visible(stored) => stored.has_secret,
            Found::Hidden => false,
            Found::Absent => self.left()?.is_some(),
        })
    }

    /// Forgets what was left to the next record of this name, which is there now, and has a secret or not.
    ///
    /// # Errors
    /// The volume's.
    pub(in crate::store) fn supersede_left(&self, has_secret: bool) -> Result<()> {
        if !has_secret && !self.is_anything_left()? {
            // Nearly always: to remove what is not there costs more than to look.
            return Ok(());
        }
        let is_lost = !has_secret && self.left()?.is_some();
        forget(self.dir(), self.waiting().entry())?;
        forget(self.dir(), &self.away_entry())?;
        if is_lost {
            self.tell_dropped();
        }
        Ok(())
    }

    /// Whether there is anything of which [`left`](Self::left) would have to find out what it is.
    fn is_anything_left(&self) -> Result<bool> {
        for entry in [self.waiting().entry(), &self.away_entry()] {
            match self.dir().stat(entry) {
                Err(error) if error.kind() == Kind::NotFound => {}
                there => return there.map(|_| true),
            }
        }
        Ok(false)
    }

    /// Forgets what was left to the next record of this name, if that is there by now.
    ///
    /// # Errors
    /// The volume's.
    pub(in crate::store) fn settle_left(&self) -> Result<()> {
        match self.look.read_record(self.name)? {
            Found::Visible(stored) => self.supersede_left(stored.has_secret),
            Found::Absent | Found::Hidden => Ok(()),
        }
    }

    pub(super) fn waiting(&self) -> Waiting<'f> {
        Waiting::new(self.look, self.name)
    }

    pub(super) fn away_entry(&self) -> String {
        beside(AWAY_PREFIX, self.name)
    }

    pub(super) fn tell_dropped(&self) {
        self.observe(&Event::SecretDropped { path: self.path() });
    }

    /// The record as it was when it was put away, within the hour.
    fn away(&self) -> Result<Option<Stored>> {
        let entry = self.away_entry();
        match self.dir().stat(&entry) {
            Ok(stat) if !is_outdated(self.look, Reserved::Away, &stat) => verified(self.look, &entry),
            Err(error) if error.kind() != Kind::NotFound => Err(error),
            _ => Ok(None),
        }
    }
}
