//! The command line. Every option of `mount` is a TENANTFS_* variable and a key of the config file too.

use std::path::PathBuf;

use clap::builder::BoolishValueParser;
use clap::{Args, Parser, Subcommand, ValueEnum};
use tenantfs::layout::Layout;

use crate::demo::DemoArgs;

/// Per-user views of a shared volume of JSON records: each user's mount shows only what is theirs.
#[derive(Parser)]
#[command(version, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Show two tenants on a temporary volume, and that neither gets at the other's records
    ///
    /// Needs root and /dev/fuse, and nothing set up. Checks every claim it prints, cleans up after itself, and fails
    /// when a claim does not hold.
    Demo(DemoArgs),
    /// Mount one user's view of a volume
    ///
    /// Prints the mountpoint when it is ready, and serves until SIGTERM, SIGINT or SIGHUP. Needs root to mount; the
    /// server runs as the account that owns the volume, without any capability.
    ///
    /// Exit codes: 0 ok, 1 failure, 2 usage or configuration, 3 authentication refused, 5 mount failed.
    Mount(Box<MountArgs>),
    /// Print the hash of the API key on standard input, as a static keys file wants it
    KeyHash,
    /// The privileged half, which `mount` starts by itself: mounts what it is asked for on the socket that is its
    /// standard input, and ends those mounts when the socket closes
    Mounter,
}

#[derive(Args)]
pub(crate) struct MountArgs {
    /// An empty directory, best one that belongs to root
    pub(crate) mountpoint: PathBuf,

    /// Config file [default: /etc/tenantfs/config.toml, if there is one]
    #[arg(long, value_name = "FILE", env = "TENANTFS_CONFIG")]
    pub(crate) config: Option<PathBuf>,

    /// The volume: the directory that has every user's records
    #[arg(long, value_name = "DIR", env = "TENANTFS_VOLUME")]
    pub(crate) volume: Option<PathBuf>,

    /// How the volume is laid out: resource-first or user-first [default: resource-first]
    #[arg(long, value_name = "LAYOUT", env = "TENANTFS_LAYOUT")]
    pub(crate) layout: Option<Layout>,

    /// The directories of records that are shown [default: schedules,results]
    #[arg(long, value_name = "NAMES", env = "TENANTFS_RESOURCES", value_delimiter = ',')]
    pub(crate) resources: Option<Vec<String>>,

    /// What a close waits for [default: close]
    #[arg(long, value_name = "WHEN", env = "TENANTFS_COMMIT")]
    pub(crate) commit: Option<Commit>,

    /// File of key hashes and user ids; `tenantfs key-hash` makes the hashes
    #[arg(long, value_name = "FILE", env = "TENANTFS_STATIC_KEYS")]
    pub(crate) static_keys: Option<PathBuf>,

    /// File with the user's API key [default: $CREDENTIALS_DIRECTORY/api-key, or standard input]
    #[arg(long, value_name = "FILE", env = "TENANTFS_API_KEY_FILE")]
    pub(crate) api_key_file: Option<PathBuf>,

    /// The members of records that are secrets, and never shown [default: api_key]
    #[arg(
        long,
        value_name = "NAMES",
        env = "TENANTFS_SECRET_FIELDS",
        value_delimiter = ','
    )]
    pub(crate) secret_fields: Option<Vec<String>>,

    /// The largest record, as it is shown [default: 16MiB]
    #[arg(long, value_name = "SIZE", env = "TENANTFS_MAX_SIZE")]
    pub(crate) max_size: Option<String>,

    /// The user of this host whom the mount admits [default: who called sudo, else who runs this]
    #[arg(long, value_name = "UID", env = "TENANTFS_UID")]
    pub(crate) uid: Option<u32>,

    /// Refuse every change
    #[arg(long, env = "TENANTFS_READ_ONLY", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL",
        value_parser = BoolishValueParser::new())]
    pub(crate) read_only: Option<bool>,

    /// Let programs in the mount be run
    #[arg(long, env = "TENANTFS_EXEC", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL",
        value_parser = BoolishValueParser::new())]
    pub(crate) exec: Option<bool>,

    /// The account the server runs as, by name or uid [default: the one that owns the volume]
    #[arg(long, value_name = "ACCOUNT", env = "TENANTFS_SERVER_USER")]
    pub(crate) server_user: Option<String>,

    /// Return when it is mounted, and serve in the background
    #[arg(short = 'd', long, env = "TENANTFS_BACKGROUND", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL",
        value_parser = BoolishValueParser::new())]
    pub(crate) background: Option<bool>,
}

/// When a commit is durable.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Commit {
    /// When close returns
    Close,
    /// When fsync returns; a close only keeps the order
    Fsync,
}
