//! What the two halves say to each other.
//!
//! The server asks and the mounter answers, one request at a time. A mounter that listens speaks first: it welcomes
//! whoever has connected, or says why not.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::mount_id::MountEntry;
use super::path_bytes;
use super::seqpacket::MAX_MESSAGE;

/// How much of a message a list may fill, in bytes: the rest is for a path of 4096 bytes as JSON numbers.
pub(super) const MAX_LIST: usize = MAX_MESSAGE / 2;

/// How many bytes a byte or a character of text may take in a message: `\u0001`.
const MAX_ESCAPE: usize = 6;

/// One mount that is asked for.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct MountRequest {
    /// An empty directory.
    #[serde(with = "path_bytes")]
    pub mountpoint: PathBuf,
    /// Whether the mountpoint is the mounter's to make and to remove: it makes the directory if it is missing (not the
    /// one that it is in, which must be root's, and writable by nobody else), and removes it after the mount.
    pub make: bool,
    /// The only user whom the kernel admits.
    pub uid: u32,
    /// That user's group.
    pub gid: u32,
    /// Whether the kernel refuses every change.
    pub read_only: bool,
    /// Whether programs in the mount may be run.
    pub exec: bool,
}

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
    pub(super) fn failed(why: impl fmt::Display) -> Self {
        Self::Failed(why.to_string().chars().take(MAX_LIST / MAX_ESCAPE).collect())
    }

    /// What could not be taken over: as many of the warnings as one message takes. The rest goes to the mounter's log.
    pub(super) fn adopted(mut warnings: Vec<String>) -> Self {
        let mut room = MAX_LIST;
        warnings.retain(|warning| {
            let size = MAX_ESCAPE * warning.len();
            let fits = size <= room;
            match fits {
                true => room -= size,
                false => log::warn!("{warning}"),
            }
            fits
        });
        Self::Adopted { warnings }
    }
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
pub(super) struct Places(#[serde(with = "path_bytes")] pub(super) PathBuf);
