//! The audit log: who did what, and what was refused, in lines that are chained, so that a changed, missing or added one
//! shows.
//!
//! Each session has a queue of its own; one thread writes them all, in batches. What the log owes a line is not done while
//! there can be none: the thread takes space in the file ahead, so that a full disk is known before an operation is done,
//! and not after.

mod account;
mod beside;
mod chain;
mod file;
mod flood;
mod head;
mod journal;
mod line;
mod lines;
mod merged;
mod observer;
mod options;
mod own;
mod queue;
mod verify;
mod writer;

use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use lru::LruCache;
use parking_lot::Mutex;

pub use file::Owner;
pub use head::HeadKey;
pub use merged::{HostFindings, merge, verify_hosts};
pub use options::{Destination, Level, Options, USER_RATE};
pub use own::{OwnEvent, OwnEvents};
pub use verify::{Findings, Problem, verify};

use crate::error::{Doing, Error, Kind, Result};
use crate::event::{Observer, Subject};
use crate::identity::UserHash;
use chain::{Chain, append_one};
use line::{Entry, OK, Who};
use observer::Auditor;
use queue::Queues;
use writer::{LAST_TRY, Writer};

/// Of how many uids it is remembered what they tried in vain.
const STRANGERS: NonZeroUsize = NonZeroUsize::new(256).unwrap();

/// A log that is open, and has no thread yet: made before privileges are dropped, which wants a process of one thread.
pub struct Prepared {
    chain: Chain,
    level: Level,
    user_rate: u64,
    /// There is no space in it: not known to last.
    failed: Option<Error>,
}

impl Prepared {
    /// Opens the log, and makes it for `owner`, the account that will write it.
    ///
    /// # Errors
    /// [`Kind::Config`] when something that is no log of that account's has its name, or it cannot be made.
    pub fn open(options: &Options, owner: Owner) -> Result<Self> {
        let mut chain = Chain::open(options, owner, about_itself())?;
        let failed = chain.reserve().err();
        Ok(Self {
            chain,
            level: options.level,
            user_rate: options.user_rate,
            failed,
        })
    }

    /// Starts writing.
    ///
    /// # Errors
    /// [`Kind::Io`] when there is no thread to be had.
    pub fn start(self) -> Result<AuditLog> {
        let queues = Queues::new(self.user_rate);
        queues.accounts.set_left(self.chain.left());
        if let Some(error) = &self.failed {
            queues.set_failed(true);
            log::error!("{}", writer::stopped(error));
        }
        let (done, ended) = mpsc::channel();
        let writer = Writer {
            queues: Arc::clone(&queues),
            chain: self.chain,
            files: 0,
        };
        let shared = Arc::clone(&queues);
        let run = move || {
            if catch_unwind(AssertUnwindSafe(|| writer.run(&done))).is_err() {
                // Nobody writes any more, so nothing may be done that is owed a line.
                shared.set_failed(true);
                log::error!("panic of the audit log's thread; this is a bug, please report it");
            }
        };
        thread::Builder::new()
            .name("audit".to_owned())
            .spawn(run)
            .doing("starting the audit log's thread")?;
        Ok(AuditLog(Arc::new(Inner {
            queues,
            level: self.level,
            strangers: Mutex::new(LruCache::new(STRANGERS)),
            ended: Mutex::new(Some(ended)),
        })))
    }
}

/// A log that is being written. Clones are the same log.
#[derive(Clone)]
pub struct AuditLog(Arc<Inner>);

struct Inner {
    queues: Arc<Queues>,
    level: Level,
    /// Those of whom it is not known which user they are, by uid: so that what is alike is counted over more than one attempt.
    strangers: Mutex<LruCache<u32, Arc<Auditor>>>,
    ended: Mutex<Option<mpsc::Receiver<usize>>>,
}

impl AuditLog {
    /// Who takes note of what happens in one session, or before there is one.
    pub fn observer(&self, subject: &Subject) -> Arc<dyn Observer> {
        if subject.user.is_some() {
            return Arc::new(self.auditor(subject));
        }
        let mut strangers = self.0.strangers.lock();
        let stranger = strangers.get_or_insert(subject.uid, || Arc::new(self.auditor(subject)));
        Arc::clone(stranger) as _
    }

    fn auditor(&self, subject: &Subject) -> Auditor {
        let who = Who {
            session: session_id(),
            user: subject
                .user
                .as_ref()
                .map_or_else(String::new, UserHash::to_string),
            uid: subject.uid,
        };
        Auditor {
            queues: Arc::clone(&self.0.queues),
            queue: self.0.queues.open(who),
            level: self.0.level,
        }
    }

    /// Goes on in the file that the path leads to by now, as soon as that may be.
    pub fn reopen(&self) {
        self.0.queues.reopen();
    }

    /// Whether the log cannot be written.
    pub fn failed(&self) -> bool {
        self.0.queues.failed()
    }

    /// Whether its file system is nearly full, so that users who wrote most of it are refused.
    pub fn is_scarce(&self) -> bool {
        self.0.queues.accounts.is_scarce()
    }

    /// How many lines wait to be written.
    pub fn waiting(&self) -> usize {
        self.0.queues.waiting()
    }

    /// Writes what waits, for some seconds at most, and ends.
    ///
    /// # Errors
    /// [`Kind::Io`] when lines could not be written.
    pub fn close(&self) -> Result<()> {
        let Some(ended) = self.0.ended.lock().take() else {
            return Ok(());
        };
        // What was counted of them is a line, too.
        self.0.strangers.lock().clear();
        self.0.queues.close();
        let lost = match ended.recv_timeout(LAST_TRY + Duration::from_secs(2)) {
            Ok(lost) => lost,
            Err(_) => self.waiting(),
        };
        match lost {
            0 => Ok(()),
            lost => Err(Error::new(
                Kind::Io,
                format!("{lost} lines of the audit log could not be written"),
            )),
        }
    }
}

/// What an operator's command has done, or tried to.
#[derive(Clone, Debug)]
pub struct Record<'a> {
    /// In one word.
    pub op: &'static str,
    /// Whose data it is about.
    pub user: Option<&'a UserHash>,
    /// Who does it.
    pub uid: u32,
    /// As in a mount of that user's; empty when it is about more than one file.
    pub path: &'a str,
    /// How it went.
    pub outcome: std::result::Result<(), Kind>,
    /// What there is to say; may be empty.
    pub reason: &'a str,
}

impl Record<'_> {
    /// What `uid` does about the whole volume.
    pub fn of(op: &'static str, uid: u32) -> Self {
        Self {
            op,
            user: None,
            uid,
            path: "",
            outcome: Ok(()),
            reason: "",
        }
    }
}

/// Writes one line at once, for a command that does one thing: whatever the level is.
///
/// # Errors
/// The line is not written: what it is about must not be done.
pub fn record(options: &Options, owner: Owner, record: &Record<'_>) -> Result<()> {
    let who = Who {
        session: session_id(),
        user: record.user.map_or_else(String::new, UserHash::to_string),
        uid: record.uid,
    };
    let outcome = record.outcome.map_or_else(|kind| kind.errno().name, |()| OK);
    let entry = Entry {
        pid: std::process::id(),
        ..Entry::now(record.op, record.path, outcome, record.reason)
    };
    append_one(&mut Chain::open(options, owner, about_itself())?, &who, &entry)
}

/// Whom the lines are about that are about the log itself.
fn about_itself() -> Who {
    Who {
        session: session_id(),
        user: String::new(),
        uid: rustix::process::geteuid().as_raw(),
    }
}

/// Eight random hex digits.
fn session_id() -> String {
    let mut random = [0; 4];
    // There is nobody to be told: without entropy since boot, it is all noughts.
    let _ = rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty());
    hex::encode(random)
}
