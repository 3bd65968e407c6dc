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

/// What each user may add to the log for long, in bytes a second, unless configured otherwise: some 1,700 lines.
pub const USER_RATE: u64 = 512 << 10;

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
    /// How many bytes a second each user may add to it for long. Who adds more, waits.
    pub user_rate: u64,
    /// What it is signed with, so that nobody without that key can cut it unnoticed.
    pub key: Option<HeadKey>,
}
