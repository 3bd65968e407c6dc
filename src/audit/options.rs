//! Where the log goes, and what it has.

use std::path::PathBuf;

use super::head::HeadKey;

/// How much the log has. Each level has what the ones before it have.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub enum Level {
    /// Refusals, owners that were overridden, drafts that were not committed, logins that failed, sessions that were
    /// suspended or ended. It stops nothing: what there is no space for is counted.
    Denied,
    /// Also what is opened, created, committed, renamed and removed, and all that becomes of a session.
    #[default]
    Access,
    /// Every operation.
    All,
}

/// Where the log goes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Destination {
    /// A file, with another beside it that says where it ends (`FILE.head`).
    File(PathBuf),
    /// The systemd journal.
    Journal,
}

/// What kind of log it is.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where it goes.
    pub destination: Destination,
    /// What it has.
    pub level: Level,
    /// What it is signed with, so that nobody without that key can cut it unnoticed.
    pub key: Option<HeadKey>,
}
