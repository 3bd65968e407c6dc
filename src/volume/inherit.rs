//! What a new file takes over from the place that it is made in.

use std::os::fd::AsFd;

use rustix::fs::Mode;

use super::stat::Stat;

/// Sets the volume's permission bits.
pub(super) fn set_mode(fd: impl AsFd, mode: u16) -> rustix::io::Result<()> {
    rustix::fs::fchmod(fd, Mode::from_raw_mode(u32::from(mode)))
}

/// Gives a new file the owner and group of `like`, as far as this process may: an unprivileged one keeps itself as
/// the owner, and can give a group it is in.
pub(super) fn inherit_owner(fd: impl AsFd, like: &Stat, new: &Stat) {
    use rustix::fs::{Gid, Uid};
    let gid = (new.gid != like.gid).then(|| Gid::from_raw(like.gid));
    let uid = (new.uid != like.uid).then(|| Uid::from_raw(like.uid));
    let refused = |result: rustix::io::Result<()>| result.err().filter(|_| uid.is_some() || gid.is_some());
    if gid.is_some() || uid.is_some() {
        // First the group alone: it works without privilege more often than both together.
        let failed =
            refused(rustix::fs::fchown(&fd, None, gid)).or(refused(rustix::fs::fchown(&fd, uid, None)));
        if let Some(errno) = failed {
            log::debug!(
                "a new file could not take the owner {}:{}: {errno}",
                like.uid,
                like.gid
            );
        }
    }
}
