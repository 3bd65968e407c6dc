//! The only reader of time.

use std::fmt;
use std::ops::Add;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

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

/// A moment on the clock that nobody sets and that goes on while the host sleeps (CLOCK_BOOTTIME): what was granted for a
/// minute is over after a night. [`Instant`] does not count that night.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Moment(Duration);

impl Moment {
    /// Now.
    pub fn now() -> Self {
        // The clock is there on every Linux, and begins with 0 when that does.
        let now = clock_gettime(ClockId::Boottime);
        Self(now.try_into().unwrap_or_default())
    }

    /// How long it is after `earlier`; zero when it is before.
    pub fn saturating_duration_since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }

    /// How long the host has run by then, with its sleep.
    pub fn since_boot(self) -> Duration {
        self.0
    }
}

impl Add<Duration> for Moment {
    type Output = Self;

    /// A moment that is too far to count is as good as the last one.
    fn add(self, later: Duration) -> Self {
        Self(self.0.saturating_add(later))
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

    /// Where the kernel counts a sleep: in a time namespace, which shifts that one clock and nothing else.
    #[test]
    fn moments_count_the_sleep_of_the_host() {
        const CHILD: &str = "TENANTFS_TEST_ASLEEP";
        let uptime = || {
            let text = std::fs::read_to_string("/proc/uptime").unwrap();
            text.split(' ').next().unwrap().parse::<f64>().unwrap()
        };
        let off = (Moment::now().since_boot().as_secs_f64() - uptime()).abs();
        assert!(off < 1.0, "{off}");
        if std::env::var_os(CHILD).is_some() {
            assert!(uptime() > 1e9);
            return;
        }
        let mut asleep = std::process::Command::new("unshare");
        asleep.args(["--user", "--map-root-user", "--time", "--boottime", "1000000000"]);
        asleep.arg(std::env::current_exe().unwrap()).env(CHILD, "");
        asleep.args(["--exact", "clock::tests::moments_count_the_sleep_of_the_host"]);
        let output = asleep.output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            said.contains("1 passed"),
            "{said}{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }

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
