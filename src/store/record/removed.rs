//! Removing records, and the way back.

use super::handle::Record;
use crate::clock::{self, Timestamp};
use crate::error::{Error, Kind, Result};
use crate::event::{Event, Op};
use crate::store::attributes::NodeKind;
use crate::store::found::{Found, Stored, not_found};
use crate::store::reserved::forget;
use crate::volume::Durability;

impl Record<'_> {
    /// Removes the record as its user sees it: its draft for good, and what was last committed so that it waits, as long
    /// as the options say. Until then the next record of this name gets its secrets, and [`Store::restore`] brings it
    /// back.
    ///
    /// [`Store::restore`]: crate::store::Store::restore
    ///
    /// # Errors
    /// [`Kind::NotFound`]; [`Kind::IsADirectory`]; the volume's.
    pub fn remove(&self) -> Result<()> {
        self.look.tenant.claim()?;
        let seen = self.look.lookup(self.name)?;
        if seen.kind == NodeKind::Directory {
            return Err(Error::new(Kind::IsADirectory, "a directory"));
        }
        let now = clock::now();
        match self.look.read_record(self.name)? {
            Found::Visible(stored) => self.put_aside(&stored, now)?,
            // What waits of an older record goes on waiting.
            Found::Absent if seen.kept_draft => {}
            Found::Absent | Found::Hidden => return Err(not_found()),
        }
        self.discard_draft().map(drop)
    }

    /// `stored` was read at `now` or after it.
    fn put_aside(&self, stored: &Stored, now: Timestamp) -> Result<()> {
        if self.look.tenant.options.keep_removed.is_zero() {
            return self.unlink(stored);
        }
        let is_lost = !stored.has_secret && self.last()?.is_some();
        self.waiting().put()?;
        self.look.waits(self.waiting().entry());
        self.has_left_no_secret(stored, self.waiting().entry(), now);
        forget(self.dir(), &self.away_entry())?;
        forget(self.dir(), &self.secrets_entry())?;
        if is_lost {
            // The last record of this name had no secret: one that an older record had stays gone.
            self.tell_dropped();
        }
        Ok(())
    }

    fn unlink(&self, stored: &Stored) -> Result<()> {
        let is_lost = stored.has_secret || self.last()?.is_some();
        self.dir().unlink(self.name.as_str())?;
        forget(self.dir(), &self.away_entry())?;
        forget(self.dir(), &self.secrets_entry())?;
        self.waiting().drop_for_good()?;
        if is_lost {
            self.tell_dropped();
        }
        Ok(())
    }

    /// Removes the record for good, its secrets, its draft, and whatever waits of older ones.
    ///
    /// # Errors
    /// [`Kind::NotFound`] when there was no record, whatever waited; the volume's.
    pub fn delete(&self) -> Result<()> {
        self.look.tenant.claim()?;
        let committed = self.look.read_record(self.name)?;
        let is_lost = match &committed {
            Found::Visible(stored) => stored.has_secret || self.last()?.is_some(),
            Found::Absent | Found::Hidden => self.last()?.is_some(),
        };
        let removed = committed
            .visible()
            .and_then(|_| self.dir().unlink(self.name.as_str()));
        if removed.is_ok() {
            self.discard_draft()?;
        }
        forget(self.dir(), self.waiting().entry())?;
        forget(self.dir(), &self.away_entry())?;
        forget(self.dir(), &self.secrets_entry())?;
        if is_lost {
            self.tell_dropped();
        }
        removed
    }

    /// Brings back the record that was removed last: its content and secrets, its mode and times.
    ///
    /// # Errors
    /// [`Kind::NotFound`] when none waits any more; [`Kind::Exists`] when something has its name again,
    /// [`Kind::NameTaken`] when that is hidden; the volume's.
    pub(in crate::store) fn restore(&self) -> Result<()> {
        self.look.tenant.claim()?;
        self.look.vacant(Op::Create, self.name)?;
        if self.waiting().record()?.is_none() {
            return Err(not_found());
        }
        self.waiting().give_back()?;
        if self.look.tenant.options.durability == Durability::Durable {
            self.dir().sync()?;
        }
        self.observe(&Event::Restored { path: self.path() });
        Ok(())
    }
}
