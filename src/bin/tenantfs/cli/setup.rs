//! The command line of `setup`.

use std::path::PathBuf;

use clap::{ArgGroup, Args};
use tenantfs::layout::Layout;

#[derive(Args)]
#[command(group = ArgGroup::new("auth").args(["auth_url", "static_keys", "remove"]).required(true))]
pub(crate) struct SetupArgs {
    /// The volume: the directory that has every user's records; it is made if it is missing
    #[arg(long, value_name = "DIR", required_unless_present = "remove")]
    pub(crate) volume: Option<PathBuf>,

    /// The account that serves [default: the one that owns the volume, else tenantfs]
    #[arg(long, value_name = "ACCOUNT")]
    pub(crate) account: Option<String>,

    /// How the volume is laid out: resource-first or user-first [default: as configured before, else resource-first]
    #[arg(long, value_name = "LAYOUT")]
    pub(crate) layout: Option<Layout>,

    /// The service that says whose a key is: https, or plain http to a loopback address
    #[arg(long, value_name = "URL")]
    pub(crate) auth_url: Option<String>,

    /// The account that runs an auth service of this host that is asked by plain http [default: the one that listens there now]
    #[arg(long, value_name = "ACCOUNT", requires = "auth_url")]
    pub(crate) auth_service_user: Option<String>,

    /// File of key hashes and user ids instead of a service
    #[arg(long, value_name = "FILE")]
    pub(crate) static_keys: Option<PathBuf>,

    /// Have secrets sealed: makes the keys in /etc/credstore, unless there are some
    #[arg(long)]
    pub(crate) sealing_keys: bool,

    /// Log users in and out with whatever they begin: ssh with and without a shell, sftp, cron
    #[arg(long)]
    pub(crate) pam: bool,

    /// Say what would be done, and do nothing
    #[arg(long)]
    pub(crate) dry_run: bool,

    /// Take back what setup has done; the volume, the audit log, and all keys stay
    #[arg(long, conflicts_with_all = ["volume", "account", "layout", "sealing_keys", "pam"])]
    pub(crate) remove: bool,
}
