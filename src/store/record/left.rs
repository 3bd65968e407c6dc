//! What a record leaves to the next one of its name when it is removed or renamed: its secrets, and nothing else.

use super::handle::Record;
use zeroize::Zeroizing;

use crate::error::{Kind, Result};
use crate::event::Event;
use crate::store::found::{Found, Stored};
use crate::store::reserved::{AWAY_PREFIX, SECRETS_PREFIX, beside, forget, note_name, note_name_of, telling};
use crate::store::waiting::{Waiting, is_outdated, verified};
use crate::volume::{Durability, Rename, Staged};

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
        self.look.waits(&entry);
        // What was left before is superseded.
        forget(self.dir(), &self.secrets_entry())?;
        forget(self.dir(), self.waiting().entry()).map(drop)
    }

    /// Leaves the secrets of `stored` to the next record of this name. `stored` has them as well, under another name, or is
    /// going to be renamed to one.
    ///
    /// # Errors
    /// The volume's.
    pub(in crate::store) fn leave_secrets(&self, stored: &Stored) -> Result<()> {
        if self.look.tenant.options.keep_removed.is_zero() {
            return Ok(());
        }
        self.look.unless_full(self.name, self.note_secrets(stored))?;
        // What was left before is superseded.
        self.forget_last()
    }

    /// As [`leave_secrets`](Self::leave_secrets), and a record of this name that was removed goes on waiting to be restored.
    ///
    /// # Errors
    /// The volume's.
    pub(in crate::store) fn note_secrets(&self, stored: &Stored) -> Result<()> {
        // A record like any other, in which nothing else is.
        let secrets = self.look.tenant.lens.put(Some(&stored.text), b"{}")?.stored;
        let secrets = Zeroizing::new(secrets);
        let entry = self.secrets_entry();
        let mut staged = Staged::instead_of(&[&entry], self.dir(), &stored.stat)?;
        staged.write(&secrets)?;
        note_name_of(&staged, self.name, &entry);
        // Before the record's own name changes, whatever that waits for.
        staged.place(&entry, Durability::Ordered)?;
        self.look.waits(&entry);
        Ok(())
    }

    /// The record that left secrets to the next of this name, if there is one.
    ///
    /// # Errors
    /// The volume's.
    pub(in crate::store) fn left(&self) -> Result<Option<Stored>> {
        let candidates = [self.last()?, self.waiting_as(&self.secrets_entry())?];
        let candidates = candidates.into_iter().flatten();
        // Each takes the other's place: there are two only if the server was killed in between.
        Ok(candidates.max_by_key(|stored| stored.stat.ctime))
    }

    /// As [`left`](Self::left), where these secrets are nowhere else.
    ///
    /// # Errors
    /// The volume's.
    pub(super) fn last(&self) -> Result<Option<Stored>> {
        let candidates = [self.waiting().record()?, self.waiting_as(&self.away_entry())?];
        let with_secret = candidates
            .into_iter()
            .flatten()
            .filter(|stored| stored.has_secret);
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
        if !self.is_anything_left()? {
            // Nearly always: to remove what is not there costs more than to look.
            return Ok(());
        }
        let is_lost = !has_secret && self.last()?.is_some();
        self.forget_last()?;
        forget(self.dir(), &self.secrets_entry())?;
        if is_lost {
            self.tell_dropped();
        }
        Ok(())
    }

    fn forget_last(&self) -> Result<()> {
        forget(self.dir(), self.waiting().entry())?;
        forget(self.dir(), &self.away_entry()).map(drop)
    }

    /// Whether there is anything of which [`left`](Self::left) would have to find out what it is.
    pub(super) fn is_anything_left(&self) -> Result<bool> {
        for entry in self.left_entries() {
            match self.dir().stat(&entry) {
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

    pub(in crate::store) fn away_entry(&self) -> String {
        beside(AWAY_PREFIX, self.name)
    }

    pub(in crate::store) fn secrets_entry(&self) -> String {
        telling(SECRETS_PREFIX, self.name)
    }

    /// Whatever may be left to the next record of this name: it goes when that is in its place.
    pub(super) fn left_entries(&self) -> [String; 3] {
        [
            self.waiting().entry().to_owned(),
            self.away_entry(),
            self.secrets_entry(),
        ]
    }

    pub(super) fn tell_dropped(&self) {
        self.observe(&Event::SecretDropped { path: self.path() });
    }

    /// What waits as `entry`, within its time.
    fn waiting_as(&self, entry: &str) -> Result<Option<Stored>> {
        match self.dir().stat(entry) {
            Ok(stat) if !is_outdated(self.look, entry, &stat) => verified(self.look, entry),
            Err(error) if error.kind() != Kind::NotFound => Err(error),
            _ => Ok(None),
        }
    }
}
