//! The commands that publish the volume, and fetch what others published, if there are any.

use std::sync::Arc;
use std::time::Duration;

use tenantfs::error::Result;
use tenantfs::event::{Observer, Observers};
use tenantfs::hooks::{Hook, Publisher};
use tenantfs::metrics::Metrics;

use crate::config::Serving;

/// How old what others published may be, beside how long it takes to fetch it.
const RELOAD_EVERY: Duration = Duration::from_secs(5);

/// How long the end of this process waits until what was saved last is published.
const LAST: Duration = Duration::from_secs(30);

/// Those of one process.
pub(crate) struct Hooks {
    commit: Option<Arc<Hook>>,
    pub(crate) reload: Option<Arc<Hook>>,
}

impl Hooks {
    /// Starts what is configured. As the account that serves: the commands have no other rights.
    pub(crate) fn start(serving: &Serving, metrics: &Metrics) -> Result<Self> {
        let start = |name, command: &Option<Vec<String>>, every| {
            let command = command.as_deref();
            let hook = command.map(|command| Hook::start(name, command, &serving.on.path, every));
            hook.transpose()
        };
        let hooks = Self {
            commit: start("commit_command", &serving.commit_command, None)?,
            reload: start("reload_command", &serving.reload_command, Some(RELOAD_EVERY))?,
        };
        let failed = |hook: &Option<Arc<Hook>>| {
            let hook = hook.clone();
            move || u64::from(hook.as_ref().is_some_and(|hook| hook.has_failed()))
        };
        metrics.gauge(
            "commit_command_failed",
            "1 while other hosts do not see what is saved here, for volume.commit_command failed",
            failed(&hooks.commit),
        );
        metrics.gauge(
            "reload_command_failed",
            "1 while what other hosts save is not seen here, for volume.reload_command failed",
            failed(&hooks.reload),
        );
        Ok(hooks)
    }

    /// The observers, and what publishes whatever changes.
    pub(crate) fn beside(&self, observers: Box<Observers>) -> Box<Observers> {
        let Some(commit) = self.commit.clone() else {
            return observers;
        };
        Box::new(move |subject| {
            let publisher = Arc::new(Publisher(Arc::clone(&commit)));
            let both: Vec<Arc<dyn Observer>> = vec![observers(subject), publisher];
            Arc::new(both)
        })
    }

    /// Has what was saved last published.
    pub(crate) fn finish(&self) {
        if let Some(Err(error)) = self.commit.as_ref().map(|commit| commit.finish_wanted(LAST)) {
            log::error!("what was saved last is not seen by other hosts: {error:#}");
        }
    }
}
