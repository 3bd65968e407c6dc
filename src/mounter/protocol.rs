//! What the two halves say to each other.
//!
//! A forked mounter is told first what it may do, once: its [`Grant`]. Then the server asks and the mounter answers, one request
//! at a time. Either mounter speaks before it is asked: it welcomes its server, or says why not.
//!
//! # The worst that each message can do
//!
//! The server may have been taken over: then whoever speaks here is of the server's account, has no capability, and says what it
//! likes. This is every message that the mounter takes, and the worst that comes of it. `tests/hostile/compromised.rs` has a test
//! for each line.
//!
//! | message | forked by `mount` | forked by `daemon` | listening |
//! |---|---|---|---|
//! | [`Grant`] | the first message, of a process that is still root; another one is nonsense | the same | nonsense |
//! | [`Mount`](Request::Mount) | the one mount that was granted, on the directory that was opened before, once | for any uid but root's, on the entry of its directory that is called by that uid; read-only and not executable where that was granted | for any uid but root's, on any entry below `--beneath` whose way is root's alone; executable or not |
//! | [`Unmount`](Request::Unmount) | that mount is ended | a mount of this connection's is ended, and its directory removed if it was made for it | the same |
//! | [`Adopt`](Request::Adopt) | nothing | nothing | a mount of tenantfs below `--beneath` that no connected server has is taken over, and can be ended: another server's, of the same account or root's, before that has reconnected to a restarted mounter |
//! | [`Clear`](Request::Clear) | nothing | mounts of tenantfs in its directory that it does not have are ended | the same in a directory below `--beneath`; of those that no connected server has |
//! | nonsense, too long, or with descriptors | its connection is closed, which ends its mounts; nothing is taken | the same | the same, and no other connection's |
//! | descriptors, since Linux 6.16 | the kernel refuses to send them | the same | the same; before, a socket that lingers, passed along, delays the end of its own connection, and of one that is not admitted, everybody's |
//! | very many of them | its own requests wait | the same | root waits for one of them at a time, others of its account for one of each connection |
//! | answers that it does not read | its connection is closed | the same | the same |
//! | connections | there is one | there is one | all but those of root's reserve; a line in the log each second |
//! | nothing, or its end | its mounts are ended when the connection closes or the process that made it is dead | the same | the same |
//!
//! A mount is at worst one whose server says what it likes, or nothing: its viewer, and nobody else, root included, can be shown
//! anything in it or wait in it until the server ends. It never has set-id programs, devices or links that lead out, and no name,
//! type or option in it is the server's to choose. There are no more than 16,384 of them. What is mounted on is an empty directory;
//! one that is made is root's, of mode 0555, in a directory that is root's alone.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::mount_id::MountEntry;
use super::path_bytes;
use super::seqpacket::MAX_MESSAGE;
use super::viewer::Viewer;

/// How much of a message a list may fill, in bytes: the rest is for a path of 4096 bytes as JSON numbers, or for a last line.
pub(super) const MAX_LIST: usize = MAX_MESSAGE / 2;

/// How many bytes a byte or a character of text may take in a message: `\u0001`.
const MAX_ESCAPE: usize = 6;

/// What a mounter that is forked may do for its server. It is told before the server gives up its privileges; from then on
/// the server cannot have anything else done, whatever becomes of it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Grant {
    /// One mount, once, on a directory that is there. The mounter opens it now: what is at its path later does not matter.
    Once {
        /// An empty directory.
        #[serde(with = "path_bytes")]
        mountpoint: PathBuf,
        /// Whom the kernel admits.
        viewer: Viewer,
        /// Whether the kernel refuses every change.
        read_only: bool,
        /// Whether programs in the mount may be run.
        exec: bool,
    },
    /// Mounts on directories in `places` that are called by their viewers' uids, which the mounter makes and removes.
    Sessions {
        /// Root's alone, and so is the way to it; made if it is missing.
        #[serde(with = "path_bytes")]
        places: PathBuf,
        /// Whether all of them are read-only.
        read_only: bool,
        /// Whether programs in them may be run.
        exec: bool,
    },
}

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
    pub viewer: Viewer,
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
    /// Takes over mounts that the server has from an earlier mounter.
    Adopt(Vec<Claim>),
    /// Ends what a dead server left in that directory, in which the server has all its mountpoints, and nobody else any.
    Clear(Places),
}

/// What the mounter answers.
#[derive(Serialize, Deserialize)]
pub(super) enum Reply {
    /// Said first: by a mounter that listens to whom it admits; by a forked one when it has understood its grant.
    Welcome,
    /// It is mounted; the /dev/fuse descriptor comes with the message.
    Mounted {
        claim: Claim,
        /// What is not as it should be.
        warnings: Vec<String>,
    },
    Unmounted,
    /// The answer to taking over and to clearing.
    Done {
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

    /// What could not be taken over or ended: as many of the warnings as one message takes, and how many there are more.
    pub(super) fn done(mut warnings: Vec<String>) -> Self {
        let all = warnings.len();
        let mut room = MAX_LIST;
        warnings.retain(|warning| {
            let size = MAX_ESCAPE * warning.len();
            let fits = size <= room;
            if fits {
                room -= size;
            }
            fits
        });
        if warnings.len() < all {
            warnings.push(format!("and {} more", all - warnings.len()));
        }
        Self::Done { warnings }
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

/// The directory in which a server has all its mountpoints.
#[derive(Serialize, Deserialize)]
pub(super) struct Places(#[serde(with = "path_bytes")] pub(super) PathBuf);
