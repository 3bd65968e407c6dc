//! An open file whose size is counted.

use std::sync::Arc;

use parking_lot::Mutex;

use super::amount::Amount;
use super::meter::{Inode, Meter, Open};
use crate::error::Result;

/// An open file: its size is changed through this, or by others than us.
#[derive(Debug)]
pub struct Tracked {
    meter: Arc<Meter>,
    inode: Inode,
    resizing: Arc<Mutex<()>>,
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
    /// A file of so many bytes was opened.
    pub fn open(meter: &Arc<Meter>, inode: Inode, size: u64) -> Self {
        let mut state = meter.state();
        let open = state.open.entry(inode).or_insert_with(|| Open {
            opens: 0,
            size,
            has_name: true,
            resizing: Arc::default(),
        });
        open.opens += 1;
        Self {
            meter: Arc::clone(meter),
            inode,
            resizing: Arc::clone(&open.resizing),
        }
    }

    /// The same file is opened once more.
    pub fn open_again(&self) -> Self {
        Self::open(&self.meter, self.inode, self.size())
    }

    /// Does something that may extend the file to `end`, and never shortens it.
    ///
    /// # Errors
    /// [`Kind::QuotaExceeded`](crate::error::Kind::QuotaExceeded), and nothing was done; those of `act` and `measure`.
    pub fn extend<T>(
        &self,
        end: u64,
        act: impl FnOnce() -> Result<T>,
        measure: impl Fn() -> Result<u64>,
    ) -> Result<T> {
        // Also where it does not grow: somebody may want to shorten it.
        let _resizing = self.resizing.lock();
        match end <= self.size() {
            true => act(),
            false => self.change(measure()?, end, act, measure),
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
        measure: impl Fn() -> Result<u64>,
    ) -> Result<T> {
        let _resizing = self.resizing.lock();
        self.change(measure()?, size, act, measure)
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
        let _resizing = self.resizing.lock();
        let size = measure()?;
        self.change(size, size.saturating_add(more), act, measure)
    }

    fn size(&self) -> u64 {
        self.meter
            .state()
            .open
            .get(&self.inode)
            .map_or(0, |open| open.size)
    }

    /// What others did to it until `before` is for a count to find, and may be found already.
    fn change<T>(
        &self,
        before: u64,
        size: u64,
        act: impl FnOnce() -> Result<T>,
        measure: impl FnOnce() -> Result<u64>,
    ) -> Result<T> {
        let reservation = self.meter.reserve(Amount::file(size) - Amount::file(before))?;
        let changing = Changing::begin(&self.meter);
        let done = act();
        // Half of it may have been done.
        let after = measure()?;
        let change = Amount::file(after) - Amount::file(before);
        let mut state = self.meter.state();
        reservation.settle_in(&mut state, change);
        if let Some(open) = state.open.get_mut(&self.inode) {
            let unknown = Amount::file(before) - Amount::file(open.size);
            open.size = after;
            if !open.has_name {
                state.nameless += change + unknown;
                // No count finds it any more.
                state.change(unknown);
            }
        }
        drop(state);
        drop(changing);
        done
    }
}

impl Drop for Tracked {
    fn drop(&mut self) {
        let mut state = self.meter.state();
        let Some(open) = state.open.get_mut(&self.inode) else {
            return;
        };
        open.opens -= 1;
        if open.opens > 0 {
            return;
        }
        if !open.has_name {
            let amount = Amount::file(open.size);
            state.nameless -= amount;
            state.change(-amount);
        }
        state.open.remove(&self.inode);
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

    /// Does as if the file had the size.
    fn becomes(size: &Cell<u64>, bytes: u64) -> Result<()> {
        size.set(bytes);
        Ok(())
    }

    fn used(meter: &Meter) -> i64 {
        meter.standing().used.bytes
    }

    #[test]
    fn what_extends_a_file_is_reserved_before_and_measured_afterwards() {
        let meter = meter();
        let (file, size) = (Tracked::open(&meter, INODE, 0), Cell::new(0));
        let measure = || Ok(size.get());
        file.extend(9000, || becomes(&size, 9000), measure).unwrap();
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
        file.resize(1, || becomes(&size, 1), measure).unwrap();
        assert_eq!(used(&meter), 4 << 10);
    }

    #[test]
    fn a_removed_file_counts_as_long_as_somebody_has_it_open() {
        let meter = meter();
        let (one, size) = (Tracked::open(&meter, INODE, 0), Cell::new(0));
        let other = Tracked::open(&meter, INODE, 0);
        one.extend(8000, || becomes(&size, 8000), || Ok(size.get()))
            .unwrap();
        meter.turn().leaves(INODE, Amount::file(8000));
        drop(one);
        assert_eq!(used(&meter), 8 << 10);
        other
            .extend(9000, || becomes(&size, 9000), || Ok(size.get()))
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
