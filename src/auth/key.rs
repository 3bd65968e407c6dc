//! API keys in memory.

use std::fmt;
use std::io::Read;

use sha2::{Digest, Sha256};
use zeroize::{Zeroize, Zeroizing};

use crate::error::{Doing, Error, Kind, Result};

/// A user's API key: 1 to 4096 visible ASCII characters. Overwritten when it is dropped, and never shown.
pub struct ApiKey(Zeroizing<String>);

impl ApiKey {
    /// The longest key, in bytes.
    pub const MAX_LEN: usize = 4096;

    /// Checks and wraps a key; the end of line that a file or `echo` puts behind it is no part of it.
    ///
    /// # Errors
    /// [`Kind::Config`] when it cannot be a key.
    pub fn new(text: &str) -> Result<Self> {
        let key = text.strip_suffix('\n').unwrap_or(text);
        let key = key.strip_suffix('\r').unwrap_or(key);
        let wrong = if key.is_empty() {
            "is empty"
        } else if key.len() > Self::MAX_LEN {
            "is longer than 4096 characters"
        } else if !key.bytes().all(|byte| byte.is_ascii_graphic()) {
            "has characters that a key cannot have: one line without spaces is expected"
        } else {
            return Ok(Self(Zeroizing::new(key.to_owned())));
        };
        Err(Error::config(format!("the API key {wrong}")))
    }

    /// Reads a key to the end of `source`; `what` names it in errors.
    ///
    /// # Errors
    /// [`Kind::Config`] when it cannot be read, or is no key.
    pub fn read_from(source: impl Read, what: &str) -> Result<Self> {
        // Room for the longest key and its end of line: no copy is left behind by growing.
        let mut bytes = Zeroizing::new(Vec::with_capacity(Self::MAX_LEN + 3));
        source
            .take(Self::MAX_LEN as u64 + 3)
            .read_to_end(&mut bytes)
            .doing(format!("reading the API key from {what}"))
            .map_err(|error| error.as_kind(Kind::Config))?;
        let text = std::str::from_utf8(&bytes)
            .map_err(|_| Error::config("the API key has characters that a key cannot have"));
        text.and_then(Self::new)
            .map_err(|error| error.context(format_args!("the API key from {what}")))
    }

    /// The key itself, for the one who is to check it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// SHA-256 of the key.
    pub(super) fn digest(&self) -> [u8; 32] {
        // In place: a hasher that is moved leaves a copy of what it has taken in.
        let mut hasher = Sha256::new();
        hasher.update(self.0.as_bytes());
        let digest = hasher.finalize_reset().into();
        overwrite_stack();
        digest
    }
}

/// Overwrites what the calls before this one left on the stack: sha2 pads the last block, which is all of most keys, in a
/// copy that it does not clear.
#[inline(never)]
fn overwrite_stack() {
    [0_u8; 4096].zeroize();
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKey(…)")
    }
}

/// What a static keys file holds of a key: SHA-256 in lowercase hex.
pub fn key_hash(key: &ApiKey) -> String {
    hex::encode(key.digest())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_one_visible_line() {
        for good in ["sesame", "sesame\n", "sesame\r\n"] {
            assert_eq!(
                key_hash(&ApiKey::new(good).unwrap()),
                "d0c04f4b1951e4aeaaec8223ed2039e542f3aae805a6fa7f6d794e5afff5d272"
            );
        }
        for bad in ["", "\n", "a b", "a\nb", "schlüssel", &"x".repeat(4097)] {
            assert_eq!(ApiKey::new(bad).unwrap_err().kind(), Kind::Config, "{bad:?}");
        }
        let long = "x".repeat(5000);
        assert!(ApiKey::read_from(long.as_bytes(), "a test").is_err());
        assert!(ApiKey::read_from(&b"\xff"[..], "a test").is_err());
    }

    #[test]
    fn a_key_is_not_shown() {
        let key = ApiKey::new("sesame").unwrap();
        assert!(!format!("{key:?}").contains("sesame"));
        let error = ApiKey::new("open sesame").unwrap_err();
        assert!(!error.to_string().contains("sesame"));
    }
}
