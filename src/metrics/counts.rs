//! What is counted of events, and who counts it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use super::operations::Operations;
use crate::error::Kind;
use crate::event::{Event, Observer, Op, Operation, SessionChange};

/// A label and its value.
type Label = [(&'static str, &'static str); 1];

/// The states of a session that is counted; in the order of [`State`].
const STATES: [&str; 4] = ["active", "stale", "suspended", "restoring"];

/// In the order of `SessionChange`.
const CHANGES: [SessionChange; 7] = [
    SessionChange::Restoring,
    SessionChange::Begins,
    SessionChange::Stale,
    SessionChange::Suspended,
    SessionChange::Active,
    SessionChange::Rekeyed,
    SessionChange::Ends,
];

/// The counters of all sessions. They are made beforehand: whoever counts looks nothing up and waits for nobody, and what
/// has not happened yet is zero, not absent.
pub(super) struct Counts {
    operations: Arc<Operations>,
    read: Counter,
    written: Counter,
    sessions: [Gauge; STATES.len()],
    changes: [Counter; CHANGES.len()],
    renewals: Renewals,
    commits: Counter,
    refused_drafts: Vec<Counter>,
    failed_saves: Vec<Counter>,
    hidden: Counter,
    denied: Vec<Counter>,
    overridden: Counter,
    secrets_restored: Counter,
    secrets_dropped: Counter,
    panics: Counter,
    logins: Logins,
    remembered: Counter,
    looked_at: Counter,
    trouble: Counter,
}

struct Renewals {
    good: Counter,
    refused: Counter,
    unanswered: Counter,
}

struct Logins {
    refused: Counter,
    unreachable: Counter,
    other: Counter,
}

impl Counts {
    pub(super) fn register(registry: &mut Registry) -> Arc<Self> {
        let version = [("version", env!("CARGO_PKG_VERSION"))];
        registry.register("build", "What runs", Info::new(version));
        let operations = Arc::new(Operations::new());
        registry.register_collector(Box::new(Arc::clone(&operations)));
        let help =
            "Content that went through the mounts, in bytes, without what the kernel answered from its cache";
        let [read, written] = counters(
            registry,
            "transferred_bytes",
            help,
            "direction",
            ["read", "written"],
        );
        let help =
            "Looks at files of the volume, by whether what they are was remembered (hit) or read (miss)";
        let [remembered, looked_at] = counters(registry, "verified", help, "cache", ["hit", "miss"]);
        let sessions = Family::<Label, Gauge>::default();
        let help = "Sessions now, by the state of their lease";
        registry.register("sessions", help, sessions.clone());
        Arc::new(Self {
            operations,
            read,
            written,
            sessions: STATES.map(|state| sessions.get_or_create_owned(&[("state", state)])),
            changes: counters(
                registry,
                "session_changes",
                "What became of sessions",
                "change",
                CHANGES.map(SessionChange::as_str),
            ),
            renewals: Renewals::register(registry),
            commits: one(registry, "commits", "Records that were committed"),
            refused_drafts: by_errno(
                registry,
                "drafts_refused",
                "Drafts that could not be committed and were kept, by what their program got",
            ),
            failed_saves: by_errno(
                registry,
                "saves_failed",
                "Drafts that the volume could not have, and that only memory has, by what their program got",
            ),
            hidden: one(
                registry,
                "hidden_met",
                "Times that a name was looked up or listed and was hidden",
            ),
            denied: by_operation(
                registry,
                "denied",
                "Operations refused for a reason of isolation or integrity; those of hidden_met too",
            ),
            overridden: one(
                registry,
                "owners_overridden",
                "Records whose writer named another owner",
            ),
            secrets_restored: one(
                registry,
                "secrets_restored",
                "Records that got back the secret of the last one of their name",
            ),
            secrets_dropped: one(
                registry,
                "secrets_dropped",
                "Secrets that are gone for good: taken out of their record, or not wanted back in time",
            ),
            panics: one(
                registry,
                "panics",
                "Operations that ended in a panic: each is a bug",
            ),
            logins: Logins::register(registry),
            remembered,
            looked_at,
            trouble: one(
                registry,
                "trouble",
                "Things about the volume or a session that the log asks the operator to look at",
            ),
        })
    }

    fn session_is(&self, change: SessionChange) {
        if let Some(counter) = self.changes.get(change as usize) {
            counter.inc();
        }
    }
}

impl Renewals {
    fn register(registry: &mut Registry) -> Self {
        let help = "Answers to the question whether a session's key is still good";
        let [good, refused, unanswered] =
            counters(registry, "renewals", help, "answer", ["good", "refused", "none"]);
        Self {
            good,
            refused,
            unanswered,
        }
    }
}

impl Logins {
    fn register(registry: &mut Registry) -> Self {
        let help = "Keys with which nobody was logged in";
        let reasons = ["refused", "unreachable", "other"];
        let [refused, unreachable, other] = counters(registry, "logins_failed", help, "reason", reasons);
        Self {
            refused,
            unreachable,
            other,
        }
    }
}

fn one(registry: &mut Registry, name: &str, help: &str) -> Counter {
    let counter = Counter::default();
    registry.register(name, help, counter.clone());
    counter
}

/// A counter for each value of one label.
fn counters<const N: usize>(
    registry: &mut Registry,
    name: &str,
    help: &str,
    label: &'static str,
    values: [&'static str; N],
) -> [Counter; N] {
    let family = Family::<Label, Counter>::default();
    registry.register(name, help, family.clone());
    values.map(|value| family.get_or_create_owned(&[(label, value)]))
}

/// A counter for each operation, in order.
fn by_operation(registry: &mut Registry, name: &str, help: &str) -> Vec<Counter> {
    let family = Family::<Label, Counter>::default();
    registry.register(name, help, family.clone());
    let counter = |op: &Op| family.get_or_create_owned(&[("op", op.as_str())]);
    Op::ALL.iter().map(counter).collect()
}

/// A counter for each kind of error, in order; kinds that programs cannot tell apart share one.
fn by_errno(registry: &mut Registry, name: &str, help: &str) -> Vec<Counter> {
    let family = Family::<Label, Counter>::default();
    registry.register(name, help, family.clone());
    let counter = |kind: Kind| family.get_or_create_owned(&[("errno", kind.errno().name)]);
    Kind::ALL.iter().copied().map(counter).collect()
}

/// Counts what happens in one session.
pub(super) struct SessionObserver {
    counts: Arc<Counts>,
    /// For which of [`STATES`] it is counted; for none beyond them.
    state: AtomicUsize,
}

/// Counted for no state.
const NOWHERE: usize = STATES.len();

impl SessionObserver {
    pub(super) fn new(counts: Arc<Counts>) -> Self {
        Self {
            counts,
            state: AtomicUsize::new(NOWHERE),
        }
    }

    fn move_to(&self, state: usize) {
        let before = self.state.swap(state, Ordering::Relaxed);
        if let Some(gauge) = self.counts.sessions.get(state) {
            gauge.inc();
        }
        if let Some(gauge) = self.counts.sessions.get(before) {
            gauge.dec();
        }
    }
}

impl Observer for SessionObserver {
    fn observe(&self, event: &Event) {
        let counts = &self.counts;
        match event {
            Event::Denied { op, kind, .. } => {
                if let Some(counter) = counts.denied.get(*op as usize) {
                    counter.inc();
                }
                if (*op, *kind) == (Op::Lookup, Kind::NotFound) {
                    counts.hidden.inc();
                }
            }
            Event::Committed { .. } => _ = counts.commits.inc(),
            Event::OwnerOverridden { .. } => _ = counts.overridden.inc(),
            Event::DraftKept { kind, .. } => {
                if let Some(counter) = counts.refused_drafts.get(*kind as usize) {
                    counter.inc();
                }
            }
            Event::SecretRestored { .. } => _ = counts.secrets_restored.inc(),
            Event::SecretDropped { .. } => _ = counts.secrets_dropped.inc(),
            // Each is an operation that was asked for, and tells nothing of the service's state.
            Event::Restored { .. } | Event::DraftDiscarded { .. } | Event::Unanswered { .. } => {}
            Event::SaveFailed { kind, .. } => {
                if let Some(counter) = counts.failed_saves.get(*kind as usize) {
                    counter.inc();
                }
            }
            Event::Panicked { .. } => _ = counts.panics.inc(),
            Event::Verified { remembered: true } => _ = counts.remembered.inc(),
            Event::Verified { remembered: false } => _ = counts.looked_at.inc(),
            Event::Transferred { op: Op::Write, bytes } => _ = counts.written.inc_by(*bytes),
            Event::Transferred { bytes, .. } => _ = counts.read.inc_by(*bytes),
            Event::Session { change, .. } => {
                counts.session_is(*change);
                match change {
                    SessionChange::Begins | SessionChange::Active => self.move_to(0),
                    SessionChange::Stale => self.move_to(1),
                    SessionChange::Suspended => self.move_to(2),
                    SessionChange::Restoring => self.move_to(3),
                    SessionChange::Ends => self.move_to(NOWHERE),
                    SessionChange::Rekeyed => {}
                }
            }
            Event::Renewal { answer } => {
                let renewals = &counts.renewals;
                match answer {
                    Some(true) => renewals.good.inc(),
                    Some(false) => renewals.refused.inc(),
                    None => renewals.unanswered.inc(),
                };
            }
            Event::LoginFailed { kind, .. } => {
                let logins = &counts.logins;
                match kind {
                    Kind::AuthenticationRefused => logins.refused.inc(),
                    Kind::AuthenticationUnreachable => logins.unreachable.inc(),
                    _ => logins.other.inc(),
                };
            }
            Event::Trouble { .. } => _ = counts.trouble.inc(),
        }
    }

    fn operation(&self, operation: &Operation<'_>) {
        self.counts.operations.count(operation);
    }
}

impl Drop for SessionObserver {
    fn drop(&mut self) {
        self.move_to(NOWHERE);
    }
}
