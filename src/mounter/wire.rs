//! What the two halves say to each other: JSON messages on a SOCK_SEQPACKET socket, a descriptor beside one of them.
//!
//! The server asks and the mounter answers, one request at a time. A mounter that listens speaks first: it welcomes
//! whoever has connected, or says why not.

use std::fmt;
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::MountRequest;
use super::mount_entry::MountEntry;
use crate::error::{Error, Kind};

/// The longest message, in bytes: a list, a path of 4096 bytes as JSON numbers, and the rest.
const MAX_MESSAGE: usize = 64 * 1024;

/// How much of a message a list may fill, in bytes.
pub(super) const MAX_LIST: usize = MAX_MESSAGE / 2;

/// How many bytes a byte or a character of text may take in a message: `\u0001`.
const MAX_ESCAPE: usize = 6;

/// What the server asks.
#[derive(Serialize, Deserialize)]
pub(super) enum Request {
    Mount(MountRequest),
    /// Ends that mount.
    Unmount(Claim),
    /// Takes over the mounts that the server has from an earlier mounter; then ends what a dead server left in `places`.
    Adopt {
        mounts: Vec<Claim>,
        places: Option<Places>,
    },
}

/// What the mounter answers.
#[derive(Serialize, Deserialize)]
pub(super) enum Reply {
    /// Said first, by a mounter that listens.
    Welcome,
    /// It is mounted; the /dev/fuse descriptor comes with the message.
    Mounted {
        claim: Claim,
        /// What is not as it should be.
        warnings: Vec<String>,
    },
    Unmounted,
    Adopted {
        /// Mounts that are gone, or could not be ended, or are strangers'.
        warnings: Vec<String>,
    },
    Failed(String),
}

impl Reply {
    /// A refusal, as much of it as a message takes.
    pub(super) fn failed(why: &str) -> Self {
        Self::Failed(why.chars().take(MAX_LIST / MAX_ESCAPE).collect())
    }
}

/// As many of the warnings as one message takes; the rest goes to the mounter's log.
pub(super) fn that_fit(warnings: Vec<String>) -> Vec<String> {
    let mut room = MAX_LIST;
    let fits = |warning: &String| {
        let size = MAX_ESCAPE * warning.len();
        let fits = size <= room;
        match fits {
            true => room -= size,
            false => log::warn!("{warning}"),
        }
        fits
    };
    warnings.into_iter().filter(fits).collect()
}

/// A mount, as a server shows any mounter that it is its own.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub(super) struct Claim {
    pub(super) entry: MountEntry,
    /// A random number, to tell it from the next mount on the same place, which the kernel likes to give the same entry.
    pub(super) serial: u64,
    /// Whether its directory is removed with it.
    pub(super) made: bool,
}

impl Claim {
    /// About how many bytes it fills in a message, and never less: a byte of a path takes up to four.
    pub(super) fn size(&self) -> usize {
        256 + 4 * self.entry.mountpoint().as_os_str().len()
    }
}

/// The directory in which a server has all its mountpoints, and nobody else any.
#[derive(Serialize, Deserialize)]
pub(super) struct Places(#[serde(with = "path")] pub(super) PathBuf);

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
    let mut text = vec![0; MAX_MESSAGE];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let received = loop {
        let mut slices = [IoSliceMut::new(&mut text)];
        match rustix::net::recvmsg(&socket, &mut slices, &mut ancillary, RecvFlags::CMSG_CLOEXEC) {
            Ok(message) => break message.bytes,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    };
    let descriptor = ancillary.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    if received == 0 {
        return Err(Fault::Closed);
    }
    let message = serde_json::from_slice(text.get(..received).unwrap_or_default())
        .map_err(|error| Fault::Broken(error.to_string()))?;
    Ok((message, descriptor))
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
