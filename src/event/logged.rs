//! Events as lines of the log.

use std::fmt;
use std::mem::{Discriminant, discriminant};
use std::sync::Arc;

use log::Level;

use super::rates::Rates;
use super::{Event, Observer, Op, Operation, SessionChange, Subject};
use crate::error::Kind;

/// The longest path and the longest reason in a line, in bytes: users nest directories as deep as they like.
const MAX_TEXT: usize = 1 << 10;

/// What those are called whom nobody has authenticated. They have no sessions.
const NOBODY: &str = "those who are not logged in";

/// The log, which all sessions of a process have together: what a user can have written of themselves has a rate.
#[derive(Clone)]
pub struct Log(Arc<Rates<Sort>>);

impl Default for Log {
    fn default() -> Self {
        Self(Rates::new(|level, line| log::log!(level, "{line}")))
    }
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Log").finish_non_exhaustive()
    }
}

impl Log {
    /// For the session of `subject`. All sessions of a user have one rate, and those who are not logged in have one together.
    pub fn observer(&self, subject: &Subject) -> LogObserver {
        let uid = subject.uid;
        match &subject.user {
            Some(user) => self.of(format!("user {user}"), format!("session of {user}, uid {uid}")),
            None => self.of(NOBODY.to_owned(), format!("uid {uid}")),
        }
    }

    fn of(&self, user: String, session: String) -> LogObserver {
        if user != NOBODY {
            self.0.begin(&user);
        }
        LogObserver {
            session,
            user,
            log: self.clone(),
        }
    }
}

/// Writes events to the log: refusals and trouble as warnings.
#[derive(Debug)]
pub struct LogObserver {
    /// Said in front of every line, to tell sessions apart.
    session: String,
    user: String,
    log: Log,
}

impl Default for LogObserver {
    fn default() -> Self {
        Self::called("")
    }
}

impl LogObserver {
    /// With this name in front of every line.
    pub fn called(session: impl Into<String>) -> Self {
        let session = session.into();
        Log::default().of(session.clone(), session)
    }
}

impl Drop for LogObserver {
    fn drop(&mut self) {
        if self.user != NOBODY {
            self.log.0.end(&self.user);
        }
    }
}

impl Observer for LogObserver {
    fn observe(&self, event: &Event) {
        let Some(level) = level(event).filter(|level| log::log_enabled!(*level)) else {
            return;
        };
        let line = || format!("{}: {}", self.session, Words(event));
        self.log.0.tell(&self.user, level, Sort::of(event), &line);
    }

    fn operation(&self, operation: &Operation<'_>) {
        if let Err(error) = operation.outcome {
            log::debug!("{}: {}: {error:#}", self.session, operation.op);
        }
    }
}

/// How much a line is worth that an event has; none where it has none.
fn level(event: &Event) -> Option<Level> {
    match event {
        Event::Denied { .. }
        | Event::OwnerOverridden { .. }
        | Event::DraftKept { .. }
        | Event::SaveFailed { .. }
        | Event::LoginFailed { .. }
        | Event::Unanswered { .. }
        | Event::Trouble { .. } => Some(Level::Warn),
        Event::SecretDropped { .. } => Some(Level::Info),
        Event::Panicked { .. } => Some(Level::Error),
        Event::Session { change, .. } => match change {
            // Of the last one, too: whoever reads of the trouble must read that it is over.
            SessionChange::Stale | SessionChange::Suspended | SessionChange::Active => Some(Level::Warn),
            // Whoever begins and ends it, knows how much that is worth.
            SessionChange::Restoring
            | SessionChange::Begins
            | SessionChange::Rekeyed
            | SessionChange::Ends => None,
        },
        Event::Committed { .. }
        | Event::SecretRestored { .. }
        | Event::Restored { .. }
        | Event::DraftDiscarded { .. }
        | Event::Verified { .. }
        | Event::Transferred { .. }
        | Event::Renewal { .. } => None,
    }
}

/// What makes two events the same to an operator, who has yet to hear of the one when the other is told again and again.
#[derive(PartialEq, Eq, Hash)]
struct Sort {
    event: Discriminant<Event>,
    op: Option<Op>,
    kind: Option<Kind>,
    change: Option<SessionChange>,
    /// The beginning of a sentence, as far as it has no name and no number in it.
    words: String,
}

impl Sort {
    fn of(event: &Event) -> Self {
        let mut sort = Self {
            event: discriminant(event),
            op: None,
            kind: None,
            change: None,
            words: String::new(),
        };
        match event {
            Event::Denied { op, kind, reason, .. } => {
                (sort.op, sort.kind) = (Some(*op), Some(*kind));
                sort.words = nameless(reason);
            }
            Event::DraftKept { kind, .. }
            | Event::SaveFailed { kind, .. }
            | Event::LoginFailed { kind, .. } => sort.kind = Some(*kind),
            Event::Panicked { op } => sort.op = Some(*op),
            Event::Session { change, .. } => sort.change = Some(*change),
            Event::Trouble { what } | Event::Unanswered { what } => sort.words = nameless(what),
            _ => {}
        }
        sort
    }
}

fn nameless(sentence: &str) -> String {
    let is_ours = |c: &char| c.is_ascii_alphabetic() || matches!(c, ' ' | ',' | ';' | ':' | '(' | ')' | '\'');
    sentence.chars().take_while(is_ours).take(100).collect()
}

/// An event in words.
struct Words<'a>(&'a Event);

impl fmt::Display for Words<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Event::Denied { op, path, reason, .. } => {
                write!(f, "{op} {:?} denied: {}", end(path), beginning(reason))
            }
            Event::OwnerOverridden { path } => write!(
                f,
                "{:?} named another owner; replaced by the session's user",
                end(path)
            ),
            Event::SecretDropped { path } => write!(f, "the secret of {:?} is gone for good", end(path)),
            Event::DraftKept { path, reason, .. } => write!(
                f,
                "{:?} not committed, kept as a draft: {}",
                end(path),
                beginning(reason)
            ),
            Event::SaveFailed { path, kind, reason } => write!(
                f,
                "{:?} cannot be saved, and is in memory only: {} ({})",
                end(path),
                beginning(reason),
                kind.errno().name
            ),
            Event::Panicked { op } => write!(f, "panic in {op}; this is a bug, please report it"),
            Event::Session { change, .. } => f.write_str(state(*change)),
            Event::LoginFailed { reason, .. } => write!(f, "not logged in: {}", beginning(reason)),
            Event::Unanswered { what } | Event::Trouble { what } => write!(f, "{}", beginning(what)),
            Event::Committed { .. }
            | Event::SecretRestored { .. }
            | Event::Restored { .. }
            | Event::DraftDiscarded { .. }
            | Event::Verified { .. }
            | Event::Transferred { .. }
            | Event::Renewal { .. } => Ok(()),
        }
    }
}

fn state(change: SessionChange) -> &'static str {
    match change {
        SessionChange::Stale => "the key could not be validated again; work goes on through the grace period",
        SessionChange::Suspended => "suspended, until the key can be validated again",
        SessionChange::Active => "the key was validated again; all is well",
        SessionChange::Restoring => "is to come back",
        SessionChange::Begins => "begins",
        SessionChange::Rekeyed => "goes on with another key",
        SessionChange::Ends => "ends",
    }
}

/// A path, or the end of it: what is last says the most.
fn end(path: &str) -> String {
    let from = path.len().saturating_sub(MAX_TEXT);
    match (from..=path.len()).find(|at| path.is_char_boundary(*at)) {
        Some(from) if from > 0 => format!("…{}", path.get(from..).unwrap_or_default()),
        _ => path.to_owned(),
    }
}

/// A sentence, or its beginning.
fn beginning(text: &str) -> String {
    let most = text.len().min(4 * MAX_TEXT);
    match (0..=most).rev().find(|at| text.is_char_boundary(*at)) {
        Some(to) if to < text.len() => format!("{}…", text.get(..to).unwrap_or_default()),
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn denied(op: Op, reason: &str) -> Event {
        Event::Denied {
            op,
            path: "x".to_owned(),
            kind: Kind::NotPermitted,
            reason: reason.to_owned(),
        }
    }

    #[test]
    fn events_are_of_one_kind_whatever_names_are_in_them_and_of_two_where_the_operator_reads_another_thing() {
        let sort = |event: &Event| Sort::of(event);
        let one = denied(Op::Open, "a FIFO \"x\" is in the way");
        assert!(sort(&one) == sort(&denied(Op::Open, "a FIFO \"y\" is in the way")));
        assert!(sort(&one) != sort(&denied(Op::Open, "a socket is in the way")));
        assert!(sort(&one) != sort(&denied(Op::Rename, "a FIFO \"x\" is in the way")));
        let trouble = |what: &str| Event::Trouble {
            what: what.to_owned(),
        };
        assert!(sort(&trouble("the draft of \"x\"")) == sort(&trouble("the draft of \"y\"")));
        assert!(sort(&trouble("the draft of \"x\"")) != sort(&trouble("the log of \"x\"")));
    }

    #[test]
    fn no_line_is_long_and_paths_keep_their_ends() {
        let event = Event::Denied {
            op: Op::Open,
            path: format!("{}/ö.json", "\"ö".repeat(5000)),
            kind: Kind::NotPermitted,
            reason: "ö".repeat(5000),
        };
        let line = Words(&event).to_string();
        assert!(line.len() < 8 << 10, "{}", line.len());
        assert!(
            line.contains("/ö.json\" denied: öö") && line.ends_with('…'),
            "{line}"
        );
        let short = denied(Op::Open, "why");
        assert_eq!(Words(&short).to_string(), "open \"x\" denied: why");
    }
}
