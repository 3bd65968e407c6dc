//! What a record leaves to the next one of its name when it is removed or renamed: its secrets, and nothing else.

use super::handle::Record;
use zeroize::Zeroizing;

use crate::clock::Timestamp;
use crate::error::{Kind, Result};
use crate::event::Event;
use crate::store::found::{Found, Stored};
use crate::store::reserved::{
    AWAY_PREFIX, Reserved, SECRETS_PREFIX, beside, forget, note_name, note_name_of, telling,
};
use crate::store::waiting::{Waiting, is_outdated, verified};
use crate::volume::{Durability, Rename, Staged, Stat};

/// An entry of ours that a record has left to the next one of its name.
pub(super) struct Remains {
    pub(super) entry: String,
    stat: Stat,
}

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
        self.newest_secret(&self.remains()?)
    }

    /// As [`left`](Self::left), where these secrets are nowhere else.
    ///
    /// # Errors
    /// The volume's.
    pub(super) fn last(&self) -> Result<Option<Stored>> {
        self.only_secret(&self.remains()?)
    }

    fn only_secret(&self, remains: &[Remains]) -> Result<Option<Stored>> {
        let is_only = |remains: &&Remains| Reserved::of(&remains.entry) != Reserved::Secrets;
        self.newest_secret(remains.iter().filter(is_only))
    }

    /// The last of these that has a secret, within its time. Each takes the others' place: there are several only if the
    /// server was killed in between.
    pub(super) fn newest_secret<'r>(
        &self,
        remains: impl IntoIterator<Item = &'r Remains>,
    ) -> Result<Option<Stored>> {
        let mut newest: Option<Stored> = None;
        for remains in remains {
            let stored = self.secret_in(remains)?;
            newest = newest
                .into_iter()
                .chain(stored)
                .max_by_key(|stored| stored.stat.ctime);
        }
        Ok(newest)
    }

    fn secret_in(&self, Remains { entry, stat }: &Remains) -> Result<Option<Stored>> {
        if self.look.tenant.facts.lock().has_no_secret(stat) {
            return Ok(None);
        }
        let stored = verified(self.look, entry)?;
        Ok(stored.filter(|stored| stored.has_secret && !is_outdated(self.look, entry, &stored.stat)))
    }

    /// Takes note that `stored`, which was read at `now` and is called `entry` since, has no secret: the next record of
    /// its name need not read it. Not where it was changed in between, or so shortly before that nothing would tell.
    pub(super) fn has_left_no_secret(&self, stored: &Stored, entry: &str, now: Timestamp) {
        let read = stored.stat;
        let is_same = |stat: &Stat| (stat.id, stat.size, stat.mtime) == (read.id, read.size, read.mtime);
        if !stored.has_secret
            && read.version().is_settled(now)
            && let Ok(stat) = self.dir().stat(entry)
            && is_same(&stat)
        {
            self.look.tenant.facts.lock().remember_no_secret(&stat);
        }
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
        let remains = self.remains()?;
        let is_lost = !has_secret && self.only_secret(&remains)?.is_some();
        self.forget_remains(&remains)?;
        if is_lost {
            self.tell_dropped();
        }
        Ok(())
    }

    pub(super) fn forget_remains(&self, remains: &[Remains]) -> Result<()> {
        for Remains { entry, .. } in remains {
            forget(self.dir(), entry)?;
        }
        Ok(())
    }

    fn forget_last(&self) -> Result<()> {
        forget(self.dir(), self.waiting().entry())?;
        forget(self.dir(), &self.away_entry()).map(drop)
    }

    /// What may be left to the next record of this name: nearly always nothing, and to look for that costs less than to
    /// remove it.
    ///
    /// # Errors
    /// The volume's.
    pub(super) fn remains(&self) -> Result<Vec<Remains>> {
        let mut remains = Vec::new();
        for entry in self.left_entries() {
            match self.dir().stat(&entry) {
                Err(error) if error.kind() == Kind::NotFound => {}
                stat => remains.push(Remains { stat: stat?, entry }),
            }
        }
        Ok(remains)
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
    fn left_entries(&self) -> [String; 3] {
        [
            self.waiting().entry().to_owned(),
            self.away_entry(),
            self.secrets_entry(),
        ]
    }

    pub(super) fn tell_dropped(&self) {
        self.observe(&Event::SecretDropped { path: self.path() });
    }
}
