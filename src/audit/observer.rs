//! What of a session becomes a line.

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use super::line::{Entry, OK, keep_end};
use super::options::Level;
use super::queue::{LOOK, PATIENCE, Queue, Queues};
use crate::error::{Error, Kind, Result};
use crate::event::{Event, Observer, Op, Operation, Pace, SessionChange, turn};

thread_local! {
    /// The turn in which a line said why something is refused: the operation's own line would say less.
    static TOLD: Cell<u64> = const { Cell::new(0) };
    /// The turn in which something was refused because there could be no line.
    static REFUSED: Cell<u64> = const { Cell::new(0) };
}

impl Level {
    /// Whether there is a line for every operation like this, however it goes.
    fn owes(self, op: Op) -> bool {
        match self {
            Self::Denied => false,
            Self::Access => is_access(op),
            Self::All => true,
        }
    }

    /// Whether there is a line for an operation that has failed like this.
    fn owes_failed(self, op: Op, kind: Kind) -> bool {
        // The close and the fsync of a record are its commit.
        let commits = matches!(op, Op::Flush | Op::Fsync | Op::Release);
        self.owes(op) || is_denial(kind) || (self != Self::Denied && commits)
    }

    fn owes_session(self, change: SessionChange) -> bool {
        match change {
            // Nobody is let in by that: what comes of it has a line.
            SessionChange::Restoring => false,
            SessionChange::Suspended | SessionChange::Ends => true,
            _ => self != Self::Denied,
        }
    }
}

/// What opens or changes something, or would: everything but what only looks, what goes on what was opened, and what is given
/// back. What is written is told by the open that was for writing, and by the commit.
fn is_access(op: Op) -> bool {
    match op {
        Op::Open
        | Op::Create
        | Op::Setattr
        | Op::Fallocate
        | Op::CopyFileRange
        | Op::Commit
        | Op::Rename
        | Op::Unlink
        | Op::Mkdir
        | Op::Rmdir
        | Op::Symlink
        | Op::Mknod
        | Op::Link
        | Op::Session => true,
        Op::Lookup
        | Op::Forget
        | Op::Getattr
        | Op::Read
        | Op::Write
        | Op::Statfs
        | Op::Release
        | Op::Fsync
        | Op::Flush
        | Op::Opendir
        | Op::Readdir
        | Op::Releasedir
        | Op::Fsyncdir
        | Op::Lseek => false,
    }
}

/// What its program sees as a refusal, and not as one of the things that happen.
fn is_denial(kind: Kind) -> bool {
    matches!(kind.errno().number, libc::EACCES | libc::EPERM | libc::EIO)
}

/// Writes what happens in one session.
pub(super) struct Auditor {
    pub(super) queues: Arc<Queues>,
    pub(super) queue: Arc<Queue>,
    pub(super) level: Level,
}

impl Auditor {
    fn push(&self, op: Op, path: impl Into<String>, outcome: &'static str, reason: impl Into<String>) {
        self.put(op, Entry::now(op.as_str(), path, outcome, reason));
    }

    /// What is owed a line was let in when there was space for it: it waits no more, for it may hold a lock.
    fn put(&self, op: Op, entry: Entry) {
        match self.level.owes(op) {
            true => self.queues.push_anyway(&self.queue, entry),
            false => self.queues.push(&self.queue, entry),
        }
    }

    /// Refuses what there can be no line for.
    fn refuse<T>(&self, why: &'static str) -> Result<T> {
        REFUSED.set(turn());
        Err(Error::new(Kind::Io, why))
    }

    /// Says why something is refused.
    fn refused(&self, op: Op, path: &str, kind: Kind, reason: &str) {
        TOLD.set(turn());
        self.push(op, path, kind.errno().name, reason);
    }

    fn session_is(&self, change: SessionChange, reason: &str) {
        if !self.level.owes_session(change) {
            return;
        }
        if change == SessionChange::Ends {
            self.queues.end(&self.queue);
        }
        let op = format!("session_{}", change.as_str());
        // Not on a thread of the session's own: nobody may wait.
        self.queues
            .push_anyway(&self.queue, Entry::now(op, "", OK, reason));
    }
}

impl Observer for Auditor {
    fn observe(&self, event: &Event) {
        match event {
            Event::Denied {
                op,
                path,
                kind,
                reason,
            } => self.refused(*op, path, *kind, reason),
            // What is in the way was told when it was met.
            Event::SaveFailed {
                kind: Kind::NameTaken,
                ..
            } => {}
            Event::DraftKept { path, kind, reason } | Event::SaveFailed { path, kind, reason } => {
                self.refused(Op::Commit, path, *kind, reason);
            }
            Event::Panicked { op } => {
                self.refused(*op, "", Kind::Io, "panic; this is a bug, please report it")
            }
            Event::Committed { path } if self.level.owes(Op::Commit) => {
                self.push(Op::Commit, path, OK, "");
            }
            Event::OwnerOverridden { path } => {
                let reason = "owner_overridden: it named another owner, whom the session's user replaces";
                self.push(Op::Commit, path, OK, reason);
            }
            Event::SecretRestored { path } => {
                let reason = "secret_restored: the record has the secret that the last one of its name had";
                self.push(Op::Commit, path, OK, reason);
            }
            Event::SecretDropped { path } => {
                let reason = "secret_dropped: the secret that this record had is gone for good";
                self.push(Op::Commit, path, OK, reason);
            }
            Event::Restored { path } if self.level.owes(Op::Commit) => {
                let reason = "restored: it was removed, and was asked back";
                self.push(Op::Create, path, OK, reason);
            }
            Event::DraftDiscarded { path } if self.level.owes(Op::Commit) => {
                let reason = "discarded: the draft was given up, and what was last committed stays";
                self.push(Op::Unlink, path, OK, reason);
            }
            Event::Session { change, reason } => self.session_is(*change, reason),
            Event::LoginFailed { kind, reason } => {
                let entry = Entry::now("login", "", kind.errno().name, reason);
                self.queues.push_anyway(&self.queue, entry);
            }
            Event::Committed { .. }
            | Event::Restored { .. }
            | Event::DraftDiscarded { .. }
            | Event::Verified { .. }
            | Event::Transferred { .. }
            | Event::Renewal { .. }
            | Event::Unanswered { .. }
            | Event::Trouble { .. } => {}
        }
    }

    fn operation(&self, operation: &Operation<'_>) {
        let error = match operation.outcome {
            Ok(()) if self.level.owes(operation.op) => None,
            Err(error) if self.level.owes_failed(operation.op, error.kind()) => Some(error),
            _ => return,
        };
        if error.is_some() && REFUSED.get() == turn() {
            return self.queues.miss(&self.queue);
        }
        if error.is_some() && TOLD.get() == turn() {
            return;
        }
        let outcome = error.map_or(OK, |error| error.kind().errno().name);
        let to = operation.to.map(|to| {
            let mut path = to();
            keep_end(&mut path);
            format!("to {path:?}")
        });
        let why = error.map(Error::to_string);
        let reason = [to, why].into_iter().flatten().collect::<Vec<_>>().join(": ");
        let entry = Entry {
            how: operation.how.to_string(),
            ..Entry::now(operation.op.as_str(), (operation.path)(), outcome, reason)
        };
        self.put(operation.op, entry);
    }

    fn admit(&self, op: Op) -> Result<()> {
        if !self.level.owes(op) {
            Ok(())
        } else if self.queues.failed() {
            self.refuse("the audit log cannot be written, so what has to be in it is refused; the server's log says why")
        } else if self.queues.has_had_enough(&self.queue) {
            self.refuse(
                "the audit log's file system is nearly full, and this user has filled more of it than is left; the server's \
                 log says how much",
            )
        } else {
            Ok(())
        }
    }

    fn pace(&self, op: Op, waited: Duration) -> Result<Pace> {
        self.admit(op)?;
        let owes = self.level.owes(op);
        let wait = match self.queues.behind(&self.queue) {
            // Whoever cannot write less does not wait for it.
            Some(_) if self.queues.failed() => None,
            None if owes && !self.queues.has_space(&self.queue) => Some(LOOK),
            behind => behind,
        };
        match wait {
            Some(wait) if waited < PATIENCE => Ok(Pace::Wait(wait)),
            Some(_) if owes => {
                self.refuse("this user's lines have waited too long for their turn in the audit log")
            }
            _ => Ok(Pace::Go),
        }
    }
}

/// What was counted until now is a line too.
impl Drop for Auditor {
    fn drop(&mut self) {
        self.queues.end(&self.queue);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::line::Who;
    use crate::event::on_behalf_of;

    const RATE: u64 = 64 << 10;

    /// An observer of a log that nobody writes.
    fn auditor(level: Level) -> Auditor {
        let queues = Queues::new(RATE);
        let queue = queues.open(Who {
            session: "0123abcd".to_owned(),
            user: String::new(),
            uid: 1,
        });
        Auditor { queues, queue, level }
    }

    /// What is written of it, as `op outcome`.
    fn lines(auditor: &Auditor) -> Vec<String> {
        let work = auditor.queues.take(100);
        let entries = work.batch.iter().map(|(_, line)| &line.entry);
        entries
            .map(|entry| format!("{} {}", entry.op, entry.outcome))
            .collect()
    }

    fn done(auditor: &Auditor, op: Op, outcome: std::result::Result<(), &Error>) {
        auditor.operation(&Operation {
            op,
            how: &"",
            outcome,
            elapsed: Duration::ZERO,
            path: &|| "x".to_owned(),
            to: None,
        });
    }

    fn denied(auditor: &Auditor, op: Op) {
        auditor.observe(&Event::Denied {
            op,
            path: "x".to_owned(),
            kind: Kind::NotPermitted,
            reason: "why".to_owned(),
        });
    }

    #[test]
    fn what_says_why_is_the_only_line_of_its_operation_and_of_no_other() {
        let auditor = auditor(Level::All);
        let error = Error::new(Kind::NotPermitted, "no");
        on_behalf_of(1, || {
            denied(&auditor, Op::Rename);
            done(&auditor, Op::Rename, Err(&error));
        });
        on_behalf_of(1, || done(&auditor, Op::Open, Err(&error)));
        assert_eq!(lines(&auditor), ["rename EPERM", "open EPERM"]);
        // One that is met on the way to what goes well.
        on_behalf_of(1, || {
            denied(&auditor, Op::Lookup);
            done(&auditor, Op::Open, Ok(()));
        });
        assert_eq!(lines(&auditor), ["lookup EPERM", "open ok"]);
    }

    #[test]
    fn what_becomes_of_a_secret_has_a_line_on_every_level_and_what_is_asked_back_on_those_that_have_commits()
    {
        let path = || "x".to_owned();
        let events = [
            Event::SecretRestored { path: path() },
            Event::SecretDropped { path: path() },
            Event::Restored { path: path() },
            Event::DraftDiscarded { path: path() },
        ];
        for (level, expected) in [
            (Level::Denied, &["commit ok", "commit ok"][..]),
            (
                Level::Access,
                &["commit ok", "commit ok", "create ok", "unlink ok"][..],
            ),
        ] {
            let auditor = auditor(level);
            events.iter().for_each(|event| auditor.observe(event));
            assert_eq!(lines(&auditor), expected);
        }
    }

    #[test]
    fn what_is_refused_for_want_of_a_line_is_counted_and_the_count_is_a_line() {
        let auditor = auditor(Level::Access);
        auditor.queues.set_failed(true);
        assert!(auditor.admit(Op::Read).is_ok(), "it is owed no line");
        for op in [Op::Open, Op::Commit] {
            on_behalf_of(1, || {
                let error = auditor.admit(op).unwrap_err();
                assert_eq!(error.kind(), Kind::Io);
                // The commit is part of a close.
                done(&auditor, Op::Flush, Err(&error));
            });
        }
        assert_eq!(lines(&auditor), [""; 0]);
        auditor.queues.set_failed(false);
        assert!(auditor.admit(Op::Open).is_ok());
        let work = auditor.queues.take(100);
        let [(_, line)] = &work.batch[..] else {
            unreachable!("{}", work.batch.len())
        };
        assert!(line.entry.reason.starts_with("2 events"), "{}", line.entry.reason);
        assert_eq!(lines(&auditor), [""; 0]);
    }

    #[test]
    fn who_writes_more_than_the_rate_waits_and_only_what_is_owed_a_line_is_refused_in_the_end() {
        let auditor = auditor(Level::Access);
        let now = Duration::ZERO;
        assert_eq!(auditor.pace(Op::Open, now).unwrap(), Pace::Go);
        // Each another, so that each is a line.
        let mut numbers = (0..1_000_000).map(|number: u32| number.to_string());
        while auditor.queues.behind(&auditor.queue).is_none() {
            auditor.push(Op::Open, numbers.next().unwrap(), OK, "");
        }
        numbers
            .by_ref()
            .take(10_000)
            .for_each(|number| auditor.push(Op::Open, number, OK, ""));
        for op in [Op::Open, Op::Read, Op::Lookup] {
            assert!(matches!(auditor.pace(op, now), Ok(Pace::Wait(_))), "{op}");
        }
        assert_eq!(auditor.pace(Op::Open, PATIENCE).unwrap_err().kind(), Kind::Io);
        assert_eq!(auditor.pace(Op::Read, PATIENCE).unwrap(), Pace::Go);
        assert!(
            auditor.admit(Op::Commit).is_ok(),
            "what holds a lock does not wait"
        );
        let other = auditor.queues.open(Who {
            session: "4567cdef".to_owned(),
            user: "2bd806c97f0e00af".to_owned(),
            uid: 2,
        });
        assert_eq!(auditor.queues.behind(&other), None);
        auditor.queues.set_failed(true);
        assert_eq!(auditor.pace(Op::Read, now).unwrap(), Pace::Go);
        assert!(auditor.pace(Op::Open, now).is_err());
    }

    #[test]
    fn where_little_is_left_who_wrote_most_is_refused_and_that_is_one_line_in_ten_seconds() {
        let auditor = auditor(Level::Access);
        auditor.push(Op::Open, "x", OK, "");
        assert_eq!(lines(&auditor), ["open ok"]);
        auditor.queues.accounts.set_left(Some(100));
        let refuse = || {
            on_behalf_of(1, || {
                let error = auditor.pace(Op::Open, Duration::ZERO).unwrap_err();
                done(&auditor, Op::Open, Err(&error));
            });
            assert_eq!(auditor.pace(Op::Read, Duration::ZERO).unwrap(), Pace::Go);
        };
        refuse();
        assert_eq!(lines(&auditor), ["audit EIO"]);
        (0..100).for_each(|_| refuse());
        assert_eq!(lines(&auditor), [""; 0]);
        auditor.queues.end(&auditor.queue);
        let work = auditor.queues.take(100);
        let counts: Vec<_> = work
            .batch
            .iter()
            .map(|(_, line)| line.entry.count.unwrap().get())
            .collect();
        assert_eq!(counts, [100]);
    }

    #[test]
    fn level_denied_stops_nothing_and_counts_what_it_has_no_space_for() {
        let auditor = auditor(Level::Denied);
        auditor.queues.set_failed(true);
        assert!(auditor.admit(Op::Open).is_ok());
        for number in 0..100_000 {
            auditor.push(Op::Open, number.to_string(), "EACCES", "");
        }
        let waiting = auditor.queues.waiting();
        assert!((100..10_000).contains(&waiting), "{waiting}");
    }
}
