//! The embedded authenticator: a file of key hashes and user ids.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use serde::Deserialize;

use super::{ApiKey, Authenticator, Validating, Validation};
use crate::error::{Error, Kind, Result};
use crate::identity::{Principal, UserId};
use crate::keyfile::{self, Version, What, unreadable};

/// The largest file, in bytes: a hundred thousand keys.
const MAX_FILE: u64 = 16 << 20;

const WHAT: What = What {
    name: "static keys file",
    option: "--static-keys",
    harm: "add keys",
};

/// Known keys, by their hashes.
pub struct StaticKeys {
    keys: Vec<([u8; 32], UserId)>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KeysFile {
    keys: Vec<KeyEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyEntry {
    sha256: String,
    user_id: String,
}

impl StaticKeys {
    /// Reads `{"keys":[{"sha256":"<hex SHA-256 of the API key>","user_id":"alice"}]}`.
    ///
    /// # Errors
    /// [`Kind::Config`] that says which entry is wrong.
    pub fn parse(json: &str) -> Result<Self> {
        let file: KeysFile = serde_json::from_str(json).map_err(|error| {
            Error::config(format!(
                "not a static keys file ({}); expected {{\"keys\":[{{\"sha256\":\"…\",\"user_id\":\"…\"}}]}}",
                keyfile::not_an_object(json, &error)
            ))
        })?;
        let mut seen = HashSet::new();
        let mut keys = Vec::with_capacity(file.keys.len());
        for (entry, number) in file.keys.iter().zip(1..) {
            let mut digest = [0; 32];
            hex::decode_to_slice(&entry.sha256, &mut digest).map_err(|_| {
                Error::config(format!(
                    "entry {number}: sha256 must be 64 hex digits; `tenantfs key-hash` prints them"
                ))
            })?;
            if !seen.insert(digest) {
                return Err(Error::config(format!(
                    "entry {number}: this key is listed twice; keep one"
                )));
            }
            let user = UserId::new(entry.user_id.as_str())
                .map_err(|error| error.context(format_args!("entry {number}")))?;
            keys.push((digest, user));
        }
        Ok(Self { keys })
    }

    /// Reads the file at `path`.
    ///
    /// # Errors
    /// [`Kind::Config`] when it is missing, unreadable, malformed, or others own it or may write to it.
    pub fn load(path: &Path) -> Result<Self> {
        load(path).map(|(_, keys)| keys)
    }

    /// Checks `key`.
    ///
    /// # Errors
    /// [`Kind::AuthenticationRefused`].
    pub fn authenticate(&self, key: &ApiKey) -> Result<Principal> {
        // What is compared are hashes of the secret: how far they agree tells nothing of the key.
        let digest = key.digest();
        let known = self.keys.iter().find(|(known, _)| *known == digest);
        known
            .map(|(_, user)| Principal::authenticated(user.clone()))
            .ok_or_else(|| {
                Error::new(
                    Kind::AuthenticationRefused,
                    "the API key is not one of the static keys; check the key, or add its `tenantfs key-hash`",
                )
            })
    }
}

/// A file of static keys that is read again when it changes: a key that is taken out of it is refused from then on.
pub struct StaticKeysFile {
    path: PathBuf,
    loaded: Mutex<Loaded>,
}

/// What was read, and of which version of the file.
struct Loaded {
    version: Version,
    keys: StaticKeys,
}

impl StaticKeysFile {
    /// Reads the file at `path`.
    ///
    /// # Errors
    /// As [`StaticKeys::load`].
    pub fn open(path: &Path) -> Result<Self> {
        let (version, keys) = load(path)?;
        Ok(Self {
            path: path.to_owned(),
            loaded: Mutex::new(Loaded { version, keys }),
        })
    }

    /// Checks `key` against what the file says now.
    ///
    /// # Errors
    /// [`Kind::AuthenticationRefused`]; [`Kind::AuthenticationUnreachable`] when the file has changed and what it says now
    /// cannot be known: what it said before is no proof any more.
    pub fn authenticate(&self, key: &ApiKey) -> Result<Principal> {
        let mut loaded = self.loaded.lock();
        self.look_again(&mut loaded)
            .map_err(|error| error.as_kind(Kind::AuthenticationUnreachable))?;
        loaded.keys.authenticate(key)
    }

    /// Reads the file again if it has changed.
    fn look_again(&self, loaded: &mut Loaded) -> Result<()> {
        let metadata = std::fs::metadata(&self.path).map_err(|error| unreadable(&self.path, WHAT, &error))?;
        if Version::of(&metadata) != loaded.version {
            let (version, keys) = load(&self.path)?;
            *loaded = Loaded { version, keys };
            log::info!("the static keys file {} was read again", self.path.display());
        }
        Ok(())
    }
}

impl Authenticator for StaticKeysFile {
    fn validate<'a>(&'a self, key: &'a ApiKey) -> Validating<'a> {
        let validation = self.authenticate(key).map(|principal| Validation {
            principal,
            expires_in: None,
        });
        Box::pin(std::future::ready(validation))
    }
}

fn load(path: &Path) -> Result<(Version, StaticKeys)> {
    let (file, metadata) = keyfile::open(path, WHAT)?;
    keyfile::trusted(path, WHAT, &metadata)?;
    let bytes = keyfile::read(file, path, WHAT, MAX_FILE)?;
    let text = std::str::from_utf8(&bytes)
        .map_err(|error| Error::config(format!("not a static keys file: {error}")));
    let keys = text
        .and_then(StaticKeys::parse)
        .map_err(|error| error.context(format_args!("the static keys file {}", path.display())))?;
    // A pipe has changed by what was written into it, and cannot be read again.
    let metadata = match metadata.is_file() {
        true => metadata,
        false => std::fs::metadata(path).map_err(|error| unreadable(path, WHAT, &error))?,
    };
    Ok((Version::of(&metadata), keys))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(sha256: &str, user: &str) -> String {
        format!(r#"{{"sha256":"{sha256}","user_id":"{user}"}}"#)
    }

    fn file(entries: &[String]) -> String {
        format!(r#"{{"keys":[{}]}}"#, entries.join(","))
    }

    #[test]
    fn a_listed_key_proves_its_user_and_no_other_key_proves_anything() {
        let hash = super::super::key_hash(&ApiKey::new("sesame").unwrap());
        for spelling in [hash.clone(), hash.to_uppercase()] {
            let keys = StaticKeys::parse(&file(&[entry(&spelling, "alice")])).unwrap();
            let alice = keys.authenticate(&ApiKey::new("sesame").unwrap()).unwrap();
            assert_eq!(alice.user().as_str(), "alice");
            let refused = keys.authenticate(&ApiKey::new("sesam").unwrap()).unwrap_err();
            assert_eq!(refused.kind(), Kind::AuthenticationRefused);
        }
    }

    #[test]
    fn a_changed_file_counts_at_once_and_one_that_cannot_be_read_proves_nothing() {
        let directory = tempfile::TempDir::new().unwrap();
        let path = directory.path().join("keys.json");
        let (sesame, other) = (ApiKey::new("sesame").unwrap(), ApiKey::new("other").unwrap());
        let entries = [&sesame, &other].map(|key| entry(&super::super::key_hash(key), "alice"));
        let write = |entries: &[String]| {
            std::fs::write(directory.path().join("new"), file(entries)).unwrap();
            std::fs::rename(directory.path().join("new"), &path).unwrap();
        };
        write(&entries);
        let keys = StaticKeysFile::open(&path).unwrap();
        assert!(keys.authenticate(&sesame).is_ok());
        write(&entries[1..]);
        let refused = keys.authenticate(&sesame).unwrap_err();
        assert_eq!(refused.kind(), Kind::AuthenticationRefused);
        assert!(keys.authenticate(&other).is_ok());
        for broken in ["", "{\"keys\":"] {
            std::fs::write(&path, broken).unwrap();
            let unknown = keys.authenticate(&other).unwrap_err();
            assert_eq!(unknown.kind(), Kind::AuthenticationUnreachable, "{unknown}");
        }
        std::fs::remove_file(&path).unwrap();
        let unknown = keys.authenticate(&other).unwrap_err();
        assert_eq!(unknown.kind(), Kind::AuthenticationUnreachable, "{unknown}");
        write(&entries);
        assert!(keys.authenticate(&other).is_ok());
    }

    #[test]
    fn a_malformed_file_is_named_with_its_entry() {
        let hash = "a".repeat(64);
        let good = entry(&hash, "alice");
        for (bad, said) in [
            (String::new(), "static keys file"),
            ("[]".to_owned(), "static keys file"),
            (r#"{"keys":[],"more":1}"#.to_owned(), "more"),
            (file(&[good.clone(), entry("abc", "bob")]), "entry 2"),
            (file(&[entry(&hash, "")]), "entry 1"),
            (file(&[good.clone(), good]), "twice"),
        ] {
            let error = StaticKeys::parse(&bad).err().unwrap();
            assert_eq!(error.kind(), Kind::Config);
            assert!(error.to_string().contains(said), "{error}");
        }
    }
}
