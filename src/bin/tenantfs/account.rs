//! Accounts of this host.

use nix::unistd::{Gid, Group, Uid, User, getresgid};
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

/// A user of this host, by name or number: what options take.
///
/// # Errors
/// That there is no such account.
pub(crate) fn uid(text: &str) -> std::result::Result<u32, String> {
    if let Ok(uid) = text.parse() {
        return Ok(uid);
    }
    if text.is_empty() {
        // What tenantfs@.service says where the variable is not set.
        return Err("no user is named: say whom, by name or uid; for tenantfs@NAME.service with TENANTFS_UID=USER in \
                    /etc/tenantfs/instances/NAME.env"
            .to_owned());
    }
    match User::from_name(text) {
        Ok(Some(user)) => Ok(user.uid.as_raw()),
        Ok(None) => Err("there is no such account on this host".to_owned()),
        Err(errno) => Err(format!("looking for that account: {errno}")),
    }
}

/// A group of this host, by name or number.
///
/// # Errors
/// That there is no such group.
pub(crate) fn gid(text: &str) -> std::result::Result<u32, String> {
    if let Ok(gid) = text.parse() {
        return Ok(gid);
    }
    match Group::from_name(text) {
        Ok(Some(group)) => Ok(group.gid.as_raw()),
        Ok(None) => Err("there is no such group on this host".to_owned()),
        Err(errno) => Err(format!("looking for that group: {errno}")),
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
    called_sudo("SUDO_UID").unwrap_or_else(|| Uid::current().as_raw())
}

/// The group in which whoever runs this, or called sudo, has its processes.
pub(crate) fn caller_group() -> u32 {
    called_sudo("SUDO_GID").unwrap_or_else(|| Gid::effective().as_raw())
}

fn called_sudo(variable: &str) -> Option<u32> {
    let id = std::env::var(variable).ok()?.parse().ok()?;
    Uid::current().is_root().then_some(id)
}

/// A group of this very process that is not `gid`. The kernel admits to a view whom it knows by exactly one group: as the
/// real, the effective and the saved one. Supplementary groups do not count.
pub(crate) fn other_group_than(gid: u32) -> Option<u32> {
    let own = getresgid().ok()?;
    let all = [own.effective, own.real, own.saved].map(Gid::as_raw);
    all.into_iter().find(|own| *own != gid)
}

/// A group as people know it: `users (100)`.
pub(crate) fn group_name(gid: u32) -> String {
    match Group::from_gid(Gid::from_raw(gid)) {
        Ok(Some(group)) => format!("{} ({gid})", group.name),
        _ => gid.to_string(),
    }
}
