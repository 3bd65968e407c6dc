//! What the two halves say to each other: JSON messages on a SOCK_SEQPACKET socket, a descriptor beside one of them.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::MountRequest;
use crate::error::{Error, Kind, Result};

/// The longest message, in bytes: a path of 4096 bytes as JSON numbers, and the rest.
const MAX_MESSAGE: usize = 32 * 1024;

/// What the server asks.
#[derive(Serialize, Deserialize)]
pub(super) enum Request {
    Mount(MountRequest),
    /// Ends the mount of this number.
    Unmount(u64),
}

/// What the mounter answers.
#[derive(Serialize, Deserialize)]
pub(super) enum Reply {
    /// It is mounted; the /dev/fuse descriptor comes with the message.
    Mounted {
        number: u64,
        /// What is not as it should be.
        warnings: Vec<String>,
    },
    Unmounted,
    Failed(String),
}

/// Sends one message, and perhaps a descriptor.
pub(super) fn send(
    socket: impl AsFd,
    message: &impl Serialize,
    descriptor: Option<BorrowedFd<'_>>,
) -> Result<()> {
    let text = serde_json::to_vec(message).map_err(|error| broken(&error.to_string()))?;
    let descriptors: Vec<BorrowedFd<'_>> = descriptor.into_iter().collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(&descriptors)) {
        return Err(broken("no room for the descriptor"));
    }
    loop {
        let sent = rustix::net::sendmsg(
            &socket,
            &[IoSlice::new(&text)],
            &mut ancillary,
            SendFlags::NOSIGNAL,
        );
        match sent {
            Ok(_) => return Ok(()),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(broken(&errno.to_string())),
        }
    }
}

/// Receives one message and the descriptor that came with it; none when the other side has closed the socket.
pub(super) fn receive<T: DeserializeOwned>(socket: impl AsFd) -> Result<Option<(T, Option<OwnedFd>)>> {
    let mut text = vec![0; MAX_MESSAGE];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let received = loop {
        let mut slices = [IoSliceMut::new(&mut text)];
        match rustix::net::recvmsg(&socket, &mut slices, &mut ancillary, RecvFlags::CMSG_CLOEXEC) {
            Ok(message) => break message.bytes,
            Err(Errno::INTR) => {}
            Err(Errno::CONNRESET) => return Ok(None),
            Err(Errno::AGAIN) => return Err(broken("no answer in time")),
            Err(errno) => return Err(broken(&errno.to_string())),
        }
    };
    let descriptor = ancillary.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    if received == 0 {
        return Ok(None);
    }
    let message = serde_json::from_slice(text.get(..received).unwrap_or_default())
        .map_err(|error| broken(&error.to_string()))?;
    Ok(Some((message, descriptor)))
}

fn broken(why: &str) -> Error {
    Error::new(
        Kind::MountFailed,
        format!("the connection between server and mounter is broken: {why}"),
    )
}

/// Paths as the bytes that they are: they need not be UTF-8.
pub(super) mod path {
    use std::ffi::OsString;
    use std::os::unix::ffi::{OsStrExt, OsStringExt};
    use std::path::{Path, PathBuf};

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(in super::super) fn serialize<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
        path.as_os_str().as_bytes().serialize(serializer)
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<PathBuf, D::Error> {
        Vec::<u8>::deserialize(deserializer).map(|bytes| PathBuf::from(OsString::from_vec(bytes)))
    }
}
