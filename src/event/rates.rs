//! How much of the log is about one user: the first of each kind is always written, the others up to so many bytes, and what is
//! more is counted.
//!
//! The log is everybody's, and so is what keeps it: a journal that is sent too much drops whatever comes next, whoever it is about,
//! and a user can be refused something ten thousand times a second.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use log::Level;
use parking_lot::Mutex;

use crate::clock;

/// How long what is alike is counted together.
pub(super) const WINDOW: Duration = Duration::from_secs(10);

/// What may be written of one user at once, and in a second, in bytes. No line counts for fewer than [`LEAST`], for there is a price of
/// each.
const AT_ONCE: u64 = 64 << 10;
const A_SECOND: u64 = 2 << 10;
const LEAST: u64 = 512;

/// How many kinds of lines are told apart in one window, of one user: more than there are, unless a user finds a way to make some.
const KINDS: usize = 64;

/// How much is said of what was counted, in bytes.
const SAMPLE: usize = 200;

/// How many users there may be until those are looked for of whom there is nothing to remember.
const MANY: usize = 1024;

/// The rates of all users, each of whom is called by a text.
pub(super) struct Rates<K> {
    state: Mutex<State<K>>,
    write: fn(Level, &str),
}

struct State<K> {
    users: HashMap<String, User<K>>,
    /// Whether there is a thread that writes the counts when it is time.
    is_watched: bool,
}

struct User<K> {
    /// How many sessions there are.
    sessions: usize,
    /// What was written, less what may be, at that time.
    debt: u64,
    at: Instant,
    /// When the counts are complete.
    until: Instant,
    kinds: HashMap<K, Count>,
    /// Those of further kinds.
    others: u64,
}

struct Count {
    level: Level,
    /// The first of them, or the beginning of it.
    sample: String,
    more: u64,
}

impl<K: Eq + Hash + Send + 'static> Rates<K> {
    /// What may be written is written by `write`.
    pub(super) fn new(write: fn(Level, &str)) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(State {
                users: HashMap::new(),
                is_watched: false,
            }),
            write,
        })
    }

    /// Writes `line`, or counts it.
    pub(super) fn tell(self: &Arc<Self>, user: &str, level: Level, kind: K, line: &dyn Fn() -> String) {
        let now = clock::instant();
        let mut state = self.state.lock();
        let of = state.user(user, now);
        let complete = of.complete(user, now);
        let line = of.admits(level, kind, line);
        let counts = of.counts();
        let watch = counts && !state.is_watched;
        state.is_watched |= counts;
        drop(state);
        complete
            .into_iter()
            .for_each(|(level, line)| (self.write)(level, &line));
        line.inspect(|line| (self.write)(level, line));
        if watch {
            self.watch();
        }
    }

    /// One more session of the user.
    pub(super) fn begin(&self, user: &str) {
        self.state.lock().user(user, clock::instant()).sessions += 1;
    }

    /// One session less. With the last one, what was counted is written.
    pub(super) fn end(&self, user: &str) {
        let mut state = self.state.lock();
        let of = state.user(user, clock::instant());
        of.sessions = of.sessions.saturating_sub(1);
        let complete = match of.sessions {
            0 => of.complete(user, of.until),
            _ => Vec::new(),
        };
        drop(state);
        complete
            .into_iter()
            .for_each(|(level, line)| (self.write)(level, &line));
    }

    /// Has a thread write the counts when they are complete. Where there is none to be had, the next line of the user does it, or
    /// the end of the session.
    fn watch(self: &Arc<Self>) {
        let rates = Arc::clone(self);
        let run = move || {
            while let Some(pause) = rates.write_complete() {
                thread::sleep(pause);
            }
        };
        if thread::Builder::new().name("log".to_owned()).spawn(run).is_err() {
            self.state.lock().is_watched = false;
        }
    }

    /// Writes the counts that are complete; returns how long it is until others are, if there are any.
    fn write_complete(&self) -> Option<Duration> {
        let now = clock::instant();
        let mut state = self.state.lock();
        let users = state.users.iter_mut();
        let complete: Vec<_> = users.flat_map(|(name, of)| of.complete(name, now)).collect();
        let counting = state.users.values().filter(|of| of.counts());
        let next = counting.map(|of| of.until).min();
        state.is_watched = next.is_some();
        drop(state);
        complete
            .into_iter()
            .for_each(|(level, line)| (self.write)(level, &line));
        next.map(|next| next.saturating_duration_since(now))
    }
}

impl<K: Eq + Hash> State<K> {
    fn user(&mut self, name: &str, now: Instant) -> &mut User<K> {
        if self.users.len() >= MANY && !self.users.contains_key(name) {
            self.users.retain(|_, of| !of.is_forgettable(now));
        }
        let new = || User {
            sessions: 0,
            debt: 0,
            at: now,
            until: now,
            kinds: HashMap::new(),
            others: 0,
        };
        self.users.entry(name.to_owned()).or_insert_with(new)
    }
}

impl<K: Eq + Hash> User<K> {
    /// The line, unless it is to be counted.
    fn admits(&mut self, level: Level, kind: K, line: &dyn Fn() -> String) -> Option<String> {
        let has_room = self.debt < AT_ONCE;
        let is_full = self.kinds.len() >= KINDS;
        match self.kinds.get_mut(&kind) {
            Some(count) if !has_room => {
                count.more += 1;
                return None;
            }
            None if !has_room && is_full => {
                self.others += 1;
                return None;
            }
            _ => {}
        }
        let text = line();
        self.debt += LEAST.max(text.len() as u64);
        if !is_full {
            self.kinds.entry(kind).or_insert_with(|| Count {
                level,
                sample: beginning(&text),
                more: 0,
            });
        }
        Some(text)
    }

    /// Whether something is counted that has yet to be written.
    fn counts(&self) -> bool {
        self.others > 0 || self.kinds.values().any(|count| count.more > 0)
    }

    /// What was counted, if that is complete `now`; all begins anew then.
    fn complete(&mut self, name: &str, now: Instant) -> Vec<(Level, String)> {
        let earned = now.saturating_duration_since(self.at).as_millis() * u128::from(A_SECOND) / 1000;
        if earned > 0 {
            self.debt = self
                .debt
                .saturating_sub(u64::try_from(earned).unwrap_or(u64::MAX));
            self.at = now;
        }
        if now < self.until {
            return Vec::new();
        }
        self.until = now + WINDOW;
        let counted = self.kinds.drain().filter(|(_, count)| count.more > 0);
        let mut lines: Vec<_> = counted
            .map(|(_, count)| {
                let Count { more, sample, .. } = &count;
                let seconds = WINDOW.as_secs();
                let line = format!("{more} more like this of {name} within {seconds} s: {sample}");
                (count.level, line)
            })
            .collect();
        let others = std::mem::take(&mut self.others);
        if others > 0 {
            let line = format!("{others} more of other kinds, of {name}");
            lines.push((Level::Warn, line));
        }
        self.debt = self.debt.saturating_add(LEAST * lines.len() as u64);
        lines
    }

    /// Whether a new one would be like it.
    fn is_forgettable(&self, now: Instant) -> bool {
        let earned = now.saturating_duration_since(self.at).as_secs() * A_SECOND;
        self.sessions == 0 && !self.counts() && self.debt <= earned
    }
}

fn beginning(text: &str) -> String {
    let Some(end) = (0..=SAMPLE).rev().find(|at| text.is_char_boundary(*at)) else {
        return text.to_owned();
    };
    match text.get(..end) {
        Some(cut) if cut.len() < text.len() => format!("{cut}…"),
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user() -> (User<u32>, Instant) {
        let now = clock::instant();
        let mut state = State {
            users: HashMap::new(),
            is_watched: false,
        };
        let _ = state.user("u", now).complete("u", now);
        (state.users.remove("u").unwrap(), now)
    }

    /// How many bytes of `lines` lines of one kind are written.
    fn written(of: &mut User<u32>, kind: u32, lines: usize, length: usize) -> u64 {
        let line = || "x".repeat(length);
        let admitted = (0..lines).filter_map(|_| of.admits(Level::Warn, kind, &line));
        admitted.map(|line| line.len() as u64).sum()
    }

    #[test]
    fn a_flood_is_written_up_to_a_rate_and_the_rest_counted() {
        let (mut of, mut now) = user();
        let at_once = written(&mut of, 1, 1000, 4000);
        assert!(at_once <= AT_ONCE + 4000, "{at_once}");
        let (mut bytes, mut counted) = (0, 0);
        for _ in 0..100 {
            now += Duration::from_secs(1);
            counted += of.complete("u", now).len();
            bytes += written(&mut of, 1, 1000, 4000);
        }
        assert_eq!(counted, 10, "a line for each window");
        assert!(bytes <= 100 * (A_SECOND + 400), "{bytes} in 100 s");
        let lines = of.complete("u", now + WINDOW);
        let (level, line) = lines.first().unwrap();
        assert_eq!(*level, Level::Warn);
        assert!(line.contains(" more like this of u within 10 s: xxx"), "{line}");
    }

    #[test]
    fn short_lines_are_bounded_in_number() {
        let (mut of, _) = user();
        let line = || "x".to_owned();
        let admitted = (0..10_000).filter_map(|_| of.admits(Level::Warn, 1, &line));
        assert_eq!(admitted.count() as u64, AT_ONCE / LEAST);
    }

    #[test]
    fn the_first_of_each_kind_is_written_in_the_worst_flood_and_nothing_is_lost() {
        let (mut of, now) = user();
        written(&mut of, 0, 10_000, 1000);
        for kind in 1..KINDS as u32 {
            assert_eq!(written(&mut of, kind, 3, 10), 10, "{kind}");
        }
        assert_eq!(written(&mut of, 1000, 3, 10), 0, "there are no more kinds");
        let lines = of.complete("u", now + WINDOW);
        assert_eq!(lines.len(), KINDS + 1);
        let others = "3 more of other kinds, of u";
        assert_eq!(lines.last().unwrap().1, others);
        assert!(lines.iter().any(|(_, line)| line.starts_with("2 more like this")));
        assert!(!of.counts());
    }

    #[test]
    fn what_is_counted_is_written_when_its_time_is_over_and_with_the_last_session() {
        static WRITTEN: Mutex<Vec<String>> = Mutex::new(Vec::new());
        let rates = Rates::new(|_, line| WRITTEN.lock().push(line.to_owned()));
        for _ in 0..2 {
            rates.begin("u");
        }
        for _ in 0..1000 {
            rates.tell("u", Level::Warn, 1, &|| "x".repeat(100));
        }
        let first = WRITTEN.lock().len();
        assert!((100..200).contains(&first), "{first}");
        rates.end("u");
        assert_eq!(WRITTEN.lock().len(), first, "there is another session");
        rates.tell("bob", Level::Warn, 1, &|| "bob".to_owned());
        assert_eq!(WRITTEN.lock().last().unwrap(), "bob");
        rates.end("u");
        let last = WRITTEN.lock().last().cloned().unwrap();
        assert!(last.starts_with(&format!("{} more", 1000 - first)), "{last}");
    }

    #[test]
    fn users_of_whom_there_is_nothing_to_remember_are_forgotten() {
        let rates = Rates::new(|_, _| {});
        rates.begin("alice");
        for number in 0..2 * MANY {
            rates.begin(&number.to_string());
            rates.end(&number.to_string());
        }
        let state = rates.state.lock();
        assert!(state.users.len() <= MANY && state.users.contains_key("alice"));
        drop(state);
        rates.tell("alice", Level::Warn, 0_u32, &String::new);
    }
}
