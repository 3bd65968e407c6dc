//! Giving up what the mounter does not need.

use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::process::{DumpableBehavior, Resource, Rlimit};
use rustix::thread::{CapabilitySet, CapabilitySets};

use super::own_session::own_session;
use crate::error::{Doing, Result};

/// Gives up every capability but CAP_SYS_ADMIN, for this thread and those that it starts; and what else is not needed.
///
/// # Errors
/// Those of the system calls.
pub(super) fn confine() -> Result<()> {
    // Whose mode a directory has is not its caller's to say.
    rustix::process::umask(Mode::WGRP | Mode::WOTH);
    allow_descriptors();
    keep_one_capability().doing("the mounter giving up privileges")
}

/// A session of its own, so that what a terminal sends to the server does not end the mounts before it has; nothing to
/// gain from reading its memory or from programs it might start; and one capability.
fn keep_one_capability() -> rustix::io::Result<()> {
    // Fails for a leader of a process group, which has no terminal's signals to fear.
    let _ = own_session();
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    rustix::thread::set_no_new_privs(true)?;
    rustix::thread::clear_ambient_capability_set()?;
    let held = rustix::thread::capabilities(None)?;
    if held.permitted.contains(CapabilitySet::SETGID) {
        rustix::thread::set_thread_groups(&[])?;
    }
    if held.permitted.contains(CapabilitySet::SETPCAP) {
        for capability in CapabilitySet::all().difference(CapabilitySet::SYS_ADMIN).iter() {
            match rustix::thread::remove_capability_from_bounding_set(capability) {
                // A capability that this kernel does not know.
                Ok(()) | Err(Errno::INVAL) => {}
                Err(errno) => return Err(errno),
            }
        }
    }
    let kept = held.permitted.intersection(CapabilitySet::SYS_ADMIN);
    // Nothing is ever run from here that could inherit anything.
    let inheritable = held.inheritable.intersection(kept);
    let wanted = CapabilitySets {
        effective: kept,
        permitted: kept,
        inheritable,
    };
    // tenantfs-mounter.service gives no others, and does not allow the call.
    match held == wanted {
        true => Ok(()),
        false => rustix::thread::set_capabilities(None, wanted),
    }
}

/// As many as are allowed: each mount needs one.
fn allow_descriptors() {
    let maximum = rustix::process::getrlimit(Resource::Nofile).maximum;
    let all = Rlimit {
        current: maximum,
        maximum,
    };
    if let Err(errno) = rustix::process::setrlimit(Resource::Nofile, all) {
        log::warn!("setting the limit of open files: {errno}");
    }
}
