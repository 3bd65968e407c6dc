//! What is done in one session, counted for whoever watches. Only operators do: how much of what a user met is hidden from
//! them, they must not know.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::Kind;
use crate::event::{Event, Observer, Op, Operation};
use crate::quota::Standing;

/// In how many parts operations are counted by how long they took. Part 0 is up to 1 µs, and each next one is up to twice as
/// long; the last one has no end.
pub const LATENCIES: usize = 24;

/// What an operation of one part took at most; of the last part, at least half of that.
pub fn latency(part: usize) -> Duration {
    Duration::from_micros(1 << part.min(LATENCIES - 1))
}

/// One session at work, as operators are told.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Activity {
    /// The user of this host.
    pub uid: u32,
    /// The user of the service; none while that has yet to be validated.
    pub user_id: Option<String>,
    /// As in the session's status.
    pub state: String,
    /// Since when, as in RFC 3339.
    pub since: String,
    /// How long the last validation of the key is still good, in seconds.
    pub good_for: u64,
    /// Open files and directories.
    pub open_files: usize,
    /// What the user has of their quota; none where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quota: Option<QuotaStatus>,
    /// What was done from its beginning on.
    pub counted: Counted,
}

/// What a user has, and may have.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct QuotaStatus {
    /// What is used, in bytes.
    pub used_bytes: u64,
    /// The most; none where there is no limit.
    pub bytes: Option<u64>,
    /// What is used, in files and directories.
    pub used_files: u64,
    /// The most; none where there is no limit.
    pub files: Option<u64>,
    /// Whether all of it is counted by now.
    pub counted: bool,
}

impl From<Standing> for QuotaStatus {
    fn from(standing: Standing) -> Self {
        Self {
            used_bytes: standing.used.bytes(),
            bytes: standing.limits.bytes,
            used_files: standing.used.files(),
            files: standing.limits.files,
            counted: standing.is_counted,
        }
    }
}

/// What was done in a session from its beginning on.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Counted {
    /// How many operations took how long: see [`latency`].
    pub took: Vec<u64>,
    /// How many of them failed.
    pub failed: u64,
    /// Content that was read, in bytes.
    pub read_bytes: u64,
    /// Content that was written, in bytes.
    pub written_bytes: u64,
    /// Looks at files of which it was still known what they are.
    pub remembered: u64,
    /// Looks at files that had to be read.
    pub looked_at: u64,
    /// Times that a name was met that is hidden.
    pub hidden: u64,
    /// Records that were committed.
    pub commits: u64,
}

impl Counted {
    /// How many operations there were.
    pub fn operations(&self) -> u64 {
        self.took.iter().sum()
    }
}

/// Counts what happens in one session.
#[derive(Default)]
pub(super) struct Counters {
    took: [AtomicU64; LATENCIES],
    failed: AtomicU64,
    read: AtomicU64,
    written: AtomicU64,
    remembered: AtomicU64,
    looked_at: AtomicU64,
    hidden: AtomicU64,
    commits: AtomicU64,
}

impl Counters {
    pub(super) fn read(&self) -> Counted {
        let now = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counted {
            took: self.took.iter().map(now).collect(),
            failed: now(&self.failed),
            read_bytes: now(&self.read),
            written_bytes: now(&self.written),
            remembered: now(&self.remembered),
            looked_at: now(&self.looked_at),
            hidden: now(&self.hidden),
            commits: now(&self.commits),
        }
    }
}

impl Observer for Counters {
    fn observe(&self, event: &Event) {
        let (counter, count) = match event {
            Event::Denied {
                op: Op::Lookup,
                kind: Kind::NotFound,
                ..
            } => (&self.hidden, 1),
            Event::Committed { .. } => (&self.commits, 1),
            Event::Verified { remembered: true } => (&self.remembered, 1),
            Event::Verified { remembered: false } => (&self.looked_at, 1),
            Event::Transferred { op: Op::Write, bytes } => (&self.written, *bytes),
            Event::Transferred { bytes, .. } => (&self.read, *bytes),
            _ => return,
        };
        counter.fetch_add(count, Ordering::Relaxed);
    }

    fn operation(&self, operation: &Operation<'_>) {
        // Those are ours; the kernel asked for none of them.
        if matches!(operation.op, Op::Commit | Op::Session) {
            return;
        }
        if let Some(counter) = self.took.get(part(operation.elapsed)) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
        if operation.outcome.is_err() {
            self.failed.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// In which part an operation counts.
fn part(elapsed: Duration) -> usize {
    let micros = u64::try_from(elapsed.as_nanos().div_ceil(1000)).unwrap_or(u64::MAX);
    // How often it is doubled from 1 µs on.
    let doubled = u64::BITS - micros.saturating_sub(1).leading_zeros();
    (doubled as usize).min(LATENCIES - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_operation_counts_in_the_first_part_that_is_long_enough() {
        for (nanos, expected) in [
            (0, 0),
            (1, 0),
            (1_000, 0),
            (1_001, 1),
            (2_000, 1),
            (2_001, 2),
            (4_000_000, 12),
            (60_000_000_000, LATENCIES - 1),
        ] {
            let elapsed = Duration::from_nanos(nanos);
            assert_eq!(part(elapsed), expected, "{elapsed:?}");
            assert!(elapsed <= latency(part(elapsed)) || expected == LATENCIES - 1);
        }
    }
}
