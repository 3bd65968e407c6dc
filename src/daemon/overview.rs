//! All sessions at a glance: for `tenantfs top`, `tenantfs doctor` and `systemctl status`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::activity::Activity;
use super::check::Check;
use super::refusal::{Answer, RefusedAs};
use super::sessions::Sessions;
use super::slot::{RESTORING, Slot};
use super::systemd;
use super::wire::Code;
use crate::session::apart;

/// How long looking at everything may take: asking the auth service is the longest of it.
const EXAMINE: Duration = Duration::from_secs(20);

/// How often it is looked whether there is something new to tell systemd.
const TELL: Duration = Duration::from_secs(2);

impl Sessions {
    /// What is done in each.
    pub(super) fn activity(&self) -> Vec<Activity> {
        let slots = self.slots.lock();
        let activity = slots.values().filter_map(|slot| match slot {
            Slot::Live(live) => Some(live.activity()),
            Slot::Restoring(restoring) => Some(restoring.activity()),
            Slot::Starting => None,
        });
        activity.collect()
    }

    /// How everything that serving needs looks from here. By one at a time: it may wait for a volume that hangs.
    pub(super) async fn examine(&self) -> Answer<Vec<Check>> {
        let setup = Arc::clone(&self.setup);
        let examined = timeout(EXAMINE, async {
            let turn = Arc::clone(&self.examining).lock_owned().await;
            let look = move || {
                let checks = (setup.examine)();
                drop(turn);
                checks
            };
            apart("doctor", look).await
        });
        let mut checks = match examined.await {
            Ok(examined) => examined.refused_as(Code::Failed)?,
            Err(_) => vec![Check::of(
                "server",
                Err((
                    format!("looking at everything takes more than {EXAMINE:?}"),
                    "the volume hangs, or what keys and quotas are read from: look at its file system and the kernel's log".to_owned(),
                )),
            )],
        };
        checks.push(self.check());
        Ok(checks)
    }

    /// Whether every session is served.
    fn check(&self) -> Check {
        let reasons: Vec<String> = {
            let slots = self.slots.lock();
            slots
                .iter()
                .filter_map(|(uid, slot)| slot.trouble().map(|why| format!("uid {uid}: {why}")))
                .collect()
        };
        let summary = self.summary();
        let found = match reasons.as_slice() {
            [] => Ok(summary),
            [first] => Err(format!("{summary}; {first}")),
            [first, others @ ..] => Err(format!("{summary}; {first}; and {} more", others.len())),
        };
        let mend = "tenantfs status has each of them; they come back by themselves when that is mended";
        Check::of("sessions", found.map_err(|what| (what, mend.to_owned())))
    }

    /// How many sessions there are in which state, in one line.
    fn summary(&self) -> String {
        let mut by_state = BTreeMap::<&'static str, usize>::new();
        for slot in self.slots.lock().values() {
            *by_state.entry(slot.state()).or_default() += 1;
        }
        match by_state.values().sum() {
            0 => "no sessions".to_owned(),
            1 => by_state
                .keys()
                .map(|state| format!("1 session, {state}"))
                .collect(),
            all => {
                let parts = by_state.iter().map(|(state, count)| format!("{count} {state}"));
                format!("{all} sessions: {}", parts.collect::<Vec<_>>().join(", "))
            }
        }
    }

    /// Has `systemctl status` show how many sessions there are, for ever.
    pub(super) async fn tell_systemd(&self) {
        if !systemd::is_there() {
            return std::future::pending().await;
        }
        let mut told = String::new();
        loop {
            let summary = self.summary();
            if summary != told {
                systemd::status(&summary);
                told = summary;
            }
            sleep(TELL).await;
        }
    }
}

impl Slot {
    /// In one word.
    fn state(&self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Restoring(_) => RESTORING,
            Self::Live(live) => live.state().as_str(),
        }
    }

    /// Why it is not served as it should be, for an operator, if that is so.
    fn trouble(&self) -> Option<String> {
        match self {
            Self::Starting => None,
            Self::Restoring(restoring) => restoring.why(true).map(|why| format!("{RESTORING}: {why}")),
            Self::Live(live) => {
                let why = live.leased.unanswered()?;
                Some(format!("{}: {why}", live.state().as_str()))
            }
        }
    }
}
