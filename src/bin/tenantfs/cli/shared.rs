//! What several commands have in common: the volume, serving it, and talking to the daemon.

use std::path::PathBuf;

use clap::builder::BoolishValueParser;
use clap::{Args, ValueEnum};
use tenantfs::layout::Layout;

/// Which volume, and how it is to be understood.
#[derive(Args)]
pub(crate) struct VolumeArgs {
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

    /// The members of records that are secrets, and never shown [default: api_key]
    #[arg(
        long,
        value_name = "NAMES",
        env = "TENANTFS_SECRET_FIELDS",
        value_delimiter = ','
    )]
    pub(crate) secret_fields: Option<Vec<String>>,

    /// File of the keys that seal secrets; `tenantfs keys generate` makes one [default: $CREDENTIALS_DIRECTORY/sealing-keys, or
    /// /etc/credstore/tenantfs.sealing-keys, if there is one]
    #[arg(long, value_name = "FILE", env = "TENANTFS_SEALING_KEYS")]
    pub(crate) sealing_keys: Option<PathBuf>,

    /// The largest record, as it is shown [default: 16MiB]
    #[arg(long, value_name = "SIZE", env = "TENANTFS_MAX_SIZE")]
    pub(crate) max_size: Option<String>,

    /// How long a removed record waits for the next of its name, which gets its secrets; 0 for not at all [default: 1h]
    #[arg(long, value_name = "DURATION", env = "TENANTFS_KEEP_REMOVED")]
    pub(crate) keep_removed: Option<String>,

    /// Audit log: a file, `journal`, or `none` [default: /var/log/tenantfs/audit.jsonl if there is that directory, else the journal under systemd]
    #[arg(long, value_name = "FILE", env = "TENANTFS_AUDIT_LOG")]
    pub(crate) audit_log: Option<PathBuf>,

    /// What the audit log has [default: access]
    #[arg(long, value_name = "LEVEL", env = "TENANTFS_AUDIT_LEVEL")]
    pub(crate) audit_level: Option<AuditLevel>,

    /// What each user may add to the audit log per second for long; who adds more, waits [default: 512KiB]
    #[arg(long, value_name = "SIZE", env = "TENANTFS_AUDIT_USER_RATE")]
    pub(crate) audit_user_rate: Option<String>,

    /// The account that works on the volume, by name or uid [default: the one that owns the volume]
    #[arg(long, value_name = "ACCOUNT", env = "TENANTFS_SERVER_USER")]
    pub(crate) server_user: Option<String>,
}

/// How much each user may have.
#[derive(Args)]
pub(crate) struct QuotaArgs {
    /// The most that a user may have on the volume, as in 10GiB [default: no limit]
    #[arg(long, value_name = "SIZE", env = "TENANTFS_QUOTA_BYTES")]
    pub(crate) quota_bytes: Option<String>,

    /// The most files and directories that a user may have [default: no limit]
    #[arg(long, value_name = "NUMBER", env = "TENANTFS_QUOTA_FILES")]
    pub(crate) quota_files: Option<u64>,

    /// File of what single users may have, which is read again when it changes [default: none]
    #[arg(long, value_name = "FILE", env = "TENANTFS_QUOTA_USERS")]
    pub(crate) quota_users: Option<PathBuf>,
}

/// What serving one session has in common with serving many.
#[derive(Args)]
pub(crate) struct ServeArgs {
    #[command(flatten)]
    pub(crate) on: VolumeArgs,

    #[command(flatten)]
    pub(crate) quota: QuotaArgs,

    /// The largest file that is no record, holes too [default: 1TiB]
    #[arg(long, value_name = "SIZE", env = "TENANTFS_MAX_ATTACHMENT_SIZE")]
    pub(crate) max_attachment_size: Option<String>,

    /// What a close waits for [default: close]
    #[arg(long, value_name = "WHEN", env = "TENANTFS_COMMIT")]
    pub(crate) commit: Option<Commit>,

    /// A program, by its whole path and with its arguments between spaces, that makes visible to other hosts what was saved: for
    /// volumes that publish explicitly
    #[arg(long, value_name = "COMMAND", env = "TENANTFS_COMMIT_COMMAND")]
    pub(crate) commit_command: Option<String>,

    /// The same for what fetches what other hosts have made visible
    #[arg(long, value_name = "COMMAND", env = "TENANTFS_RELOAD_COMMAND")]
    pub(crate) reload_command: Option<String>,

    /// The service that says whose a key is: GET with the key as bearer token
    #[arg(long, value_name = "URL", env = "TENANTFS_AUTH_URL")]
    pub(crate) auth_url: Option<String>,

    /// Unix socket through which the service is reached: for a server without a network
    #[arg(long, value_name = "SOCKET", env = "TENANTFS_AUTH_SOCKET")]
    pub(crate) auth_socket: Option<PathBuf>,

    /// The account, by name or uid, that runs an auth service of this host that is asked without TLS; root and the server's
    /// own account may, too, and no other is sent a key [default: none]
    #[arg(long, value_name = "ACCOUNT", env = "TENANTFS_AUTH_SERVICE_USER")]
    pub(crate) auth_service_user: Option<String>,

    /// File of key hashes and user ids instead of a service; `tenantfs key-hash` makes the hashes
    #[arg(long, value_name = "FILE", env = "TENANTFS_STATIC_KEYS")]
    pub(crate) static_keys: Option<PathBuf>,

    /// Resources whose new records get the session's own API key, sealed, where they have none [default: none]
    #[arg(
        long,
        value_name = "NAMES",
        env = "TENANTFS_ATTACH_SESSION_KEY",
        value_delimiter = ','
    )]
    pub(crate) attach_session_key: Option<Vec<String>>,

    /// How long one validation of a key is good [default: 60s]
    #[arg(long, value_name = "DURATION", env = "TENANTFS_LEASE")]
    pub(crate) lease: Option<String>,

    /// How long work goes on after that while the auth service cannot be asked [default: 5m]
    #[arg(long, value_name = "DURATION", env = "TENANTFS_GRACE")]
    pub(crate) grace: Option<String>,

    /// Send keys to an auth service without TLS on another host: everybody on the way can read them
    #[arg(long, env = "TENANTFS_INSECURE", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL",
        value_parser = BoolishValueParser::new())]
    pub(crate) insecure: Option<bool>,

    /// Refuse every change
    #[arg(long, env = "TENANTFS_READ_ONLY", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL",
        value_parser = BoolishValueParser::new())]
    pub(crate) read_only: Option<bool>,

    /// Let programs in the mount be run
    #[arg(long, env = "TENANTFS_EXEC", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL",
        value_parser = BoolishValueParser::new())]
    pub(crate) exec: Option<bool>,

    /// Socket of a mounter that somebody else runs, such as tenantfs-mounter.service
    #[arg(long, value_name = "SOCKET", env = "TENANTFS_MOUNTER")]
    pub(crate) mounter: Option<PathBuf>,

    /// Where metrics can be read: an address of this host, such as 127.0.0.1:9641, or the path of a Unix socket [default:
    /// nowhere]
    #[arg(long, value_name = "WHERE", env = "TENANTFS_METRICS_LISTEN")]
    pub(crate) metrics_listen: Option<String>,
}

/// What every command has that talks to the daemon.
#[derive(Args)]
pub(crate) struct ClientArgs {
    /// The daemon's control socket [default: /run/tenantfs/control.sock]
    #[arg(long, value_name = "SOCKET", env = "TENANTFS_SOCKET")]
    pub(crate) socket: Option<PathBuf>,

    /// Config file, for the control socket's path [default: /etc/tenantfs/config.toml, if there is one]
    #[arg(long, value_name = "FILE", env = "TENANTFS_CONFIG")]
    pub(crate) config: Option<PathBuf>,

    /// Print one JSON object, errors too
    #[arg(long)]
    pub(crate) json: bool,
}

/// What the audit log has; each level has what the ones before it have.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum AuditLevel {
    /// Refusals, failed logins, suspended and ended sessions
    Denied,
    /// Also opening, creating, committing, renaming and removing
    Access,
    /// Every operation
    All,
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
