//! Who: user ids as the auth service gives them, their hashes on the volume, and the proof of authentication.
//!
//! ```
//! use tenantfs::identity::UserId;
//!
//! # fn main() -> tenantfs::error::Result<()> {
//! // printf alice | sha256sum | cut -c -16
//! assert_eq!(UserId::new("alice")?.hash().as_str(), "2bd806c97f0e00af");
//! # Ok(())
//! # }
//! ```

use std::fmt;

use sha2::{Digest, Sha256};

use crate::error::{Error, Result};

/// A user id: opaque UTF-8 of 1 to 512 bytes without control characters, compared byte for byte and never
/// normalised.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct UserId(String);

impl UserId {
    /// The longest user id, in bytes.
    pub const MAX_LEN: usize = 512;

    /// Checks and wraps a user id.
    ///
    /// # Errors
    /// [`Kind::Config`](crate::error::Kind::Config) when it is empty, too long, or has control characters.
    pub fn new(id: impl Into<String>) -> Result<Self> {
        let id = id.into();
        let wrong = if id.is_empty() {
            "is empty"
        } else if id.len() > Self::MAX_LEN {
            "is longer than 512 bytes"
        } else if id.chars().any(char::is_control) {
            "has control characters"
        } else {
            return Ok(Self(id));
        };
        Err(Error::config(format!("the user id {wrong}")))
    }

    /// The id, as the auth service spelled it.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name of this user's directories on the volume.
    pub fn hash(&self) -> UserHash {
        UserHash(self.full_hash()[..16].to_owned())
    }

    /// All 64 hex digits of SHA-256: what the owner marker holds, to tell colliding ids apart.
    pub fn full_hash(&self) -> String {
        hex::encode(Sha256::digest(self.0.as_bytes()))
    }
}

/// The first 16 lowercase hex digits of SHA-256(user id): the name of a tenant's directory.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct UserHash(String);

impl UserHash {
    /// The hash that a directory of the volume is called by.
    pub(crate) fn of_directory(name: &str) -> Self {
        Self(name.to_owned())
    }

    /// Whether a directory of this name is called by the hash of a user: 16 digits, lower case.
    pub(crate) fn is_spelled(name: &str) -> bool {
        name.len() == 16 && name.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    }

    /// The 16 digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for UserHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Proof that a user id was authenticated; the only way to obtain a [`Store`](crate::store::Store).
///
/// Born in [`auth`](crate::auth), and in [`admin`](crate::admin) for an operator's work on a volume, which hands out neither it nor
/// a store. Whoever has a user id has no proof:
///
/// ```compile_fail,E0624
/// # use tenantfs::identity::{Principal, UserId};
/// let alice = Principal::authenticated(UserId::new("alice").unwrap());
/// ```
///
/// ```compile_fail,E0451
/// # use tenantfs::identity::{Principal, UserId};
/// let alice = Principal { user: UserId::new("alice").unwrap() };
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Principal {
    user: UserId,
}

impl Principal {
    /// For authenticators, when they have seen proof; and for operators, who need none, as long as it stays with them.
    pub(crate) fn authenticated(user: UserId) -> Self {
        Self { user }
    }

    /// Whose proof this is.
    pub fn user(&self) -> &UserId {
        &self.user
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    #[test]
    fn hash_is_the_first_sixteen_digits() {
        let user = UserId::new("alice").unwrap();
        assert_eq!(user.hash().as_str(), "2bd806c97f0e00af");
        assert!(user.full_hash().starts_with("2bd806c97f0e00af"));
        assert_eq!(user.full_hash().len(), 64);
    }

    /// A pair that was searched for: nobody meets one by chance.
    #[test]
    fn a_real_collision_shares_the_hash_and_not_the_full_hash() {
        let a = UserId::new("u28e7627cc5ab20b0").unwrap();
        let b = UserId::new("u8c0ca16042c103c3").unwrap();
        assert_eq!(a.hash().as_str(), "48bb1880c55791f1");
        assert_eq!(a.hash(), b.hash());
        assert_ne!(a.full_hash(), b.full_hash());
    }

    #[test]
    fn user_ids_are_opaque_but_bounded() {
        for good in ["a", "Ä ö/..", &"x".repeat(512)] {
            assert_eq!(UserId::new(good).unwrap().as_str(), good);
        }
        for bad in ["", "a\nb", "a\u{7f}", "a\u{85}", &"x".repeat(513)] {
            assert_eq!(UserId::new(bad).unwrap_err().kind(), Kind::Config);
        }
    }
}
