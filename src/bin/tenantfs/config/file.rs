//! The config file: TOML, and every key known.

use std::io::{ErrorKind, Read as _};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use tenantfs::error::{At, Doing, Error, Kind, Result};
use tenantfs::input;

use super::written::{OfGroup, OfUser, Size, Time};
use crate::cli::{AuditLevel, Commit};
use crate::trusted::Trust;

/// The config file when none is named.
pub(crate) const DEFAULT_FILE: &str = "/etc/tenantfs/config.toml";

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(super) struct File {
    pub(super) volume: Volume,
    pub(super) auth: Auth,
    pub(super) records: Records,
    pub(super) attachments: Attachments,
    pub(super) quota: Quota,
    pub(super) mounts: Mounts,
    pub(super) audit: Audit,
    pub(super) metrics: Metrics,
    pub(super) control: Control,
    pub(super) server: Server,
}

#[derive(Deserialize, Default)]
#[serde(
    deny_unknown_fields,
    default,
    expecting = "a section [volume] with its keys below it"
)]
pub(super) struct Volume {
    pub(super) path: Option<PathBuf>,
    pub(super) layout: Option<String>,
    pub(super) resources: Option<Vec<String>>,
    pub(super) commit: Option<Commit>,
    pub(super) commit_command: Option<Vec<String>>,
    pub(super) reload_command: Option<Vec<String>>,
}

#[derive(Deserialize, Default)]
#[serde(
    deny_unknown_fields,
    default,
    expecting = "a section [auth] with its keys below it"
)]
pub(super) struct Auth {
    pub(super) url: Option<String>,
    pub(super) socket: Option<PathBuf>,
    pub(super) service_user: Option<String>,
    pub(super) static_keys: Option<PathBuf>,
    pub(super) lease: Option<Time>,
    pub(super) grace: Option<Time>,
    pub(super) insecure: Option<bool>,
    pub(super) api_key_file: Option<PathBuf>,
}

#[derive(Deserialize, Default)]
#[serde(
    deny_unknown_fields,
    default,
    expecting = "a section [records] with its keys below it"
)]
pub(super) struct Records {
    pub(super) secret_fields: Option<Vec<String>>,
    pub(super) sealing_keys: Option<PathBuf>,
    pub(super) attach_session_key: Option<Vec<String>>,
    pub(super) max_size: Option<Size>,
    pub(super) keep_removed: Option<Time>,
}

#[derive(Deserialize, Default)]
#[serde(
    deny_unknown_fields,
    default,
    expecting = "a section [attachments] with its keys below it"
)]
pub(super) struct Attachments {
    pub(super) max_size: Option<Size>,
}

#[derive(Deserialize, Default)]
#[serde(
    deny_unknown_fields,
    default,
    expecting = "a section [quota] with its keys below it"
)]
pub(super) struct Quota {
    pub(super) bytes: Option<Size>,
    pub(super) files: Option<u64>,
    pub(super) users: Option<PathBuf>,
}

#[derive(Deserialize, Default)]
#[serde(
    deny_unknown_fields,
    default,
    expecting = "a section [mounts] with its keys below it"
)]
pub(super) struct Mounts {
    pub(super) path: Option<String>,
    pub(super) mounter: Option<PathBuf>,
    pub(super) uid: Option<OfUser>,
    pub(super) gid: Option<OfGroup>,
    pub(super) read_only: Option<bool>,
    pub(super) exec: Option<bool>,
    pub(super) background: Option<bool>,
    pub(super) sessions_per_user: Option<NonZeroUsize>,
}

#[derive(Deserialize, Default)]
#[serde(
    deny_unknown_fields,
    default,
    expecting = "a section [audit] with its keys below it"
)]
pub(super) struct Audit {
    pub(super) path: Option<PathBuf>,
    pub(super) level: Option<AuditLevel>,
    pub(super) user_rate: Option<Size>,
}

#[derive(Deserialize, Default)]
#[serde(
    deny_unknown_fields,
    default,
    expecting = "a section [metrics] with its keys below it"
)]
pub(super) struct Metrics {
    pub(super) listen: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(
    deny_unknown_fields,
    default,
    expecting = "a section [control] with its keys below it"
)]
pub(super) struct Control {
    pub(super) socket: Option<PathBuf>,
}

#[derive(Deserialize, Default)]
#[serde(
    deny_unknown_fields,
    default,
    expecting = "a section [server] with its keys below it"
)]
pub(super) struct Server {
    pub(super) user: Option<String>,
}

impl File {
    /// As [`read`](Self::read); a default one that may not be read, or is wrong, says nothing: for who needs little of it.
    ///
    /// # Errors
    /// As `read`, of one that is named.
    pub(super) fn if_readable(path: Option<&Path>) -> Result<Self> {
        match (Self::read(path), path) {
            (Err(_), None) => Ok(Self::default()),
            (read, _) => read,
        }
    }

    /// Reads the file at `path`, or the default one if there is one.
    ///
    /// # Errors
    /// [`Kind::Config`] for one that is missing, unreadable, or has what is not known.
    pub(super) fn read(path: Option<&Path>) -> Result<Self> {
        let (path, optional) = match path {
            Some(path) => (path, false),
            None => (Path::new(DEFAULT_FILE), true),
        };
        let doing = match optional {
            true => "reading the config file",
            false => "reading the config file that --config names",
        };
        let mut text = String::new();
        let opened = match input::open(path) {
            Err(error) if optional && error.kind() == ErrorKind::NotFound => return Ok(Self::default()),
            opened => opened,
        };
        let read = opened.and_then(|mut file| file.read_to_string(&mut text).map(|_| file));
        let file = read
            .doing(doing)
            .at(path)
            .map_err(|error| error.as_kind(Kind::Config))?;
        // Whoever writes it says what root reads, and whom it believes.
        let nothing = file.metadata().is_ok_and(|metadata| input::is_null(&metadata));
        if rustix::process::geteuid().is_root() && !nothing && !input::is_own_descriptor(path) {
            Trust::of_caller("--config").file(path, &file)?;
        }
        Self::parse(&text, path)
    }

    /// # Errors
    /// [`Kind::Config`] for what is not known.
    pub(super) fn parse(text: &str, path: &Path) -> Result<Self> {
        toml::from_str(text).map_err(|error| {
            let why = one_line(&error.to_string());
            Error::config(format!("the config file {}: {why}", path.display()))
        })
    }
}

/// The config file as it was when it was read, for who goes on with that.
#[derive(Clone)]
pub(crate) struct Version {
    pub(crate) path: PathBuf,
    /// Where it is the default one, there need not be any.
    is_named: bool,
    /// None where it cannot be read.
    text: Option<String>,
}

impl Version {
    /// As it is now: the one that is named, or the default one.
    pub(crate) fn now(named: Option<&Path>) -> Self {
        let path = named.unwrap_or(Path::new(DEFAULT_FILE));
        // Where this process goes on in another directory, it still leads there.
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        Self {
            text: std::fs::read_to_string(&path).ok(),
            path,
            is_named: named.is_some(),
        }
    }

    /// Whether there was one that could be read.
    pub(crate) fn is_there(&self) -> bool {
        self.text.is_some()
    }

    /// Whether it has not been changed since.
    pub(crate) fn is_current(&self) -> bool {
        std::fs::read_to_string(&self.path).ok() == self.text
    }

    /// Whether it can be understood as it is now.
    ///
    /// # Errors
    /// As of [`File::read`].
    pub(crate) fn check(&self) -> Result<()> {
        // What root alone may read, a server has read as root.
        let read = File::read(self.is_named.then_some(&self.path));
        match read {
            Err(error) if error.errno() == Some(libc::EACCES) => Ok(()),
            read => read.map(drop),
        }
    }
}

/// The TOML library points at the place with a drawing.
fn one_line(message: &str) -> String {
    let lines = message.lines().map(str::trim).filter(|line| !line.is_empty());
    lines.filter(|line| *line != "|").collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_keys_are_errors_that_name_them() {
        for (text, named) in [
            ("[volume]\npaht = \"/x\"", "paht"),
            ("[nonsense]", "nonsense"),
            ("[auth]\nulr = \"x\"", "ulr"),
        ] {
            let error = toml::from_str::<File>(text).err().unwrap();
            assert!(one_line(&error.to_string()).contains(named), "{error}");
            assert_eq!(one_line(&error.to_string()).lines().count(), 1);
        }
    }
}
