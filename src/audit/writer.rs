//! The thread that writes the log, for all sessions of the process.

use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::thread;
use std::time::Duration;

use super::chain::Chain;
use super::queue::{Queue, Queues, Waiting};
use crate::clock::{self, Stopwatch};
use crate::error::{Error, Result};

/// How long lines are gathered for one write. This is also how late a line may be in the file.
const PAUSE: Duration = Duration::from_millis(10);

/// The most lines of one write.
const BATCH: usize = 1024;

/// How often it is tried again, when the log cannot be written.
const RETRY: Duration = Duration::from_millis(500);

/// How often it is looked whether the file was rotated, when nothing happens.
const LOOK: Duration = Duration::from_secs(5);

/// How long it is tried, when the process ends.
pub(super) const LAST_TRY: Duration = Duration::from_secs(5);

pub(super) struct Writer {
    pub(super) queues: Arc<Queues>,
    pub(super) chain: Chain,
    /// How many files the chain had gone on in, when it was looked the last time.
    pub(super) files: u64,
}

impl Writer {
    /// Writes until it is told to end, and says then how many lines could not be written.
    pub(super) fn run(mut self, done: &Sender<usize>) {
        loop {
            let waits = self.queues.failed() || self.queues.accounts.is_scarce();
            let rest = if waits { RETRY } else { LOOK };
            self.queues.wait(Some(clock::instant() + rest), PAUSE);
            let work = self.queues.take(BATCH);
            if !work.batch.is_empty() || work.reopen || waits {
                let lost = self.write(&work.batch);
                if lost > 0 {
                    let _ = done.send(lost + self.queues.waiting());
                    return;
                }
            }
            if work.batch.is_empty()
                && let Err(error) = self.chain.close_rotated()
            {
                log::debug!("the end of a file of the audit log that was rotated: {error:#}");
            }
            if work.closing && work.batch.is_empty() {
                let _ = done.send(0);
                return;
            }
        }
    }

    /// Writes them, however long that takes; once the process is to end, not very long. Returns how many it could not.
    fn write(&mut self, mut batch: &[(Arc<Queue>, Waiting)]) -> usize {
        let mut since_closing = None;
        loop {
            let mut taken = 0;
            let entries = batch.iter().map(|(queue, line)| (queue.who(), &line.entry));
            let appended = self.chain.append(entries, &mut taken);
            self.queues.written(taken);
            batch = batch.get(taken..).unwrap_or_default();
            // What is written is written, even if there is no space for more.
            let result = match appended {
                Ok(()) => self.chain.reserve(),
                failed => failed,
            };
            self.note(result);
            self.look_what_is_left();
            if batch.is_empty() {
                return 0;
            }
            if self.queues.is_closing()
                && since_closing.get_or_insert_with(Stopwatch::start).elapsed() >= LAST_TRY
            {
                return batch.len();
            }
            thread::sleep(RETRY);
        }
    }

    /// Has those who wrote most stop, where the log's file system is nearly full.
    fn look_what_is_left(&mut self) {
        let left = self.chain.left();
        let news = self.queues.accounts.set_left(left);
        if self.chain.files() != self.files {
            self.files = self.chain.files();
            self.queues.accounts.begin_file();
        }
        match left {
            Some(left) if news => log::error!(
                "the audit log's file system is nearly full: {} MiB are left. A user who wrote more than that is refused \
                 what it owes a line (EIO), until there is more; make room, or rotate the log",
                left >> 20
            ),
            None if news => log::error!("the audit log's file system has room again; all goes on"),
            _ => {}
        }
    }

    /// Sees to it that nothing more is done that the log would owe a line, or that it is again.
    fn note(&self, result: Result<()>) {
        let news = self.queues.set_failed(result.is_err());
        match result {
            Err(error) if news => log::error!("{}", stopped(&error)),
            Ok(()) if news => log::error!("the audit log can be written again; all goes on"),
            _ => {}
        }
    }
}

pub(super) fn stopped(error: &Error) -> String {
    format!("the audit log cannot be written: {error:#}; what it owes a line is refused (EIO) until it can")
}
