//! How often keys are checked, and for whom: guessing them through us must not be worth it, nor a way to flood the auth
//! service; and whoever floods must not keep out those who have a good key.
//!
//! Each source has its own limits. What is refused to all of them together has one, too, since sources come in crowds; it
//! does not count for a key that was good before, and the last half of it is for those who were refused nothing lately.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lru::LruCache;
use parking_lot::Mutex;

use super::ApiKey;
use crate::error::{Error, Kind};

/// So many refusals cost a source nothing: people mistype.
const FREE: u32 = 3;

/// What the next one costs; each further one costs twice as much, up to the most.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const MAX_WAIT: Duration = Duration::from_secs(300);

/// So many keys of one source are checked at the same time, whatever becomes of them.
const AT_ONCE: u32 = 4;

/// How often a source has a key checked, good ones too: so many at a time, and so many each second.
const OWN: Rate = Rate {
    most: 20.0,
    each_second: 2.0,
};

/// The same for what is refused to everybody together.
const REFUSALS: Rate = Rate {
    most: 60.0,
    each_second: 5.0,
};

/// What of it is left for those who were refused nothing lately.
const FLOOR: f64 = 30.0;

/// So many good keys are known again; the one that was not used for longest goes.
const MAX_KNOWN: usize = 4096;

/// Admits the checks of keys. Times come from the caller.
pub struct Throttle {
    inner: Mutex<Inner>,
    /// What keys are known again by: of no use outside this process.
    marks: RandomState,
}

struct Inner {
    sources: HashMap<u32, Source>,
    refusals: Tokens,
    /// Marks of keys that were good for their source.
    known: LruCache<u64, ()>,
}

/// Why a key is not checked now, and for how long not.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Delay {
    /// So many keys of the source were refused.
    Refused(u32, Duration),
    /// The source had too many checked, good ones or not.
    Often(Duration),
    /// Too many keys were refused to everybody together.
    Crowd(Duration),
}

impl From<Delay> for Error {
    fn from(delay: Delay) -> Self {
        let seconds = |left: Duration| left.as_secs() + 1;
        match delay {
            Delay::Refused(count, left) => {
                let why = format!("{count} keys were refused; try again in {} s", seconds(left));
                Self::new(Kind::AuthenticationRefused, why)
            }
            Delay::Often(left) => {
                let why = format!("too many logins of yours; try again in {} s", seconds(left));
                Self::new(Kind::Busy, why)
            }
            Delay::Crowd(left) => {
                let why = format!(
                    "too many keys were refused on this host; try again in {} s",
                    seconds(left)
                );
                Self::new(Kind::Busy, why)
            }
        }
    }
}

impl Throttle {
    /// Nobody was refused anything.
    pub fn new(now: Instant) -> Arc<Self> {
        Arc::new(Self {
            inner: Mutex::new(Inner {
                sources: HashMap::new(),
                refusals: Tokens::full(REFUSALS, now),
                known: LruCache::new(NonZeroUsize::new(MAX_KNOWN).unwrap_or(NonZeroUsize::MIN)),
            }),
            marks: RandomState::new(),
        })
    }

    /// The turn of a source to have a key checked. With `at_will`, good keys may come as often as they like.
    ///
    /// # Errors
    /// Why not now.
    pub fn begin(
        self: &Arc<Self>,
        source: u32,
        key: &ApiKey,
        at_will: bool,
        now: Instant,
    ) -> Result<Turn, Delay> {
        let mark = self.mark(source, key);
        let mut inner = self.inner.lock();
        let known = inner.known.contains(&mark);
        inner.admit(source, known, at_will, now)?;
        Ok(Turn {
            throttle: Arc::clone(self),
            source,
            mark,
            known,
        })
    }

    /// The key was good for the source.
    pub fn knows(&self, source: u32, key: &ApiKey) {
        self.inner.lock().known.put(self.mark(source, key), ());
    }

    fn mark(&self, source: u32, key: &ApiKey) -> u64 {
        self.marks.hash_one((source, key.expose()))
    }
}

/// The turn to have one key checked. It counts as refused meanwhile: so many at once must not get through where so many
/// after another would not. Dropped, nothing was said of the key.
pub struct Turn {
    throttle: Arc<Throttle>,
    source: u32,
    mark: u64,
    known: bool,
}

impl Turn {
    /// The key is good.
    pub fn accepted(self) {
        self.throttle.inner.lock().known.put(self.mark, ());
    }

    /// The key was refused, at `now`.
    pub fn refused(self, now: Instant) {
        let mut inner = self.throttle.inner.lock();
        inner.known.pop(&self.mark);
        if let Some(source) = inner.sources.get_mut(&self.source) {
            source.refused = source.refused.saturating_add(1);
            source.last = now;
        }
        // What the drop gives back is used up. A known key took nothing.
        if !self.known {
            inner.refusals.spent += 1.0;
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut inner = self.throttle.inner.lock();
        if let Some(source) = inner.sources.get_mut(&self.source) {
            source.pending -= 1;
            source.unknown -= u32::from(!self.known);
        }
        if !self.known {
            inner.refusals.spent = (inner.refusals.spent - 1.0).max(0.0);
        }
    }
}

impl Inner {
    fn admit(&mut self, source: u32, known: bool, at_will: bool, now: Instant) -> Result<(), Delay> {
        self.sources.retain(|_, source| source.counts(now));
        self.refusals.pass(now);
        let own = self.sources.entry(source).or_insert_with(|| Source::new(now));
        own.checks.pass(now);
        if own.pending >= AT_ONCE {
            return Err(Delay::Often(FIRST_WAIT));
        }
        if !at_will {
            own.checks.has(1.0).map_err(Delay::Often)?;
        }
        if !known {
            own.may_guess(now)?;
            let floor = if own.refused == 0 { 0.0 } else { FLOOR };
            self.refusals.has(1.0 + floor).map_err(Delay::Crowd)?;
            self.refusals.spent += 1.0;
            own.unknown += 1;
        }
        if !at_will {
            own.checks.spent += 1.0;
        }
        own.pending += 1;
        Ok(())
    }
}

/// What is counted of one source. A good key does not make good for refusals, time does: whoever has one could otherwise
/// guess others' keys in between.
struct Source {
    refused: u32,
    /// When it last was.
    last: Instant,
    checks: Tokens,
    /// The checks under way; and those of them of keys that are not known.
    pending: u32,
    unknown: u32,
}

impl Source {
    fn new(now: Instant) -> Self {
        Self {
            refused: 0,
            last: now,
            checks: Tokens::full(OWN, now),
            pending: 0,
            unknown: 0,
        }
    }

    /// Whether anything has to be remembered. Who waited long enough starts anew: so there are never more than were here
    /// lately.
    fn counts(&mut self, now: Instant) -> bool {
        if now.saturating_duration_since(self.last) >= 2 * MAX_WAIT {
            self.refused = 0;
        }
        self.checks.pass(now);
        self.pending > 0 || self.refused > 0 || self.checks.spent > 0.0
    }

    /// Whether a key may be checked that is not known to be good.
    fn may_guess(&self, now: Instant) -> Result<(), Delay> {
        if self.refused + self.unknown < FREE {
            return Ok(());
        }
        if self.unknown > 0 {
            return Err(Delay::Often(FIRST_WAIT));
        }
        let more = self.refused.saturating_sub(FREE);
        let wait = FIRST_WAIT.saturating_mul(1 << more.min(16)).min(MAX_WAIT);
        let left = (self.last + wait).saturating_duration_since(now);
        match left.is_zero() {
            true => Ok(()),
            false => Err(Delay::Refused(self.refused, left)),
        }
    }
}

/// What may be spent at once, and how fast it comes back.
#[derive(Clone, Copy, Debug)]
struct Rate {
    most: f64,
    each_second: f64,
}

/// What was spent of a rate.
#[derive(Debug)]
struct Tokens {
    rate: Rate,
    spent: f64,
    at: Instant,
}

impl Tokens {
    fn full(rate: Rate, now: Instant) -> Self {
        Self {
            rate,
            spent: 0.0,
            at: now,
        }
    }

    /// Time passes.
    fn pass(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.spent = (self.spent - passed * self.rate.each_second).max(0.0);
        self.at = self.at.max(now);
    }

    /// Whether so many are left; else how long until there are.
    fn has(&self, count: f64) -> Result<(), Duration> {
        let missing = count - (self.rate.most - self.spent);
        match missing <= 0.0 {
            true => Ok(()),
            false => Err(Duration::from_secs_f64(missing / self.rate.each_second)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> ApiKey {
        ApiKey::new(text).unwrap()
    }

    fn second(second: u64) -> Duration {
        Duration::from_secs(second)
    }

    /// A guess, if it gets through.
    fn guess(throttle: &Arc<Throttle>, source: u32, now: Instant) -> Result<(), Delay> {
        throttle
            .begin(source, &key("guess"), false, now)
            .map(|turn| turn.refused(now))
    }

    fn login(throttle: &Arc<Throttle>, source: u32, name: &str, now: Instant) -> Result<(), Delay> {
        throttle.begin(source, &key(name), false, now).map(Turn::accepted)
    }

    #[test]
    fn each_refusal_beyond_the_free_ones_doubles_the_wait_of_that_source_only() {
        let mut now = Instant::now();
        let throttle = Throttle::new(now);
        let waits: Vec<u64> = (0..13)
            .map(|_| {
                let waited = (0..).find(|waited| guess(&throttle, 1, now + second(*waited)).is_ok());
                now += second(waited.unwrap());
                waited.unwrap()
            })
            .collect();
        assert_eq!(waits, [0, 0, 0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 300]);
        assert_eq!(guess(&throttle, 2, now), Ok(()));
        let error = Error::from(guess(&throttle, 1, now).unwrap_err());
        assert_eq!(error.to_string(), "13 keys were refused; try again in 301 s");
        assert_eq!(error.kind(), Kind::AuthenticationRefused);
    }

    #[test]
    fn guesses_at_the_same_time_are_no_way_around_that() {
        let now = Instant::now();
        let throttle = Throttle::new(now);
        let turns: Vec<_> = (0..300)
            .filter_map(|_| throttle.begin(1, &key("guess"), false, now).ok())
            .collect();
        assert_eq!(turns.len(), 3);
        turns.into_iter().for_each(|turn| turn.refused(now));
        assert!(guess(&throttle, 1, now).is_err());
        // One after another from then on, however long it waited.
        let later = now + second(100);
        let turn = throttle.begin(1, &key("guess"), false, later).unwrap();
        assert!(throttle.begin(1, &key("guess"), false, later).is_err());
        turn.refused(later);
    }

    #[test]
    fn enough_time_makes_good_for_everything_and_a_good_key_for_nothing() {
        let now = Instant::now();
        let throttle = Throttle::new(now);
        login(&throttle, 2, "good", now).unwrap();
        for _ in 0..3 {
            guess(&throttle, 2, now).unwrap();
        }
        assert!(guess(&throttle, 2, now).is_err());
        // Who has one is known by it, and goes on with it.
        login(&throttle, 2, "good", now).unwrap();
        assert!(guess(&throttle, 2, now).is_err());
        assert!(login(&throttle, 2, "another", now).is_err());
        assert!(guess(&throttle, 2, now + 2 * MAX_WAIT).is_ok());
        assert!(guess(&throttle, 3, now + 10 * MAX_WAIT).is_ok());
        assert_eq!(
            throttle.inner.lock().sources.len(),
            1,
            "nothing is kept of who waited"
        );
    }

    #[test]
    fn what_nobody_answered_costs_nothing() {
        let now = Instant::now();
        let throttle = Throttle::new(now);
        for round in 0..1000 {
            let now = now + second(round);
            drop(throttle.begin(1, &key("any"), false, now).unwrap());
        }
        assert!(throttle.inner.lock().refusals.spent.abs() < 1e-9);
    }

    #[test]
    fn good_keys_come_at_a_rate_unless_root_asks() {
        let now = Instant::now();
        let throttle = Throttle::new(now);
        let in_time = |now| {
            (0..500)
                .filter(|_| login(&throttle, 1, "good", now).is_ok())
                .count()
        };
        assert_eq!(in_time(now), 20);
        assert_eq!(in_time(now + second(5)), 10);
        let error = Error::from(login(&throttle, 1, "good", now + second(5)).unwrap_err());
        assert_eq!(error.to_string(), "too many logins of yours; try again in 1 s");
        assert_eq!(error.kind(), Kind::Busy);
        assert!(login(&throttle, 2, "good", now).is_ok());
        for _ in 0..500 {
            throttle
                .begin(1, &key("good"), true, now + second(5))
                .unwrap()
                .accepted();
        }
    }

    #[test]
    fn a_crowd_that_guesses_keeps_out_nobody_who_was_here_before_or_was_refused_nothing() {
        let now = Instant::now();
        let throttle = Throttle::new(now);
        login(&throttle, 1, "alices", now).unwrap();
        let refused: usize = (1000..1100)
            .map(|source| (0..3).filter(|_| guess(&throttle, source, now).is_ok()).count())
            .sum();
        assert!(refused <= 60, "{refused}");
        // 60 first guesses of 60 sources can be had; whoever was refused before has to leave some.
        let crowd = guess(&throttle, 1000, now).unwrap_err();
        assert!(matches!(crowd, Delay::Crowd(_) | Delay::Refused(..)), "{crowd:?}");
        // The one who was here before goes on whatever the others do.
        login(&throttle, 1, "alices", now).unwrap();
        // A key that nobody knows yet has to wait a moment at most.
        let first = (0..20).find(|tenth| login(&throttle, 2, "bobs", now + second(1) / 10 * *tenth).is_ok());
        assert!(first.is_some_and(|tenths| tenths <= 2), "{first:?}");
    }

    #[test]
    fn a_source_that_was_refused_leaves_the_last_half_to_those_who_were_not() {
        let now = Instant::now();
        let throttle = Throttle::new(now);
        let crowd: usize = (1000..1020)
            .map(|source| (0..3).filter(|_| guess(&throttle, source, now).is_ok()).count())
            .sum();
        // Ten sources with three each, and then the first one of each further.
        assert_eq!(crowd, 40);
        assert!(guess(&throttle, 2000, now).is_ok());
    }
}
