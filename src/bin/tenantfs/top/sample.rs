//! What was done between two answers of the daemon.

use std::collections::HashMap;
use std::time::Duration;

use tenantfs::daemon::{Activity, Counted, LATENCIES, QuotaStatus, latency};
use tenantfs::escape::plain;

use crate::shown;

/// One session, as it was at work lately.
#[derive(Clone, Debug, Default)]
pub(super) struct Row {
    /// On this host.
    pub(super) user: String,
    /// At the service; empty while that is not known.
    pub(super) user_id: String,
    pub(super) state: String,
    /// How long its key is good, in seconds.
    pub(super) good_for: u64,
    pub(super) open_files: usize,
    pub(super) quota: Option<QuotaStatus>,
    /// From the beginning of the session on.
    pub(super) hidden: u64,
    pub(super) lately: Lately,
}

/// What was done since the answer before.
#[derive(Clone, Debug, Default)]
pub(super) struct Lately {
    /// Operations by how long they took.
    took: Vec<u64>,
    seconds: f64,
    read_bytes: u64,
    written_bytes: u64,
    remembered: u64,
    looked_at: u64,
    pub(super) hidden: u64,
}

impl Lately {
    fn between(before: &Counted, now: &Counted, elapsed: Duration) -> Self {
        let took = now.took.iter().enumerate().map(|(part, count)| {
            let earlier = before.took.get(part).copied().unwrap_or_default();
            count.saturating_sub(earlier)
        });
        Self {
            took: took.collect(),
            seconds: elapsed.as_secs_f64(),
            read_bytes: now.read_bytes.saturating_sub(before.read_bytes),
            written_bytes: now.written_bytes.saturating_sub(before.written_bytes),
            remembered: now.remembered.saturating_sub(before.remembered),
            looked_at: now.looked_at.saturating_sub(before.looked_at),
            hidden: now.hidden.saturating_sub(before.hidden),
        }
    }

    /// What all sessions did together.
    pub(super) fn sum<'a>(all: impl Iterator<Item = &'a Self>) -> Self {
        let mut sum = Self {
            took: vec![0; LATENCIES],
            ..Self::default()
        };
        for one in all {
            sum.took
                .iter_mut()
                .zip(&one.took)
                .for_each(|(sum, count)| *sum += count);
            sum.seconds = sum.seconds.max(one.seconds);
            sum.read_bytes += one.read_bytes;
            sum.written_bytes += one.written_bytes;
            sum.remembered += one.remembered;
            sum.looked_at += one.looked_at;
            sum.hidden += one.hidden;
        }
        sum
    }

    fn per_second(&self, count: u64) -> f64 {
        match self.seconds > 0.0 {
            true => count as f64 / self.seconds,
            false => 0.0,
        }
    }

    pub(super) fn operations(&self) -> f64 {
        self.per_second(self.took.iter().sum())
    }

    pub(super) fn read(&self) -> f64 {
        self.per_second(self.read_bytes)
    }

    pub(super) fn written(&self) -> f64 {
        self.per_second(self.written_bytes)
    }

    /// How long this part of the operations took at most; none where there were none.
    pub(super) fn quantile(&self, part: f64) -> Option<Duration> {
        let all: u64 = self.took.iter().sum();
        let mut left = (all as f64 * part).ceil() as u64;
        let last = self.took.iter().position(|count| {
            let is_last = left > 0 && *count >= left;
            left = left.saturating_sub(*count);
            is_last
        });
        last.map(latency)
    }

    /// Which part of what was looked at was still known; none where nothing was.
    pub(super) fn hits(&self) -> Option<f64> {
        let all = self.remembered + self.looked_at;
        (all > 0).then(|| self.remembered as f64 / all as f64)
    }
}

/// Turns answers into rows.
#[derive(Default)]
pub(super) struct Samples {
    /// What each session had done by the answer before: by uid, and when it began.
    before: HashMap<(u32, String), Counted>,
    /// How users are called, looked up once.
    names: HashMap<u32, String>,
}

impl Samples {
    /// The rows of an answer that came `elapsed` after the one before.
    pub(super) fn rows(&mut self, sessions: Vec<Activity>, elapsed: Duration) -> Vec<Row> {
        let mut now = HashMap::with_capacity(sessions.len());
        let mut rows = Vec::with_capacity(sessions.len());
        for session in sessions {
            let key = (session.uid, session.since);
            let lately = match self.before.get(&key) {
                Some(before) => Lately::between(before, &session.counted, elapsed),
                // Of one that is new here it is not known when it was done.
                None => Lately::default(),
            };
            let name = self.names.entry(session.uid);
            rows.push(Row {
                user: name.or_insert_with(|| shown::user(session.uid)).clone(),
                user_id: plain(&session.user_id.unwrap_or_default()).to_string(),
                state: plain(&session.state).to_string(),
                good_for: session.good_for,
                open_files: session.open_files,
                quota: session.quota,
                hidden: session.counted.hidden,
                lately,
            });
            now.insert(key, session.counted);
        }
        self.before = now;
        rows
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;

    fn activity(operations: u64, slow: u64, remembered: u64) -> Activity {
        let mut took = vec![0; LATENCIES];
        (took[3], took[10]) = (operations, slow);
        Activity {
            uid: 4_000_000_000,
            user_id: Some("al\u{1b}ice".to_owned()),
            state: "active".to_owned(),
            since: "2026-11-28T12:00:00Z".to_owned(),
            good_for: 52,
            open_files: 1,
            quota: None,
            counted: Counted {
                took,
                remembered,
                looked_at: 10,
                ..Counted::default()
            },
        }
    }

    #[test]
    fn a_row_has_what_was_done_since_the_answer_before() {
        let mut samples = Samples::default();
        let first = samples.rows(vec![activity(1000, 0, 0)], Duration::ZERO);
        assert_eq!(first[0].lately.operations(), 0.0);
        assert_eq!(first[0].lately.quantile(0.99), None);
        let rows = samples.rows(vec![activity(1198, 2, 30)], Duration::from_secs(2));
        let lately = &rows[0].lately;
        assert_eq!(lately.operations(), 100.0);
        assert_eq!(lately.quantile(0.5).unwrap(), Duration::from_micros(8));
        assert_eq!(lately.quantile(0.99).unwrap(), Duration::from_micros(8));
        assert_eq!(lately.quantile(0.999).unwrap(), Duration::from_micros(1024));
        assert_eq!(lately.hits(), Some(1.0));
        assert_eq!(
            (rows[0].user.as_str(), rows[0].user_id.as_str()),
            ("4000000000", "al\\u{1b}ice")
        );
        // A session that was ended and begun anew has done nothing yet.
        let mut anew = activity(5, 0, 0);
        anew.since = "2026-11-28T13:00:00Z".to_owned();
        let rows = samples.rows(vec![anew], Duration::from_secs(2));
        assert_eq!(rows[0].lately.operations(), 0.0);
        let both = Lately::sum([lately, lately].into_iter());
        assert_eq!(both.operations(), 200.0);
    }
}
