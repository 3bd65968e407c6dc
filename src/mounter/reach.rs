//! The ways to a mounter: starting one, and connecting to one that listens.

use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use super::patience::Patience;
use super::protocol::{Grant, Reply};
use super::seqpacket::{self, Fault};
use crate::clock::Stopwatch;
use crate::error::{Doing, Error, Kind, Result};

/// How long the mounter may take to answer: mounting and unmounting never wait for a file system.
const LONGEST_ANSWER: Duration = Duration::from_secs(10);

/// How long to wait among too many who want to connect, and how often it is tried.
const LONGEST_CROWD: Duration = Duration::from_secs(2);
const TURN: Duration = Duration::from_millis(2);

pub(super) type Answer = (Reply, Option<OwnedFd>);

/// Starts a mounter, with the other end of the socket as its standard input, and tells it what it may do.
pub(super) fn fork(grant: &Grant, log: Stdio, patience: &Patience) -> Result<(OwnedFd, Child)> {
    let (socket, mut child) = start(log).map_err(|error| {
        error
            .context("the mounter cannot be started")
            .as_kind(Kind::MountFailed)
    })?;
    let welcomed = seqpacket::send(&socket, grant, None)
        .and_then(|()| receive(&socket, patience))
        .map_err(Error::from);
    match welcomed {
        Ok((Reply::Welcome, _)) => Ok((socket, child)),
        refused => {
            // It ends with its socket; one that hangs is not waited for.
            drop(socket);
            let _ = child.try_wait();
            Err(refused.map_or_else(|error| error, failure))
        }
    }
}

fn start(log: Stdio) -> Result<(OwnedFd, Child)> {
    let (ours, theirs) = rustix::net::socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )
    .doing("making a socket")?;
    let child = Command::new("/proc/self/exe")
        .arg0("tenantfs")
        .arg("mounter")
        .env_clear()
        .envs(std::env::var_os("TENANTFS_LOG").map(|level| ("TENANTFS_LOG", level)))
        .current_dir("/")
        .stdin(Stdio::from(theirs))
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .doing("starting a process")?;
    Ok((ours, child))
}

/// Connects to a mounter that listens, and is welcomed.
pub(super) fn open(address: &Path, patience: &Patience) -> Result<OwnedFd> {
    welcomed(address, patience).map_err(|error| {
        error
            .context(format_args!("the mounter at {}", address.display()))
            .as_kind(Kind::MountFailed)
    })
}

fn welcomed(address: &Path, patience: &Patience) -> Result<OwnedFd> {
    let to = SocketAddrUnix::new(address).doing("connecting")?;
    let family = AddressFamily::UNIX;
    // Connecting would wait, too: where systemd has the socket, and no mounter takes what comes.
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket =
        rustix::net::socket_with(family, SocketType::SEQPACKET, flags, None).doing("making a socket")?;
    connect(&socket, &to, patience).map_err(|errno| match errno {
        Errno::NOENT | Errno::CONNREFUSED => Error::mount_failed(format!(
            "none listens there; start it: tenantfs mounter --listen {}",
            address.display()
        )),
        Errno::AGAIN => Error::mount_failed("it does not answer; too many wait for it already"),
        Errno::ACCESS => Error::mount_failed("the socket is not this account's (tenantfs mounter --admit)"),
        errno => Error::os(errno, "connecting"),
    })?;
    // Who listens there could otherwise hand out file systems of its own.
    let listener = rustix::net::sockopt::socket_peercred(&socket)
        .doing("asking whose it is")?
        .uid;
    if !listener.is_root() {
        let why = format!("it is not root's, but of uid {}", listener.as_raw());
        return Err(Error::mount_failed(why));
    }
    match receive(&socket, patience)? {
        (Reply::Welcome, _) => Ok(socket),
        answer => Err(failure(answer)),
    }
}

/// Connects; in a crowd, when it is this one's turn.
fn connect(socket: &OwnedFd, to: &SocketAddrUnix, patience: &Patience) -> rustix::io::Result<()> {
    let watch = Stopwatch::start();
    loop {
        match rustix::net::connect(socket, to) {
            Err(Errno::AGAIN) if watch.elapsed() < LONGEST_CROWD && !patience.is_over() => {
                patience.sleep(TURN);
            }
            Err(Errno::INTR) => {}
            result => return result,
        }
    }
}

pub(super) fn receive(socket: &OwnedFd, patience: &Patience) -> std::result::Result<Answer, Fault> {
    patience.wait(socket, LONGEST_ANSWER)?;
    seqpacket::receive(socket)
}

pub(super) fn failure((reply, _): Answer) -> Error {
    match reply {
        Reply::Failed(why) => Error::mount_failed(why),
        _ => unexpected().into(),
    }
}

pub(super) fn unexpected() -> Fault {
    Fault::Broken("the mounter gave an answer to another question".to_owned())
}
