//! How far the work is: a bar on a terminal, and a line of JSON for each finding.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use tenantfs::admin::{Finding, Monitor};
use tenantfs::error::{Doing, Error, Result};

use crate::say;

/// In how many parts the bar is divided.
const PARTS: u64 = 1000;

/// How often the bar is drawn.
const REDRAW: Duration = Duration::from_millis(200);

/// Takes note of what is mended.
type Told<'a> = Box<dyn Fn(&Finding) -> Result<()> + 'a>;

/// Shows and prints what happens; SIGINT, SIGTERM and SIGHUP end the work after the file at hand.
pub(super) struct Progress<'a> {
    bar: ProgressBar,
    seen: u64,
    found: u64,
    on_stderr: bool,
    interrupted: Arc<AtomicBool>,
    /// What went wrong when something was printed or told: the work ends.
    broken: Option<Error>,
    /// Is told of what is mended.
    told: Option<Told<'a>>,
}

impl<'a> Progress<'a> {
    /// Shows a bar that says `doing`, where standard error is a terminal.
    pub(super) fn start(doing: &'static str) -> Result<Self> {
        let interrupted = Arc::new(AtomicBool::new(false));
        for signal in [SIGHUP, SIGINT, SIGTERM] {
            signal_hook::flag::register(signal, Arc::clone(&interrupted)).doing("waiting for signals")?;
        }
        // Hidden by itself where there is no terminal.
        let bar = ProgressBar::new(PARTS);
        let style = ProgressStyle::with_template("{prefix} [{bar:40}] {percent}% {msg}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar.set_prefix(doing);
        bar.enable_steady_tick(REDRAW);
        Ok(Self {
            bar,
            seen: 0,
            found: 0,
            on_stderr: false,
            interrupted,
            broken: None,
            told: None,
        })
    }

    /// Says what is found on standard error: standard output is for something else.
    pub(super) fn quiet(self) -> Self {
        Self {
            on_stderr: true,
            ..self
        }
    }

    /// Tells `told` of what is mended; when that fails, the work ends.
    pub(super) fn telling(self, told: impl Fn(&Finding) -> Result<()> + 'a) -> Self {
        Self {
            told: Some(Box::new(told)),
            ..self
        }
    }

    /// How much was found.
    pub(super) fn count(&self) -> u64 {
        self.found
    }

    /// Takes the bar away.
    ///
    /// # Errors
    /// When not every finding could be printed.
    pub(super) fn finish(self) -> Result<()> {
        self.bar.finish_and_clear();
        self.broken.map_or(Ok(()), Err)
    }
}

impl Monitor for Progress<'_> {
    fn looked_at(&mut self) {
        self.seen += 1;
        if self.seen.is_multiple_of(100) {
            self.bar.set_message(format!("{} files", self.seen));
        }
    }

    fn progress(&mut self, done: f64) {
        self.bar.set_position((done * PARTS as f64) as u64);
    }

    fn found(&mut self, finding: &Finding) {
        self.found += 1;
        if self.on_stderr {
            let Finding { path, detail, .. } = finding;
            return self.bar.suspend(|| say::note(format_args!("{path:?}: {detail}")));
        }
        let printed = self.bar.suspend(|| say::json(finding));
        let told = match &self.told {
            Some(told) if finding.repaired => told(finding),
            _ => Ok(()),
        };
        if let Err(error) = printed.and(told) {
            self.broken.get_or_insert(error);
        }
    }

    fn stops(&self) -> bool {
        self.broken.is_some() || self.interrupted.load(Ordering::Relaxed)
    }
}
