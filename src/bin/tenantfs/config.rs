//! Where each setting comes from: flag, else environment (clap sees to those two), else config file, else default.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use tenantfs::error::{Error, Kind, Result};
use tenantfs::layout::Layout;
use tenantfs::name::Resource;
use tenantfs::store;
use tenantfs::volume::Durability;

use crate::cli::{Commit, MountArgs};

/// The config file when none is named.
const DEFAULT_FILE: &str = "/etc/tenantfs/config.toml";

/// The largest `max_size`, in bytes: a record is held in memory as a whole, several times while it is committed.
const MAX_SIZE: u64 = 256 << 20;

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct File {
    volume: Volume,
    auth: Auth,
    records: Records,
    mounts: Mounts,
    server: Server,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Volume {
    path: Option<PathBuf>,
    layout: Option<String>,
    resources: Option<Vec<String>>,
    commit: Option<Commit>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Auth {
    static_keys: Option<PathBuf>,
    api_key_file: Option<PathBuf>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Records {
    secret_fields: Option<Vec<String>>,
    max_size: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Mounts {
    uid: Option<u32>,
    read_only: Option<bool>,
    exec: Option<bool>,
    background: Option<bool>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Server {
    user: Option<String>,
}

/// What `mount` is to do.
pub(crate) struct Settings {
    pub(crate) mountpoint: PathBuf,
    pub(crate) volume: PathBuf,
    pub(crate) store: store::Options,
    pub(crate) static_keys: PathBuf,
    pub(crate) api_key_file: Option<PathBuf>,
    pub(crate) uid: Option<u32>,
    pub(crate) exec: bool,
    pub(crate) server_user: Option<String>,
    pub(crate) background: bool,
}

impl Settings {
    /// # Errors
    /// [`Kind::Config`] for whatever is missing or wrong.
    pub(crate) fn of(args: MountArgs) -> Result<Self> {
        let file = read(args.config.as_deref())?;
        let missing =
            |what: &str, flag: &str| Error::new(Kind::Config, format!("no {what} is given; use {flag}"));
        let layout = match (args.layout, file.volume.layout) {
            (Some(layout), _) => layout,
            (None, Some(layout)) => layout.parse::<Layout>()?,
            (None, None) => Layout::default(),
        };
        let defaults = store::Options::default();
        let resources = args.resources.or(file.volume.resources);
        let max_size = args.max_size.or(file.records.max_size);
        Ok(Self {
            mountpoint: args.mountpoint,
            volume: args
                .volume
                .or(file.volume.path)
                .ok_or_else(|| missing("volume", "--volume DIR"))?,
            store: store::Options {
                layout,
                resources: resources.map_or(Ok(defaults.resources), |names| parse_resources(&names))?,
                durability: match args.commit.or(file.volume.commit) {
                    Some(Commit::Fsync) => Durability::Ordered,
                    Some(Commit::Close) | None => Durability::Durable,
                },
                read_only: args.read_only.or(file.mounts.read_only).unwrap_or(false),
                max_record: max_size.map_or(Ok(defaults.max_record), |size| parse_size(&size))?,
                secret_fields: args
                    .secret_fields
                    .or(file.records.secret_fields)
                    .map_or(Ok(defaults.secret_fields), check_secret_fields)?,
            },
            static_keys: args
                .static_keys
                .or(file.auth.static_keys)
                .ok_or_else(|| missing("way to authenticate", "--static-keys FILE"))?,
            api_key_file: args.api_key_file.or(file.auth.api_key_file),
            uid: args.uid.or(file.mounts.uid),
            exec: args.exec.or(file.mounts.exec).unwrap_or(false),
            server_user: args.server_user.or(file.server.user),
            background: args.background.or(file.mounts.background).unwrap_or(false),
        })
    }
}

fn read(path: Option<&Path>) -> Result<File> {
    let (path, optional) = match path {
        Some(path) => (path, false),
        None => (Path::new(DEFAULT_FILE), true),
    };
    let wrong = |why: String| Error::new(Kind::Config, format!("the config file {}: {why}", path.display()));
    match std::fs::read_to_string(path) {
        Ok(text) => toml::from_str(&text).map_err(|error| wrong(one_line(&error.to_string()))),
        Err(error) if optional && error.kind() == std::io::ErrorKind::NotFound => Ok(File::default()),
        Err(error) => Err(wrong(format!("{error}; correct --config or its mode"))),
    }
}

/// The TOML library points at the place with a drawing.
fn one_line(message: &str) -> String {
    let lines = message.lines().map(str::trim).filter(|line| !line.is_empty());
    lines.filter(|line| *line != "|").collect::<Vec<_>>().join("; ")
}

fn parse_resources(names: &[String]) -> Result<Vec<Resource>> {
    let mut resources: Vec<Resource> = Vec::new();
    for name in names {
        let resource = Resource::new(name)?;
        if resources.contains(&resource) {
            return Err(Error::new(
                Kind::Config,
                format!("the resource {name:?} is given twice"),
            ));
        }
        resources.push(resource);
    }
    match resources.is_empty() {
        true => Err(Error::new(
            Kind::Config,
            "at least one resource is needed; see --resources",
        )),
        false => Ok(resources),
    }
}

fn check_secret_fields(fields: Vec<String>) -> Result<Vec<String>> {
    let wrong = |why: &str| {
        Err(Error::new(
            Kind::Config,
            format!("the secret fields {why}; see --secret-fields"),
        ))
    };
    if fields.iter().any(String::is_empty) {
        return wrong("have an empty name");
    }
    if fields.iter().any(|field| field == "user_id") {
        return wrong("cannot have user_id, which says whose the record is");
    }
    Ok(fields)
}

/// `16MiB`, `512 KiB`, `1000000`.
fn parse_size(text: &str) -> Result<u64> {
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let unit = match text.strip_prefix(digits).unwrap_or_default().trim() {
        "" | "B" => Some(1),
        "KiB" => Some(1 << 10),
        "MiB" => Some(1 << 20),
        "GiB" => Some(1 << 30),
        _ => None,
    };
    let number = digits.parse::<u64>().ok();
    let size = number
        .zip(unit)
        .and_then(|(number, unit)| number.checked_mul(unit));
    match size {
        Some(size @ 1..=MAX_SIZE) => Ok(size),
        _ => Err(Error::new(
            Kind::Config,
            format!("{text:?} is no size that a record can have: use one like 16MiB, of at most 256MiB"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        for (text, size) in [
            ("16MiB", 16 << 20),
            ("1 KiB", 1024),
            ("7", 7),
            ("5B", 5),
            ("256MiB", 256 << 20),
        ] {
            assert_eq!(parse_size(text).unwrap(), size, "{text}");
        }
        for bad in [
            "",
            "MiB",
            "0",
            "-1",
            "1.5MiB",
            "1MB",
            "257MiB",
            "99999999999999GiB",
            "16MiB!",
        ] {
            assert!(parse_size(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn unknown_keys_are_errors_that_name_them() {
        for (text, named) in [
            ("[volume]\npaht = \"/x\"", "paht"),
            ("[nonsense]", "nonsense"),
            ("[auth]\nurl = \"x\"", "url"),
        ] {
            let error = toml::from_str::<File>(text).err().unwrap();
            assert!(one_line(&error.to_string()).contains(named), "{error}");
            assert_eq!(one_line(&error.to_string()).lines().count(), 1);
        }
    }

    #[test]
    fn the_documented_keys_are_known() {
        let file: File = toml::from_str(
            r#"
            [volume]
            path = "/srv/records"
            layout = "user-first"
            resources = ["schedules", "results"]
            commit = "fsync"
            [auth]
            static_keys = "/etc/tenantfs/keys.json"
            api_key_file = "/run/key"
            [records]
            secret_fields = ["api_key"]
            max_size = "16MiB"
            [mounts]
            uid = 1000
            exec = false
            read_only = true
            background = true
            [server]
            user = "service"
            "#,
        )
        .unwrap();
        assert_eq!(file.volume.commit, Some(Commit::Fsync));
        assert_eq!(file.mounts.read_only, Some(true));
    }
}
