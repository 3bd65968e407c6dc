//! What one user has, and the right to have more.
//!
//! Whoever makes something reserves it first, and says afterwards what came of it: of two who race for the last block, one is
//! refused. What others do to the volume is found when somebody counts all of it, while the user goes on working: see [`Counting`].

use std::collections::HashMap;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};

use super::amount::Amount;
use super::limits::Limits;
use crate::error::{Error, Kind, Result};

/// How often the end of a count waits for a moment in which nobody changes a size, and how long apart.
const ATTEMPTS: u32 = 1000;
const ATTEMPT_AGAIN: Duration = Duration::from_millis(1);

/// Until all is counted, what is added may be this part of what may be had.
const UNCOUNTED_PART: u64 = 16;

/// The least that may be added until all is counted, where there is room for it: four of the largest records.
const UNCOUNTED_LEAST: u64 = 64 << 20;

/// A file's identity: device and inode number.
pub type Inode = (u64, u64);

/// What one user has and may have, for all sessions of theirs.
#[derive(Debug)]
pub struct Meter {
    state: Mutex<State>,
    /// Held while a name is given to something else or to nothing, and that is counted.
    names: Mutex<()>,
}

#[derive(Debug, Default)]
pub(super) struct State {
    limits: Limits,
    /// Whether `used` is all that there is, and not only what was added since the meter began.
    is_counted: bool,
    used: Amount,
    reserved: Amount,
    /// What came and went, ever: what a count that is under way may have seen or not.
    grown: Amount,
    shrunk: Amount,
    /// Directories that were moved, ever: what is in them may have been counted twice, or not at all.
    moved_directories: u64,
    /// Of what is used, what has no name any more and is still open.
    pub(super) nameless: Amount,
    /// Files whose size is being changed.
    pub(super) changing: u32,
    pub(super) open: HashMap<Inode, Open>,
    /// By how much the last refusal was too much.
    short: Amount,
}

/// A file that somebody has open.
#[derive(Debug)]
pub(super) struct Open {
    /// How often.
    pub(super) opens: u32,
    /// Bytes, as it is counted.
    pub(super) size: u64,
    pub(super) has_name: bool,
    /// Held while its size is changed.
    pub(super) resizing: Arc<Mutex<()>>,
}

impl State {
    pub(super) fn change(&mut self, change: Amount) {
        self.used += change;
        self.grown += change.growth();
        self.shrunk += (-change).growth();
    }

    /// It was somewhere else a moment ago: a count may have seen it in both places, or in neither.
    pub(super) fn moved(&mut self, amount: Amount) {
        self.grown += amount;
        self.shrunk += amount;
    }

    /// What may be added up to now.
    fn effective_limits(&self) -> Limits {
        match self.is_counted {
            true => self.limits,
            false => Limits {
                bytes: self
                    .limits
                    .bytes
                    .map(|all| all.min((all / UNCOUNTED_PART).max(UNCOUNTED_LEAST))),
                files: self
                    .limits
                    .files
                    .map(|all| all.min((all / UNCOUNTED_PART).max(64))),
            },
        }
    }
}

/// What a user has of what they may have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Standing {
    /// What may be had.
    pub limits: Limits,
    /// What is there.
    pub used: Amount,
    /// Whether that is all of it: it is being counted else.
    pub is_counted: bool,
}

/// The right to give names away: what is counted meanwhile is counted for what the names lead to.
#[derive(Debug)]
pub struct Turn<'a> {
    meter: &'a Meter,
    _names: MutexGuard<'a, ()>,
}

/// The moment at which a count of everything began.
#[derive(Clone, Copy, Debug)]
pub struct Counting {
    grown: Amount,
    shrunk: Amount,
    moved_directories: u64,
}

impl Meter {
    /// The meter of a user of whom it is not known yet what they have.
    pub fn uncounted(limits: Limits) -> Self {
        Self {
            state: Mutex::new(State {
                limits,
                ..State::default()
            }),
            names: Mutex::default(),
        }
    }

    /// The meter of a user who has so much.
    pub fn counted(limits: Limits, used: Amount) -> Self {
        Self {
            state: Mutex::new(State {
                limits,
                used,
                is_counted: true,
                ..State::default()
            }),
            names: Mutex::default(),
        }
    }

    /// From now on this is what may be had. What is there already, stays.
    pub fn set_limits(&self, limits: Limits) {
        self.state().limits = limits;
    }

    /// How it stands.
    pub fn standing(&self) -> Standing {
        let state = self.state();
        Standing {
            limits: state.limits,
            used: state.used,
            is_counted: state.is_counted,
        }
    }

    /// By how much the last refusal was too much.
    pub fn short(&self) -> Amount {
        self.state().short
    }

    /// The right to have so much more.
    ///
    /// # Errors
    /// [`Kind::QuotaExceeded`].
    pub fn reserve(self: &Arc<Self>, wanted: Amount) -> Result<Reservation> {
        let mut reservation = Reservation {
            meter: Arc::clone(self),
            amount: Amount::NONE,
        };
        reservation.raise_to(wanted)?;
        Ok(reservation)
    }

    /// The right to change what names lead to.
    pub fn turn(&self) -> Turn<'_> {
        Turn {
            meter: self,
            _names: self.names.lock(),
        }
    }

    /// Somebody begins to count everything that the user has.
    pub fn begin_count(&self) -> Counting {
        let state = self.state();
        Counting {
            grown: state.grown,
            shrunk: state.shrunk,
            moved_directories: state.moved_directories,
        }
    }

    /// Somebody has counted everything that has a name. What came and went meanwhile may be in it or not: what is known is
    /// corrected by no more than that leaves certain. Returns whether that could be, and all is certain now; if directories
    /// were moved meanwhile, or a size is being changed all the time, nothing has changed.
    pub fn end_count(&self, began: Counting, counted: Amount) -> Option<bool> {
        for _ in 0..ATTEMPTS {
            let _names = self.names.lock();
            let mut state = self.state();
            if state.moved_directories != began.moved_directories {
                return None;
            }
            if state.changing == 0 {
                let all = counted + state.nameless;
                let (came, went) = (state.grown - began.grown, state.shrunk - began.shrunk);
                // What is reserved may be on the volume under a temporary name.
                let least = all - went - state.reserved;
                state.used = match state.is_counted {
                    true => state.used.within(least, all + came),
                    false => all,
                };
                let is_certain = came == Amount::NONE && went == Amount::NONE;
                state.is_counted = true;
                return Some(is_certain);
            }
            drop((state, _names));
            thread::sleep(ATTEMPT_AGAIN);
        }
        None
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }
}

impl Turn<'_> {
    /// A file or directory lost its name. While somebody has it open, it goes on being counted.
    pub fn leaves(&self, inode: Inode, amount: Amount) {
        let mut state = self.meter.state();
        match state.open.get_mut(&inode) {
            Some(open) if open.has_name => {
                open.has_name = false;
                let amount = Amount::file(open.size);
                state.nameless += amount;
                // From where a count finds it to where it is known without.
                state.moved(amount);
            }
            _ => state.change(-amount),
        }
    }

    /// A file has another name.
    pub fn moves(&self, amount: Amount) {
        self.meter.state().moved(amount);
    }

    /// A directory has another name, and everything in it.
    pub fn moves_directory(&self) {
        self.meter.state().moved_directories += 1;
    }
}

/// The right to have more. Dropped, it is given back.
#[derive(Debug)]
pub struct Reservation {
    meter: Arc<Meter>,
    amount: Amount,
}

impl Reservation {
    /// Reserves so much altogether.
    ///
    /// # Errors
    /// [`Kind::QuotaExceeded`]; then it is as much as before.
    pub fn raise_to(&mut self, wanted: Amount) -> Result<()> {
        let wanted = wanted.growth();
        let more = (wanted - self.amount).growth();
        let mut state = self.meter.state();
        let taken = state.used + state.reserved;
        if let Some(excess) = state.effective_limits().excess(taken, more) {
            state.short = excess;
            return Err(refusal(&state, excess));
        }
        state.reserved += more;
        self.amount += more;
        Ok(())
    }

    /// So much has come of it, more or less than was reserved.
    pub fn settle(self, change: Amount) {
        let meter = Arc::clone(&self.meter);
        self.settle_in(&mut meter.state(), change);
    }

    /// As [`settle`](Self::settle), for those who have the state already.
    pub(super) fn settle_in(mut self, state: &mut State, change: Amount) {
        state.change(change);
        state.reserved -= std::mem::take(&mut self.amount);
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if self.amount != Amount::NONE {
            self.meter.state().reserved -= self.amount;
        }
    }
}

fn refusal(state: &State, excess: Amount) -> Error {
    let limits = state.limits;
    let why = match (state.is_counted, limits.bytes, limits.files) {
        (false, ..) => {
            "the quota's first part is used up, and the rest is given when all is counted: in a moment"
                .to_owned()
        }
        (true, Some(bytes), _) if excess.bytes > 0 => {
            format!("the quota of {bytes} bytes is reached: remove something")
        }
        (true, _, files) => {
            let files = files.unwrap_or_default();
            format!("the quota of {files} files and directories is reached: remove some")
        }
    };
    Error::new(Kind::QuotaExceeded, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn amount(bytes: i64, files: i64) -> Amount {
        Amount { bytes, files }
    }

    fn meter(bytes: u64, used: Amount) -> Arc<Meter> {
        let limits = Limits {
            bytes: Some(bytes),
            files: None,
        };
        Arc::new(Meter::counted(limits, used))
    }

    #[test]
    fn of_those_who_race_no_more_pass_than_there_is_room_for() {
        let meter = meter(100, Amount::NONE);
        let passed: i64 = thread::scope(|scope| {
            let race = || {
                let mut passed = 0;
                for _ in 0..1000 {
                    if let Ok(reservation) = meter.reserve(amount(1, 1)) {
                        thread::yield_now();
                        reservation.settle(amount(1, 1));
                        passed += 1;
                    }
                    assert!(meter.standing().used.bytes <= 100);
                }
                passed
            };
            let racing = [(); 4].map(|()| scope.spawn(race));
            racing.into_iter().map(|one| one.join().unwrap()).sum()
        });
        assert_eq!(passed, 100);
    }

    #[test]
    fn what_was_not_needed_is_given_back() {
        let meter = meter(10, Amount::NONE);
        let mut reservation = meter.reserve(amount(4, 1)).unwrap();
        reservation.raise_to(amount(9, 1)).unwrap();
        let refused = reservation.raise_to(amount(13, 1)).unwrap_err();
        assert_eq!(refused.kind(), Kind::QuotaExceeded);
        assert_eq!(meter.short(), amount(3, 0));
        assert!(meter.reserve(amount(2, 0)).is_err());
        reservation.settle(amount(5, 1));
        assert_eq!(meter.standing().used, amount(5, 1));
        assert!(meter.reserve(amount(5, 0)).is_ok());
    }

    #[test]
    fn until_all_is_counted_a_part_may_be_added() {
        let limits = Limits {
            bytes: Some(16 << 30),
            files: Some(10),
        };
        let meter = Arc::new(Meter::uncounted(limits));
        meter
            .reserve(amount(1 << 30, 0))
            .unwrap()
            .settle(amount(1 << 30, 1));
        assert!(meter.reserve(amount(1, 0)).is_err());
        let began = meter.begin_count();
        assert_eq!(meter.end_count(began, amount(3 << 30, 7)), Some(true));
        assert_eq!(meter.standing().used, amount(3 << 30, 7));
        assert!(meter.reserve(amount(1 << 30, 3)).is_ok());
    }

    #[test]
    fn a_count_corrects_what_is_certain_and_nothing_else() {
        let meter = meter(1000, amount(100, 10));
        let began = meter.begin_count();
        assert_eq!(
            meter.end_count(began, amount(90, 9)),
            Some(true),
            "others removed one"
        );
        assert_eq!(meter.standing().used, amount(90, 9));
        let began = meter.begin_count();
        meter.reserve(amount(5, 1)).unwrap().settle(amount(5, 1));
        meter.turn().leaves((0, 1), amount(20, 1));
        assert_eq!(meter.standing().used, amount(75, 9));
        // It saw what is gone, and not what came: 90 is what it found, and nothing is wrong.
        assert_eq!(meter.end_count(began, amount(90, 9)), Some(false));
        assert_eq!(meter.standing().used, amount(75, 9));
        // It found more than came or went can explain.
        let began = meter.begin_count();
        meter.turn().moves(amount(5, 1));
        assert_eq!(meter.end_count(began, amount(95, 12)), Some(false));
        assert_eq!(meter.standing().used, amount(90, 11));
    }

    #[test]
    fn a_count_during_which_a_directory_was_moved_says_nothing() {
        let meter = meter(1000, amount(100, 10));
        let began = meter.begin_count();
        meter.turn().moves_directory();
        assert_eq!(meter.end_count(began, amount(0, 0)), None);
        assert_eq!(meter.standing().used, amount(100, 10));
    }
}
