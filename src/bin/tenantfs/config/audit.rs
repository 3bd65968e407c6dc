//! Which audit log is kept, and where it is.

use std::path::{Path, PathBuf};

use tenantfs::audit::{Destination, HeadKey, Level, Options, USER_RATE};
use tenantfs::error::{At, Doing, Error, Kind, Result};
use tenantfs::seal::SealingKeys;

use super::file::File;
use super::value;
use crate::cli::AuditLevel;

/// Where the audit log is, if its directory is there and nothing else is configured; and the paths that are
/// none.
const DEFAULT: &str = "/var/log/tenantfs/audit.jsonl";
const JOURNAL: &str = "journal";
const NONE: &str = "none";

/// Which audit log is kept: none, when nobody says where and there is no usual place.
///
/// # Errors
/// A rate that is none. None that a keyring that was read could lead to.
pub(super) fn options(
    path: Option<PathBuf>,
    level: Option<AuditLevel>,
    user_rate: Option<String>,
    keys: Option<&SealingKeys>,
) -> Result<Option<Options>> {
    let destination = match path {
        Some(path) if path.as_os_str() == NONE => None,
        Some(path) if path.as_os_str() == JOURNAL => Some(Destination::Journal),
        Some(path) => Some(Destination::File(path)),
        None if Path::new(DEFAULT).parent().is_some_and(Path::is_dir) => {
            Some(Destination::File(DEFAULT.into()))
        }
        None if logs_to_journal() => Some(Destination::Journal),
        None => None,
    };
    let key = match keys {
        Some(keys) => head_key(keys, keys.active())?,
        None => None,
    };
    let user_rate = user_rate.map_or(Ok(USER_RATE), |rate| value::user_rate(&rate))?;
    Ok(destination.map(|destination| Options {
        destination,
        user_rate,
        level: match level {
            Some(AuditLevel::Denied) => Level::Denied,
            Some(AuditLevel::Access) | None => Level::Access,
            Some(AuditLevel::All) => Level::All,
        },
        key,
    }))
}

/// What the master key called `kid` signs the audit log with.
pub(super) fn head_key(keys: &SealingKeys, kid: &str) -> Result<Option<HeadKey>> {
    let key = keys.derive(kid, HeadKey::INFO);
    key.map(|key| HeadKey::new(kid, key)).transpose()
}

/// Whether our standard error is what systemd has connected to the journal; the variable alone may be another
/// process's (systemd.exec(5)).
fn logs_to_journal() -> bool {
    let stream = std::env::var("JOURNAL_STREAM").unwrap_or_default();
    let ours = rustix::fs::fstat(std::io::stderr());
    ours.is_ok_and(|stat| stream == format!("{}:{}", stat.st_dev, stat.st_ino))
}

/// The log that is configured.
pub(crate) enum Log {
    /// Its files, the oldest first: those that logrotate made of it, too.
    Files(Vec<PathBuf>),
    /// systemd's journal has it.
    Journal,
}

/// The log that the config file names, or else the usual one.
///
/// # Errors
/// [`Kind::Config`] when there is none.
pub(crate) fn log(config: Option<&Path>) -> Result<Log> {
    let path = File::if_readable(config)?.audit.path;
    let path = path.unwrap_or_else(|| DEFAULT.into());
    match path.to_str() {
        Some(JOURNAL) => return Ok(Log::Journal),
        Some(NONE) => {
            return Err(Error::config(
                "no audit log is kept (audit.path); name the files of one",
            ));
        }
        _ => {}
    }
    let directory = path.parent().unwrap_or(Path::new("/"));
    let listed = std::fs::read_dir(directory)
        .doing("looking for the audit log")
        .at(directory);
    let listed = listed.map_err(|error| error.as_kind(Kind::Config))?;
    let mut files: Vec<(Age, PathBuf)> = listed
        .flatten()
        .filter_map(|entry| Some((Age::of(&path, &entry.path())?, entry.path())))
        .collect();
    files.sort();
    match files.is_empty() {
        true => Err(Error::config(format!(
            "there is no audit log {}; name the files of one",
            path.display()
        ))),
        false => Ok(Log::Files(files.into_iter().map(|(_, path)| path).collect())),
    }
}

/// How old a file of a log is, by its name; the oldest first.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Age {
    /// `audit.jsonl-20261128`, as logrotate's `dateext` has it.
    Since(String),
    /// `audit.jsonl.2`: the higher, the older.
    Rotated(std::cmp::Reverse<u32>),
    /// The log itself.
    Now,
}

impl Age {
    /// None for what is no file of the log at `log`.
    fn of(log: &Path, file: &Path) -> Option<Self> {
        let (log, file) = (log.file_name()?.to_str()?, file.file_name()?.to_str()?);
        let rest = file.strip_prefix(log)?;
        let rest = rest.strip_suffix(".gz").unwrap_or(rest);
        if rest.is_empty() {
            return (file == log).then_some(Self::Now);
        }
        if let Some(number) = rest.strip_prefix('.') {
            return number
                .parse()
                .ok()
                .map(|number| Self::Rotated(std::cmp::Reverse(number)));
        }
        let date = rest.strip_prefix('-')?;
        let is_date = !date.is_empty() && date.bytes().all(|b| b.is_ascii_digit() || b == b'-');
        is_date.then(|| Self::Since(date.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_of_a_log_are_told_from_others_and_ordered_by_age() {
        let log = Path::new("/log/audit.jsonl");
        let mut names = [
            "audit.jsonl",
            "audit.jsonl.1",
            "audit.jsonl.10.gz",
            "audit.jsonl.2.gz",
            "audit.jsonl-20261127",
            "audit.jsonl-20261120.gz",
            "audit.jsonl.head",
            "audit.jsonl.gz",
            "other.jsonl",
            "audit.jsonl.1.head",
        ]
        .into_iter()
        .filter_map(|name| Some((Age::of(log, &log.with_file_name(name))?, name)))
        .collect::<Vec<_>>();
        names.sort();
        let names: Vec<_> = names.into_iter().map(|(_, name)| name).collect();
        assert_eq!(
            names,
            [
                "audit.jsonl-20261120.gz",
                "audit.jsonl-20261127",
                "audit.jsonl.10.gz",
                "audit.jsonl.2.gz",
                "audit.jsonl.1",
                "audit.jsonl",
            ]
        );
    }
}
