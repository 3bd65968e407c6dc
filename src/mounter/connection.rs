//! A connection to one server, as the mounter has it.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use parking_lot::Mutex;

use super::held::Ledger;
use super::policy::Policy;
use super::protocol::{Claim, Places, Reply, Request};
use super::seqpacket::{self, Fault};
use super::{peer, privilege};
use crate::error::Result;

/// Serves requests from the socket on standard input until the other side closes it; then ends every mount it made.
///
/// Gives up every capability but CAP_SYS_ADMIN first. Without that one each mount is refused with a message that says so.
///
/// # Errors
/// [`Kind::MountFailed`](crate::error::Kind::MountFailed) when standard input is no such socket, or privileges cannot be
/// given up.
pub fn serve() -> Result<()> {
    let socket = std::io::stdin();
    privilege::confine()?;
    let service = Arc::new(Service::new(Policy::Anywhere));
    service.connection().converse(socket.as_fd())
}

/// What all connections have in common.
pub(super) struct Service {
    policy: Policy,
    /// Locked from a request to what comes of it: the kernel mounts one after the other anyway.
    ledger: Mutex<Ledger>,
    connections: Mutex<Connections>,
}

#[derive(Default)]
struct Connections {
    open: usize,
    last: u64,
}

impl Service {
    pub(super) fn new(policy: Policy) -> Self {
        Self {
            policy,
            ledger: Mutex::default(),
            connections: Mutex::default(),
        }
    }

    /// How many connections there are.
    pub(super) fn connections(&self) -> usize {
        self.connections.lock().open
    }

    /// A new one.
    pub(super) fn connection(self: &Arc<Self>) -> Connection {
        let mut connections = self.connections.lock();
        connections.open += 1;
        connections.last += 1;
        Connection {
            service: Arc::clone(self),
            number: connections.last,
        }
    }

    /// Waits until no request is being answered, and answers none any more: the mounts stay as they are until the process
    /// has ended, and after.
    pub(super) fn stop(&self) {
        std::mem::forget(self.ledger.lock());
    }
}

/// A connection's mounts. Dropped, also by a panic, they end.
pub(super) struct Connection {
    service: Arc<Service>,
    number: u64,
}

impl Connection {
    /// Answers requests until the other side closes the socket, or is dead.
    ///
    /// # Errors
    /// [`Kind::MountFailed`](crate::error::Kind::MountFailed) when a request makes no sense, or the socket fails.
    pub(super) fn converse(&self, socket: BorrowedFd<'_>) -> Result<()> {
        loop {
            if !peer::speaks(socket)? {
                return Ok(());
            }
            match seqpacket::receive(socket) {
                Ok((request, _)) => self.answer(socket, request)?,
                Err(Fault::Closed) => return Ok(()),
                Err(fault) => return Err(fault.into()),
            }
        }
    }

    fn answer(&self, socket: BorrowedFd<'_>, request: Request) -> std::result::Result<(), Fault> {
        let mut ledger = self.service.ledger.lock();
        let reply = match request {
            Request::Mount(request) => match ledger.mount(self.number, &self.service.policy, &request) {
                Ok(mounted) => {
                    let (claim, warnings) = (mounted.claim, mounted.warnings);
                    let reply = Reply::Mounted { claim, warnings };
                    return seqpacket::send(socket, &reply, Some(mounted.connection.as_fd()));
                }
                Err(error) => Reply::failed(error),
            },
            Request::Unmount(claim) => {
                let ended = ledger.unmount(self.number, &self.service.policy, &claim);
                ended.map_or_else(Reply::failed, |()| Reply::Unmounted)
            }
            Request::Adopt { mounts, places } => {
                let adopted = self.adopt(&mut ledger, mounts, places);
                adopted.map_or_else(Reply::failed, Reply::adopted)
            }
        };
        seqpacket::send(socket, &reply, None)
    }

    fn adopt(&self, ledger: &mut Ledger, mounts: Vec<Claim>, places: Option<Places>) -> Result<Vec<String>> {
        let mut warnings = ledger.adopt(self.number, &self.service.policy, mounts)?;
        if let Some(Places(directory)) = places {
            // What was taken over stays so, even if that directory is not what it should be.
            let directory = self.service.policy.directory(&directory);
            match directory.and_then(|directory| ledger.end_leftovers(&directory)) {
                Ok(more) => warnings.extend(more),
                Err(error) => warnings.push(error.to_string()),
            }
        }
        Ok(warnings)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.service.ledger.lock().end_all(self.number);
        self.service.connections.lock().open -= 1;
    }
}
