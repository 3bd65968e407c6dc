//! The descriptors that this process was started with.

use std::fs::File;
use std::os::fd::RawFd;
use std::os::unix::net::UnixListener;

use listenfd::ListenFd;
use tenantfs::daemon::{Kept, NAME_PREFIX};
use tenantfs::error::{Error, Result};

/// How systemd calls the control socket (`FileDescriptorName=` in tenantfs.socket).
const CONTROL: &str = "control";

/// The first descriptor that systemd passes (sd_listen_fds(3)).
const FIRST_PASSED: RawFd = 3;

/// What systemd passed to the daemon.
#[derive(Default)]
pub(crate) struct Passed {
    pub(crate) control: Option<UnixListener>,
    pub(crate) kept: Vec<Kept>,
}

impl Passed {
    /// Takes it, before this process gives up the right to look at its own descriptors.
    ///
    /// # Errors
    /// [`Kind::Io`](tenantfs::error::Kind::Io) when what is called the control socket is none.
    pub(crate) fn take() -> Result<Self> {
        let mut passed = Self::default();
        let names: Vec<(RawFd, String)> = sd_notify::listen_fds_with_names()
            .map_err(|error| Error::io(&error, "taking what systemd passed"))?
            .collect();
        let mut descriptors = ListenFd::from_env();
        for (index, (descriptor, name)) in names.into_iter().enumerate() {
            if name == CONTROL {
                passed.control = descriptors
                    .take_unix_listener(index)
                    .map_err(|error| Error::io(&error, "taking the control socket that systemd passed"))?;
            } else if name.starts_with(NAME_PREFIX) {
                // One that cannot be read is a session whose user has to log in again: no reason not to serve the others.
                match kept(descriptor) {
                    Ok(kept) => passed.kept.push(kept),
                    Err(error) => log::warn!("{error}"),
                }
            } else {
                log::warn!("systemd passed {name:?}, which is nothing of ours; ignored");
            }
        }
        Ok(passed)
    }
}

fn kept(descriptor: RawFd) -> Result<Kept> {
    let path = format!("/proc/self/fd/{descriptor}");
    let mut file = File::open(path).map_err(|error| Error::io(&error, "opening what systemd kept"))?;
    // systemd has its own.
    let _ = nix::unistd::close(descriptor);
    Kept::read(&mut file)
}

/// Closes what nobody passed on purpose: it is nothing to a process that drops its privileges.
pub(crate) fn close_others() {
    let passed = sd_notify::listen_fds().map_or(0, |descriptors| descriptors.len());
    let last_wanted = FIRST_PASSED - 1 + RawFd::try_from(passed).unwrap_or_default();
    let open: Vec<RawFd> = std::fs::read_dir("/proc/self/fd").map_or_else(
        |_| Vec::new(),
        |entries| {
            let names = entries.flatten().map(|entry| entry.file_name());
            names.filter_map(|name| name.to_str()?.parse().ok()).collect()
        },
    );
    for descriptor in open.into_iter().filter(|descriptor| *descriptor > last_wanted) {
        // EBADF: the one that listed them is among them.
        let _ = nix::unistd::close(descriptor);
    }
}
