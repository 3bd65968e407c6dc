//! What happens, told to whoever observes: the log, and later the audit log and the metrics.

/// Something worth telling the operator. Paths are as in the mount; no event carries record content, a key, or
/// another tenant's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// An operation of the mount was refused for a reason of isolation or integrity.
    Denied {
        /// The operation, in the kernel's words: `lookup`, `open`, `rename`.
        op: &'static str,
        /// The path as in the mount, or the entry's name where that is all there is.
        path: String,
        /// Why, for the operator.
        reason: String,
    },
    /// A write named another owner; the session's user was put in its place.
    OwnerOverridden {
        /// The record's name.
        path: String,
    },
    /// A draft could not be committed; it is kept, and shown to its owner.
    DraftKept {
        /// The record's name.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A handler panicked; the operation got EIO, and the session goes on.
    Panicked {
        /// The operation.
        op: &'static str,
    },
    /// Something of the volume or the session that the operator should look at.
    Trouble {
        /// A sentence.
        what: String,
    },
}

/// Receives events. Called on the thread where they happen: an observer that may wait has a queue of its own.
pub trait Observer: Send + Sync {
    /// Takes note of one event.
    fn observe(&self, event: &Event);
}

/// Writes events to the log: refusals and trouble as warnings.
#[derive(Debug, Default)]
pub struct LogObserver {
    /// Said in front of every line, to tell sessions apart.
    pub session: String,
}

impl Observer for LogObserver {
    fn observe(&self, event: &Event) {
        let session = &self.session;
        match event {
            Event::Denied { op, path, reason } => log::warn!("{session}: {op} {path:?} denied: {reason}"),
            Event::OwnerOverridden { path } => {
                log::warn!("{session}: {path:?} named another owner; replaced by the session's user");
            }
            Event::DraftKept { path, reason } => {
                log::warn!("{session}: {path:?} not committed, kept as a draft: {reason}");
            }
            Event::Panicked { op } => {
                log::error!("{session}: panic in {op}; this is a bug, please report it")
            }
            Event::Trouble { what } => log::warn!("{session}: {what}"),
        }
    }
}
