//! What of a session becomes a line.

use std::cell::Cell;
use std::sync::Arc;

use super::Level;
use super::line::{Entry, OK};
use super::queue::{Queue, Queues};
use crate::error::{Error, Kind, Result};
use crate::event::{Event, Observer, Op, Operation, SessionChange, turn};

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
            Self::Access => matches!(
                op,
                Op::Open
                    | Op::Create
                    | Op::Commit
                    | Op::Rename
                    | Op::Unlink
                    | Op::Mkdir
                    | Op::Rmdir
                    | Op::Session
            ),
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
        self != Self::Denied || matches!(change, SessionChange::Suspended | SessionChange::Ends)
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
        let entry = Entry::now(op.as_str(), path, outcome, reason);
        self.queues.push(&self.queue, entry);
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
            Event::DraftKept { path, kind, reason } => self.refused(Op::Commit, path, *kind, reason),
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
            Event::Session { change, reason } => self.session_is(*change, reason),
            Event::LoginFailed { kind, reason } => {
                let entry = Entry::now("login", "", kind.errno().name, reason);
                self.queues.push_anyway(&self.queue, entry);
            }
            Event::Committed { .. }
            | Event::Verified { .. }
            | Event::Transferred { .. }
            | Event::Renewal { .. }
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
        let to = operation.to.map(|to| format!("to {:?}", to()));
        let why = error.map(Error::to_string);
        let reason = [to, why].into_iter().flatten().collect::<Vec<_>>().join(": ");
        self.push(operation.op, (operation.path)(), outcome, reason);
    }

    fn admit(&self, op: Op) -> Result<()> {
        if !self.level.owes(op) || (!self.queues.failed() && self.queues.has_space(&self.queue)) {
            return Ok(());
        }
        REFUSED.set(turn());
        Err(Error::new(
            Kind::Io,
            "the audit log cannot be written, so nothing is done that it owes a line; the server's log says why",
        ))
    }
}

/// What was counted until now is a line too.
impl Drop for Auditor {
    fn drop(&mut self) {
        self.queues.end(&self.queue);
    }
}
