//! The file that says what single users may have.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use serde::Deserialize;

use super::limits::{Limits, parse_bytes};
use crate::error::{Error, Result};
use crate::identity::UserId;
use crate::keyfile::{self, Version, What, unreadable};

/// The largest file, in bytes: some hundred thousand users.
const MAX_FILE: u64 = 16 << 20;

const WHAT: What = What {
    name: "quota file",
    option: "--quota-users",
    harm: "raise quotas",
};

/// What everybody may have, but for those who are named.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Users {
    everybody: Limits,
    named: HashMap<UserId, Named>,
}

/// What is said of one user; none where it is as for everybody.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Named {
    bytes: Option<Limit>,
    files: Option<Limit>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Limit {
    Unlimited,
    At(u64),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    users: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    user_id: String,
    bytes: Option<Written>,
    files: Option<Written>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    Number(u64),
    Text(String),
}

impl Written {
    fn understood(&self) -> Option<Limit> {
        match self {
            Self::Number(number) => Some(Limit::At(*number)),
            Self::Text(text) if text == "unlimited" => Some(Limit::Unlimited),
            Self::Text(text) => parse_bytes(text).map(Limit::At),
        }
    }
}

impl Users {
    /// The same for everybody.
    pub fn everybody(limits: Limits) -> Self {
        Self {
            everybody: limits,
            named: HashMap::new(),
        }
    }

    /// Reads `{"users":[{"user_id":"alice","bytes":"10GiB","files":100000}]}`: sizes as numbers or with units, `"unlimited"`
    /// where there is no limit. What is left out is as for `everybody`.
    ///
    /// # Errors
    /// [`Kind::Config`](crate::error::Kind::Config) that says which entry is wrong.
    pub fn parse(json: &str, everybody: Limits) -> Result<Self> {
        let file: File = serde_json::from_str(json).map_err(|error| {
            Error::config(format!(
                "not a quota file ({}); expected {{\"users\":[{{\"user_id\":\"…\",\"bytes\":\"10GiB\",\"files\":100000}}]}}",
                keyfile::not_an_object(json, &error)
            ))
        })?;
        let mut named = HashMap::with_capacity(file.users.len());
        for (entry, number) in file.users.iter().zip(1..) {
            let user = UserId::new(entry.user_id.as_str())
                .map_err(|error| error.context(format_args!("entry {number}")))?;
            let limit = |written: &Option<Written>, what| match written {
                None => Ok(None),
                Some(written) => written.understood().map(Some).ok_or_else(|| {
                    Error::config(format!(
                        "entry {number}: {what} must be a number, a size such as \"10GiB\", or \"unlimited\""
                    ))
                }),
            };
            let limits = Named {
                bytes: limit(&entry.bytes, "bytes")?,
                files: limit(&entry.files, "files")?,
            };
            if named.insert(user, limits).is_some() {
                return Err(Error::config(format!(
                    "entry {number}: this user is named twice; keep one"
                )));
            }
        }
        Ok(Self { everybody, named })
    }

    /// What a user may have.
    pub fn limits(&self, user: &UserId) -> Limits {
        self.named
            .get(user)
            .map_or(self.everybody, |named| self.limits_of(named))
    }

    /// What the users may have who are named.
    pub fn named(&self) -> impl Iterator<Item = (&UserId, Limits)> {
        self.named
            .iter()
            .map(|(user, named)| (user, self.limits_of(named)))
    }

    /// What everybody else may have.
    pub fn others(&self) -> Limits {
        self.everybody
    }

    fn limits_of(&self, named: &Named) -> Limits {
        let of = |named: Option<Limit>, everybody| match named {
            None => everybody,
            Some(Limit::Unlimited) => None,
            Some(Limit::At(limit)) => Some(limit),
        };
        Limits {
            bytes: of(named.bytes, self.everybody.bytes),
            files: of(named.files, self.everybody.files),
        }
    }
}

/// The file, which is read again when it changes.
#[derive(Debug)]
pub struct UsersFile {
    path: PathBuf,
    everybody: Limits,
    /// As it was read last, well or not.
    version: Mutex<Option<Version>>,
}

impl UsersFile {
    /// Reads the file at `path`.
    ///
    /// # Errors
    /// [`Kind::Config`](crate::error::Kind::Config) when it is missing, unreadable, malformed, or others own it or may write
    /// to it.
    pub fn open(path: &Path, everybody: Limits) -> Result<(Self, Users)> {
        let file = Self {
            path: path.to_owned(),
            everybody,
            version: Mutex::default(),
        };
        let users = file.read()?;
        Ok((file, users))
    }

    /// What it says now, if it has changed.
    ///
    /// # Errors
    /// As [`open`](Self::open); said once of each version.
    pub fn changed(&self) -> Result<Option<Users>> {
        let version = std::fs::metadata(&self.path)
            .ok()
            .map(|found| Version::of(&found));
        if *self.version.lock() == version {
            return Ok(None);
        }
        self.read().map(Some)
    }

    fn read(&self) -> Result<Users> {
        *self.version.lock() = None;
        let read = || {
            let (file, metadata) = keyfile::open(&self.path, WHAT)?;
            *self.version.lock() = Some(Version::of(&metadata));
            keyfile::trusted(&self.path, WHAT, &metadata)?;
            keyfile::read(file, &self.path, WHAT, MAX_FILE)
        };
        let bytes = read()?;
        let text = std::str::from_utf8(&bytes)
            .map_err(|error| unreadable(&self.path, WHAT, &std::io::Error::other(error)))?;
        Users::parse(text, self.everybody)
            .map_err(|error| error.context(format_args!("the quota file {}", self.path.display())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVERYBODY: Limits = Limits {
        bytes: Some(7),
        files: Some(8),
    };

    fn user(id: &str) -> UserId {
        UserId::new(id).unwrap()
    }

    #[test]
    fn named_users_have_their_own_limits_and_the_others_everybodys() {
        let text = r#"{"users":[{"user_id":"alice","bytes":"10MiB"},{"user_id":"bob","bytes":"unlimited","files":5}]}"#;
        let users = Users::parse(text, EVERYBODY).unwrap();
        let of = |bytes, files| Limits { bytes, files };
        assert_eq!(users.limits(&user("alice")), of(Some(10 << 20), Some(8)));
        assert_eq!(users.limits(&user("bob")), of(None, Some(5)));
        assert_eq!(users.limits(&user("carol")), EVERYBODY);
    }

    #[test]
    fn a_malformed_file_is_named_with_its_entry() {
        for (bad, said) in [
            ("", "not a quota file"),
            (r#"{"users":[],"more":1}"#, "more"),
            (r#"{"users":[{"user_id":"a","byte":1}]}"#, "byte"),
            (
                r#"{"users":[{"user_id":"a"},{"user_id":"b","bytes":"10MB"}]}"#,
                "entry 2: bytes",
            ),
            (r#"{"users":[{"user_id":"a","files":"-1"}]}"#, "entry 1: files"),
            (
                r#"{"users":[{"user_id":"a"},{"user_id":"a"}]}"#,
                "entry 2: this user is named twice",
            ),
            (r#"{"users":[{"user_id":""}]}"#, "entry 1"),
        ] {
            let error = Users::parse(bad, EVERYBODY).unwrap_err().to_string();
            assert!(error.contains(said), "{bad}: {error}");
        }
    }

    #[test]
    fn a_changed_file_is_read_once_and_a_broken_one_is_told_once() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("quota.json");
        let write = |text: &str| {
            std::fs::write(directory.path().join("new"), text).unwrap();
            std::fs::rename(directory.path().join("new"), &path).unwrap();
        };
        write(r#"{"users":[]}"#);
        let (file, users) = UsersFile::open(&path, EVERYBODY).unwrap();
        assert_eq!(users, Users::everybody(EVERYBODY));
        assert_eq!(file.changed().unwrap(), None);
        write(r#"{"users":[{"user_id":"alice","bytes":1}]}"#);
        let users = file.changed().unwrap().unwrap();
        assert_eq!(users.limits(&user("alice")).bytes, Some(1));
        write("{");
        assert!(file.changed().is_err());
        assert_eq!(file.changed().unwrap(), None);
        std::fs::remove_file(&path).unwrap();
        assert!(file.changed().is_err());
        assert_eq!(file.changed().unwrap(), None);
        write(r#"{"users":[]}"#);
        assert!(file.changed().unwrap().is_some());
    }
}
