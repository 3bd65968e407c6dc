//! Operations by kind and outcome, and how long they take.
//!
//! Of the library's histogram and its families of counters each takes a lock at every use, which all sessions would share.
//! Here an operation costs three additions that nobody waits for; the library writes them out.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;

use crate::error::Kind;
use crate::event::{Op, Operation};

/// Up to how many nanoseconds an operation counts for which part of the histogram: from what memory answers to what a disk
/// that is stuck does. The last part has no end.
const BOUNDS: [u64; 13] = [
    10_000,
    30_000,
    100_000,
    300_000,
    1_000_000,
    3_000_000,
    10_000_000,
    30_000_000,
    100_000_000,
    300_000_000,
    1_000_000_000,
    3_000_000_000,
    10_000_000_000,
];

const SECOND: f64 = 1e9;

/// Every operation's numbers.
#[derive(Debug)]
pub(super) struct Operations([Numbers; Op::ALL.len()]);

#[derive(Debug)]
struct Numbers {
    done: AtomicU64,
    failed: [AtomicU64; Kind::ALL.len()],
    /// How many took how long; beyond the last bound, in the last one.
    took: [AtomicU64; BOUNDS.len() + 1],
    /// All together, in nanoseconds.
    total: AtomicU64,
}

impl Operations {
    pub(super) fn new() -> Self {
        Self(std::array::from_fn(|_| Numbers {
            done: AtomicU64::new(0),
            failed: std::array::from_fn(|_| AtomicU64::new(0)),
            took: std::array::from_fn(|_| AtomicU64::new(0)),
            total: AtomicU64::new(0),
        }))
    }

    pub(super) fn count(&self, operation: &Operation<'_>) {
        let Some(numbers) = self.0.get(operation.op as usize) else {
            return;
        };
        let outcome = match operation.outcome {
            Ok(()) => Some(&numbers.done),
            Err(error) => numbers.failed.get(error.kind() as usize),
        };
        let nanoseconds = u64::try_from(operation.elapsed.as_nanos()).unwrap_or(u64::MAX);
        let part = BOUNDS.partition_point(|bound| *bound < nanoseconds);
        for counter in [outcome, numbers.took.get(part)].into_iter().flatten() {
            counter.fetch_add(1, Ordering::Relaxed);
        }
        numbers.total.fetch_add(nanoseconds, Ordering::Relaxed);
    }

    /// What the kernel asks for: our own are counted by what becomes of them.
    fn each(&self) -> impl Iterator<Item = (Op, &Numbers)> {
        let all = Op::ALL.iter().copied().zip(&self.0);
        all.filter(|(op, _)| !matches!(op, Op::Commit | Op::Session))
    }
}

impl Numbers {
    /// How many failed with which errno; none that did not occur, or there would be hundreds of zeros.
    fn errnos(&self) -> BTreeMap<&'static str, u64> {
        let mut errnos = BTreeMap::new();
        for (kind, counter) in Kind::ALL.iter().zip(&self.failed) {
            let count = counter.load(Ordering::Relaxed);
            if count > 0 {
                *errnos.entry(kind.errno().name).or_default() += count;
            }
        }
        errnos
    }

    /// The histogram, as (upper bound in seconds, how many).
    fn parts(&self) -> Vec<(f64, u64)> {
        let bounds = BOUNDS.iter().map(|bound| *bound as f64 / SECOND);
        let counts = self.took.iter().map(|counter| counter.load(Ordering::Relaxed));
        bounds.chain([f64::INFINITY]).zip(counts).collect()
    }
}

impl Collector for Operations {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Operations of the mounts, by what was done and what its program got: ok, or an errno.";
        let mut counter = encoder.encode_descriptor("operations", help, None, MetricType::Counter)?;
        for (op, numbers) in self.each() {
            let done = ("ok", numbers.done.load(Ordering::Relaxed));
            for (outcome, count) in [done].into_iter().chain(numbers.errnos()) {
                counter
                    .encode_family(&[("op", op.as_str()), ("outcome", outcome)])?
                    .encode_counter::<NoLabelSet, _, u64>(&count, None)?;
            }
        }
        let help = "How long operations of the mounts took.";
        let mut histogram =
            encoder.encode_descriptor("operation_duration_seconds", help, None, MetricType::Histogram)?;
        for (op, numbers) in self.each() {
            let parts = numbers.parts();
            let count = parts.iter().map(|(_, count)| count).sum();
            if count > 0 {
                let total = numbers.total.load(Ordering::Relaxed) as f64 / SECOND;
                histogram
                    .encode_family(&[("op", op.as_str())])?
                    .encode_histogram::<NoLabelSet>(total, count, &parts, None)?;
            }
        }
        Ok(())
    }
}
