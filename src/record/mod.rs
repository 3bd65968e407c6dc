//! The lens between a record's stored text and what the mount shows of it. No I/O.
//!
//! [`Lens::view`] cuts the hidden members out of a stored text; [`Lens::put`] makes the text to store of what a user
//! wrote. Every byte outside the members they touch survives, so that what a user writes is what they read back.
//!
//! Two kinds of member are hidden: secrets, always; and the owner, when this module appended it. The latter is known by
//! a spelling that no serialiser uses, the *mark*: the last member, straight after the value or brace before it, with
//! spaces before its colon and none after: `{"a":1,"user_id" :"alice"}`. One space means hidden, and more are shown as
//! one fewer: a user who happens to write the mark gets it stored with one space more, and reads back their own bytes.
//!
//! ```
//! use tenantfs::identity::UserId;
//! use tenantfs::record::{Hidden, Lens};
//!
//! # fn main() -> tenantfs::error::Result<()> {
//! let lens = |user| Ok::<_, tenantfs::error::Error>(Lens::new(UserId::new(user)?, vec!["api_key".to_owned()], None));
//! let (alice, bob) = (lens("alice")?, lens("bob")?);
//!
//! // As the service has it, with a secret in an encryption of its own.
//! let stored = br#"{"at": "02:00", "api_key": "gAAAAAB", "user_id": "alice"}"#;
//! assert_eq!(alice.view(stored).unwrap().text, br#"{"at": "02:00", "user_id": "alice"}"#);
//! assert_eq!(bob.view(stored).unwrap_err(), Hidden::Foreign);
//!
//! // What alice writes is hers, and has the secret still.
//! let put = alice.put(Some(stored), br#"{"at": "03:00"}"#)?;
//! assert_eq!(put.stored, br#"{"at": "03:00","api_key":"gAAAAAB","user_id" :"alice"}"#);
//! assert_eq!(alice.view(&put.stored).unwrap().text, br#"{"at": "03:00"}"#);
//! # Ok(())
//! # }
//! ```

mod hidden;
mod json;
mod owner;
mod put;
mod scan;
mod secret;
mod splice;
mod view;

use std::fmt;

pub use hidden::Hidden;
pub use owner::owner;
pub use secret::{Secret, SecretState};

use crate::error::{Error, Kind, Result};
use crate::identity::UserId;
use crate::seal::Sealer;
use json::Constants;
use scan::{Role, Scan};
use zeroize::Zeroizing;

/// The members that are secrets unless the configuration names others.
pub const DEFAULT_SECRET_FIELDS: [&str; 1] = ["api_key"];

/// The member that names a record's owner.
const OWNER_FIELD: &str = "user_id";

/// The two directions between the stored text of one user's records and what that user sees of it.
pub struct Lens {
    owner: UserId,
    /// The owner as a JSON string.
    owner_value: String,
    /// The mark: the owner member in the spelling that `view` hides.
    mark: String,
    secrets: Vec<SecretField>,
    /// None where nothing can be sealed: then no secret can be written.
    sealer: Option<Sealer>,
}

/// One secret member's name.
struct SecretField {
    name: String,
    /// The name as a JSON string, and the colon.
    prefix: String,
}

/// What the mount shows of a stored record.
pub struct View {
    /// The record without its hidden members.
    pub text: Vec<u8>,
    /// Whether the stored text carries a secret that is not null.
    pub has_secret: bool,
}

/// What to store for a text that a user wrote.
pub struct Put {
    /// The record with its owner and its secrets.
    pub stored: Vec<u8>,
    /// Whether the user's text named another owner, who was replaced.
    pub owner_overridden: bool,
}

/// A secret that new records get: sealed once, for all of them.
pub struct Attached {
    /// The secret's index.
    index: usize,
    /// As a JSON string.
    value: String,
}

impl Lens {
    /// The lens for the records of `owner`, with the names of the members that are secrets, and what seals them.
    pub fn new(owner: UserId, secret_fields: Vec<String>, sealer: Option<Sealer>) -> Self {
        let owner_value = json_string(owner.as_str());
        let mark = format!("{} :{owner_value}", json_string(OWNER_FIELD));
        let secrets = secret_fields
            .into_iter()
            .map(|name| SecretField {
                prefix: format!("{}:", json_string(&name)),
                name,
            })
            .collect();
        Self {
            owner,
            owner_value,
            mark,
            secrets,
            sealer,
        }
    }

    /// What the owner sees of a stored record. That may have values which some readers refuse, and [`put`](Self::put) too: NaN
    /// and Infinity.
    ///
    /// # Errors
    /// The reason for which nobody sees it in this session.
    pub fn view(&self, stored: &[u8]) -> std::result::Result<View, Hidden> {
        self.accept(stored).map(|scan| self.view_of(&scan))
    }

    /// The text to store when the record's owner wrote `written`, and `base` is what is stored now. A `base` that the
    /// owner may not see counts as none.
    ///
    /// The stored text names this lens' owner, exactly once. Secrets that `written` does not mention are carried over
    /// from `base`, as they are; those that it sets to null are dropped. Any other is sealed in its place, unless it is a
    /// sealed value already that opens for this owner. What is sealed of a string are its characters; of any other value,
    /// and of a string with a lone surrogate, which is no character, its text.
    ///
    /// # Errors
    /// - [`Kind::IncompleteRecord`]: `written` is the beginning of a JSON object.
    /// - [`Kind::InvalidRecord`]: it is no JSON object as RFC 8259 has it, nests deeper than 1000 levels, or names its owner or
    ///   a secret twice, or so that only some readers take it for that name.
    /// - [`Kind::PlainSecret`]: it holds a secret, and nothing can be sealed.
    pub fn put(&self, base: Option<&[u8]>, written: &[u8]) -> Result<Put> {
        let base = base.and_then(|stored| self.accept(stored).ok());
        self.put_over(base.as_ref(), written, None)
    }

    /// As [`put`](Self::put) without a base, with a secret of the session's own where `written` does not mention that member.
    ///
    /// # Errors
    /// As `put`.
    pub fn put_attaching(&self, written: &[u8], attached: &Attached) -> Result<Put> {
        self.put_over(None, written, Some(attached))
    }

    /// Whether a text, which need not be JSON, mentions the name of a secret member in any spelling that JSON knows for it.
    pub fn may_hold_secret(&self, text: &[u8]) -> bool {
        let mentions = |text: &[u8], name: &str| {
            let len = name.len().max(1); // There are no empty windows.
            text.windows(len).any(|part| part == name.as_bytes())
        };
        let spelled_out = unescaped(text);
        self.secrets
            .iter()
            .any(|field| mentions(text, &field.name) || mentions(&spelled_out, &field.name))
    }

    /// What seals the owner's secrets, where anything can be sealed.
    pub fn sealer(&self) -> Option<&Sealer> {
        self.sealer.as_ref()
    }

    /// Seals a secret for [`put_attaching`](Self::put_attaching), as the member called `member`.
    ///
    /// # Errors
    /// [`Kind::Config`] when there is no such secret, or nothing can be sealed.
    pub fn attach(&self, member: &str, secret: &str) -> Result<Attached> {
        let wrong = |why| Error::new(Kind::Config, why);
        let index = self.secrets.iter().position(|field| field.name == member);
        let index = index.ok_or_else(|| wrong(format!("the member {member:?} is not among the secrets")))?;
        let sealer = self.sealer.as_ref();
        let sealer = sealer
            .ok_or_else(|| wrong("a key is attached sealed, and there are no sealing keys".to_owned()))?;
        let value = json_string(&sealer.seal(member, secret.as_bytes())?);
        Ok(Attached { index, value })
    }

    /// What the member called `name` (decoded) is to us.
    fn role(&self, name: &str) -> Role {
        if name == OWNER_FIELD {
            return Role::Owner;
        }
        let secret = self.secrets.iter().position(|field| field.name == name);
        secret.map_or(Role::Plain, Role::Secret)
    }

    /// A stored text that passed the verdict.
    fn accept<'t>(&self, stored: &'t [u8]) -> std::result::Result<Scan<'t>, Hidden> {
        let scan =
            Scan::of(stored, Constants::Taken, |name| self.role(name)).map_err(|_| Hidden::Malformed)?;
        self.verify(&scan)?;
        Ok(scan)
    }

    /// The verdict: a record of this lens' owner has exactly one owner member, with the very bytes of that name.
    fn verify(&self, stored: &Scan<'_>) -> std::result::Result<(), Hidden> {
        if stored.owner()? == self.owner.as_str() {
            Ok(())
        } else {
            Err(Hidden::Foreign)
        }
    }
}

/// `text` as a JSON string.
fn json_string(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// `text` with every `\u00XX` as the byte that it stands for, wherever it is.
fn unescaped(text: &[u8]) -> Zeroizing<Vec<u8>> {
    let mut plain = Zeroizing::new(Vec::with_capacity(text.len()));
    let mut rest = text;
    while let Some((byte, behind)) = rest.split_first() {
        let (decoded, behind) = split_escape(rest).unwrap_or((*byte, behind));
        plain.push(decoded);
        rest = behind;
    }
    plain
}

/// The byte that the escape at the beginning of `text` stands for, and what is behind the escape.
fn split_escape(text: &[u8]) -> Option<(u8, &[u8])> {
    let (digits, behind) = text.strip_prefix(br"\u00")?.split_first_chunk::<2>()?;
    let mut decoded = [0];
    hex::decode_to_slice(digits, &mut decoded).ok()?;
    let [byte] = decoded;
    Some((byte, behind))
}

impl fmt::Debug for Lens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lens").finish_non_exhaustive()
    }
}

impl fmt::Debug for Attached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Attached").finish_non_exhaustive()
    }
}

impl fmt::Debug for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("View")
            .field("bytes", &self.text.len())
            .field("has_secret", &self.has_secret)
            .finish()
    }
}

impl fmt::Debug for Put {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Put")
            .field("bytes", &self.stored.len())
            .field("owner_overridden", &self.owner_overridden)
            .finish()
    }
}
