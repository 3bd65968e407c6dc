//! The config file: TOML, and every key known.

use std::io::{ErrorKind, Read as _};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use tenantfs::error::{At, Doing, Error, Kind, Result};
use tenantfs::input;

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
#[serde(deny_unknown_fields, default)]
pub(super) struct Volume {
    pub(super) path: Option<PathBuf>,
    pub(super) layout: Option<String>,
    pub(super) resources: Option<Vec<String>>,
    pub(super) commit: Option<Commit>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Auth {
    pub(super) url: Option<String>,
    pub(super) socket: Option<PathBuf>,
    pub(super) service_user: Option<String>,
    pub(super) static_keys: Option<PathBuf>,
    pub(super) lease: Option<String>,
    pub(super) grace: Option<String>,
    pub(super) insecure: Option<bool>,
    pub(super) api_key_file: Option<PathBuf>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Records {
    pub(super) secret_fields: Option<Vec<String>>,
    pub(super) sealing_keys: Option<PathBuf>,
    pub(super) attach_session_key: Option<Vec<String>>,
    pub(super) max_size: Option<String>,
    pub(super) keep_removed: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Attachments {
    pub(super) max_size: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Quota {
    pub(super) bytes: Option<String>,
    pub(super) files: Option<u64>,
    pub(super) users: Option<PathBuf>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Mounts {
    pub(super) path: Option<String>,
    pub(super) mounter: Option<PathBuf>,
    pub(super) uid: Option<u32>,
    pub(super) gid: Option<u32>,
    pub(super) read_only: Option<bool>,
    pub(super) exec: Option<bool>,
    pub(super) background: Option<bool>,
    pub(super) sessions_per_user: Option<NonZeroUsize>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Audit {
    pub(super) path: Option<PathBuf>,
    pub(super) level: Option<AuditLevel>,
    pub(super) user_rate: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Metrics {
    pub(super) listen: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Control {
    pub(super) socket: Option<PathBuf>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Server {
    pub(super) user: Option<String>,
}

impl File {
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
        if rustix::process::geteuid().is_root() && !input::is_own_descriptor(path) {
            Trust::of_caller("--config").file(path, &file)?;
        }
        toml::from_str(&text).map_err(|error| {
            let why = one_line(&error.to_string());
            Error::config(format!("the config file {}: {why}", path.display()))
        })
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
