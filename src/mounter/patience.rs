//! How long a link waits for its mounter; and the end of all its waits, told by one thread and heard by all that wait.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::Errno;

use super::seqpacket::Fault;
use crate::clock::Stopwatch;
use crate::error::{Doing, Result};

/// Waits until it is given up.
pub(super) struct Patience {
    /// Readable for ever, once nobody is to wait any more.
    over: OwnedFd,
}

impl Patience {
    pub(super) fn new() -> Result<Self> {
        let over = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .doing("preparing to wait for the mounter")?;
        Ok(Self { over })
    }

    /// Ends every wait, those under way and those to come.
    pub(super) fn give_up(&self) {
        // It can only fail when it was told too often already.
        let _ = rustix::io::write(&self.over, &1_u64.to_ne_bytes());
    }

    /// Whether nobody is to wait any more.
    pub(super) fn is_over(&self) -> bool {
        self.wait_for(None, Duration::ZERO).is_err()
    }

    /// Sleeps, if not for long because it is given up.
    pub(super) fn sleep(&self, time: Duration) {
        let _ = self.wait_for(None, time);
    }

    /// Waits until there is something to receive from `socket`.
    ///
    /// # Errors
    /// [`Fault::Late`] when that takes longer than `time`, or it is given up.
    pub(super) fn wait(&self, socket: &OwnedFd, time: Duration) -> std::result::Result<(), Fault> {
        match self.wait_for(Some(socket), time) {
            Ok(true) => Ok(()),
            _ => Err(Fault::Late),
        }
    }

    /// Whether the socket is ready. An error when it is given up, and the socket is not ready.
    fn wait_for(&self, socket: Option<&OwnedFd>, time: Duration) -> std::result::Result<bool, ()> {
        let watch = Stopwatch::start();
        loop {
            let left = time.saturating_sub(watch.elapsed());
            let mut ready = vec![PollFd::from_borrowed_fd(self.over.as_fd(), PollFlags::IN)];
            ready.extend(socket.map(|socket| PollFd::new(socket, PollFlags::IN)));
            match poll(&mut ready, Timespec::try_from(left).ok().as_ref()) {
                Err(Errno::INTR) => continue,
                Err(_) => return Err(()),
                Ok(_) => {}
            }
            return match ready.as_slice() {
                [_, socket] if !socket.revents().is_empty() => Ok(true),
                [over, ..] if !over.revents().is_empty() => Err(()),
                _ => Ok(false),
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::thread;

    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

    use super::*;

    #[test]
    fn giving_up_ends_every_wait_at_once_but_takes_no_answer_away() {
        let pair = || {
            socketpair(
                AddressFamily::UNIX,
                SocketType::SEQPACKET,
                SocketFlags::CLOEXEC,
                None,
            )
        };
        let (ours, theirs) = pair().unwrap();
        let patience = Arc::new(Patience::new().unwrap());
        let watch = Stopwatch::start();
        assert!(patience.wait(&ours, Duration::from_millis(20)).is_err());
        assert!(watch.elapsed() >= Duration::from_millis(20) && !patience.is_over());
        let waiting = thread::spawn({
            let (patience, ours) = (Arc::clone(&patience), ours.try_clone().unwrap());
            move || patience.wait(&ours, Duration::from_secs(60)).is_err()
        });
        patience.give_up();
        assert!(waiting.join().unwrap() && patience.is_over());
        patience.sleep(Duration::from_secs(60));
        rustix::io::write(&theirs, b"an answer").unwrap();
        assert!(patience.wait(&ours, Duration::ZERO).is_ok());
        assert!(watch.elapsed() < Duration::from_secs(30));
    }
}
