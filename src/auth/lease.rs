//! How long one validation of a key stays good, and what follows when no other comes.
//!
//! It counts time that the host sleeps, see [`Moment`]. Pure: whoever holds a lease tells it what happened and when, and asks it what that means.

use std::time::Duration;

use crate::clock::Moment;

/// What the operator grants.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Terms {
    /// How long a validation is good, unless the authenticator says less. Positive.
    pub lease: Duration,
    /// How long work goes on after that while nobody can be asked. May be zero.
    pub grace: Duration,
}

impl Default for Terms {
    fn default() -> Self {
        Self {
            lease: Duration::from_secs(60),
            grace: Duration::from_secs(300),
        }
    }
}

/// What a session may do.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum State {
    /// Its key was validated, and that is still good.
    Active,
    /// That is no longer good, and nobody could be asked: work goes on through the grace period.
    Stale,
    /// The grace period is over. Nothing is served until the key is validated again.
    Suspended,
    /// The key was refused, for good.
    Ended,
}

impl State {
    /// In one word, as people and programs are told.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Stale => "stale",
            Self::Suspended => "suspended",
            Self::Ended => "ended",
        }
    }
}

/// When the first retry comes after nobody answered, and how it slows down: never to more than [`MAX_RETRY`], so that a
/// service that is back is noticed soon.
const FIRST_RETRY: Duration = Duration::from_millis(500);
const MAX_RETRY: Duration = Duration::from_secs(10);

/// The shortest time between two attempts: a lease of a second is no reason to ask all the time.
const MIN_WAIT: Duration = Duration::from_millis(100);

/// The lease of one session. Times come from the caller, and never run backwards; neither does `Ended`.
#[derive(Clone, Debug)]
pub struct Lease {
    terms: Terms,
    good_until: Moment,
    next_attempt: Moment,
    /// Attempts in a row that nobody answered.
    unanswered: u32,
    refused: bool,
}

impl Lease {
    /// A lease from a validation at `now`, good for `expires_in` where the authenticator said less than the terms.
    /// `jitter`, in 0..1, spreads the renewals of many leases that began together.
    pub fn granted(terms: Terms, expires_in: Option<Duration>, now: Moment, jitter: f64) -> Self {
        let mut lease = Self {
            terms,
            good_until: now,
            next_attempt: now,
            unanswered: 0,
            refused: false,
        };
        lease.renewed(expires_in, now, jitter);
        lease
    }

    /// The key was validated again at `now`: that is when the question was asked, for the answer is no younger.
    pub fn renewed(&mut self, expires_in: Option<Duration>, now: Moment, jitter: f64) {
        let length = self.terms.lease.min(expires_in.unwrap_or(Duration::MAX));
        self.good_until = now + length;
        self.unanswered = 0;
        // Well ahead of the end: a slow answer or two must not make it stale.
        self.next_attempt = now + spread(length.mul_f64(0.5), length.mul_f64(0.25), jitter);
    }

    /// Nobody answered at `now`, or nothing that was a yes or a no.
    pub fn unanswered(&mut self, now: Moment, jitter: f64) {
        let slowest = MAX_RETRY.min(self.terms.lease.mul_f64(0.25));
        let wait = FIRST_RETRY
            .saturating_mul(1 << self.unanswered.min(8))
            .min(slowest);
        self.unanswered = self.unanswered.saturating_add(1);
        self.next_attempt = now + spread(wait.mul_f64(0.5), wait.mul_f64(0.5), jitter);
    }

    /// The authenticator said no.
    pub fn refused(&mut self) {
        self.refused = true;
    }

    /// What the session may do at `now`.
    pub fn state(&self, now: Moment) -> State {
        if self.refused {
            State::Ended
        } else if now < self.good_until {
            State::Active
        } else if now < self.good_until + self.terms.grace {
            State::Stale
        } else {
            State::Suspended
        }
    }

    /// When the state changes next, if nothing happens before.
    pub fn next_change(&self, now: Moment) -> Option<Moment> {
        match self.state(now) {
            State::Active => Some(self.good_until),
            State::Stale => Some(self.good_until + self.terms.grace),
            State::Suspended | State::Ended => None,
        }
    }

    /// When the key is to be validated again.
    pub fn next_attempt(&self) -> Moment {
        self.next_attempt
    }

    /// How long the session is served from `now` on if nobody answers any more; zero when it is not.
    pub fn served_for(&self, now: Moment) -> Duration {
        match self.refused {
            true => Duration::ZERO,
            false => (self.good_until + self.terms.grace).saturating_duration_since(now),
        }
    }

    /// How long the last validation is good from `now` on; zero when it is not.
    pub fn good_for(&self, now: Moment) -> Duration {
        self.good_until.saturating_duration_since(now)
    }
}

fn spread(least: Duration, width: Duration, jitter: f64) -> Duration {
    (least + width.mul_f64(jitter.clamp(0.0, 1.0))).max(MIN_WAIT)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TERMS: Terms = Terms {
        lease: Duration::from_secs(60),
        grace: Duration::from_secs(300),
    };

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_lease_that_nobody_renews_goes_stale_then_suspended_and_one_answer_brings_it_back() {
        let start = Moment::now();
        let mut lease = Lease::granted(TERMS, None, start, 0.0);
        assert_eq!(lease.state(start), State::Active);
        assert_eq!(lease.next_change(start), Some(start + seconds(60)));
        assert_eq!(
            lease.state(start + (seconds(60) - Duration::from_nanos(1))),
            State::Active
        );
        assert_eq!(lease.state(start + seconds(60)), State::Stale);
        assert_eq!(lease.next_change(start + seconds(60)), Some(start + seconds(360)));
        assert_eq!(lease.state(start + seconds(360)), State::Suspended);
        assert_eq!(lease.next_change(start + seconds(360)), None);
        lease.renewed(None, start + seconds(1000), 0.5);
        assert_eq!(lease.state(start + seconds(1000)), State::Active);
        assert_eq!(lease.good_for(start + seconds(1000)), seconds(60));
        assert_eq!(lease.served_for(start + seconds(1000)), seconds(360));
    }

    /// The clock goes on while nothing else does: nobody had a chance to ask.
    #[test]
    fn a_host_that_slept_wakes_with_a_lease_that_is_over() {
        let asleep = Moment::now();
        let lease = Lease::granted(TERMS, None, asleep, 0.5);
        let awake = asleep + seconds(8 * 3600);
        assert_eq!(lease.state(awake), State::Suspended);
        assert_eq!(lease.good_for(awake), Duration::ZERO);
        assert!(lease.next_attempt() < awake, "and asks at once");
    }

    #[test]
    fn without_a_grace_period_stale_is_suspended() {
        let start = Moment::now();
        let terms = Terms {
            grace: Duration::ZERO,
            ..TERMS
        };
        let lease = Lease::granted(terms, None, start, 0.0);
        assert_eq!(lease.state(start + seconds(59)), State::Active);
        assert_eq!(lease.state(start + seconds(60)), State::Suspended);
    }

    #[test]
    fn the_authenticator_may_say_less_than_the_terms_and_not_more() {
        let start = Moment::now();
        let short = Lease::granted(TERMS, Some(seconds(5)), start, 0.0);
        assert_eq!(short.state(start + seconds(5)), State::Stale);
        let long = Lease::granted(TERMS, Some(Duration::MAX), start, 0.0);
        assert_eq!(long.state(start + seconds(60)), State::Stale);
    }

    #[test]
    fn a_refusal_is_the_end_whatever_comes_later() {
        let start = Moment::now();
        let mut lease = Lease::granted(TERMS, None, start, 0.0);
        lease.refused();
        lease.renewed(None, start, 0.0);
        assert_eq!(lease.state(start), State::Ended);
        assert_eq!(lease.next_change(start), None);
        assert_eq!(lease.served_for(start), Duration::ZERO);
    }

    proptest! {
        #[test]
        fn renewals_are_ahead_of_the_end_and_retries_neither_rush_nor_stop(
            length in 1u64..3600, jitter in 0.0f64..1.0, failures in 1u32..50,
        ) {
            let start = Moment::now();
            let terms = Terms { lease: seconds(length), grace: seconds(10) };
            let mut lease = Lease::granted(terms, None, start, jitter);
            let planned = lease.next_attempt().saturating_duration_since(start);
            prop_assert!(planned >= seconds(length).mul_f64(0.49), "{planned:?}");
            prop_assert!(planned <= seconds(length).mul_f64(0.76), "{planned:?}");
            for _ in 0..failures {
                lease.unanswered(start, jitter);
                let wait = lease.next_attempt().saturating_duration_since(start);
                prop_assert!((MIN_WAIT..=MAX_RETRY).contains(&wait), "{wait:?}");
            }
        }
    }
}
