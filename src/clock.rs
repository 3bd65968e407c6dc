//! The only reader of time.

use std::fmt;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A point in time as file systems keep it: seconds since the epoch, possibly negative, and nanoseconds (0..10⁹).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Timestamp {
    /// Seconds since 1970-01-01T00:00:00Z.
    pub seconds: i64,
    /// Nanoseconds after that second.
    pub nanos: u32,
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:09}", self.seconds, self.nanos)
    }
}

impl Timestamp {
    /// Understands what `Display` writes: `1764302400.123456789`.
    pub fn parse(text: &str) -> Option<Self> {
        let (seconds, nanos) = text.split_once('.')?;
        Some(Self {
            seconds: seconds.parse().ok()?,
            nanos: nanos.parse().ok()?,
        })
    }

    /// The point in time that is so much later.
    pub fn after(self, elapsed: Duration) -> Self {
        let nanos = self.nanos.saturating_add(elapsed.subsec_nanos());
        let seconds = i64::try_from(elapsed.as_secs()).unwrap_or(i64::MAX);
        Self {
            seconds: self
                .seconds
                .saturating_add(seconds)
                .saturating_add(i64::from(nanos / 1_000_000_000)),
            nanos: nanos % 1_000_000_000,
        }
    }

    /// How many milliseconds `self` is after `earlier`; negative when it is before.
    pub fn millis_since(self, earlier: Self) -> i64 {
        let seconds = self.seconds.saturating_sub(earlier.seconds);
        let millis = (i64::from(self.nanos) - i64::from(earlier.nanos)) / 1_000_000;
        seconds.saturating_mul(1000).saturating_add(millis)
    }
}

/// How long something takes, by a clock that nobody sets.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    /// Starts it.
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// How long ago that was.
    pub fn elapsed(self) -> Duration {
        self.0.elapsed()
    }
}

/// Now, by a clock that nobody sets: for deadlines.
pub fn instant() -> Instant {
    Instant::now()
}

/// Now, by the clock that the file systems use.
pub fn now() -> Timestamp {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp {
        seconds: i64::try_from(since_epoch.as_secs()).unwrap_or(i64::MAX),
        nanos: since_epoch.subsec_nanos(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_are_in_milliseconds_and_signed() {
        let at = |seconds, nanos| Timestamp { seconds, nanos };
        assert_eq!(at(2, 0).millis_since(at(1, 500_000_000)), 500);
        assert_eq!(at(1, 0).millis_since(at(2, 0)), -1000);
        assert_eq!(
            at(1, 900_000_000).after(Duration::from_millis(1200)),
            at(3, 100_000_000)
        );
        assert_eq!(at(i64::MAX, 0).millis_since(at(i64::MIN, 0)), i64::MAX);
    }
}
