//! One JSON message at a time over a SOCK_SEQPACKET socket, and a descriptor beside it.

use std::fmt;
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Error, Kind};

/// The longest message, in bytes.
pub(super) const MAX_MESSAGE: usize = 64 * 1024;

/// Why a message could not be sent or received.
#[derive(Debug)]
pub(super) enum Fault {
    /// The other side has closed the socket, or has died.
    Closed,
    /// It is there, and has not answered in time.
    Late,
    /// The message makes no sense, or the socket fails.
    Broken(String),
}

impl From<Errno> for Fault {
    fn from(errno: Errno) -> Self {
        match errno {
            Errno::PIPE | Errno::CONNRESET | Errno::NOTCONN => Self::Closed,
            Errno::AGAIN => Self::Late,
            errno => Self::Broken(errno.to_string()),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let broken = "the connection between server and mounter is broken";
        match self {
            Self::Closed => f.write_str("the mounter is gone"),
            Self::Late => write!(f, "{broken}: no answer in time"),
            Self::Broken(why) => write!(f, "{broken}: {why}"),
        }
    }
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        Self::new(Kind::MountFailed, fault.to_string())
    }
}

/// Sends one message, and perhaps a descriptor. Does not wait for room: whoever reads no answers must not keep the mounter
/// from the others.
pub(super) fn send(
    socket: impl AsFd,
    message: &impl Serialize,
    descriptor: Option<BorrowedFd<'_>>,
) -> Result<(), Fault> {
    let text = serde_json::to_vec(message).map_err(|error| Fault::Broken(error.to_string()))?;
    if text.len() > MAX_MESSAGE {
        return Err(Fault::Broken(format!("a message of {} bytes", text.len())));
    }
    let descriptors: Vec<BorrowedFd<'_>> = descriptor.into_iter().collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(&descriptors)) {
        return Err(Fault::Broken("no room for the descriptor".to_owned()));
    }
    loop {
        let sent = rustix::net::sendmsg(
            &socket,
            &[IoSlice::new(&text)],
            &mut ancillary,
            SendFlags::NOSIGNAL | SendFlags::DONTWAIT,
        );
        match sent {
            Ok(_) => return Ok(()),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// Receives one message and the descriptor that came with it.
pub(super) fn receive<T: DeserializeOwned>(socket: impl AsFd) -> Result<(T, Option<OwnedFd>), Fault> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let message = receive_with(socket, &mut ancillary)?;
    let descriptor = ancillary.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    Ok((message, descriptor))
}

/// Receives one message from whom no descriptor is wanted. The kernel drops those that come all the same. They never are this
/// process's: to close one that is could mean to wait for whoever serves the file, for ever.
pub(super) fn receive_alone<T: DeserializeOwned>(socket: impl AsFd) -> Result<T, Fault> {
    // Where they come, they stay where they are until the socket is closed: the last of many who have something closes it, and that
    // can take as long as somebody likes.
    let mut ancillary = RecvAncillaryBuffer::default();
    let peeked = loop {
        match rustix::net::recvmsg(&socket, &mut [], &mut ancillary, RecvFlags::PEEK) {
            Err(Errno::INTR) => {}
            peeked => break peeked?,
        }
    };
    if peeked.flags.contains(ReturnFlags::CTRUNC) {
        return Err(unwanted());
    }
    receive_with(socket, &mut ancillary)
}

fn unwanted() -> Fault {
    Fault::Broken("descriptors that nobody asked for".to_owned())
}

fn receive_with<T: DeserializeOwned>(
    socket: impl AsFd,
    ancillary: &mut RecvAncillaryBuffer<'_>,
) -> Result<T, Fault> {
    let mut text = vec![0; MAX_MESSAGE];
    let received = loop {
        let mut slices = [IoSliceMut::new(&mut text)];
        match rustix::net::recvmsg(&socket, &mut slices, ancillary, RecvFlags::CMSG_CLOEXEC) {
            Ok(message) => break message,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    };
    if received.flags.contains(ReturnFlags::TRUNC) {
        return Err(Fault::Broken("a message that is too long".to_owned()));
    }
    if received.flags.contains(ReturnFlags::CTRUNC) {
        return Err(unwanted());
    }
    if received.bytes == 0 {
        return Err(Fault::Closed);
    }
    serde_json::from_slice(text.get(..received.bytes).unwrap_or_default())
        .map_err(|error| Fault::Broken(error.to_string()))
}
