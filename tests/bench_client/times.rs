//! How long things took.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::Result;

/// The time of each operation of a loop, and of the whole. The end of one is the beginning of the next.
pub(crate) struct Times {
    begin: Instant,
    last: Instant,
    each: Vec<Duration>,
}

impl Times {
    pub(crate) fn new(operations: usize) -> Self {
        let each = Vec::with_capacity(operations);
        let begin = Instant::now();
        Self {
            begin,
            last: begin,
            each,
        }
    }

    /// An operation is over.
    pub(crate) fn lap(&mut self) {
        let now = Instant::now();
        self.each.push(now - self.last);
        self.last = now;
    }

    /// Everything is over, with what belongs to no single operation.
    pub(crate) fn end(self, found: u64) -> Report {
        Report {
            total: self.begin.elapsed(),
            each: self.each,
            found,
            output: String::new(),
        }
    }
}

/// What is printed.
pub(crate) struct Report {
    pub(crate) total: Duration,
    pub(crate) each: Vec<Duration>,
    /// Bytes or lines that there were.
    pub(crate) found: u64,
    /// The last line that a command wrote.
    pub(crate) output: String,
}

impl Report {
    pub(crate) fn print(mut self) -> Result<()> {
        self.each.sort_unstable();
        let at = |part: usize| {
            let index = (self.each.len() * part / 100).min(self.each.len().saturating_sub(1));
            self.each.get(index).map(Duration::as_secs_f64)
        };
        let report = json!({
            "total": self.total.as_secs_f64(),
            "operations": self.each.len(),
            "p50": at(50),
            "p99": at(99),
            "max": at(100),
            "found": self.found,
            "output": self.output,
        });
        println!("{report}");
        Ok(())
    }
}
