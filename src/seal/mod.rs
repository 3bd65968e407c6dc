//! Sealed values: secrets as the volume has them.
//!
//! `tfs1.{kid}.{base64url-nopad(nonce[12] ‖ ciphertext ‖ tag[16])}`: AES-256-GCM-SIV under a key that is one user's alone, for
//! one member alone. Moved to another user or member, a value does not open.
//!
//! ```
//! use tenantfs::identity::UserId;
//! use tenantfs::seal::SealingKeys;
//!
//! # fn main() -> tenantfs::error::Result<()> {
//! let keys = SealingKeys::parse(br#"{"active":"k1","keys":{"k1":"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="}}"#)?;
//! let alice = keys.sealer(&UserId::new("alice")?);
//! let sealed = alice.seal("api_key", b"sk-123")?;
//! assert!(sealed.starts_with("tfs1.k1."));
//! assert_eq!(*alice.open("api_key", &sealed).unwrap(), b"sk-123");
//! assert!(alice.open("token", &sealed).is_err());
//! assert!(keys.sealer(&UserId::new("bob")?).open("api_key", &sealed).is_err());
//! # Ok(())
//! # }
//! ```

mod keys;

use std::collections::BTreeMap;
use std::fmt;

use aes_gcm_siv::aead::{AeadInOut, KeyInit};
use aes_gcm_siv::{Aes256GcmSiv, Nonce};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hkdf::Hkdf;
use sha2::Sha256;
use zeroize::Zeroizing;

pub use keys::{NewKeys, SealingKeys};

use crate::error::{Doing, Error, Kind, Result};
use crate::identity::UserId;

/// How every sealed value begins: the version of the format.
const PREFIX: &str = "tfs1.";

/// What a user's key is derived for.
const INFO: &[u8] = b"tenantfs seal v1\0";

/// What drafts are sealed for, and behind it the record's name. No member is called so: names are UTF-8.
const DRAFT: &[u8] = b"\xffdraft\0";

/// The longest id of a key, in characters.
const MAX_KID: usize = 64;

const NONCE: usize = 12;
const TAG: usize = 16;

/// A key that is used for one purpose.
pub(crate) type Key = Zeroizing<[u8; 32]>;

/// Seals and opens the secrets of one user.
pub struct Sealer {
    active: String,
    /// Of this user alone, by the id of the master key each was derived from.
    keys: BTreeMap<String, Key>,
}

/// Why a value does not open.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Closed {
    /// It is not a sealed value.
    NotSealed,
    /// The sealing keys do not have the key of this id.
    UnknownKey(String),
    /// There are no sealing keys at all.
    NoKeys,
    /// It was changed, or sealed for another user or member, or under another key that had the same id.
    Damaged,
}

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotSealed => f.write_str("it is not a sealed value"),
            Self::UnknownKey(kid) => write!(
                f,
                "it is sealed under the key {kid:?}, which the sealing keys file does not have: put it back there"
            ),
            Self::NoKeys => {
                f.write_str("it is sealed, and no sealing keys are given: use --sealing-keys FILE")
            }
            Self::Damaged => f.write_str("it was damaged, or sealed for another user or member"),
        }
    }
}

impl Sealer {
    fn new(active: String, keys: BTreeMap<String, Key>) -> Self {
        Self { active, keys }
    }

    /// Seals `plain` under the active key, for the member called `member`.
    ///
    /// # Errors
    /// [`Kind::Io`] when the kernel has no random bytes.
    pub fn seal(&self, member: &str, plain: &[u8]) -> Result<String> {
        self.seal_for(member.as_bytes(), plain)
    }

    /// Seals the text of a draft of the record called `name`.
    ///
    /// # Errors
    /// As [`seal`](Self::seal).
    pub fn seal_draft(&self, name: &str, text: &[u8]) -> Result<String> {
        self.seal_for(&draft(name), text)
    }

    fn seal_for(&self, place: &[u8], plain: &[u8]) -> Result<String> {
        let broken = || Error::new(Kind::Io, "a secret could not be sealed");
        let mut nonce = [0; NONCE];
        rustix::rand::getrandom(&mut nonce, rustix::rand::GetRandomFlags::empty())
            .doing("getting random bytes")?;
        // With room for all of it from the start, no plain text is left behind by growing.
        let mut sealed = Zeroizing::new(Vec::with_capacity(NONCE + plain.len() + TAG));
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(plain);
        let cipher = self.cipher(&self.active).ok_or_else(broken)?;
        let text = sealed.get_mut(NONCE..).ok_or_else(broken)?;
        let tag = cipher
            .encrypt_inout_detached(&Nonce::from(nonce), place, text.into())
            .map_err(|_| broken())?;
        sealed.extend_from_slice(&tag);
        Ok(format!(
            "{PREFIX}{}.{}",
            self.active,
            URL_SAFE_NO_PAD.encode(&*sealed)
        ))
    }

    /// Opens a value that was sealed for this user and the member called `member`.
    ///
    /// # Errors
    /// Why it does not open.
    pub fn open(&self, member: &str, sealed: &str) -> std::result::Result<Zeroizing<Vec<u8>>, Closed> {
        self.open_for(member.as_bytes(), sealed)
    }

    /// Opens the text of a draft that was sealed for this user and the record called `name`.
    ///
    /// # Errors
    /// Why it does not open.
    pub fn open_draft(&self, name: &str, sealed: &str) -> std::result::Result<Zeroizing<Vec<u8>>, Closed> {
        self.open_for(&draft(name), sealed)
    }

    fn open_for(&self, place: &[u8], sealed: &str) -> std::result::Result<Zeroizing<Vec<u8>>, Closed> {
        let (kid, text) = parts(sealed).ok_or(Closed::NotSealed)?;
        let cipher = self
            .cipher(kid)
            .ok_or_else(|| Closed::UnknownKey(kid.to_owned()))?;
        let mut bytes = Zeroizing::new(URL_SAFE_NO_PAD.decode(text).map_err(|_| Closed::Damaged)?);
        let (nonce, rest) = bytes.split_first_chunk_mut::<NONCE>().ok_or(Closed::Damaged)?;
        let (text, tag) = rest.split_last_chunk_mut::<TAG>().ok_or(Closed::Damaged)?;
        let opened =
            cipher.decrypt_inout_detached(&Nonce::from(*nonce), place, (&mut *text).into(), (&*tag).into());
        opened.map_err(|_| Closed::Damaged)?;
        Ok(Zeroizing::new(text.to_vec()))
    }

    /// Whether the value says that it is sealed under the active key.
    pub fn is_active(&self, sealed: &str) -> bool {
        parts(sealed).is_some_and(|(kid, _)| kid == self.active)
    }

    fn cipher(&self, kid: &str) -> Option<Aes256GcmSiv> {
        self.keys.get(kid).map(|key| Aes256GcmSiv::new((&**key).into()))
    }
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealer").finish_non_exhaustive()
    }
}

fn draft(name: &str) -> Vec<u8> {
    [DRAFT, name.as_bytes()].concat()
}

/// Whether a text looks like a sealed value.
pub fn looks_sealed(text: &str) -> bool {
    parts(text).is_some()
}

/// The key's id and the text form of the rest.
fn parts(sealed: &str) -> Option<(&str, &str)> {
    let (kid, text) = sealed.strip_prefix(PREFIX)?.split_once('.')?;
    is_kid(kid).then_some((kid, text))
}

/// Whether a text can be the id of a key: it stands between dots.
fn is_kid(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    (1..=MAX_KID).contains(&text.len()) && text.bytes().all(allowed)
}

/// HKDF-SHA256 without a salt.
fn derive(master: &Key, info: &[&[u8]]) -> Key {
    let mut key = Key::default();
    // No more than 255 hashes can be derived at a time; this is one.
    let derived = Hkdf::<Sha256>::new(None, &**master).expand_multi_info(info, &mut *key);
    debug_assert!(derived.is_ok());
    key
}

fn key_of(master: &Key, user: &UserId) -> Key {
    derive(master, &[INFO, user.as_str().as_bytes()])
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    const FILE: &str = r#"{"active":"k1","keys":{
        "k1":"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=","k0":"ICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj8="}}"#;

    fn sealer(user: &str) -> Sealer {
        let keys = SealingKeys::parse(FILE.as_bytes()).unwrap();
        keys.sealer(&UserId::new(user).unwrap())
    }

    /// Made by Python: `AESGCMSIV(HKDF(SHA256(), 32, None, b"tenantfs seal v1\0alice").derive(bytes(range(32))))`, with
    /// the nonce `bytes(range(12))`.
    #[test]
    fn the_format_is_the_documented_one() {
        let sealed = "tfs1.k1.AAECAwQFBgcICQoLDi106hlxy5kqrX7d2lYpKFJxt7bRHw";
        assert_eq!(*sealer("alice").open("api_key", sealed).unwrap(), b"sk-123");
    }

    #[test]
    fn no_nonce_comes_twice() {
        let sealer = sealer("alice");
        let values: HashSet<String> = (0..10_000)
            .map(|_| {
                let sealed = sealer.seal("api_key", b"x").unwrap();
                sealed["tfs1.k1.".len()..][..16].to_owned()
            })
            .collect();
        assert_eq!(values.len(), 10_000);
    }

    #[test]
    fn what_cannot_be_opened_says_why() {
        let alice = sealer("alice");
        for text in ["", "tfs1.", "tfs1.k1", "tfs1..AA", "tfs2.k1.AA", "sk"] {
            assert_eq!(alice.open("api_key", text), Err(Closed::NotSealed), "{text}");
        }
        for text in ["tfs1.k1.", "tfs1.k1.AAAA", "tfs1.k1.!"] {
            assert_eq!(alice.open("api_key", text), Err(Closed::Damaged), "{text}");
        }
        let sealed = alice.seal("api_key", b"sk").unwrap();
        let renamed = sealed.replace(".k1.", ".k9.");
        let unknown = alice.open("api_key", &renamed).unwrap_err();
        assert_eq!(unknown, Closed::UnknownKey("k9".to_owned()));
        assert!(unknown.to_string().contains("\"k9\""));
        let other_key = sealed.replace(".k1.", ".k0.");
        assert_eq!(alice.open("api_key", &other_key), Err(Closed::Damaged));
    }

    #[test]
    fn a_draft_opens_for_its_record_only_and_is_no_member() {
        let alice = sealer("alice");
        let sealed = alice.seal_draft("x.json", b"{").unwrap();
        assert_eq!(*alice.open_draft("x.json", &sealed).unwrap(), b"{");
        assert_eq!(alice.open_draft("y.json", &sealed), Err(Closed::Damaged));
        assert_eq!(sealer("bob").open_draft("x.json", &sealed), Err(Closed::Damaged));
        for member in ["x.json", "draft\0x.json", "\u{ff}draft\0x.json"] {
            assert_eq!(alice.open(member, &sealed), Err(Closed::Damaged), "{member}");
        }
    }

    #[test]
    fn older_keys_still_open() {
        let old =
            SealingKeys::parse(FILE.replace(r#""active":"k1""#, r#""active":"k0""#).as_bytes()).unwrap();
        let sealed = old
            .sealer(&UserId::new("alice").unwrap())
            .seal("api_key", b"sk")
            .unwrap();
        let new = sealer("alice");
        assert_eq!(*new.open("api_key", &sealed).unwrap(), b"sk");
        assert!(!new.is_active(&sealed) && new.is_active(&new.seal("api_key", b"sk").unwrap()));
    }

    proptest! {
        #[test]
        fn a_value_opens_for_its_user_and_member_only(plain: Vec<u8>, user in "[a-z]{1,8}", member in "[a-z]{1,8}", other in "[a-z]{9}") {
            let own = sealer(&user);
            let sealed = own.seal(&member, &plain).unwrap();
            prop_assert!(sealed.bytes().all(|b| b.is_ascii_alphanumeric() || b".-_".contains(&b)));
            prop_assert_eq!(&*own.open(&member, &sealed).unwrap(), &plain);
            prop_assert_eq!(own.open(&other, &sealed), Err(Closed::Damaged));
            prop_assert_eq!(sealer(&other).open(&member, &sealed), Err(Closed::Damaged));
        }

        #[test]
        fn a_changed_value_does_not_open(plain in "[a-z]{0,40}", at: proptest::sample::Index, to in "[A-Za-z0-9_.-]") {
            let own = sealer("alice");
            let sealed = own.seal("api_key", plain.as_bytes()).unwrap();
            let at = at.index(sealed.len());
            let mut changed = sealed.clone();
            changed.replace_range(at..at + 1, &to);
            prop_assert_eq!(own.open("api_key", &changed).is_ok(), changed == sealed);
            prop_assert!(own.open("api_key", &sealed[..at]).is_err());
        }
    }
}
