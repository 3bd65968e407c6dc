//! Giving up what the server does not need.

use rustix::process::{DumpableBehavior, Gid, Uid};
use rustix::thread::{CapabilitiesSecureBits, CapabilitySet, CapabilitySets};

use crate::account;
use crate::error::{Doing, Error, Kind, Result};

/// Makes this process an ordinary one of account `uid` and group `gid`: no capabilities, no supplementary groups, no way
/// to gain any, no core dumps. An account that is root's keeps uid 0, but none of its powers.
///
/// The kernel keeps all of this for each thread, so there must be only one yet.
///
/// # Errors
/// [`Kind::Config`] when this process is not root and is not that account; [`Kind::Io`] when there are threads already,
/// or the kernel says afterwards that something is still there.
pub fn drop_to(uid: u32, gid: u32) -> Result<()> {
    if threads()? != 1 {
        return Err(Error::new(
            Kind::Io,
            "privileges must be dropped before threads are started",
        ));
    }
    drop_thread_to(uid, gid)
}

/// As [`drop_to`], for the calling thread alone, and those that it starts: others keep what they have.
///
/// # Errors
/// As `drop_to`, but that there may be threads.
pub fn drop_thread_to(uid: u32, gid: u32) -> Result<()> {
    let root = rustix::process::geteuid().is_root();
    if !root && rustix::process::geteuid().as_raw() != uid {
        return Err(Error::config(format!(
            "the volume belongs to {}: run as that account, or as root to become it",
            account::shown(uid)
        )));
    }
    let doing = "giving up privileges";
    rustix::thread::set_no_new_privs(true).doing(doing)?;
    if root {
        become_account(Uid::from_raw(uid), Gid::from_raw(gid)).doing(doing)?;
    }
    rustix::thread::clear_ambient_capability_set().doing(doing)?;
    let nothing = CapabilitySets {
        effective: CapabilitySet::empty(),
        permitted: CapabilitySet::empty(),
        inheritable: CapabilitySet::empty(),
    };
    rustix::thread::set_capabilities(None, nothing).doing(doing)?;
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable).doing(doing)?;
    verify(uid).doing(doing)
}

fn become_account(uid: Uid, gid: Gid) -> rustix::io::Result<()> {
    for capability in CapabilitySet::all().iter() {
        match rustix::thread::remove_capability_from_bounding_set(capability) {
            // A capability that this kernel does not know; or that a container has taken already, with the right to take.
            Ok(()) | Err(rustix::io::Errno::INVAL | rustix::io::Errno::PERM) => {}
            Err(errno) => return Err(errno),
        }
    }
    // A root-owned volume is served by uid 0: then it is this that keeps an exec from giving everything back.
    let bits = CapabilitiesSecureBits::NO_ROOT | CapabilitiesSecureBits::NO_ROOT_LOCKED;
    match rustix::thread::set_capabilities_secure_bits(bits) {
        Ok(()) | Err(rustix::io::Errno::PERM) => {}
        Err(errno) => return Err(errno),
    }
    rustix::thread::set_thread_groups(&[])?;
    rustix::thread::set_thread_res_gid(gid, gid, gid)?;
    rustix::thread::set_thread_res_uid(uid, uid, uid)
}

fn verify(uid: u32) -> rustix::io::Result<()> {
    let sets = rustix::thread::capabilities(None)?;
    let dropped = sets.effective.is_empty()
        && sets.permitted.is_empty()
        && sets.inheritable.is_empty()
        && rustix::thread::no_new_privs()?
        && rustix::process::getuid().as_raw() == uid
        && rustix::process::geteuid().as_raw() == uid;
    match dropped {
        true => Ok(()),
        false => Err(rustix::io::Errno::PERM),
    }
}

fn threads() -> Result<usize> {
    std::fs::read_dir("/proc/self/task")
        .map(Iterator::count)
        .doing("reading /proc/self/task; is /proc mounted?")
}
