//! The mounter as a service of its own.

use std::fs::DirBuilder;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{AtFlags, CWD, FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use rustix::process::{Gid, Uid};

use super::connection::Service;
use super::policy::Policy;
use super::privilege;
use super::protocol::Reply;
use super::rights;
use super::seqpacket;
use crate::error::{Doing, Error, Kind, Result};

/// How many servers may be connected: a host has one or two. Some connections are root's alone.
const MAX_CONNECTIONS: usize = 64;
const RESERVED_CONNECTIONS: usize = 16;

/// How many may wait for the mounter to take them.
const BACKLOG: i32 = 64;

/// How long to wait when a connection cannot be taken, for lack of descriptors or memory.
const PAUSE: Duration = Duration::from_millis(100);

/// Who may have mounts made, and where.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Admission {
    /// The account that may connect. Root may in any case.
    pub uid: u32,
    /// Mounts are made strictly below these directories only. They must belong to root, and nobody else may write to them;
    /// one that is missing is made.
    pub beneath: Vec<PathBuf>,
}

/// Makes a listening socket at `path`: mode 0600, and `uid`'s own. One that a mounter left behind is replaced. Must be
/// called while there is only one thread, and before [`listen`], which gives up the privilege to do it.
///
/// # Errors
/// [`Kind::Config`] when something listens there already, or is there and not a socket, or the path will not do.
pub fn bind(path: &Path, uid: u32) -> Result<OwnedFd> {
    bind_anew(path, uid).map_err(|error| error.as_kind(Kind::Config))
}

fn bind_anew(path: &Path, uid: u32) -> Result<OwnedFd> {
    let shown = path.display();
    let listening = format!("listening on {shown}");
    let path = std::path::absolute(path).doing(listening.clone())?;
    let parent = path
        .parent()
        .ok_or_else(|| Error::config(format!("{shown} is not the path of a socket")))?;
    DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(parent)
        .doing(format!("making {}", parent.display()))?;
    let address = SocketAddrUnix::new(&path).map_err(|errno| match errno {
        Errno::NAMETOOLONG => Error::config(format!(
            "the socket's path {shown} is longer than 107 bytes; use a shorter one"
        )),
        errno => Error::os(errno, listening.clone()),
    })?;
    let _lock = lock(&path).doing(listening.clone())?;
    remove_stale(&path, &address)?;
    listen_at(&path, &address, uid).doing(listening)
}

/// Two mounters that start at once must not each take the other's socket for one that was left behind. The lock is a file
/// of root's own: whoever may open a file can keep it locked, and its directory is everybody's to open.
fn lock(path: &Path) -> rustix::io::Result<OwnedFd> {
    let mut lock = path.as_os_str().to_owned();
    lock.push(".lock");
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let lock = rustix::fs::open(lock, flags, Mode::from_raw_mode(0o600))?;
    rustix::fs::flock(&lock, FlockOperation::LockExclusive)?;
    Ok(lock)
}

fn listen_at(path: &Path, address: &SocketAddrUnix, uid: u32) -> rustix::io::Result<OwnedFd> {
    let socket = new_socket()?;
    // From the beginning, not only after a chmod.
    let mask = rustix::process::umask(Mode::from_raw_mode(0o177));
    let bound = rustix::net::bind(&socket, address);
    rustix::process::umask(mask);
    bound?;
    // Whatever somebody puts there instead, it is not what a link leads to that changes hands.
    let owner = (Some(Uid::from_raw(uid)), Some(Gid::ROOT));
    rustix::fs::chownat(CWD, path, owner.0, owner.1, AtFlags::SYMLINK_NOFOLLOW)?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(socket)
}

/// Serves whoever connects to `socket` and is admitted, each with its own mounts, until `stop` can be read. Then the
/// mounts are left as they are, for the next mounter to take over: sessions outlive a restart of the mounter.
///
/// Gives up every capability but CAP_SYS_ADMIN first.
///
/// # Errors
/// [`Kind::Config`] when the directories of `admission` will not do; [`Kind::MountFailed`] when the socket is not one that
/// listens, or fails.
pub fn listen(socket: &OwnedFd, admission: &Admission, stop: impl AsFd) -> Result<()> {
    privilege::confine()?;
    let listens = rustix::net::sockopt::socket_acceptconn(socket)
        .doing("looking at the socket that was passed")
        .map_err(|error| error.as_kind(Kind::MountFailed))?;
    if !listens {
        let why =
            "the socket that was passed is not one that listens; set ListenSequentialPacket= in its unit";
        return Err(Error::config(why));
    }
    // Also for those who have to wait until they are taken, or are not.
    rights::refuse(socket);
    let service = Arc::new(Service::new(Policy::beneath(&admission.beneath)?));
    loop {
        let mut ready = [
            PollFd::new(socket, PollFlags::IN),
            PollFd::new(&stop, PollFlags::IN),
        ];
        match poll(&mut ready, None) {
            Err(Errno::INTR) => continue,
            Err(errno) => return Err(Error::os(errno, "listening").as_kind(Kind::MountFailed)),
            Ok(_) => {}
        }
        let [connecting, stopping] = ready.map(|descriptor| !descriptor.revents().is_empty());
        if stopping {
            service.stop();
            return Ok(());
        }
        if connecting {
            match rustix::net::accept_with(socket, SocketFlags::CLOEXEC) {
                Ok(peer) => take(&service, peer, admission.uid),
                Err(Errno::INTR | Errno::CONNABORTED) => {}
                Err(errno) => {
                    log::error!("taking a connection: {errno}");
                    thread::sleep(PAUSE);
                }
            }
        }
    }
}

/// Welcomes one who has connected, or says why not.
fn take(service: &Arc<Service>, peer: OwnedFd, admitted: u32) {
    let is_root = match may_connect(service, &peer, admitted) {
        Ok(uid) => uid.is_root(),
        Err(why) => {
            service
                .complaints
                .add(format_args!("refused a connection: {why}"));
            // Whoever is gone already does not want to know.
            let _ = seqpacket::send(&peer, &Reply::failed(why), None);
            return;
        }
    };
    let connection = service.connection(is_root);
    let of_all = Arc::clone(service);
    let serve = move || {
        let said = seqpacket::send(&peer, &Reply::Welcome, None).map_err(Error::from);
        if let Err(error) = said.and_then(|()| connection.converse(peer.as_fd())) {
            of_all
                .complaints
                .add(format_args!("closed a connection: {error}"));
        }
        connection.end();
        drop(peer);
        // Counted until its thread has nothing to wait for any more.
        drop(connection);
    };
    let started = thread::Builder::new().name("connection".to_owned()).spawn(serve);
    if let Err(error) = started {
        service
            .complaints
            .add(format_args!("starting a thread for a connection: {error}"));
    }
}

/// Who has connected, if they may.
fn may_connect(service: &Service, peer: &OwnedFd, admitted: u32) -> std::result::Result<Uid, String> {
    let uid = rustix::net::sockopt::socket_peercred(peer)
        .map_err(|errno| errno.to_string())?
        .uid;
    if !uid.is_root() && uid.as_raw() != admitted {
        return Err(format!(
            "uid {} may not ask for mounts, only uid {admitted} and root may (--admit)",
            uid.as_raw()
        ));
    }
    let most = match uid.is_root() {
        true => MAX_CONNECTIONS,
        false => MAX_CONNECTIONS - RESERVED_CONNECTIONS,
    };
    match service.connections() < most {
        true => Ok(uid),
        false => Err(format!("{most} servers are connected, and no more may be")),
    }
}

/// Removes the socket of a mounter that is gone.
fn remove_stale(path: &Path, address: &SocketAddrUnix) -> Result<()> {
    let shown = path.display();
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(Error::io(&error, format!("looking at {shown}"))),
        Ok(found) if !found.file_type().is_socket() => {
            let why = format!("{shown} is there already, and is not a socket");
            return Err(Error::config(why));
        }
        Ok(_) => {}
    }
    let connected = new_socket().and_then(|probe| rustix::net::connect(&probe, address));
    match connected {
        Err(Errno::CONNREFUSED) => {
            std::fs::remove_file(path).doing(format!("removing the old socket {shown}"))
        }
        Ok(()) => Err(Error::config(format!(
            "another mounter listens on {shown} already"
        ))),
        Err(errno) => Err(Error::config(format!(
            "{shown} is the socket of something else: {errno}"
        ))),
    }
}

fn new_socket() -> rustix::io::Result<OwnedFd> {
    rustix::net::socket_with(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )
}
