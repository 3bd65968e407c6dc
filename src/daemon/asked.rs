//! How often somebody may ask what takes the daemon long to find out.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::refusal::{Answer, Refusal};
use crate::clock;

/// How often one uid may ask, in the long run and at once: an answer takes some milliseconds, if nothing is new.
const AGAIN: Duration = Duration::from_secs(1);
const AT_ONCE: u32 = 10;

/// How many uids have asked until those are looked for who may again as if they never had.
const MANY: usize = 1024;

/// When each uid would have been done asking, at one question for each [`AGAIN`].
#[derive(Default)]
pub(super) struct Asked(Mutex<HashMap<u32, Instant>>);

impl Asked {
    /// Refused to who asks too often. Root may always.
    pub(super) fn admit(&self, asker: u32) -> Answer<()> {
        match asker == 0 || self.admits(asker, clock::instant()) {
            true => Ok(()),
            false => Err(Refusal::busy("you ask for this too often; try again in a second")),
        }
    }

    /// Whether it may ask `now`.
    fn admits(&self, uid: u32, now: Instant) -> bool {
        let mut asked = self.0.lock();
        if asked.len() >= MANY {
            asked.retain(|_, until| *until > now);
        }
        let until = asked.get(&uid).map_or(now, |until| now.max(*until)) + AGAIN;
        let admitted = until <= now + AGAIN * AT_ONCE;
        if admitted {
            asked.insert(uid, until);
        }
        admitted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_again_and_again_is_let_in_once_a_second_and_nobody_else_is_kept_out() {
        let (asked, now) = (Asked::default(), clock::instant());
        let admitted = |now| (0..100).filter(|_| asked.admits(1, now)).count();
        assert_eq!(admitted(now), AT_ONCE as usize);
        assert!(asked.admits(2, now));
        assert_eq!(admitted(now + AGAIN), 1);
        assert_eq!(admitted(now + 100 * AGAIN), AT_ONCE as usize);
        for uid in 10..5000 {
            asked.admits(uid, now + uid * AGAIN);
        }
        assert!(asked.0.lock().len() <= MANY);
        assert!((0..100).all(|_| asked.admit(0).is_ok()));
    }
}
