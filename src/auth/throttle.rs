//! Who is refused again and again has to wait: guessing keys through us must not be worth it, nor a way to flood the
//! auth service.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::error::{Error, Kind, Result};

/// So many refusals cost nothing: people mistype.
const FREE: u32 = 3;

/// What the next one costs; each further one costs twice as much, up to the most.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const MAX_WAIT: Duration = Duration::from_secs(300);

/// Counts refusals by uid. A good key does not make good for them, time does: whoever has one could otherwise guess others'
/// keys in between. Pure: times come from the caller.
#[derive(Debug, Default)]
pub struct Throttle {
    refused: HashMap<u32, Refusals>,
}

#[derive(Debug)]
struct Refusals {
    count: u32,
    last: Instant,
}

impl Refusals {
    fn wait(&self) -> Duration {
        match self.count.checked_sub(FREE) {
            None => Duration::ZERO,
            Some(more) => FIRST_WAIT.saturating_mul(1 << more.min(16)).min(MAX_WAIT),
        }
    }
}

impl Throttle {
    /// Whether `uid` may try now.
    ///
    /// # Errors
    /// [`Kind::AuthenticationRefused`], with how long to wait.
    pub fn check(&mut self, uid: u32, now: Instant) -> Result<()> {
        // Who waited long enough starts anew: so there are never more entries than uids that were refused lately.
        self.refused
            .retain(|_, refusals| now.saturating_duration_since(refusals.last) < 2 * MAX_WAIT);
        let Some(refusals) = self.refused.get(&uid) else {
            return Ok(());
        };
        let left = (refusals.last + refusals.wait()).saturating_duration_since(now);
        if left.is_zero() {
            return Ok(());
        }
        Err(Error::new(
            Kind::AuthenticationRefused,
            format!(
                "{} keys were refused; try again in {} s",
                refusals.count,
                left.as_secs() + 1
            ),
        ))
    }

    /// `uid` was refused.
    pub fn refused(&mut self, uid: u32, now: Instant) {
        let refusals = self
            .refused
            .entry(uid)
            .or_insert(Refusals { count: 0, last: now });
        refusals.count = refusals.count.saturating_add(1);
        refusals.last = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wait(throttle: &mut Throttle, uid: u32, from: Instant) -> u64 {
        (0..)
            .find(|seconds| throttle.check(uid, from + Duration::from_secs(*seconds)).is_ok())
            .unwrap()
    }

    #[test]
    fn each_refusal_beyond_the_free_ones_doubles_the_wait_of_that_uid_only() {
        let now = Instant::now();
        let mut throttle = Throttle::default();
        let waits: Vec<u64> = (0..13)
            .map(|_| {
                throttle.refused(1, now);
                wait(&mut throttle, 1, now)
            })
            .collect();
        assert_eq!(waits, [0, 0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
        assert!(throttle.check(2, now).is_ok());
        let error = throttle.check(1, now).unwrap_err();
        assert_eq!(error.to_string(), "13 keys were refused; try again in 301 s");
    }

    #[test]
    fn enough_time_makes_good_for_everything() {
        let now = Instant::now();
        let mut throttle = Throttle::default();
        for _ in 0..5 {
            throttle.refused(2, now);
        }
        assert!(throttle.check(2, now).is_err());
        assert!(throttle.check(2, now + 2 * MAX_WAIT).is_ok());
        assert!(throttle.refused.is_empty(), "nothing is kept of who waited");
    }
}
