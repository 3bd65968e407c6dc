//! Accounts of this host.

use nix::unistd::{Uid, User};
use tenantfs::error::{Error, Result};

/// The account called `name`, or with that number, as (uid, gid).
pub(crate) fn find(name: &str) -> Result<(u32, u32)> {
    if let Ok(uid) = name.parse() {
        return Ok((uid, primary_group(uid)));
    }
    match User::from_name(name) {
        Ok(Some(user)) => Ok((user.uid.as_raw(), user.gid.as_raw())),
        _ => Err(Error::config(format!(
            "there is no account {name:?} on this host"
        ))),
    }
}

/// The account's primary group; for one that this host does not know, the group of the same number.
pub(crate) fn primary_group(uid: u32) -> u32 {
    match User::from_uid(Uid::from_raw(uid)) {
        Ok(Some(user)) => user.gid.as_raw(),
        _ => uid,
    }
}

/// Who runs this: who called sudo, where that is known.
pub(crate) fn caller() -> u32 {
    let sudo = std::env::var("SUDO_UID").ok().and_then(|uid| uid.parse().ok());
    let real = Uid::current();
    match sudo {
        Some(uid) if real.is_root() => uid,
        _ => real.as_raw(),
    }
}
