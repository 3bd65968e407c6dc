//! What the file system of a volume can do: found out by trying, and never assumed.
//!
//! Distributed file systems differ in what they have. Whatever relies on one of these asks here, and does it another way
//! that is as safe where it is missing; what cannot be done another way is refused when the volume is opened for serving.

use std::fmt;
use std::sync::OnceLock;

use super::engine::Engine;
use crate::error::{Error, Kind, Result};

/// A file system as one volume has it: shared by every handle of it.
#[derive(Debug)]
pub struct FileSystem {
    engine: Engine,
    found: OnceLock<Abilities>,
}

impl FileSystem {
    pub(super) fn of(engine: Engine) -> Self {
        Self {
            engine,
            found: OnceLock::new(),
        }
    }

    /// Which one it is.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// What it can do; none where nobody has had to know yet.
    pub fn found(&self) -> Option<&Abilities> {
        self.found.get()
    }

    /// What it can do, as somebody has found out.
    pub(super) fn keep(&self, found: Abilities) -> &Abilities {
        self.found.get_or_init(|| found)
    }
}

/// What a file system can do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Abilities {
    /// renameat2(2) with `RENAME_NOREPLACE`. Instead, a file is linked to its new name and unlinked from its old one; for a
    /// directory, an empty one is made and then replaced.
    pub renames_without_replacing: bool,
    /// renameat2(2) with `RENAME_EXCHANGE`. Instead, what has to be compared is compared, and then replaced.
    pub exchanges: bool,
    /// link(2), refused where the name is taken.
    pub links: bool,
    /// `O_TMPFILE` that can be trusted. Instead, new files have a name of ours until they are complete.
    pub has_unnamed_files: bool,
    /// Extended attributes that users may set.
    pub keeps_attributes: bool,
    /// flock(2) on a file that is opened twice.
    pub locks_files: bool,
    /// fsync(2) of a directory.
    pub syncs_directories: bool,
    /// The smallest difference between two times of files.
    pub times: Granularity,
}

/// How exact the times of files are.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[allow(missing_docs)]
pub enum Granularity {
    Nanoseconds,
    Microseconds,
    Milliseconds,
    Seconds,
}

impl fmt::Display for Granularity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nanoseconds => "nanoseconds",
            Self::Microseconds => "microseconds",
            Self::Milliseconds => "milliseconds",
            Self::Seconds => "whole seconds",
        })
    }
}

/// One ability, as the operator is told of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ability {
    /// What it is called.
    pub name: &'static str,
    /// Whether it is there.
    pub there: bool,
    /// What is done without it.
    pub otherwise: Otherwise,
}

/// What follows where an ability is missing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Otherwise {
    /// It is done another way, which is as safe.
    As(&'static str),
    /// Something cannot be promised.
    Weaker(&'static str),
    /// The volume is not served for writing.
    Refused(&'static str),
}

impl Abilities {
    /// What every file system of this host can do. The kernel's own code is known; whether attributes are kept is a matter of its
    /// configuration.
    pub(super) const fn of_this_host(keeps_attributes: bool) -> Self {
        Self {
            renames_without_replacing: true,
            exchanges: true,
            links: true,
            has_unnamed_files: true,
            keeps_attributes,
            locks_files: true,
            syncs_directories: true,
            times: Granularity::Nanoseconds,
        }
    }

    /// Each of them, with what follows where it is missing.
    pub fn table(&self) -> Vec<Ability> {
        let renames = self.renames_without_replacing || self.links;
        let ability = |name, there, otherwise| Ability {
            name,
            there,
            otherwise,
        };
        vec![
            ability(
                "renames a file only where nothing has the name (RENAME_NOREPLACE)",
                self.renames_without_replacing,
                match renames {
                    true => Otherwise::As("a file is linked to its new name, then unlinked from the old one"),
                    false => Otherwise::Refused(
                        "and it has no link(2) either: two who save one name at once would lose one of both",
                    ),
                },
            ),
            ability(
                "exchanges two files (RENAME_EXCHANGE)",
                self.exchanges,
                Otherwise::Weaker(
                    "users' exchanges are refused; reseal and migrate compare, and then replace: what a service saves in the same \
                     moment they may replace",
                ),
            ),
            ability(
                "makes unnamed files that can be trusted (O_TMPFILE)",
                self.has_unnamed_files,
                Otherwise::As("a new file has a name beginning with .tenantfs-tmp- until it is complete"),
            ),
            ability(
                "keeps extended attributes of users",
                self.keeps_attributes,
                Otherwise::Weaker(
                    "chmod in a mount is refused, inode numbers change with each save, and of removed records with long names \
                     the list tells nothing",
                ),
            ),
            ability(
                "locks files (flock)",
                self.locks_files,
                Otherwise::Weaker("what two commands of the operator do at once is not kept apart"),
            ),
            ability(
                "makes a directory durable (fsync)",
                self.syncs_directories,
                Otherwise::Refused("and what was saved could be gone after a power cut"),
            ),
            ability(
                "keeps times that are finer than a second",
                self.times < Granularity::Seconds,
                Otherwise::Weaker(
                    "what is rewritten in place within a second is read twice before it is served",
                ),
            ),
        ]
    }

    /// # Errors
    /// [`Kind::Unsupported`] when something is missing that nothing stands in for: which, and why it is needed.
    pub fn check(&self) -> Result<()> {
        let refused = self
            .table()
            .into_iter()
            .find_map(|ability| match ability.otherwise {
                Otherwise::Refused(why) if !ability.there => Some((ability.name, why)),
                _ => None,
            });
        match refused {
            None => Ok(()),
            Some((name, why)) => Err(Error::new(
                Kind::Unsupported,
                format!(
                    "the volume cannot be served for writing: its file system has nothing that {name}, {why}; serve it with \
                     --read-only, or put it on another file system"
                ),
            )),
        }
    }
}
