//! Counting what comes into a directory, and what goes.

use super::dir::{Dir, Rename};
use super::stat::{FileType, Stat};
use crate::error::Result;
use crate::quota::{Amount, Reservation, Tracked};

impl Stat {
    /// What it counts.
    pub fn amount(&self) -> Amount {
        match self.file_type {
            FileType::Regular => Amount::file(self.size),
            FileType::Directory => Amount::directory(),
            FileType::Special => Amount::file(0),
        }
    }

    fn inode(&self) -> (u64, u64) {
        (self.id.dev, self.id.ino)
    }
}

impl Dir {
    /// What counts the size of a file that was opened here, where that is counted.
    pub fn tracked(&self, stat: &Stat) -> Option<Tracked> {
        let meter = self.meter.as_ref()?;
        Some(Tracked::open(meter, stat.inode(), stat.size))
    }

    /// The right to make something here that counts so much, where that is counted.
    ///
    /// # Errors
    /// [`Kind::QuotaExceeded`](crate::error::Kind::QuotaExceeded).
    pub(super) fn reserve(&self, amount: Amount) -> Result<Option<Reservation>> {
        self.meter.as_ref().map(|meter| meter.reserve(amount)).transpose()
    }

    /// What is counted of these entries, where anything is.
    pub(super) fn amount_of(&self, names: &[&str]) -> Amount {
        let mut amount = Amount::NONE;
        if self.meter.is_some() {
            let there = names.iter().filter_map(|name| self.stat(name).ok());
            there.for_each(|stat| amount += stat.amount());
        }
        amount
    }

    /// Makes something new that counts so much.
    ///
    /// # Errors
    /// [`Kind::QuotaExceeded`](crate::error::Kind::QuotaExceeded); those of `act`.
    pub(super) fn appearing(&self, amount: Amount, act: impl FnOnce() -> Result<()>) -> Result<()> {
        let reservation = self.reserve(amount)?;
        let _turn = self.meter.as_ref().map(|meter| meter.turn());
        act()?;
        if let Some(reservation) = reservation {
            reservation.settle(amount);
        }
        Ok(())
    }

    /// Has a file that was made, and counts so much, take the name, from whatever has it.
    ///
    /// # Errors
    /// Those of `act`.
    pub(super) fn placing(
        &self,
        name: &str,
        reservation: Option<Reservation>,
        amount: Amount,
        act: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        let (Some(meter), Some(reservation)) = (&self.meter, reservation) else {
            return act();
        };
        let turn = meter.turn();
        let replaced = self.stat(name).ok();
        act()?;
        reservation.settle(amount);
        if let Some(replaced) = replaced {
            turn.leaves(replaced.inode(), replaced.amount());
        }
        Ok(())
    }

    /// Removes the name.
    ///
    /// # Errors
    /// Those of `act`.
    pub(super) fn leaving(&self, name: &str, act: impl FnOnce() -> Result<()>) -> Result<()> {
        let Some(meter) = &self.meter else {
            return act();
        };
        let turn = meter.turn();
        let removed = self.stat(name).ok();
        act()?;
        if let Some(removed) = removed {
            turn.leaves(removed.inode(), removed.amount());
        }
        Ok(())
    }

    /// Renames `from` here to `to` in `target`.
    ///
    /// # Errors
    /// Those of `act`.
    pub(super) fn renaming(
        &self,
        from: &str,
        target: &Self,
        to: &str,
        how: Rename,
        act: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        let Some(meter) = &self.meter else {
            return act();
        };
        let turn = meter.turn();
        let (moved, other) = (self.stat(from).ok(), target.stat(to).ok());
        act()?;
        for stat in moved.iter().chain(&other) {
            match stat.file_type {
                FileType::Directory => turn.moves_directory(),
                FileType::Regular | FileType::Special => turn.moves(stat.amount()),
            }
        }
        match other {
            Some(replaced) if how == Rename::Replace && moved.is_none_or(|moved| moved.id != replaced.id) => {
                turn.leaves(replaced.inode(), replaced.amount());
            }
            _ => {}
        }
        Ok(())
    }
}
