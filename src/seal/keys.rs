//! The sealing keys file: `{"active":"kid","keys":{"kid":"<base64 of 32 bytes>"}}`.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};
use zeroize::Zeroizing;

use super::{Key, MAX_KID, Sealer, derive, is_kid, key_of};
use crate::clock;
use crate::error::{Doing, Error, Result};
use crate::escape::quoted;
use crate::identity::UserId;
use crate::keyfile::{self, What};

/// The largest file, in bytes: thousands of keys.
const MAX_FILE: u64 = 1 << 20;

const WHAT: What = What {
    name: "sealing keys file",
    option: "--sealing-keys",
};

/// The master keys, one of which is active: that seals. All of them open.
pub struct SealingKeys {
    active: String,
    keys: BTreeMap<String, Key>,
}

/// The text of a sealing keys file that has a new key.
pub struct NewKeys {
    /// What the file is to have.
    pub text: Zeroizing<String>,
    /// The id of the new key, which is active.
    pub kid: String,
}

impl SealingKeys {
    /// Reads the file at `path`.
    ///
    /// # Errors
    /// [`Kind::Config`](crate::error::Kind::Config) when it is missing, unreadable, malformed, larger than 1 MiB, not root's
    /// or this process's own, or anybody else may read or write it.
    pub fn load(path: &Path) -> Result<Self> {
        let shown = path.display();
        let (file, metadata) = keyfile::open(path, WHAT)?;
        keyfile::trusted(path, WHAT, &metadata)?;
        if metadata.mode() & 0o077 != 0 {
            return Err(Error::config(format!(
                "the sealing keys file {shown} may be read by others; run: chmod 600 {}",
                quoted(path)
            )));
        }
        Self::read(file, path)
    }

    /// Reads a credential of systemd's. Who may read that, systemd sees to, in an access control list that looks like a
    /// group's permission.
    ///
    /// # Errors
    /// [`Kind::Config`](crate::error::Kind::Config) when it is unreadable, malformed, or larger than 1 MiB.
    pub fn load_credential(path: &Path) -> Result<Self> {
        let (file, _) = keyfile::open(path, WHAT)?;
        Self::read(file, path)
    }

    fn read(file: File, path: &Path) -> Result<Self> {
        let bytes = keyfile::read(file, path, WHAT, MAX_FILE)?;
        let parsed = Self::parse(&bytes);
        parsed.map_err(|error| error.context(format_args!("the sealing keys file {}", path.display())))
    }

    /// Reads the text of such a file.
    ///
    /// # Errors
    /// [`Kind::Config`](crate::error::Kind::Config) that says what is wrong, and never quotes.
    pub fn parse(text: &[u8]) -> Result<Self> {
        #[derive(serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Contents {
            active: String,
            keys: Keys,
        }

        let file: Contents = serde_json::from_slice(text).map_err(|error| {
            // serde quotes what it met, and what it met may be a key.
            let known = error
                .is_data()
                .then(|| known_reason(&error.to_string()))
                .flatten();
            let (line, column) = (error.line(), error.column());
            let why = known.unwrap_or(r#"expected {"active":"ID","keys":{"ID":"BASE64"}}"#);
            Error::config(format!("line {line}, column {column}: {why}"))
        })?;
        let Keys(keys) = file.keys;
        if !keys.contains_key(&file.active) {
            let all: Vec<&str> = keys.keys().map(String::as_str).collect();
            let all = all.join(", ");
            return Err(Error::config(format!(
                "the active key {:?} is not among the keys ({all})",
                printable(&file.active)
            )));
        }
        Ok(Self {
            active: file.active,
            keys,
        })
    }

    /// For the secrets of one user.
    pub fn sealer(&self, user: &UserId) -> Sealer {
        let keys = self.keys.iter();
        Sealer::new(
            self.active.clone(),
            keys.map(|(kid, master)| (kid.clone(), key_of(master, user)))
                .collect(),
        )
    }

    /// The active key's id.
    pub fn active(&self) -> &str {
        &self.active
    }

    /// The ids of all keys.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.keys.keys().map(String::as_str)
    }

    /// A key for another purpose than sealing, named by `info`, of the master key called `kid`.
    pub fn derive(&self, kid: &str, info: &[u8]) -> Option<Zeroizing<[u8; 32]>> {
        self.keys.get(kid).map(|master| derive(master, &[info]))
    }

    /// The first key of a volume.
    ///
    /// # Errors
    /// [`Kind::Io`](crate::error::Kind::Io) when the kernel has no random bytes.
    pub fn generate() -> Result<NewKeys> {
        Self {
            active: String::new(),
            keys: BTreeMap::new(),
        }
        .rotate()
    }

    /// One more key, which is active from now on.
    ///
    /// # Errors
    /// [`Kind::Io`](crate::error::Kind::Io) when the kernel has no random bytes.
    pub fn rotate(&self) -> Result<NewKeys> {
        let mut random = Zeroizing::new([0; 36]);
        rustix::rand::getrandom(&mut *random, rustix::rand::GetRandomFlags::empty())
            .doing("getting random bytes")?;
        let (key, rest) = random.split_at(32);
        let now = clock::now().seconds;
        let date = jiff::Timestamp::from_second(now)
            .map_or_else(|_| now.to_string(), |time| time.strftime("%Y%m%d").to_string());
        let kid = format!("k{date}-{}", hex::encode(rest));
        // Each key takes 44 characters, its id at most 64, and the punctuation 6.
        let room = 64 + 2 * MAX_KID + (self.keys.len() + 1) * (44 + MAX_KID + 6);
        let mut text = Zeroizing::new(String::with_capacity(room));
        text.push_str("{\"active\":\"");
        text.push_str(&kid);
        text.push_str("\",\"keys\":{");
        for (id, known) in &self.keys {
            push_entry(&mut text, id, &**known);
            text.push(',');
        }
        push_entry(&mut text, &kid, key);
        text.push_str("}}\n");
        Ok(NewKeys { text, kid })
    }
}

impl fmt::Debug for SealingKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SealingKeys").finish_non_exhaustive()
    }
}

impl fmt::Debug for NewKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewKeys").finish_non_exhaustive()
    }
}

fn push_entry(text: &mut String, kid: &str, key: &[u8]) {
    text.push('"');
    text.push_str(kid);
    text.push_str("\":\"");
    STANDARD.encode_string(key, text);
    text.push('"');
}

/// What was wrong by our own judgement, which quotes nothing.
const REASONS: [&str; 4] = [
    "an id of a key must be 1 to 64 letters, digits, - and _",
    "an id of a key comes twice",
    "a key must be the base64 of 32 bytes; `tenantfs keys generate` makes such a file",
    "a member is missing, unknown or there twice; active and keys are expected",
];

fn known_reason(message: &str) -> Option<&'static str> {
    if let Some(reason) = REASONS.iter().find(|reason| message.starts_with(**reason)) {
        return Some(reason);
    }
    let of_members = ["missing field", "unknown field", "duplicate field"];
    let [.., members] = REASONS;
    of_members
        .iter()
        .any(|begin| message.starts_with(begin))
        .then_some(members)
}

/// So much of a name as cannot be a key.
fn printable(name: &str) -> &str {
    match is_kid(name) {
        true => name,
        false => "…",
    }
}

struct Keys(BTreeMap<String, Key>);

impl<'de> Deserialize<'de> for Keys {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Entries;

        impl<'de> Visitor<'de> for Entries {
            type Value = Keys;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("keys by their ids")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Keys, A::Error> {
                let [bad_id, twice, ..] = REASONS;
                let mut keys = BTreeMap::new();
                while let Some(kid) = map.next_key::<&'de str>()? {
                    if !is_kid(kid) {
                        return Err(A::Error::custom(bad_id));
                    }
                    let Master(key) = map.next_value()?;
                    if keys.insert(kid.to_owned(), key).is_some() {
                        return Err(A::Error::custom(twice));
                    }
                }
                Ok(Keys(keys))
            }
        }

        deserializer.deserialize_map(Entries)
    }
}

struct Master(Key);

impl<'de> Deserialize<'de> for Master {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let [_, _, bad_key, _] = REASONS;
        // Borrowed: where escapes had to be taken out, the parser would keep a copy.
        let text = <&'de str>::deserialize(deserializer).map_err(|_| D::Error::custom(bad_key))?;
        let bytes = STANDARD.decode(text).map(Zeroizing::new);
        let bytes = bytes.map_err(|_| D::Error::custom(bad_key))?;
        let key: [u8; 32] = bytes
            .as_slice()
            .try_into()
            .map_err(|_| D::Error::custom(bad_key))?;
        Ok(Self(Zeroizing::new(key)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    #[test]
    fn a_new_file_reads_and_a_rotated_one_opens_what_it_opened() {
        let first = SealingKeys::generate().unwrap();
        let keys = SealingKeys::parse(first.text.as_bytes()).unwrap();
        let alice = UserId::new("alice").unwrap();
        let sealed = keys.sealer(&alice).seal("api_key", b"sk").unwrap();
        let second = keys.rotate().unwrap();
        assert_ne!(first.kid, second.kid);
        let keys = SealingKeys::parse(second.text.as_bytes()).unwrap();
        assert_eq!(keys.active(), second.kid);
        assert_eq!(*keys.sealer(&alice).open("api_key", &sealed).unwrap(), b"sk");
    }

    #[test]
    fn what_is_wrong_is_named_and_no_key_is_quoted() {
        let key = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
        let good = format!(r#"{{"active":"k1","keys":{{"k1":"{key}"}}}}"#);
        assert!(SealingKeys::parse(good.as_bytes()).is_ok());
        for (bad, said) in [
            (String::new(), "expected {"),
            ("[]".to_owned(), "expected {"),
            (key.to_owned(), "expected {"),
            (format!("\"{key}\""), "expected {"),
            (good.replace("\"k1\":", "\"k.1\":"), "1 to 64 letters"),
            (
                good.replace("\"active\":\"k1\"", "\"active\":\"k2\""),
                "\"k2\" is not among the keys (k1)",
            ),
            (
                good.replace("\"active\":\"k1\"", &format!("\"active\":\"{key}\"")),
                "is not among",
            ),
            (good.replace("\"active\":\"k1\",", ""), "missing"),
            (good.replace("\"active\"", &format!("\"{key}\"")), "unknown"),
            (
                good.replace("}}", &format!(",\"k1\":\"{key}\"}}}}")),
                "comes twice",
            ),
            (good.replace("AAEC", "AAE"), "base64 of 32 bytes"),
            (good.replace("AAEC", "AAECAAEC"), "base64 of 32 bytes"),
            (good.replace("AAEC", "_AEC"), "base64 of 32 bytes"),
            (good.replace("AAEC", "\\u0041AEC"), "base64 of 32 bytes"),
            (good.replace(&format!("\"{key}\""), "7"), "base64 of 32 bytes"),
            (format!("{good} {good}"), "expected {"),
        ] {
            let error = SealingKeys::parse(bad.as_bytes()).unwrap_err();
            assert_eq!(error.kind(), Kind::Config);
            assert!(error.to_string().contains(said), "{bad}: {error}");
            assert!(!error.to_string().contains("BAgcICQ"), "{error}");
        }
        assert!(!format!("{:?}", SealingKeys::parse(good.as_bytes())).contains("AAEC"));
    }
}
