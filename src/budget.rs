//! What one tenant may take of what all sessions of a process share: memory, and open files.
//!
//! A share may take as much as would still be left of the pool (dynamic thresholds: Choudhury & Hahne, "Dynamic queue
//! length thresholds for shared-memory packet switches", 1998, with α = 1). One who takes all that can be had so stops at
//! half of the pool, two at a third each: whoever comes later always finds something, nothing lies idle for those who do not come, and
//! nobody has to say how many there will be.
//!
//! What comes later is then little, where many came before. So a share may have a floor: as much of it as that is always
//! there, and is not taken from the pool.

use std::sync::Arc;

use parking_lot::Mutex;

/// What is there for all.
#[derive(Debug)]
pub struct Pool {
    capacity: u64,
    used: Mutex<Used>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Used {
    /// What is taken of the capacity: what shares have beyond their floors.
    shared: u64,
    /// What is taken in all.
    all: u64,
}

impl Pool {
    /// A pool of so many units.
    pub fn new(capacity: u64) -> Arc<Self> {
        Arc::new(Self {
            capacity,
            used: Mutex::default(),
        })
    }

    /// A pool for one tenant alone, who gets at most so many units.
    pub fn alone(most: u64) -> Arc<Self> {
        Self::new(most.saturating_mul(2))
    }

    /// One tenant's share: at most so many units, however many are free.
    pub fn share(self: &Arc<Self>, most: u64) -> Arc<Share> {
        self.share_with_floor(most, 0)
    }

    /// The same; of which so many, its floor, can always be had.
    pub fn share_with_floor(self: &Arc<Self>, most: u64, floor: u64) -> Arc<Share> {
        Arc::new(Share {
            pool: Arc::clone(self),
            floor,
            most: most.max(floor),
            used: Mutex::new(0),
        })
    }

    /// How many units are taken, floors included.
    pub fn used(&self) -> u64 {
        self.used.lock().all
    }
}

/// What one tenant has of a pool.
#[derive(Debug)]
pub struct Share {
    pool: Arc<Pool>,
    floor: u64,
    most: u64,
    /// Locked before the pool's.
    used: Mutex<u64>,
}

impl Share {
    /// Has `now` taken of it instead of `own`, and the pool's as much more or less.
    fn move_to(&self, own: &mut u64, all: &mut Used, now: u64) {
        let beyond = |used: u64| used.saturating_sub(self.floor);
        all.shared = all
            .shared
            .saturating_sub(beyond(*own))
            .saturating_add(beyond(now));
        all.all = all.all.saturating_sub(*own).saturating_add(now);
        *own = now;
    }

    /// Counts so many units that are there already, beyond what may be had, too.
    pub fn count(self: &Arc<Self>, units: u64) -> Charge {
        let mut charge = Charge {
            share: Arc::clone(self),
            units: 0,
        };
        charge.set(units);
        charge
    }

    /// Takes so many units, until the charge is dropped; none when that is too much.
    pub fn take(self: &Arc<Self>, units: u64) -> Option<Charge> {
        let mut charge = Charge {
            share: Arc::clone(self),
            units: 0,
        };
        charge.grow(units).then_some(charge)
    }
}

/// Units that are taken. Dropped, they are given back.
#[derive(Debug)]
pub struct Charge {
    share: Arc<Share>,
    units: u64,
}

impl Charge {
    /// Takes more. Whether it could be had; else nothing has changed.
    #[must_use]
    pub fn grow(&mut self, units: u64) -> bool {
        let share = &self.share;
        let (mut own, mut all) = (share.used.lock(), share.pool.used.lock());
        let wanted = own.saturating_add(units);
        let free = share.pool.capacity.saturating_sub(all.shared);
        let most = share.most.min(share.floor.saturating_add(free));
        if units > 0 && wanted > most {
            return false;
        }
        share.move_to(&mut own, &mut all, wanted);
        self.units = self.units.saturating_add(units);
        true
    }

    /// Counts what is there already, more or less than was taken: beyond what may be had, too. Nobody gets more then, until
    /// as much is given back.
    pub fn set(&mut self, units: u64) {
        let (mut own, mut all) = (self.share.used.lock(), self.share.pool.used.lock());
        let now = own.saturating_sub(self.units).saturating_add(units);
        self.share.move_to(&mut own, &mut all, now);
        self.units = units;
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.set(0);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Takes one by one until there is no more.
    fn flood(share: &Arc<Share>) -> Vec<Charge> {
        std::iter::from_fn(|| share.take(1)).collect()
    }

    #[test]
    fn whoever_takes_all_leaves_half_and_whoever_comes_later_half_of_that() {
        let pool = Pool::new(1200);
        let [first, second, third] = [(); 3].map(|()| pool.share(u64::MAX));
        let mut floods = vec![flood(&first)];
        assert_eq!(floods[0].len(), 600);
        floods.push(flood(&second));
        assert_eq!(floods[1].len(), 300);
        floods.push(flood(&third));
        assert_eq!(floods[2].len(), 150);
        drop(floods);
        assert_eq!(flood(&third).len(), 600, "all is given back");
    }

    #[test]
    fn a_floor_can_be_had_however_many_took_all_they_could_before() {
        let pool = Pool::new(1000);
        let mut floods: Vec<_> = (0..12)
            .map(|_| flood(&pool.share_with_floor(u64::MAX, 10)))
            .collect();
        let late = pool.share_with_floor(u64::MAX, 10);
        let charges = flood(&late);
        assert!(charges.len() >= 10, "{}", charges.len());
        let all: usize = floods.iter().map(Vec::len).sum::<usize>() + charges.len();
        assert_eq!(pool.used(), all as u64);
        assert!(all <= 1000 + 13 * 10, "the capacity and thirteen floors: {all}");
        floods.clear();
        drop(charges);
        assert_eq!(pool.used(), 0);
        assert_eq!(flood(&late).len(), 510, "half of the pool, and the floor");
    }

    #[test]
    fn a_share_has_a_limit_of_its_own() {
        let share = Pool::alone(10).share(10);
        let mut charge = share.take(4).unwrap();
        assert!(charge.grow(6) && !charge.grow(1));
        assert!(share.take(1).is_none() && share.take(0).is_some());
        charge.set(3);
        assert!(share.take(7).is_some());
        charge.set(20);
        assert!(share.take(1).is_none());
        drop(charge);
        assert!(share.take(10).is_some());
    }

    proptest! {
        #[test]
        fn no_more_is_taken_than_there_is_and_all_is_given_back(
            steps in proptest::collection::vec((0usize..4, 1u64..50, any::<bool>()), 1..200),
        ) {
            let pool = Pool::new(500);
            let shares = [0, 0, 20, 50].map(|floor| pool.share_with_floor(200, floor));
            let mut charges: Vec<Charge> = Vec::new();
            for (who, units, takes) in steps {
                if takes {
                    let before = pool.used();
                    let got = shares[who].take(units);
                    prop_assert_eq!(pool.used(), before + got.as_ref().map_or(0, |_| units));
                    charges.extend(got);
                } else if !charges.is_empty() {
                    let at = units as usize % charges.len();
                    charges.swap_remove(at);
                }
                prop_assert!(pool.used.lock().shared <= 500);
                prop_assert!(shares.iter().all(|share| *share.used.lock() <= 200));
                prop_assert_eq!(pool.used(), charges.iter().map(|charge| charge.units).sum::<u64>());
                // Somebody new always gets something.
                prop_assert!(pool.share(200).take(1).is_some());
            }
            charges.clear();
            prop_assert_eq!((pool.used(), pool.used.lock().shared), (0, 0));
        }
    }
}
