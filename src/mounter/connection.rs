//! A connection to one server, as the mounter has it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};

use super::complaints::Complaints;
use super::held::{Ledger, Owner};
use super::policy::Policy;
use super::protocol::{Grant, Places, Reply, Request};
use super::seqpacket::{self, Fault};
use super::{peer, privilege, rights};
use crate::error::{Error, Result};

/// Serves requests from the socket on standard input until the other side closes it; then ends every mount it made.
///
/// The first message is the [`Grant`]: who started this process sends it, and only then becomes the server, or starts it.
///
/// Gives up every capability but CAP_SYS_ADMIN first. Without that one each mount is refused with a message that says so.
///
/// # Errors
/// [`Kind::MountFailed`](crate::error::Kind::MountFailed) when standard input is no such socket, nothing is granted, or privileges cannot be given up.
pub fn serve() -> Result<()> {
    let socket = std::io::stdin();
    let socket = socket.as_fd();
    rights::refuse(&socket);
    privilege::confine()?;
    let granted = seqpacket::receive_alone::<Grant>(socket)
        .map_err(Error::from)
        .and_then(Policy::granted);
    let policy = match granted {
        Ok(policy) => policy,
        Err(error) => {
            // Whoever started this process says it to the user.
            return seqpacket::send(socket, &Reply::failed(error), None).map_err(Error::from);
        }
    };
    let service = Arc::new(Service::new(policy));
    let connection = service.connection(false);
    seqpacket::send(socket, &Reply::Welcome, None)?;
    connection.converse(socket)
}

/// What all connections have in common.
pub(super) struct Service {
    policy: Policy,
    /// Locked from a request to what comes of it: the kernel mounts one after the other anyway.
    ledger: Mutex<Ledger>,
    /// Locked around that by root's connections, and by all others: root waits for one request of theirs, however many ask.
    turn_of_root: Mutex<()>,
    turn_of_others: Mutex<()>,
    connections: Mutex<Connections>,
    /// Of servers.
    pub(super) complaints: Complaints,
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
            turn_of_root: Mutex::default(),
            turn_of_others: Mutex::default(),
            connections: Mutex::default(),
            complaints: Complaints::default(),
        }
    }

    /// How many connections there are.
    pub(super) fn connections(&self) -> usize {
        self.connections.lock().open
    }

    /// A new one, to a process of root's or another's.
    pub(super) fn connection(self: &Arc<Self>, is_root: bool) -> Connection {
        let mut connections = self.connections.lock();
        connections.open += 1;
        connections.last += 1;
        let number = connections.last;
        Connection {
            service: Arc::clone(self),
            owner: Owner { number, is_root },
        }
    }

    /// Does something when it is the turn of `owner`; whoever asks again and again lets the others have theirs.
    fn in_turn<T>(&self, owner: Owner, work: impl FnOnce(&mut Ledger) -> T) -> T {
        let turn = match owner.is_root {
            true => self.turn_of_root.lock(),
            false => self.turn_of_others.lock(),
        };
        let mut ledger = self.ledger.lock();
        let done = work(&mut ledger);
        MutexGuard::unlock_fair(ledger);
        MutexGuard::unlock_fair(turn);
        done
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
    owner: Owner,
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
            match seqpacket::receive_alone(socket) {
                Ok(request) => self.answer(socket, request)?,
                Err(Fault::Closed) => return Ok(()),
                Err(fault) => return Err(fault.into()),
            }
        }
    }

    fn answer(&self, socket: BorrowedFd<'_>, request: Request) -> std::result::Result<(), Fault> {
        self.service.in_turn(self.owner, |ledger| {
            let (reply, descriptor) = self.reply(ledger, request);
            seqpacket::send(socket, &reply, descriptor.as_ref().map(AsFd::as_fd))
        })
    }

    fn reply(&self, ledger: &mut Ledger, request: Request) -> (Reply, Option<OwnedFd>) {
        let policy = &self.service.policy;
        let reply = match request {
            Request::Mount(request) => match ledger.mount(self.owner, policy, &request) {
                Ok(mounted) => {
                    let (claim, warnings) = (mounted.claim, mounted.warnings);
                    return (Reply::Mounted { claim, warnings }, Some(mounted.connection));
                }
                Err(error) => Reply::failed(error),
            },
            Request::Unmount(claim) => {
                let ended = ledger.unmount(self.owner, policy, &claim);
                ended.map_or_else(Reply::failed, |()| Reply::Unmounted)
            }
            Request::Adopt(claims) => {
                let adopted = ledger.adopt(self.owner, policy, claims);
                adopted.map_or_else(Reply::failed, Reply::done)
            }
            Request::Clear(Places(directory)) => {
                let cleared = policy
                    .directory(&directory)
                    .and_then(|directory| ledger.end_leftovers(policy, &directory));
                // The server goes on all the same.
                Reply::done(cleared.unwrap_or_else(|error| vec![error.to_string()]))
            }
        };
        (reply, None)
    }
}

impl Connection {
    /// Ends the mounts: before the socket is closed, which may take as long as what is in it that was never read.
    pub(super) fn end(&self) {
        let (service, owner) = (&self.service, self.owner);
        // One at a time: there may be very many, and others wait.
        for number in service.in_turn(owner, |ledger| ledger.of(owner)) {
            service.in_turn(owner, |ledger| ledger.end(owner, &service.policy, number));
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.end();
        self.service.connections.lock().open -= 1;
    }
}
