//! How far the work is: a bar on a terminal, and a line of JSON for each finding.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use indicatif::{HumanCount, ProgressBar, ProgressStyle};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use tenantfs::admin::{Finding, Monitor};
use tenantfs::clock::Stopwatch;
use tenantfs::error::{Doing, Error, Result};

use crate::{say, shown};

/// In how many parts the bar is divided.
const PARTS: u64 = 1000;

/// How often the bar is drawn.
const REDRAW: Duration = Duration::from_millis(200);

/// How much of the work has to be done until it is said how long the rest will take.
const ENOUGH: f64 = 0.01;

/// Takes note of what is mended.
type Told<'a> = Box<dyn Fn(&Finding) -> Result<()> + 'a>;

/// Shows and prints what happens; SIGINT, SIGTERM and SIGHUP end the work after the file at hand.
pub(super) struct Progress<'a> {
    bar: ProgressBar,
    began: Stopwatch,
    seen: u64,
    /// How much of the work is done, in 0..1.
    done: f64,
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
        let style = ProgressStyle::with_template("{prefix} [{bar:30}] {percent}% {msg}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar.set_prefix(doing);
        bar.enable_steady_tick(REDRAW);
        Ok(Self {
            bar,
            began: Stopwatch::start(),
            seen: 0,
            done: 0.0,
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

    /// Leaves the bar as far as it came: at its end, unless the work was interrupted.
    ///
    /// # Errors
    /// When not every finding could be printed.
    pub(super) fn finish(self) -> Result<()> {
        self.tell();
        self.bar.abandon();
        self.broken.map_or(Ok(()), Err)
    }
}

impl Progress<'_> {
    /// Says how many files there were, how fast that goes, and how long the rest will take.
    fn tell(&self) {
        let elapsed = self.began.elapsed();
        let rate = self.seen as f64 / elapsed.as_secs_f64().max(0.001);
        let left = match self.done {
            ENOUGH..1.0 => {
                let left = elapsed.mul_f64((1.0 - self.done) / self.done);
                format!(", {} left", shown::lasting(left.as_secs() + 1))
            }
            _ => String::new(),
        };
        let (files, rate) = (HumanCount(self.seen), HumanCount(rate as u64));
        self.bar.set_message(format!("{files} files, {rate}/s{left}"));
    }
}

impl Monitor for Progress<'_> {
    fn looked_at(&mut self) {
        self.seen += 1;
        if self.seen.is_multiple_of(100) {
            self.tell();
        }
    }

    fn progress(&mut self, done: f64) {
        self.done = done;
        self.bar.set_position((done * PARTS as f64).round() as u64);
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
