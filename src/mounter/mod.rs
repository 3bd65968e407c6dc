//! The privileged half: a process of its own that mounts, and nothing else. It has CAP_SYS_ADMIN, no volume, no keys and
//! no network; it ends its mounts when the socket to the server closes, whatever that died of.

mod client;
mod mount_entry;
mod mountpoint;
mod privileged;
mod wire;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use client::{Mount, Mounter};
pub use privileged::serve;

/// One mount that is asked for.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct MountRequest {
    /// An empty directory.
    #[serde(with = "wire::path")]
    pub mountpoint: PathBuf,
    /// stub
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
