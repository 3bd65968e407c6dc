//! The command lines of what talks to the daemon.

use std::path::PathBuf;

use clap::Args;

use super::shared::ClientArgs;
use crate::account;

#[derive(Args)]
pub(crate) struct LoginArgs {
    #[command(flatten)]
    pub(crate) client: ClientArgs,

    /// File with your API key [default: standard input]
    #[arg(long, value_name = "FILE", env = "TENANTFS_API_KEY_FILE")]
    pub(crate) api_key_file: Option<PathBuf>,

    /// Whom to log in, other than yourself, by name or uid; for root
    #[arg(long, value_name = "USER", value_parser = account::uid)]
    pub(crate) uid: Option<u32>,

    /// The group of the processes that get in: the kernel refuses those of the same user that have another [default: the
    /// user's primary group]
    #[arg(long, value_name = "GROUP", value_parser = account::gid, env = "TENANTFS_GID")]
    pub(crate) gid: Option<u32>,
}

#[derive(Args)]
pub(crate) struct LogoutArgs {
    #[command(flatten)]
    pub(crate) client: ClientArgs,

    /// Whom to log out, other than yourself, by name or uid; for root
    #[arg(long, value_name = "USER", value_parser = account::uid)]
    pub(crate) uid: Option<u32>,

    /// Only if no process of that user is left, beside this one
    #[arg(long)]
    pub(crate) if_idle: bool,
}

#[derive(Args)]
pub(crate) struct StatusArgs {
    #[command(flatten)]
    pub(crate) client: ClientArgs,

    /// Of whom, other than yourself, by name or uid; for root
    #[arg(long, value_name = "USER", value_parser = account::uid)]
    pub(crate) uid: Option<u32>,

    /// Show it anew every so many seconds, until Ctrl-C
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, require_equals = true, default_missing_value = "2",
        value_parser = clap::value_parser!(u16).range(1..), conflicts_with = "json")]
    pub(crate) watch: Option<u16>,

    /// The sessions of every host that serves the volume; for root
    #[arg(long, conflicts_with_all = ["uid", "watch"])]
    pub(crate) all_hosts: bool,
}

#[derive(Args)]
pub(crate) struct TopArgs {
    /// The daemon's control socket [default: /run/tenantfs/control.sock]
    #[arg(long, value_name = "SOCKET", env = "TENANTFS_SOCKET")]
    pub(crate) socket: Option<PathBuf>,

    /// Config file, for the control socket's path [default: /etc/tenantfs/config.toml, if there is one]
    #[arg(long, value_name = "FILE", env = "TENANTFS_CONFIG")]
    pub(crate) config: Option<PathBuf>,

    /// How often it is shown anew, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=60))]
    pub(crate) interval: u16,
}

impl TopArgs {
    /// What a client of the daemon needs of it.
    pub(crate) fn client(&self) -> ClientArgs {
        ClientArgs {
            socket: self.socket.clone(),
            config: self.config.clone(),
            json: false,
        }
    }
}

#[derive(Args)]
#[command(group = clap::ArgGroup::new("whose").required(true))]
pub(crate) struct RevokeArgs {
    #[command(flatten)]
    pub(crate) client: ClientArgs,

    /// The session of this user of the host, by name or uid
    #[arg(long, value_name = "USER", value_parser = account::uid, group = "whose")]
    pub(crate) uid: Option<u32>,

    /// Every session of this user of the service
    #[arg(long, value_name = "ID", group = "whose")]
    pub(crate) user_id: Option<String>,

    /// Every session
    #[arg(long, group = "whose")]
    pub(crate) all: bool,

    /// On every host that serves the volume; not with --uid
    #[arg(long, conflicts_with = "uid")]
    pub(crate) all_hosts: bool,
}
