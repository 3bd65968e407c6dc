//! What happens, told to whoever observes: the log, the audit log and the metrics.
//!
//! ```
//! use std::sync::Mutex;
//! use tenantfs::event::{Event, Observer};
//!
//! /// Counts the saved records.
//! #[derive(Default)]
//! struct Saved(Mutex<u64>);
//!
//! impl Observer for Saved {
//!     fn observe(&self, event: &Event) {
//!         if let Event::Committed { .. } = event {
//!             *self.0.lock().unwrap() += 1;
//!         }
//!     }
//! }
//!
//! let saved = Saved::default();
//! saved.observe(&Event::Committed { path: "schedules/nightly.json".to_owned() });
//! assert_eq!(*saved.0.lock().unwrap(), 1);
//! ```

mod logged;
mod rates;

use std::cell::Cell;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::error::{Error, Kind, Result};
use crate::identity::UserHash;

pub use logged::{Log, LogObserver};

/// What is done in a mount: the operations of the kernel, and those of our own that they lead to.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[allow(missing_docs)] // The kernel's words, in the kernel's order (linux/fuse.h); ours are the last ones.
#[non_exhaustive]
pub enum Op {
    Lookup,
    Forget,
    Getattr,
    Setattr,
    Symlink,
    Mknod,
    Mkdir,
    Unlink,
    Rmdir,
    Rename,
    Link,
    Open,
    Read,
    Write,
    Statfs,
    Release,
    Fsync,
    Flush,
    Opendir,
    Readdir,
    Releasedir,
    Fsyncdir,
    Create,
    Fallocate,
    Lseek,
    CopyFileRange,
    /// A draft becomes a record.
    Commit,
    /// A session begins, goes on or ends.
    Session,
}

impl Op {
    /// Every operation, in order.
    pub const ALL: &'static [Self] = &[
        Self::Lookup,
        Self::Forget,
        Self::Getattr,
        Self::Setattr,
        Self::Symlink,
        Self::Mknod,
        Self::Mkdir,
        Self::Unlink,
        Self::Rmdir,
        Self::Rename,
        Self::Link,
        Self::Open,
        Self::Read,
        Self::Write,
        Self::Statfs,
        Self::Release,
        Self::Fsync,
        Self::Flush,
        Self::Opendir,
        Self::Readdir,
        Self::Releasedir,
        Self::Fsyncdir,
        Self::Create,
        Self::Fallocate,
        Self::Lseek,
        Self::CopyFileRange,
        Self::Commit,
        Self::Session,
    ];

    /// In one word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Lookup => "lookup",
            Self::Forget => "forget",
            Self::Getattr => "getattr",
            Self::Setattr => "setattr",
            Self::Symlink => "symlink",
            Self::Mknod => "mknod",
            Self::Mkdir => "mkdir",
            Self::Unlink => "unlink",
            Self::Rmdir => "rmdir",
            Self::Rename => "rename",
            Self::Link => "link",
            Self::Open => "open",
            Self::Read => "read",
            Self::Write => "write",
            Self::Statfs => "statfs",
            Self::Release => "release",
            Self::Fsync => "fsync",
            Self::Flush => "flush",
            Self::Opendir => "opendir",
            Self::Readdir => "readdir",
            Self::Releasedir => "releasedir",
            Self::Fsyncdir => "fsyncdir",
            Self::Create => "create",
            Self::Fallocate => "fallocate",
            Self::Lseek => "lseek",
            Self::CopyFileRange => "copy_file_range",
            Self::Commit => "commit",
            Self::Session => "session",
        }
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Something worth telling the operator. Paths are as in the mount; no event carries record content, a key, or
/// another tenant's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// An operation of the mount was refused for a reason of isolation or integrity.
    Denied {
        /// The operation.
        op: Op,
        /// The path as in the mount.
        path: String,
        /// What its program sees.
        kind: Kind,
        /// Why, for the operator.
        reason: String,
    },
    /// A record was committed.
    Committed {
        /// The record.
        path: String,
    },
    /// A write named another owner; the session's user was put in its place.
    OwnerOverridden {
        /// The record.
        path: String,
    },
    /// A record got back the secret that the last one of its name had when it was removed or renamed.
    SecretRestored {
        /// The record.
        path: String,
    },
    /// A secret is gone for good: it was taken out of its record, or what had it was not wanted back in time.
    SecretDropped {
        /// The record that had it.
        path: String,
    },
    /// A record that was removed is back.
    Restored {
        /// The record.
        path: String,
    },
    /// A kept draft was given up; the record shows as it was last committed.
    DraftDiscarded {
        /// The record.
        path: String,
    },
    /// A draft could not be committed; it is kept, and shown to its owner.
    DraftKept {
        /// The record.
        path: String,
        /// What its program sees.
        kind: Kind,
        /// What is wrong with it.
        reason: String,
    },
    /// The volume could not have a draft: it is in memory only, and lost with the session if that stays so. Told when it
    /// begins, and when the reason changes.
    SaveFailed {
        /// The record.
        path: String,
        /// What its program sees.
        kind: Kind,
        /// What the volume said.
        reason: String,
    },
    /// A handler panicked; the operation got EIO, and the session goes on.
    Panicked {
        /// The operation.
        op: Op,
    },
    /// A file of the volume was looked at.
    Verified {
        /// Whether what it is was still known, and nothing was read.
        remembered: bool,
    },
    /// Content went in or out.
    Transferred {
        /// Reading or writing.
        op: Op,
        /// How much.
        bytes: u64,
    },
    /// The session is in another state.
    Session {
        /// In which.
        change: SessionChange,
        /// Why; empty where that says it all.
        reason: String,
    },
    /// The authenticator was asked again whether the key is good.
    Renewal {
        /// What it said; none when that was neither a yes nor a no.
        answer: Option<bool>,
    },
    /// A key was not accepted: there is no session.
    LoginFailed {
        /// Refused, or nobody could be asked.
        kind: Kind,
        /// Why.
        reason: String,
    },
    /// Something was asked for beside the mount, and could not be done, or not all of it be looked at.
    Unanswered {
        /// A sentence.
        what: String,
    },
    /// Something of the volume or the session that the operator should look at.
    Trouble {
        /// A sentence.
        what: String,
    },
}

/// What becomes of a session.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum SessionChange {
    /// It was there before a restart of the daemon, and is to come back.
    Restoring,
    /// It serves.
    Begins,
    /// Its key could not be validated again; work goes on through the grace period.
    Stale,
    /// Everything is EACCES, until the key can be validated again.
    Suspended,
    /// The key was validated again, after that was not possible for a while.
    Active,
    /// It goes on with another key of the same user.
    Rekeyed,
    /// It is over.
    Ends,
}

impl SessionChange {
    /// In one word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Restoring => "restoring",
            Self::Begins => "begins",
            Self::Stale => "stale",
            Self::Suspended => "suspended",
            Self::Active => "active",
            Self::Rekeyed => "rekeyed",
            Self::Ends => "ends",
        }
    }
}

/// An operation of the mount that is done.
pub struct Operation<'a> {
    /// Which.
    pub op: Op,
    /// In which way, as `read write` of an open: found out only for those who want to know; empty where there is only one.
    pub how: &'a dyn fmt::Display,
    /// How it went.
    pub outcome: std::result::Result<(), &'a Error>,
    /// How long it took.
    pub elapsed: Duration,
    /// What it was about: found out only for those who want to know.
    pub path: &'a dyn Fn() -> String,
    /// Where a rename leads.
    pub to: Option<&'a dyn Fn() -> String>,
}

/// Receives events. Called on the thread where they happen: an observer that may wait has a queue of its own.
pub trait Observer: Send + Sync {
    /// Takes note of one event.
    fn observe(&self, event: &Event);

    /// Takes note of an operation that is done.
    fn operation(&self, _: &Operation<'_>) {}

    /// Whether an operation may begin: whether what becomes of it can be taken note of.
    ///
    /// # Errors
    /// [`Kind::Io`], and what is wrong with the observer.
    fn admit(&self, _: Op) -> Result<()> {
        Ok(())
    }

    /// As [`admit`](Self::admit), for who can wait and has `waited` so long: whether it may begin now, or is asked again
    /// after a while. It does not go on for ever.
    ///
    /// # Errors
    /// As [`admit`](Self::admit); and that it was waited for long enough.
    fn pace(&self, op: Op, _waited: Duration) -> Result<Pace> {
        self.admit(op).map(|()| Pace::Go)
    }
}

/// When an operation may begin.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Pace {
    /// Now.
    Go,
    /// Perhaps after that time.
    Wait(Duration),
}

/// Several observers, each of whom is told everything.
impl Observer for Vec<Arc<dyn Observer>> {
    fn observe(&self, event: &Event) {
        self.iter().for_each(|observer| observer.observe(event));
    }

    fn operation(&self, operation: &Operation<'_>) {
        self.iter().for_each(|observer| observer.operation(operation));
    }

    fn admit(&self, op: Op) -> Result<()> {
        self.iter().try_for_each(|observer| observer.admit(op))
    }

    fn pace(&self, op: Op, waited: Duration) -> Result<Pace> {
        let mut paces = self.iter().map(|observer| observer.pace(op, waited));
        paces.try_fold(Pace::Go, |longest, pace| Ok(longest.max(pace?)))
    }
}

/// Whose session it is, as observers may know it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Subject {
    /// The user; none as long as nobody was authenticated.
    pub user: Option<UserHash>,
    /// The user of this host.
    pub uid: u32,
}

/// Makes each session's observer.
pub type Observers = dyn Fn(Subject) -> Arc<dyn Observer> + Send + Sync;

thread_local! {
    static CALLER: Cell<Option<u32>> = const { Cell::new(None) };
    static TURN: Cell<u64> = const { Cell::new(0) };
}

/// Does the work of one operation on behalf of process `pid`: what happens meanwhile on this thread, happens because of it.
pub fn on_behalf_of<T>(pid: u32, work: impl FnOnce() -> T) -> T {
    /// Put back whatever the work does.
    struct Before(Option<u32>);

    impl Drop for Before {
        fn drop(&mut self) {
            CALLER.set(self.0);
        }
    }

    let _before = Before(CALLER.replace(Some(pid)));
    TURN.set(TURN.get() + 1);
    work()
}

/// Which of this thread's pieces of work is the latest: what happens in one turn, happens in one operation.
pub fn turn() -> u64 {
    TURN.get()
}

/// The process on whose behalf this thread works; none when it works for nobody in particular.
pub fn caller() -> Option<u32> {
    CALLER.get()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_operation_is_listed_once_and_has_a_name_of_its_own() {
        let names: BTreeSet<&str> = Op::ALL.iter().map(|op| op.as_str()).collect();
        assert_eq!(names.len(), Op::ALL.len());
        for (index, op) in Op::ALL.iter().enumerate() {
            assert_eq!(*op as usize, index, "{op}");
        }
    }

    #[test]
    fn a_caller_is_known_while_the_work_lasts() {
        assert_eq!(caller(), None);
        let inner = on_behalf_of(7, || (caller(), on_behalf_of(8, caller), caller()));
        assert_eq!(inner, (Some(7), Some(8), Some(7)));
        let panicked = std::panic::catch_unwind(|| on_behalf_of(9, || panic!("a bug")));
        assert!(panicked.is_err());
        assert_eq!(caller(), None);
    }
}
