//! How far the log has come: signed lines in it, and a small file beside it that is rewritten with every
//! batch. Whoever cuts the log cannot sign a shorter one.

use std::borrow::Cow;
use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use zeroize::Zeroizing;

use super::line::{Digest256, unhex};
use crate::error::{Error, Result};

/// The `op` of a signed line.
pub(super) const HEAD: &str = "head";

/// How many lines there are between signed ones, where there is a key.
pub(super) const HEAD_EVERY: u64 = 1000;

/// The size of the file beside the log, in bytes: always the same, so that it is rewritten in one step.
pub(super) const HEAD_FILE_LEN: usize = 512;

/// What is signed: the number of a signed line and the hash of the one before it, or where the log ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Signed {
    Line,
    End,
}

/// The key that signs heads.
#[derive(Clone)]
pub struct HeadKey {
    kid: String,
    key: Zeroizing<[u8; 32]>,
}

impl HeadKey {
    /// What a master key is expanded with (HKDF-SHA256) to be a key that signs heads.
    pub const INFO: &[u8] = b"tenantfs audit head v1\0";

    /// The longest name of a key, in bytes: it has a place in a file of fixed size.
    const MAX_KID: usize = 64;

    /// The key that was derived with [`INFO`](Self::INFO) from the master key called `kid`.
    ///
    /// # Errors
    /// [`Kind::Config`](crate::error::Kind::Config) for a name that is not one to 64 characters of ASCII
    /// without spaces.
    pub fn new(kid: &str, key: Zeroizing<[u8; 32]>) -> Result<Self> {
        if kid.is_empty() || kid.len() > Self::MAX_KID || !kid.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(Error::config(format!(
                "{kid:?} cannot name a key: use 1 to 64 ASCII characters without spaces"
            )));
        }
        Ok(Self {
            kid: kid.to_owned(),
            key,
        })
    }

    /// The name of the master key.
    pub(super) fn kid(&self) -> &str {
        &self.kid
    }

    fn mac(&self, what: Signed, seq: u64, hash: &Digest256) -> Option<Hmac<Sha256>> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&*self.key).ok()?;
        mac.update(match what {
            Signed::Line => b"line\0",
            Signed::End => b"end\0\0",
        });
        mac.update(&seq.to_be_bytes());
        mac.update(hash);
        Some(mac)
    }

    /// The signature, in hex.
    pub(super) fn sign(&self, what: Signed, seq: u64, hash: &Digest256) -> String {
        let mac = self.mac(what, seq, hash);
        mac.map_or_else(String::new, |mac| hex::encode(mac.finalize().into_bytes()))
    }

    /// Whether that is the signature.
    pub(super) fn verify(&self, what: Signed, seq: u64, hash: &Digest256, signature: &str) -> bool {
        let given = unhex(signature);
        let mac = self.mac(what, seq, hash);
        given
            .zip(mac)
            .is_some_and(|(given, mac)| mac.verify_slice(&given).is_ok())
    }

    /// What a signed line has as its reason.
    pub(super) fn reason(&self, seq: u64, prev: &Digest256) -> String {
        format!("{}:{}", self.kid, self.sign(Signed::Line, seq, prev))
    }
}

/// Says whose it is, and nothing of it.
impl fmt::Debug for HeadKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HeadKey")
            .field("kid", &self.kid)
            .finish_non_exhaustive()
    }
}

/// Where the log ends, as the file beside it says.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Head<'a> {
    /// The last line's number.
    pub(super) seq: u64,
    /// The last line's hash.
    #[serde(borrow)]
    sha256: Cow<'a, str>,
    /// The log's inode, and its size after that line.
    pub(super) ino: u64,
    pub(super) size: u64,
    #[serde(borrow)]
    pub(super) kid: Cow<'a, str>,
    #[serde(borrow)]
    mac: Cow<'a, str>,
}

impl<'a> Head<'a> {
    pub(super) fn new(
        seq: u64,
        digest: &Digest256,
        ino: u64,
        size: u64,
        key: Option<&HeadKey>,
    ) -> Head<'static> {
        Head {
            seq,
            sha256: hex::encode(digest).into(),
            ino,
            size,
            kid: key.map_or_else(String::new, |key| key.kid().to_owned()).into(),
            mac: key
                .map_or_else(String::new, |key| key.sign(Signed::End, seq, digest))
                .into(),
        }
    }

    /// What the file says; none when it says nothing that makes sense.
    pub(super) fn parse(bytes: &'a [u8]) -> Option<Self> {
        // Serde would also take an array that has the members' values in their order.
        let is_object = bytes.starts_with(b"{");
        let head: Self = is_object.then(|| serde_json::from_slice(bytes).ok())??;
        unhex(&head.sha256).map(|_| head)
    }

    /// The last line's hash.
    pub(super) fn digest(&self) -> Digest256 {
        unhex(&self.sha256).unwrap_or_default()
    }

    /// Whether one of these keys has signed it.
    pub(super) fn is_signed(&self, keys: &[HeadKey]) -> bool {
        let key = keys.iter().find(|key| key.kid() == self.kid);
        key.is_some_and(|key| key.verify(Signed::End, self.seq, &self.digest(), &self.mac))
    }

    /// The file's content: one line, filled up with spaces.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = serde_json::to_vec(self).unwrap_or_default();
        bytes.resize(HEAD_FILE_LEN - 1, b' ');
        bytes.push(b'\n');
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_good_for_what_was_signed_only() {
        let key = HeadKey::new("k1", Zeroizing::new([7; 32])).unwrap();
        let signature = key.sign(Signed::Line, 5, &[1; 32]);
        assert!(key.verify(Signed::Line, 5, &[1; 32], &signature));
        assert!(!key.verify(Signed::End, 5, &[1; 32], &signature));
        assert!(!key.verify(Signed::Line, 6, &[1; 32], &signature));
        assert!(!key.verify(Signed::Line, 5, &[2; 32], &signature));
        assert!(!key.verify(Signed::Line, 5, &[1; 32], ""));
        let other = HeadKey::new("k1", Zeroizing::new([8; 32])).unwrap();
        assert!(!other.verify(Signed::Line, 5, &[1; 32], &signature));
        assert!(!format!("{key:?}").contains('7'), "{key:?}");
    }

    #[test]
    fn the_file_always_has_the_same_size_and_comes_out_as_it_went_in() {
        let key = HeadKey::new(&"k".repeat(64), Zeroizing::new([7; 32])).unwrap();
        for head in [
            Head::new(0, &[0; 32], 0, 0, None),
            Head::new(u64::MAX, &[255; 32], u64::MAX, u64::MAX, Some(&key)),
        ] {
            let bytes = head.to_bytes();
            assert_eq!(bytes.len(), HEAD_FILE_LEN);
            let read = Head::parse(&bytes).unwrap();
            assert_eq!(read, head);
            assert_eq!(read.is_signed(std::slice::from_ref(&key)), head.kid == key.kid());
        }
        assert!(HeadKey::new("", Zeroizing::new([0; 32])).is_err());
        assert!(HeadKey::new("two words", Zeroizing::new([0; 32])).is_err());
    }
}
