//! Events that are all alike: the first of ten seconds is a line, the others are counted.

use std::borrow::Cow;
use std::collections::{HashMap, VecDeque};
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::line::{Digest256, Entry};
use crate::clock;

/// How long what is alike is counted together.
pub(super) const WINDOW: Duration = Duration::from_secs(10);

/// How many different ones are counted at a time.
const MOST: usize = 256;

/// What makes two events alike: all but who and when.
#[derive(PartialEq, Eq, Hash)]
struct Alike {
    op: Cow<'static, str>,
    path: String,
    cut: Option<Digest256>,
    outcome: &'static str,
    reason: String,
    how: String,
}

/// The events of one session that are being counted.
#[derive(Default)]
pub(super) struct Floods {
    counts: HashMap<Arc<Alike>, Count>,
    /// As they began, which is as they end.
    order: VecDeque<(Instant, Arc<Alike>)>,
    /// How many of the counts are not nought.
    counted: usize,
}

struct Count {
    more: u64,
    pid: u32,
}

impl Floods {
    /// The lines that there are to write, now that `entry` has happened at `now`: itself, unless it is one of many, and the
    /// counts that are complete.
    pub(super) fn pass(&mut self, entry: Entry, now: Instant) -> Vec<Entry> {
        let mut lines = self.complete(now);
        let alike = Arc::new(Alike {
            op: entry.op.clone(),
            path: entry.path.clone(),
            cut: entry.cut,
            outcome: entry.outcome,
            reason: entry.reason.clone(),
            how: entry.how.clone(),
        });
        if let Some(count) = self.counts.get_mut(&alike) {
            self.counted += usize::from(count.more == 0);
            count.more += 1;
            count.pid = entry.pid;
            return lines;
        }
        if self.order.len() >= MOST {
            lines.extend(self.end_first());
        }
        self.order.push_back((now + WINDOW, Arc::clone(&alike)));
        let count = Count {
            more: 0,
            pid: entry.pid,
        };
        self.counts.insert(alike, count);
        lines.push(entry);
        lines
    }

    /// The counts that are complete at `now`.
    pub(super) fn complete(&mut self, now: Instant) -> Vec<Entry> {
        let mut lines = Vec::new();
        while self.order.front().is_some_and(|(end, _)| *end <= now) {
            lines.extend(self.end_first());
        }
        lines
    }

    /// All counts, complete or not: the session ends.
    pub(super) fn end(&mut self) -> Vec<Entry> {
        let mut lines = Vec::new();
        while !self.order.is_empty() {
            lines.extend(self.end_first());
        }
        lines
    }

    /// When the next count is complete that is not nought.
    pub(super) fn next(&self) -> Option<Instant> {
        if self.counted == 0 {
            return None;
        }
        let counted = |alike: &Arc<Alike>| self.counts.get(alike).is_some_and(|count| count.more > 0);
        let mut order = self.order.iter();
        order.find(|(_, alike)| counted(alike)).map(|(end, _)| *end)
    }

    fn end_first(&mut self) -> Option<Entry> {
        let (_, alike) = self.order.pop_front()?;
        let Count { more, pid } = self.counts.remove(&alike).filter(|count| count.more > 0)?;
        self.counted -= 1;
        let times = if more == 1 { "time" } else { "times" };
        let counted = format!("{more} more {times} within {} s", WINDOW.as_secs());
        let reason = match alike.reason.is_empty() {
            true => counted,
            false => format!("{}; {counted}", alike.reason),
        };
        Some(Entry {
            at: clock::now(),
            pid,
            op: alike.op.clone(),
            path: alike.path.clone(),
            outcome: alike.outcome,
            reason,
            how: alike.how.clone(),
            count: NonZeroU64::new(more),
            cut: alike.cut,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::line::OK;

    fn refused(path: &str) -> Entry {
        Entry::now("open", path, "EACCES", "why")
    }

    #[test]
    fn the_first_is_a_line_and_the_others_are_counted_when_the_time_is_over() {
        let (mut floods, start) = (Floods::default(), clock::instant());
        let first = refused("x");
        assert_eq!(floods.pass(first.clone(), start), [first]);
        for _ in 0..4711 {
            assert!(floods.pass(refused("x"), start).is_empty());
        }
        assert_eq!(floods.pass(refused("y"), start).len(), 1, "another is another");
        assert_eq!(floods.next(), Some(start + WINDOW));
        let lines = floods.complete(start + WINDOW);
        assert_eq!(lines.len(), 1);
        assert_eq!(lines[0].reason, "why; 4711 more times within 10 s");
        assert_eq!(floods.next(), None);
        assert_eq!(floods.pass(refused("x"), start + WINDOW).len(), 1, "counted anew");
    }

    #[test]
    fn what_went_well_is_counted_as_what_was_refused_but_not_together_with_what_was_done_otherwise() {
        let (mut floods, start) = (Floods::default(), clock::instant());
        let opened = |how: &str| Entry {
            how: how.to_owned(),
            ..Entry::now("open", "x", OK, "")
        };
        let lines: usize = (0..10).map(|_| floods.pass(opened("read"), start).len()).sum();
        assert_eq!(lines, 1);
        assert_eq!(floods.pass(opened("write"), start).len(), 1);
        let lines = floods.end();
        assert_eq!(lines.len(), 1);
        assert_eq!(
            (&*lines[0].reason, &*lines[0].how),
            ("9 more times within 10 s", "read")
        );
        assert_eq!(lines[0].count, NonZeroU64::new(9));
    }

    #[test]
    fn very_many_different_ones_are_counted_in_bounded_memory_and_no_count_is_lost() {
        let (mut floods, start) = (Floods::default(), clock::instant());
        let mut lines = 0;
        for number in 0..10_000 {
            for _ in 0..2 {
                lines += floods.pass(refused(&number.to_string()), start).len();
            }
            assert!(floods.counts.len() <= MOST && floods.order.len() <= MOST);
        }
        assert_eq!(lines + floods.end().len(), 20_000);
    }
}
