//! The command lines of `removed`, `restore` and `drafts`.

use std::path::PathBuf;

use clap::Args;

use super::shared::{ClientArgs, VolumeArgs};
use crate::account;

/// Whose, and who is asked: the daemon, or the volume itself.
#[derive(Args)]
pub(crate) struct WhoseArgs {
    /// Of this user of the service, on the volume itself, whether or not they are logged in; for operators, who give --volume and
    /// so on as for `list`
    #[arg(long, value_name = "ID", conflicts_with = "uid")]
    pub(crate) user_id: Option<String>,

    /// In the session of this user of the host, other than your own, by name or uid; for root
    #[arg(long, value_name = "USER", value_parser = account::uid)]
    pub(crate) uid: Option<u32>,

    /// The daemon's control socket [default: /run/tenantfs/control.sock]
    #[arg(long, value_name = "SOCKET", env = "TENANTFS_SOCKET")]
    pub(crate) socket: Option<PathBuf>,

    /// Print one JSON object, errors too
    #[arg(long)]
    pub(crate) json: bool,

    #[command(flatten)]
    pub(crate) on: VolumeArgs,
}

impl WhoseArgs {
    /// What a client of the daemon needs of it.
    pub(crate) fn client(&self) -> ClientArgs {
        ClientArgs {
            socket: self.socket.clone(),
            config: self.on.config.clone(),
            json: self.json,
        }
    }
}

#[derive(Args)]
pub(crate) struct RemovedArgs {
    #[command(flatten)]
    pub(crate) whose: WhoseArgs,
}

#[derive(Args)]
pub(crate) struct RestoreArgs {
    /// What was removed: a path in your view, from wherever you are, or as `tenantfs removed` prints it. Of a directory that was
    /// removed, the records in it can be restored one by one
    #[arg(value_name = "PATH")]
    pub(crate) path: PathBuf,

    #[command(flatten)]
    pub(crate) whose: WhoseArgs,
}

#[derive(Args)]
pub(crate) struct DraftsArgs {
    /// Give up this draft: the record shows again as it was last saved. What was typed since is gone for good
    #[arg(long, value_name = "PATH")]
    pub(crate) discard: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) whose: WhoseArgs,
}
