//! Whether the server at the other end of a socket is alive.
//!
//! A process that was killed closes nothing as long as one of its threads waits in the kernel: for a volume that hangs, or, in a
//! notification, for a directory that a program holds which waits for that very process. Whoever has its mounts must not wait for
//! it: ending them is what lets go of the last two.

use std::fs;
use std::os::fd::BorrowedFd;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use crate::error::{Error, Kind, Result};

/// How often it is looked whether the server is dead.
const LOOK: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 500_000_000,
};

/// Waits until the other side has said something or closed the socket; false when it is dead instead.
///
/// # Errors
/// [`Kind::MountFailed`] when the socket fails.
pub(super) fn speaks(socket: BorrowedFd<'_>) -> Result<bool> {
    loop {
        let mut waiting = [PollFd::from_borrowed_fd(socket, PollFlags::IN)];
        match poll(&mut waiting, Some(&LOOK)) {
            Ok(0) if is_dead(socket) => return Ok(false),
            Ok(0) | Err(Errno::INTR) => {}
            Ok(_) => return Ok(true),
            Err(errno) => {
                return Err(Error::os(errno, "waiting for the server").as_kind(Kind::MountFailed));
            }
        }
    }
}

/// Whether the first thread of the process that connected is gone, as the first thread of no living server is. Where nothing can be
/// seen of it, the socket has to tell.
fn is_dead(socket: BorrowedFd<'_>) -> bool {
    let state = rustix::net::sockopt::socket_peercred(socket)
        .ok()
        .and_then(|peer| {
            let stat = fs::read_to_string(format!("/proc/{}/stat", peer.pid.as_raw_pid())).ok()?;
            // The name before it may have anything in it, brackets too.
            let (_, rest) = stat.rsplit_once(") ")?;
            rest.chars().next()
        });
    matches!(state, Some('Z' | 'X'))
}
