//! The privileged half: a process of its own that mounts, and nothing else. It has CAP_SYS_ADMIN, no volume, no keys and
//! no network.
//!
//! Either it is forked for one server, with a socket as its standard input ([`serve`], [`Mounter::spawn`]); or it is a
//! service of its own, to which servers connect ([`listen`], [`Mounter::connect`]). A connection's mounts end when the
//! connection closes, whatever the server died of. They outlive the mounter: the next one that listens is told by each
//! server which mounts are its own, and takes them over.

mod client;
mod connection;
mod held;
mod kernel;
mod link;
mod listener;
mod mount_entry;
mod mountinfo;
mod mountpoint;
mod patience;
mod peer;
mod policy;
mod privilege;
mod wire;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use client::{Mount, Mounter};
pub use connection::serve;
pub use listener::{Admission, bind, listen};

/// One mount that is asked for.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct MountRequest {
    /// An empty directory.
    #[serde(with = "wire::path")]
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
