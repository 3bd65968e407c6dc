//! From what a user wrote to the text to store.

use std::borrow::Cow;

use zeroize::Zeroizing;

use super::json::Constants;
use super::scan::{Flaw, Role, Scan};
use super::secret::{SecretState, is_secret};
use super::splice::{Edit, splice};
use super::view::cuts;
use super::{Attached, Lens, OWNER_FIELD, Put};
use crate::error::{Error, Kind, Result};

impl Lens {
    /// The text to store for `written` over an accepted `base`.
    pub(super) fn put_over(
        &self,
        base: Option<&Scan<'_>>,
        written: &[u8],
        attached: Option<&Attached>,
    ) -> Result<Put> {
        if let Some(base) = base
            && self.view_of(base).text == written
        {
            return Ok(Put {
                stored: base.text().to_vec(),
                owner_overridden: false,
            });
        }
        let scan = self.admit(written)?;
        let mut carried = base.map_or_else(Vec::new, |base| self.carried(base, &scan));
        carried.extend(attached.and_then(|attached| self.attached(attached, &scan)));
        if !scan.members().iter().any(is_secret) {
            return Ok(self.own(&scan, &carried));
        }
        let sealed = self.seal(&scan)?;
        let scan = self.admit(&sealed)?;
        Ok(self.own(&scan, &carried))
    }

    /// Scans what a user wrote, and refuses what cannot become a record of theirs.
    fn admit<'t>(&self, written: &'t [u8]) -> Result<Scan<'t>> {
        let scan =
            Scan::of(written, Constants::Refused, |name| self.role(name)).map_err(|flaw| match flaw {
                Flaw::Incomplete => Error::new(
                    Kind::IncompleteRecord,
                    "the text breaks off before its JSON object ends: write the rest",
                ),
                Flaw::Invalid(why) => Error::new(
                    Kind::InvalidRecord,
                    format!("a record must be one JSON object: {why}"),
                ),
            })?;
        if scan.members_with(Role::Owner).nth(1).is_some() {
            return Err(repeated(OWNER_FIELD));
        }
        for (index, field) in self.secrets.iter().enumerate() {
            let mut members = scan.members_with(Role::Secret(index));
            let Some(member) = members.next() else { continue };
            if members.next().is_some() {
                return Err(repeated(&field.name));
            }
            if scan.is_set(member) && self.sealer.is_none() {
                return Err(Error::new(
                    Kind::PlainSecret,
                    format!(
                        "the member {:?} is a secret, and there are no sealing keys: remove the member",
                        field.name
                    ),
                ));
            }
        }
        Ok(scan)
    }

    /// The text of `written` with each secret sealed, and without those that are null.
    fn seal(&self, written: &Scan<'_>) -> Result<Zeroizing<Vec<u8>>> {
        let values = self.sealed_values(written, |state| !matches!(state, SecretState::Sealed { .. }))?;
        let mut edits = cuts(written, |member| is_secret(member) && !written.is_set(member));
        edits.extend(
            values
                .iter()
                .map(|(range, value)| (range.clone(), value.as_bytes())),
        );
        edits.sort_unstable_by_key(|(range, _)| range.start);
        Ok(Zeroizing::new(splice(written.text(), &edits)))
    }

    /// The secrets of `base` that `written` does not mention: each one's name with its colon, and its value. Of a secret
    /// that is there twice the last counts, as it does to most readers.
    fn carried<'b>(&'b self, base: &Scan<'b>, written: &Scan<'_>) -> Vec<(&'b str, &'b str)> {
        self.secrets
            .iter()
            .enumerate()
            .filter(|(index, _)| written.members_with(Role::Secret(*index)).next().is_none())
            .filter_map(|(index, field)| {
                let secret = base.members_with(Role::Secret(index)).last()?;
                Some((field.prefix.as_str(), base.part(&secret.value)))
            })
            .collect()
    }

    /// The attached secret's name with its colon, and its value, unless `written` mentions that secret.
    fn attached<'a>(&'a self, attached: &'a Attached, written: &Scan<'_>) -> Option<(&'a str, &'a str)> {
        let field = self.secrets.get(attached.index)?;
        let mentioned = written
            .members_with(Role::Secret(attached.index))
            .next()
            .is_some();
        (!mentioned).then_some((field.prefix.as_str(), attached.value.as_str()))
    }

    /// The text of `written`, whose secrets are sealed, with its owner and the carried secrets.
    fn own(&self, written: &Scan<'_>, carried: &[(&str, &str)]) -> Put {
        let mut edits: Vec<Edit<'_>> = Vec::new();
        let owner = written.members_with(Role::Owner).next();
        let mut owner_overridden = false;
        if let Some(owner) = owner {
            // With a secret behind it, the owner is no longer the last member, and so not the mark.
            if carried.is_empty() && written.mark().is_some() {
                edits.push((owner.key.end..owner.key.end, b" "));
            }
            owner_overridden = written.string(&owner.value) != Some(Cow::Borrowed(self.owner.as_str()));
            if owner_overridden {
                edits.push((owner.value.clone(), self.owner_value.as_bytes()));
            }
        }
        let end = written.end();
        let mut separator = if written.count() == 0 { "" } else { "," };
        for (prefix, value) in carried {
            edits.extend([separator, prefix, value].map(|bytes| (end..end, bytes.as_bytes())));
            separator = ",";
        }
        if owner.is_none() {
            edits.extend([separator, &self.mark].map(|bytes| (end..end, bytes.as_bytes())));
        }
        Put {
            stored: splice(written.text(), &edits),
            owner_overridden,
        }
    }
}

fn repeated(field: &str) -> Error {
    Error::new(
        Kind::InvalidRecord,
        format!("the member {field:?} appears twice: keep one"),
    )
}
