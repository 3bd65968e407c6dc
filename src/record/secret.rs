//! The secrets of a record: what they are sealed under, sealing them, and opening them.

use std::ops::Range;

use zeroize::Zeroizing;

use super::Lens;
use super::hidden::Hidden;
use super::json::Constants;
use super::scan::{Member, Role, Scan};
use super::splice::{Edit, splice};
use super::view::cuts;
use crate::error::{Error, Kind, Result};
use crate::identity::UserId;
use crate::seal::{Closed, looks_sealed};

/// A secret member of a stored record.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Secret {
    /// The member's name.
    pub name: String,
    /// How it is stored.
    pub state: SecretState,
}

/// How a secret is stored.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SecretState {
    /// Sealed, and a key opens it.
    Sealed {
        /// Whether that is the active key.
        active: bool,
    },
    /// In plain text, or in an encryption of somebody else's.
    Plain,
    /// It looks sealed, and does not open.
    Unopenable {
        /// Why.
        why: Closed,
    },
}

/// A secret in plain text, or why it is not opened.
type Opened = std::result::Result<Zeroizing<String>, Closed>;

pub(super) fn is_secret(member: &Member) -> bool {
    matches!(member.role, Role::Secret(_))
}

impl Lens {
    /// The secrets of a stored text that are not null, in the order of the text.
    ///
    /// # Errors
    /// The reason for which its owner does not see it.
    pub fn secrets(&self, stored: &[u8]) -> std::result::Result<Vec<Secret>, Hidden> {
        let scan = self.accept(stored)?;
        let secrets = scan.members().iter().filter_map(|member| {
            let name = self.secret_name(member)?.to_owned();
            let state = self.state(&scan, member, &self.open(&scan, member, &name));
            scan.is_set(member).then_some(Secret { name, state })
        });
        Ok(secrets.collect())
    }

    /// A stored text with every secret sealed under the active key that an older one sealed; with `adopt_plain`, also those
    /// in plain text. Every other byte is as it was. None when there is nothing to seal.
    ///
    /// # Errors
    /// [`Kind::NotFound`] when its owner does not see it; [`Kind::Io`] when the kernel has no random bytes.
    pub fn reseal(&self, stored: &[u8], adopt_plain: bool) -> Result<Option<Vec<u8>>> {
        let scan = self
            .accept(stored)
            .map_err(|hidden| Error::new(Kind::NotFound, format!("the record is hidden: {hidden}")))?;
        let values = self.sealed_values(&scan, |state| match state {
            SecretState::Sealed { active } => !active,
            SecretState::Plain => adopt_plain,
            SecretState::Unopenable { .. } => false,
        })?;
        if values.is_empty() {
            return Ok(None);
        }
        let edits: Vec<Edit<'_>> = values
            .iter()
            .map(|(range, value)| (range.clone(), value.as_bytes()))
            .collect();
        Ok(Some(splice(stored, &edits)))
    }

    /// A JSON object that need not be a record, without its secret members; and whose it says that it is, if it does.
    ///
    /// # Errors
    /// [`Kind::InvalidRecord`] when it is no JSON object, or says so of several.
    pub fn without_secrets(&self, text: &[u8]) -> Result<(Option<UserId>, Vec<u8>)> {
        let wrong = |why: &str| Error::new(Kind::InvalidRecord, why.to_owned());
        let role = |name: &str| self.role(name);
        let scan = Scan::of(text, Constants::Taken, role).map_err(|_| wrong("not one JSON object"))?;
        let owner = match super::owner(text) {
            Ok(owner) => Some(owner),
            Err(Hidden::Ownerless) => None,
            Err(why) => return Err(wrong(&why.to_string())),
        };
        Ok((owner, splice(text, &cuts(&scan, is_secret))))
    }

    /// The secret called `name` of a stored text, opened.
    ///
    /// # Errors
    /// [`Kind::NotFound`] when its owner does not see the text, or it has no such secret; [`Kind::PlainSecret`] when that is
    /// not sealed; [`Kind::InvalidRecord`] when it does not open.
    pub fn reveal(&self, stored: &[u8], name: &str) -> Result<Zeroizing<String>> {
        let absent = |why: String| Error::new(Kind::NotFound, why);
        let scan = self
            .accept(stored)
            .map_err(|hidden| absent(format!("the record is hidden: {hidden}")))?;
        let mut members = scan.members().iter();
        // Of a secret that is there twice the last counts, as it does to most readers.
        let member = members.rfind(|member| self.secret_name(member) == Some(name) && scan.is_set(member));
        let member = member.ok_or_else(|| absent(format!("the record has no secret {name:?}")))?;
        match self.open(&scan, member, name) {
            Ok(secret) => Ok(secret),
            Err(Closed::NotSealed) => Err(Error::new(
                Kind::PlainSecret,
                format!("the secret {name:?} is not sealed: it stands on the volume as the service wrote it"),
            )),
            Err(why) => Err(Error::new(
                Kind::InvalidRecord,
                format!("the secret {name:?} cannot be opened: {why}"),
            )),
        }
    }

    /// Where the secrets are whose state is `wanted`, and the JSON strings to stand there instead: what they are, sealed
    /// under the active key.
    pub(super) fn sealed_values(
        &self,
        scan: &Scan<'_>,
        wanted: impl Fn(&SecretState) -> bool,
    ) -> Result<Vec<(Range<usize>, String)>> {
        let mut values = Vec::new();
        let Some(sealer) = &self.sealer else {
            return Ok(values);
        };
        for member in scan.members().iter().filter(|member| scan.is_set(member)) {
            let Some(name) = self.secret_name(member) else {
                continue;
            };
            let opened = self.open(scan, member, name);
            if wanted(&self.state(scan, member, &opened)) {
                let plain = opened.unwrap_or_else(|_| plain(scan, member));
                let sealed = sealer.seal(name, plain.as_bytes())?;
                values.push((member.value.clone(), format!("\"{sealed}\"")));
            }
        }
        Ok(values)
    }

    fn secret_name(&self, member: &Member) -> Option<&str> {
        match member.role {
            Role::Secret(index) => Some(self.secrets.get(index)?.name.as_str()),
            Role::Owner | Role::Plain => None,
        }
    }

    fn state(&self, scan: &Scan<'_>, member: &Member, opened: &Opened) -> SecretState {
        match opened {
            Ok(_) => {
                let sealed = string(scan, member).unwrap_or_default();
                let active = self
                    .sealer
                    .as_ref()
                    .is_some_and(|sealer| sealer.is_active(&sealed));
                SecretState::Sealed { active }
            }
            Err(Closed::NotSealed) => SecretState::Plain,
            Err(why) => SecretState::Unopenable { why: why.clone() },
        }
    }

    fn open(&self, scan: &Scan<'_>, member: &Member, name: &str) -> Opened {
        let value = string(scan, member).ok_or(Closed::NotSealed)?;
        match &self.sealer {
            Some(sealer) => {
                let opened = sealer.open(name, &value)?;
                let text = std::str::from_utf8(&opened).map_err(|_| Closed::Damaged)?;
                Ok(Zeroizing::new(text.to_owned()))
            }
            None if looks_sealed(&value) => Err(Closed::NoKeys),
            None => Err(Closed::NotSealed),
        }
    }
}

/// The characters of a string, if it has no others.
fn string(scan: &Scan<'_>, member: &Member) -> Option<Zeroizing<String>> {
    let text = scan.string(&member.value)?;
    Some(Zeroizing::new(text.into_owned()))
}

/// What a value in plain text says: the characters of a string, the text of anything else.
fn plain(scan: &Scan<'_>, member: &Member) -> Zeroizing<String> {
    string(scan, member).unwrap_or_else(|| Zeroizing::new(scan.part(&member.value).to_owned()))
}
