//! An open file whose size is counted.

use std::sync::Arc;

use parking_lot::Mutex;

use super::amount::Amount;
use super::meter::{Inode, Meter};
use crate::error::Result;

/// A file that somebody has open, one for all who have: its size is changed through this, or by others than us.
#[derive(Debug)]
pub struct Tracked {
    meter: Arc<Meter>,
    inode: Inode,
    known: Mutex<Known>,
}

#[derive(Debug)]
struct Known {
    /// As it is counted.
    size: u64,
    has_name: bool,
}

/// Said when a change of a size is over, however it went.
struct Changing<'a>(&'a Meter);

impl<'a> Changing<'a> {
    fn begin(meter: &'a Meter) -> Self {
        meter.state().changing += 1;
        Self(meter)
    }
}

impl Drop for Changing<'_> {
    fn drop(&mut self) {
        self.0.state().changing -= 1;
    }
}

impl Tracked {
    pub(super) fn new(meter: Arc<Meter>, inode: Inode, size: u64) -> Self {
        let known = Mutex::new(Known { size, has_name: true });
        Self { meter, inode, known }
    }

    /// Does something that may extend the file to `end`, and never shortens it.
    ///
    /// # Errors
    /// [`Kind::QuotaExceeded`](crate::error::Kind::QuotaExceeded), and nothing was done; those of `act` and `measure`.
    pub fn extend<T>(
        &self,
        end: u64,
        act: impl FnOnce() -> Result<T>,
        measure: impl FnOnce() -> Result<u64>,
    ) -> Result<T> {
        let mut known = self.known.lock();
        match end <= known.size {
            // Most that is written again; locked all the same, for somebody may want to shorten it.
            true => act(),
            false => self.change(&mut known, end, act, measure),
        }
    }

    /// Does something after which the file has `size` bytes.
    ///
    /// # Errors
    /// As [`extend`](Self::extend).
    pub fn resize<T>(
        &self,
        size: u64,
        act: impl FnOnce() -> Result<T>,
        measure: impl FnOnce() -> Result<u64>,
    ) -> Result<T> {
        self.change(&mut self.known.lock(), size, act, measure)
    }

    /// Does something that adds `more` bytes at the end, wherever that is.
    ///
    /// # Errors
    /// As [`extend`](Self::extend).
    pub fn append<T>(
        &self,
        more: u64,
        act: impl FnOnce() -> Result<T>,
        measure: impl Fn() -> Result<u64>,
    ) -> Result<T> {
        let mut known = self.known.lock();
        let end = measure()?.saturating_add(more);
        self.change(&mut known, end, act, measure)
    }

    fn change<T>(
        &self,
        known: &mut Known,
        size: u64,
        act: impl FnOnce() -> Result<T>,
        measure: impl FnOnce() -> Result<u64>,
    ) -> Result<T> {
        let before = Amount::file(known.size);
        let reservation = self.meter.reserve(Amount::file(size) - before)?;
        let changing = Changing::begin(&self.meter);
        let done = act();
        // Half of it may have been done.
        known.size = measure()?;
        let change = Amount::file(known.size) - before;
        if !known.has_name {
            self.meter.state().nameless += change;
        }
        reservation.settle(change);
        drop(changing);
        done
    }

    pub(super) fn loses_name(&self) {
        let mut known = self.known.lock();
        if std::mem::replace(&mut known.has_name, false) {
            let amount = Amount::file(known.size);
            let mut state = self.meter.state();
            state.nameless += amount;
            // From where a count finds it to where it is known without.
            state.moved(amount);
        }
    }
}

impl Drop for Tracked {
    fn drop(&mut self) {
        let known = self.known.get_mut();
        let mut state = self.meter.state();
        if !known.has_name {
            let amount = Amount::file(known.size);
            state.nameless -= amount;
            state.change(-amount);
        }
        if state
            .open
            .get(&self.inode)
            .is_some_and(|open| open.strong_count() == 0)
        {
            state.open.remove(&self.inode);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::error::{Error, Kind};
    use crate::quota::Limits;

    const INODE: Inode = (1, 2);

    fn meter() -> Arc<Meter> {
        let limits = Limits {
            bytes: Some(16 << 10),
            files: None,
        };
        Arc::new(Meter::counted(limits, Amount::file(0)))
    }

    fn used(meter: &Meter) -> i64 {
        meter.standing().used.bytes
    }

    #[test]
    fn what_extends_a_file_is_reserved_before_and_measured_afterwards() {
        let meter = meter();
        let (file, size) = (meter.opened(INODE, 0), Cell::new(0));
        let measure = || Ok(size.get());
        file.extend(9000, || Ok(size.set(9000)), measure).unwrap();
        assert_eq!(used(&meter), 12 << 10);
        // A part of it was written.
        let failed = file.extend(
            16 << 10,
            || {
                size.set(13_000);
                Err::<(), _>(Error::new(Kind::NoSpace, "the disk is full"))
            },
            measure,
        );
        assert_eq!(failed.unwrap_err().kind(), Kind::NoSpace);
        assert_eq!(used(&meter), 16 << 10);
        let refused = file.append(4000, || -> Result<()> { panic!("it was refused") }, measure);
        assert_eq!(refused.unwrap_err().kind(), Kind::QuotaExceeded);
        file.extend(13_000, || Ok(()), measure).unwrap();
        file.resize(1, || Ok(size.set(1)), measure).unwrap();
        assert_eq!(used(&meter), 4 << 10);
    }

    #[test]
    fn a_removed_file_counts_as_long_as_somebody_has_it_open() {
        let meter = meter();
        let (one, size) = (meter.opened(INODE, 0), Cell::new(0));
        let other = meter.opened(INODE, 0);
        one.extend(8000, || Ok(size.set(8000)), || Ok(size.get()))
            .unwrap();
        meter.turn().leaves(INODE, Amount::file(8000));
        drop(one);
        assert_eq!(used(&meter), 8 << 10);
        other
            .extend(9000, || Ok(size.set(9000)), || Ok(size.get()))
            .unwrap();
        let began = meter.begin_count();
        assert_eq!(meter.end_count(began, Amount::NONE), Some(true));
        assert_eq!(
            used(&meter),
            12 << 10,
            "a count does not find it, and knows of it"
        );
        drop(other);
        assert_eq!(meter.standing().used, Amount::NONE);
        assert!(meter.state().open.is_empty());
    }
}
