//! Commands of the operator's, for volumes that publish explicitly: one makes what was saved here visible to other hosts, one
//! fetches what was saved there.
//!
//! One run at a time, and one for everything that was wanted before it began: a thousand saves cost as many runs as fit one after
//! the other. A command that fails, or takes too long, is told in the log and in a metric, and stops nobody.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use rustix::process::{Pid, Signal, kill_process_group};

use crate::clock;
use crate::error::{At, Doing, Error, Kind, Result};
use crate::event::{Event, Observer, Op, Operation};

/// How long one run may take.
const LONGEST: Duration = Duration::from_secs(60);

/// How long it rests between two runs, so that a save that follows the last one is one with others.
const REST: Duration = Duration::from_millis(100);

/// How often it is looked whether a run has ended.
const LOOK: Duration = Duration::from_millis(10);

/// What the command gets of the environment beside `TENANTFS_VOLUME`.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A command, and who runs it when it is wanted.
pub struct Hook {
    /// What it is called in the configuration.
    name: &'static str,
    program: PathBuf,
    arguments: Vec<String>,
    volume: PathBuf,
    /// After how long it runs though nobody wanted it.
    every: Option<Duration>,
    runs: Mutex<Runs>,
    changed: Condvar,
}

/// How often it was wanted, and how often of these it has run.
#[derive(Default)]
struct Runs {
    wanted: u64,
    done: u64,
    /// Why the last run failed, if it did.
    failed: Option<Error>,
}

impl Hook {
    /// Has `command`, a program by its whole path and its arguments, run for `volume` whenever it is wanted, and `every` so often.
    ///
    /// # Errors
    /// [`Kind::Config`] when the program is not named by its whole path, or is no file; that no thread can be started.
    pub fn start(
        name: &'static str,
        command: &[String],
        volume: &Path,
        every: Option<Duration>,
    ) -> Result<Arc<Self>> {
        let program = command.first().map(Path::new).unwrap_or(Path::new(""));
        if !program.is_absolute() || !program.is_file() {
            return Err(Error::config(format!(
                "{name}: {} is not the whole path of a program: correct volume.{name}",
                program.display()
            )));
        }
        let hook = Arc::new(Self {
            name,
            program: program.to_owned(),
            arguments: command.iter().skip(1).cloned().collect(),
            volume: volume.to_owned(),
            every,
            runs: Mutex::default(),
            changed: Condvar::new(),
        });
        let of = Arc::downgrade(&hook);
        let run = move || {
            while let Some(hook) = of.upgrade() {
                hook.run_when_wanted();
            }
        };
        let started = thread::Builder::new().name(name.to_owned()).spawn(run);
        started.map(|_| hook).doing("starting the thread of a hook")
    }

    /// Has it run soon, for what was done until now.
    pub fn want(&self) {
        self.runs.lock().wanted += 1;
        self.changed.notify_all();
    }

    /// Has it run, and waits for the end of a run that began after this.
    ///
    /// # Errors
    /// What the run failed with; [`Kind::Busy`] when it is not over before `patience` is.
    pub fn finish(&self, patience: Duration) -> Result<()> {
        let until = clock::instant() + patience;
        let mut runs = self.runs.lock();
        runs.wanted += 1;
        let own = runs.wanted;
        self.changed.notify_all();
        while runs.done < own {
            if self.changed.wait_until(&mut runs, until).timed_out() {
                let why = format!("{} is not over after {} s", self.name, patience.as_secs());
                return Err(Error::new(Kind::Busy, why));
            }
        }
        runs.failed.clone().map_or(Ok(()), Err)
    }

    /// As [`finish`](Self::finish), if anything was wanted that no run was for yet.
    ///
    /// # Errors
    /// As `finish`.
    pub fn finish_wanted(&self, patience: Duration) -> Result<()> {
        let is_wanted = {
            let runs = self.runs.lock();
            runs.done < runs.wanted
        };
        match is_wanted {
            true => self.finish(patience),
            false => Ok(()),
        }
    }

    /// Whether the last run failed.
    pub fn has_failed(&self) -> bool {
        self.runs.lock().failed.is_some()
    }

    fn run_when_wanted(&self) {
        let mut runs = self.runs.lock();
        if runs.done == runs.wanted {
            // From time to time it is looked whether anybody still has it.
            let rest = self.every.unwrap_or(Duration::from_secs(1));
            let timed_out = self.changed.wait_for(&mut runs, rest).timed_out();
            if runs.done == runs.wanted && (self.every.is_none() || !timed_out) {
                return;
            }
        }
        let covered = runs.wanted;
        drop(runs);
        let ran = self.run();
        let mut runs = self.runs.lock();
        match (&ran, &runs.failed) {
            (Err(error), None) => log::error!("{error:#}; it is run again when it is wanted again"),
            (Ok(()), Some(_)) => log::info!("{} works again", self.name),
            _ => {}
        }
        runs.failed = ran.err();
        runs.done = covered;
        drop(runs);
        self.changed.notify_all();
        thread::sleep(REST);
    }

    /// Runs it once, without a shell. What it says goes where this process' own errors go.
    fn run(&self) -> Result<()> {
        let doing = || format!("running {}", self.name);
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).env_clear().env("PATH", PATH);
        command.env("TENANTFS_VOLUME", &self.volume).current_dir("/");
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .process_group(0);
        let mut child = command.spawn().doing(doing()).at(&self.program)?;
        let until = clock::instant() + LONGEST;
        let status = loop {
            if let Some(status) = child.try_wait().doing(doing())? {
                break status;
            }
            if clock::instant() > until {
                // With whatever it has started.
                let _ = kill_process_group(Pid::from_child(&child), Signal::KILL);
                let _ = child.wait();
                let why = format!("it was ended after {} s", LONGEST.as_secs());
                return Err(Error::new(Kind::Io, why).context(doing()));
            }
            thread::sleep(LOOK);
        };
        match status.success() {
            true => Ok(()),
            false => Err(Error::new(Kind::Io, status.to_string()).context(doing())),
        }
    }
}

/// Wants a hook to run after whatever changes the volume.
pub struct Publisher(pub Arc<Hook>);

impl Observer for Publisher {
    fn observe(&self, event: &Event) {
        let changes = matches!(
            event,
            Event::Committed { .. }
                | Event::DraftKept { .. }
                | Event::Restored { .. }
                | Event::DraftDiscarded { .. }
        );
        if changes {
            self.0.want();
        }
    }

    fn operation(&self, operation: &Operation<'_>) {
        let changes = matches!(
            operation.op,
            Op::Setattr
                | Op::Mknod
                | Op::Mkdir
                | Op::Unlink
                | Op::Rmdir
                | Op::Rename
                | Op::Create
                | Op::Write
                | Op::Fallocate
                | Op::CopyFileRange
        );
        if changes && operation.outcome.is_ok() {
            self.0.want();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn shell(script: &str) -> [String; 3] {
        ["/bin/sh", "-c", script].map(str::to_owned)
    }

    #[test]
    fn one_run_is_for_everything_that_was_wanted_before_it_began() {
        let directory = tempfile::tempdir().unwrap();
        let command = shell("echo run >> \"$TENANTFS_VOLUME/runs\"; sleep 0.2");
        let hook = Hook::start("commit_command", &command, directory.path(), None).unwrap();
        (0..100).for_each(|_| hook.want());
        hook.finish(Duration::from_secs(10)).unwrap();
        let runs = fs::read_to_string(directory.path().join("runs")).unwrap();
        assert!((1..=3).contains(&runs.lines().count()), "{runs}");
        hook.finish_wanted(Duration::ZERO).unwrap();
        assert!(!hook.has_failed());
    }

    #[test]
    fn a_run_that_fails_is_told_and_one_that_works_again_too() {
        let directory = tempfile::tempdir().unwrap();
        let command = shell("test -e \"$TENANTFS_VOLUME/works\"");
        let hook = Hook::start("commit_command", &command, directory.path(), None).unwrap();
        let error = hook.finish(Duration::from_secs(10)).unwrap_err();
        assert!(error.to_string().contains("running commit_command"), "{error}");
        assert!(hook.has_failed());
        fs::write(directory.path().join("works"), "").unwrap();
        hook.finish(Duration::from_secs(10)).unwrap();
        assert!(!hook.has_failed());
    }

    #[test]
    fn who_waits_for_a_run_waits_no_longer_than_they_want() {
        let directory = tempfile::tempdir().unwrap();
        let command = shell("sleep 5");
        let hook = Hook::start("reload_command", &command, directory.path(), None).unwrap();
        let error = hook.finish(Duration::from_millis(200)).unwrap_err();
        assert_eq!(error.kind(), Kind::Busy);
    }

    #[test]
    fn only_the_whole_path_of_a_program_is_a_command() {
        for command in [
            &[][..],
            &["sh".to_owned()],
            &["/nowhere".to_owned()],
            &["/".to_owned()],
        ] {
            let refused = Hook::start("commit_command", command, Path::new("/"), None);
            assert_eq!(
                refused.err().map(|error| error.kind()),
                Some(Kind::Config),
                "{command:?}"
            );
        }
    }
}
