//! `unseal`: one secret of one record, for a scheduler that acts for the user.

use zeroize::Zeroizing;

use super::{Ground, as_finding, read};
use crate::error::{Error, Kind, Result};
use crate::identity::UserId;
use crate::name::{EntryName, Resource};
use crate::store::stored_limit;

/// The secret called `member` of the record `id` of `user`, opened.
///
/// # Errors
/// [`Kind::NotFound`] when there is no such record of that user, or it has no such secret;
/// [`Kind::PlainSecret`] when it is in plain text on the volume; [`Kind::InvalidRecord`] when no key opens
/// it; any error of opening and reading a file.
pub fn unseal(
    ground: &Ground,
    user: &UserId,
    resource: &Resource,
    id: &EntryName,
    member: &str,
) -> Result<Zeroizing<String>> {
    let absent = || {
        let what = format!("there is no record {}/{id} of this user", resource.as_str());
        Error::new(Kind::NotFound, what)
    };
    let dir = ground.directory(user, resource)?.ok_or_else(absent)?;
    let read = match read(&dir, id.as_str(), stored_limit(ground.max_record)) {
        Err(error) if error.kind() == Kind::NotFound => return Err(absent()),
        read => read.map_err(as_finding)?.ok_or_else(absent)?,
    };
    ground.lens(user).reveal(&read.text, member)
}
