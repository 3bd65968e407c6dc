//! What waits to be written: a queue for each session, and the turn that each of them gets.

use std::collections::{BTreeMap, VecDeque};
use std::mem;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::account::{Account, Accounts};
use super::file::RESERVE;
use super::flood::{Floods, WINDOW};
use super::line::{Entry, Who};
use crate::budget::Charge;
use crate::clock::{self, Stopwatch};

/// How much may wait in all sessions together, in bytes: there is space in the file for it.
const WAITING: u64 = RESERVE / 2;

/// How long an operation waits for space in its own user's part of the queues, and how often it looks.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);
pub(super) const LOOK: Duration = Duration::from_millis(1);

/// How much space there must be before something is done, in bytes: its lines are shorter.
const AHEAD: u64 = 8 << 10;

/// The most lines that one session writes before it is another's turn.
const TURN: usize = 64;

/// The `op` of the line that says how much is missing.
const MISSING: &str = "audit";

/// What the sessions and the writer share.
pub(super) struct Queues {
    /// The log cannot be written.
    failed: AtomicBool,
    waiting: AtomicUsize,
    pub(super) accounts: Accounts,
    lists: Mutex<Lists>,
    /// There is something for the writer to do.
    work: Condvar,
    ids: AtomicU64,
}

#[derive(Default)]
struct Lists {
    /// The queues that have lines, in the order of their turns.
    ready: VecDeque<Arc<Queue>>,
    /// Those that have none, but have missed some while the log could not be written.
    missed: Vec<Arc<Queue>>,
    /// When counts are complete.
    timers: BTreeMap<(Instant, u64), Arc<Queue>>,
    /// The writer waits for work.
    idle: bool,
    reopen: bool,
    closing: bool,
}

/// One session's.
pub(super) struct Queue {
    who: Who,
    id: u64,
    account: Arc<Account>,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    lines: VecDeque<Waiting>,
    floods: Floods,
    /// What could not be taken note of, and when a line said so the last time.
    missed: u64,
    missed_told: Option<Instant>,
    /// Whether it is in one of the lists, and has a timer.
    listed: bool,
    timed: bool,
}

/// A line that waits.
pub(super) struct Waiting {
    pub(super) entry: Entry,
    _charge: Charge,
}

/// What the writer is to do.
#[derive(Default)]
pub(super) struct Work {
    pub(super) batch: Vec<(Arc<Queue>, Waiting)>,
    /// Look whether the path leads to another file.
    pub(super) reopen: bool,
    /// Nothing will come any more.
    pub(super) closing: bool,
}

impl Queues {
    /// With so many bytes a second for each user.
    pub(super) fn new(rate: u64) -> Arc<Self> {
        Arc::new(Self {
            failed: AtomicBool::new(false),
            waiting: AtomicUsize::new(0),
            accounts: Accounts::new(rate, WAITING),
            lists: Mutex::default(),
            work: Condvar::new(),
            ids: AtomicU64::new(0),
        })
    }

    /// A queue for one session.
    pub(super) fn open(&self, who: Who) -> Arc<Queue> {
        Arc::new(Queue {
            id: self.ids.fetch_add(1, Ordering::Relaxed),
            account: self.accounts.of(&who.user),
            who,
            inner: Mutex::default(),
        })
    }

    /// Whether the log cannot be written.
    pub(super) fn failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }

    /// How many lines wait.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Whether there is space for the lines of something that the session is about to do.
    pub(super) fn has_space(&self, queue: &Queue) -> bool {
        queue.account.take(AHEAD).is_some()
    }

    /// Whether others are to have what is left in the log's file system.
    pub(super) fn has_had_enough(&self, queue: &Queue) -> bool {
        self.accounts.has_had_enough(&queue.account)
    }

    /// How long the session has to wait until its user has written no more than the rate allows.
    pub(super) fn behind(&self, queue: &Queue) -> Option<Duration> {
        queue.account.behind()
    }

    /// Space for a line that nobody has asked for before. Waits for the writer, and not at all while it cannot write.
    fn charge(&self, queue: &Queue, patience: Duration, cost: u64) -> Option<Charge> {
        if self.has_had_enough(queue) {
            return None;
        }
        let watch = Stopwatch::start();
        loop {
            let charge = queue.account.take(cost);
            if charge.is_some() || self.failed() || watch.elapsed() >= patience {
                return charge;
            }
            std::thread::sleep(LOOK);
        }
    }

    /// Puts a line into the session's queue. Where there is no space for it, its operation waits; what there is no space
    /// for even then is counted, and the count is a line.
    pub(super) fn push(self: &Arc<Self>, queue: &Arc<Queue>, entry: Entry) {
        self.put(queue, entry, Some(PATIENCE));
    }

    /// As [`push`](Self::push), whether or not there is space, and at once: for what was asked for before it was done, and
    /// for the few lines that a session cannot be without.
    pub(super) fn push_anyway(self: &Arc<Self>, queue: &Arc<Queue>, entry: Entry) {
        self.put(queue, entry, None);
    }

    fn put(self: &Arc<Self>, queue: &Arc<Queue>, entry: Entry, patience: Option<Duration>) {
        let lines = queue.inner.lock().floods.pass(entry, clock::instant());
        self.put_all(queue, lines, patience);
    }

    fn put_all(self: &Arc<Self>, queue: &Arc<Queue>, lines: Vec<Entry>, patience: Option<Duration>) {
        let charged = lines.into_iter().map(|entry| {
            let cost = entry.cost();
            let events = entry.count.map_or(1, NonZeroU64::get);
            let charge = match patience {
                Some(patience) => self.charge(queue, patience, cost).ok_or(events)?,
                None => queue.account.overdraw(cost),
            };
            queue.account.spend(cost);
            Ok(Waiting {
                entry,
                _charge: charge,
            })
        });
        // Waits for space, if it must: not under the lock.
        let charged: Vec<Result<Waiting, u64>> = charged.collect();
        let mut inner = queue.inner.lock();
        for line in charged {
            match line {
                Ok(line) => {
                    self.waiting.fetch_add(1, Ordering::Relaxed);
                    inner.lines.push_back(line);
                }
                Err(events) => inner.missed += events,
            }
        }
        self.list(queue, &mut inner);
    }

    /// Counts something that could not be taken note of, and was not done.
    pub(super) fn miss(&self, queue: &Arc<Queue>) {
        let mut inner = queue.inner.lock();
        inner.missed += 1;
        self.list(queue, &mut inner);
    }

    /// The session ends: what was counted until now is a line.
    pub(super) fn end(self: &Arc<Self>, queue: &Arc<Queue>) {
        let lines = {
            let mut inner = queue.inner.lock();
            inner.missed_told = None;
            inner.floods.end()
        };
        self.put_all(queue, lines, None);
    }

    /// Gives the queue a turn, and a timer, if it needs one.
    fn list(&self, queue: &Arc<Queue>, inner: &mut Inner) {
        let untold = inner.untold();
        let is_due = untold.is_some_and(|at| at <= clock::instant());
        let turn = !inner.listed && (!inner.lines.is_empty() || is_due);
        let timer = if inner.timed {
            None
        } else {
            [inner.floods.next(), untold.filter(|_| !is_due)]
                .into_iter()
                .flatten()
                .min()
        };
        if !turn && timer.is_none() {
            return;
        }
        let mut lists = self.lists.lock();
        if turn {
            inner.listed = true;
            lists.ready.push_back(Arc::clone(queue));
        }
        if let Some(end) = timer {
            inner.timed = true;
            lists.timers.insert((end, queue.id), Arc::clone(queue));
        }
        // A writer that is about to look anyway is not woken for every line.
        if mem::take(&mut lists.idle) {
            self.work.notify_one();
        }
    }

    /// Has the writer look whether the path leads to another file.
    pub(super) fn reopen(&self) {
        self.lists.lock().reopen = true;
        self.work.notify_one();
    }

    /// Has the writer end when it has written everything.
    pub(super) fn close(&self) {
        self.lists.lock().closing = true;
        self.work.notify_one();
    }

    /// Whether the writer is to end.
    pub(super) fn is_closing(&self) -> bool {
        self.lists.lock().closing
    }

    /// The log cannot be written, or can be again. Returns whether that is news.
    pub(super) fn set_failed(&self, failed: bool) -> bool {
        let news = self.failed.swap(failed, Ordering::AcqRel) != failed;
        if news && !failed {
            let mut lists = self.lists.lock();
            let missed = mem::take(&mut lists.missed);
            lists.ready.extend(missed);
        }
        news
    }

    /// Waits until the writer has to be somewhere: at most until `latest`.
    pub(super) fn wait(&self, latest: Option<Instant>, pause: Duration) {
        let mut lists = self.lists.lock();
        loop {
            let now = clock::instant();
            let timer = lists.timers.keys().next().map(|(end, _)| *end);
            let due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
            if lists.closing || lists.reopen || due(timer) || due(latest) {
                return;
            }
            if !lists.ready.is_empty() {
                // More of them for one write.
                drop(lists);
                return std::thread::sleep(pause);
            }
            lists.idle = true;
            match [timer, latest].into_iter().flatten().min() {
                Some(until) => _ = self.work.wait_until(&mut lists, until),
                None => self.work.wait(&mut lists),
            }
            lists.idle = false;
        }
    }

    /// What there is to do now: at most so many lines, each session's turn after the other.
    pub(super) fn take(self: &Arc<Self>, most: usize) -> Work {
        self.complete_counts();
        let mut work = Work::default();
        {
            let mut lists = self.lists.lock();
            work.reopen = mem::take(&mut lists.reopen);
            work.closing = lists.closing;
        }
        while work.batch.len() < most {
            let Some(queue) = self.lists.lock().ready.pop_front() else {
                return work;
            };
            self.take_turn(queue, &mut work.batch);
        }
        work
    }

    fn take_turn(&self, queue: Arc<Queue>, batch: &mut Vec<(Arc<Queue>, Waiting)>) {
        let mut inner = queue.inner.lock();
        let count = TURN.min(inner.lines.len());
        let lines: Vec<_> = inner.lines.drain(..count).collect();
        batch.extend(lines.into_iter().map(|line| (Arc::clone(&queue), line)));
        if !inner.lines.is_empty() {
            self.lists.lock().ready.push_back(Arc::clone(&queue));
            return;
        }
        if inner.missed > 0 && self.failed() {
            // Said when it is over: it may be a lot.
            self.lists.lock().missed.push(Arc::clone(&queue));
            return;
        }
        inner.listed = false;
        if inner.untold().is_some_and(|at| at <= clock::instant()) {
            let line = self.missing(&queue, &mut inner);
            batch.push((Arc::clone(&queue), line));
        }
        self.list(&queue, &mut inner);
    }

    /// The line that says how much is missing.
    fn missing(&self, queue: &Queue, inner: &mut Inner) -> Waiting {
        let missed = mem::take(&mut inner.missed);
        inner.missed_told = Some(clock::instant());
        let reason = format!(
            "{missed} events have no line of their own: the log could not be written, or had enough of this user's, and \
             what it owes a line was refused"
        );
        let entry = Entry {
            count: NonZeroU64::new(missed),
            ..Entry::now(MISSING, "", "EIO", reason)
        };
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let cost = entry.cost();
        queue.account.spend(cost);
        Waiting {
            entry,
            _charge: queue.account.overdraw(cost),
        }
    }

    /// Makes lines of the counts that are complete.
    fn complete_counts(self: &Arc<Self>) {
        let now = clock::instant();
        loop {
            let queue = {
                let mut lists = self.lists.lock();
                match lists.timers.first_entry() {
                    Some(entry) if entry.key().0 <= now => entry.remove(),
                    _ => return,
                }
            };
            let lines = {
                let mut inner = queue.inner.lock();
                inner.timed = false;
                inner.floods.complete(now)
            };
            self.put_all(&queue, lines, Some(Duration::ZERO));
        }
    }

    /// Lines that were written wait no more.
    pub(super) fn written(&self, count: usize) {
        self.waiting.fetch_sub(count, Ordering::Relaxed);
    }
}

impl Inner {
    /// When it may be said how much is missing, if something is: that must not become a flood itself.
    fn untold(&self) -> Option<Instant> {
        let told = self.missed_told;
        (self.missed > 0).then(|| told.map_or_else(clock::instant, |told| told + WINDOW))
    }
}

impl Queue {
    pub(super) fn who(&self) -> &Who {
        &self.who
    }
}
