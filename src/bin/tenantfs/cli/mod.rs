//! The command line. Every option of `mount` is a TENANTFS_* variable and a key of the config file too.

mod admin;
mod client;
mod demo;
mod setup;
mod shared;
mod way_back;

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::builder::BoolishValueParser;
use clap::{Args, Parser, Subcommand};

use crate::account;
pub(crate) use admin::{EraseArgs, ExportArgs, ListArgs, MigrateArgs, ResealArgs, UnsealArgs, VerifyArgs};
pub(crate) use client::{LoginArgs, LogoutArgs, RevokeArgs, StatusArgs, TopArgs};
pub(crate) use demo::DemoArgs;
pub(crate) use setup::SetupArgs;
pub(crate) use shared::{AuditLevel, ClientArgs, Commit, QuotaArgs, ServeArgs, VolumeArgs};
pub(crate) use way_back::{DraftsArgs, RemovedArgs, RestoreArgs, WhoseArgs};

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
    /// Set up this host to serve a volume: configuration, units, keys; and start everything
    ///
    /// Finds out what it can, says what it does, and ends with `doctor`. Another run changes only what is not as it should be.
    /// With --remove, takes it back; the volume, the audit log, and all keys stay. Exit codes: 0 all is well, 1 failure, or the
    /// doctor found a problem, 2 usage or configuration.
    Setup(Box<SetupArgs>),
    /// Mount one user's view of a volume
    ///
    /// Prints the mountpoint when it is ready, and serves until SIGTERM or SIGINT, the end of its terminal (SIGHUP), or until
    /// the key is refused. Without a terminal, SIGHUP has it reopen the audit log.
    /// Needs root to mount, or a mounter that somebody else runs; the server runs as the account that owns the volume,
    /// without any capability. SIGUSR1 has more logged, SIGUSR2 less.
    ///
    /// Exit codes: 0 ok, 1 failure, 2 usage or configuration, 3 authentication refused, 4 auth service unreachable, 5
    /// mount failed.
    Mount(Box<MountArgs>),
    /// Serve all users of this host, who log in with their API keys
    ///
    /// Listens on the control socket, prints where that is, says so to systemd, and serves until SIGTERM or SIGINT. SIGHUP
    /// has it reopen the audit log, SIGUSR1 has more logged, SIGUSR2 less. Needs a mounter beside it; started as root without
    /// one, it starts its own.
    Daemon(Box<DaemonArgs>),
    /// Log in with an API key: prints where your view is mounted
    ///
    /// Reads the key from --api-key-file or standard input; from a terminal without showing it. Logging in again is no
    /// error: the session goes on with the key given last.
    ///
    /// Exit codes: 0 ok, 1 failure, 2 usage or configuration, 3 authentication refused, 4 auth service unreachable, 5
    /// mount failed.
    Login(LoginArgs),
    /// End your session: unmounts your view, also where it is in use
    Logout(LogoutArgs),
    /// Show your session, and what could not be committed; root sees all sessions
    ///
    /// Without a session it says why the last one ended, if the daemon has seen that. Exit codes: 0 logged in, and always for root who
    /// names nobody, 1 not logged in, or failure, 2 usage, 3 not logged in: the auth service refused the key, 4 suspended, or not yet back
    /// after a restart.
    Status(StatusArgs),
    /// Watch what is done in each session: operations, how long they take, caches, quotas and leases; for root
    ///
    /// Keys: q ends it, s sorts by the next column, arrows and Page Up and Down scroll, space holds still.
    Top(TopArgs),
    /// End sessions at once, whatever the auth service says; for root
    Revoke(RevokeArgs),
    /// List what you removed and can have back
    ///
    /// A record that is removed, or was in a directory that is, waits for as long as keep_removed says. With --user-id, an operator
    /// looks at any user's on the volume.
    ///
    /// Exit codes: 0 ok, also when there is nothing, 1 failure, or nothing of this user, 2 usage or configuration, 4 session suspended.
    Removed(Box<RemovedArgs>),
    /// Bring back a record that you removed: its content, its secrets, its mode and its times
    ///
    /// Directories on the way that were removed come back too. Nothing is replaced: if something has the name again, move that away
    /// first. With --user-id, an operator does it for any user on the volume, beside live mounts; audited.
    ///
    /// Exit codes: 0 restored, 1 failure: also when nothing of that name waits, or the name is taken, 2 usage or configuration, 4
    /// session suspended.
    Restore(Box<RestoreArgs>),
    /// List what could not be saved and why, or give it up
    ///
    /// A draft is shown under its record's name until it is fixed, removed or given up. With --user-id, an operator looks at the drafts
    /// that the volume keeps of any user; giving one up is audited.
    ///
    /// Exit codes: 0 ok, also when there is none, 1 failure: also when there is no such draft, 2 usage or configuration, 4 session
    /// suspended.
    Drafts(Box<DraftsArgs>),
    /// The audit log: check that nobody has touched it, or read your own events
    #[command(subcommand)]
    Audit(AuditCommand),
    /// Look whether everything is there that serving needs, and say how to mend what is not
    ///
    /// Takes the options of `daemon`. As root it looks at the volume, the keys and the auth service as the account that
    /// will serve; and asks the server, if one runs, how all that looks from there. Exit codes: 0 all is well, 1 there are problems.
    Doctor(Box<DoctorArgs>),
    /// List the records of one user, of many, or of all: a line of JSON each
    ///
    /// Exit codes: 0 ok, 1 failure, or nothing of this user, 2 usage or configuration, 6 something could not be looked at.
    List(ListArgs),
    /// Export everything that a user has, as the user sees it, with a manifest that sha256sum checks
    ///
    /// Records without secrets, attachments, kept drafts and profile.json. Exit codes: 0 ok, 1 failure, or nothing of this user, 2
    /// usage or configuration, 6 something was left out; the manifest says what, and why.
    Export(ExportArgs),
    /// Erase everything of one user, for good
    ///
    /// Ends the user's sessions, removes what is verified to be theirs in both layouts, searches the whole volume until there is
    /// nothing left, and prints a receipt. Until it is finished, the user cannot log in; interrupted, another run finishes it. Exit
    /// codes: 0 erased, 1 failure, or not finished, 2 usage or configuration, 6 something may be the user's and was left.
    Erase(EraseArgs),
    /// Change a volume from one layout to the other, beside live mounts
    ///
    /// Sessions go on. New logins are refused until the server is started with the new layout; a service must write to the new
    /// place from the beginning on, which .tenantfs-layout in the volume's root says. Interrupted, another run finishes it. Exit
    /// codes: 0 done, 1 failure, or interrupted, 2 usage or configuration, 6 something was left where it was.
    Migrate(MigrateArgs),
    /// Look at everything on a volume, and say what is not as it should be
    ///
    /// Prints a line of JSON for each finding, and changes nothing without --repair. Works beside live mounts and the live service. Exit codes:
    /// 0 all is well, 1 failure, 2 usage or configuration, 6 problems were found.
    Verify(VerifyArgs),
    /// Seal secrets anew, under the active sealing key, on a whole volume
    ///
    /// Works beside live mounts and the live service: each record is replaced at once, and only if nobody else replaced it
    /// meanwhile. Interrupted, it is finished by another run. Exit codes: 0 all is done, 1 failure, or interrupted, 2 usage or
    /// configuration, 6 something was left as it was.
    Reseal(ResealArgs),
    /// Print a secret of one record in plain text, for a scheduler that acts for the user; audited
    Unseal(UnsealArgs),
    /// Log in who begins a session, and out who has ended the last one: for pam_exec, see `setup --pam`
    #[command(hide = true)]
    PamSession,
    /// Print the hash of the API key on standard input, as a static keys file wants it
    KeyHash,
    /// Make the keys that seal secrets, and change them
    #[command(subcommand)]
    Keys(KeysCommand),
    /// The privileged half, which mounts and nothing else: with CAP_SYS_ADMIN only, no volume, no keys and no network
    ///
    /// `mount` and `daemon` start one by themselves, which serves the socket that is its standard input, and tell it first what it
    /// may do: the one mount, or those of the daemon. With --listen, or when systemd
    /// passes it a listening socket (ListenSequentialPacket=), it is a service of its own, for any number of servers.
    ///
    /// A server's mounts end when its connection closes, whatever it died of. They stay when the mounter ends, by SIGTERM,
    /// SIGINT or a crash: the servers reconnect to the next one, which takes their mounts over. So end the servers first
    /// (After= in their units) when both are to end.
    Mounter(MounterArgs),
}

#[derive(Subcommand)]
pub(crate) enum AuditCommand {
    /// Find every changed, missing, reordered, inserted or cut off line
    ///
    /// Of a log in the journal: journalctl -o cat -t tenantfs-audit _PID=… | tenantfs audit verify -
    ///
    /// Exit codes: 0 all is well, 1 failure, 2 usage, 6 there are problems.
    Verify(VerifyAuditArgs),
    /// Print your own events, the latest last
    Mine(MineArgs),
}

#[derive(Args)]
pub(crate) struct VerifyAuditArgs {
    /// The files of one log, the oldest first, compressed ones (.gz) too; - for standard input [default: the log that is configured, with
    /// what logrotate made of it]
    #[arg(value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,

    /// File of the keys that seal secrets, which sign the log too [default: those of the server; without any, signatures are not
    /// looked at]
    #[arg(long, value_name = "FILE", env = "TENANTFS_SEALING_KEYS")]
    pub(crate) sealing_keys: Option<PathBuf>,

    /// Config file [default: /etc/tenantfs/config.toml, if there is one]
    #[arg(long, value_name = "FILE", env = "TENANTFS_CONFIG")]
    pub(crate) config: Option<PathBuf>,

    /// The files are the logs of several hosts: verify each host's by itself, and print all lines by time; what is found goes to
    /// standard error
    #[arg(long, conflicts_with = "json", requires = "files")]
    pub(crate) merged: bool,

    /// Print one JSON object, errors too
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args)]
pub(crate) struct MineArgs {
    #[command(flatten)]
    pub(crate) client: ClientArgs,

    /// At most how many, from 1 to 1000
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) lines: u32,

    /// Whose, other than your own, by name or uid; for root
    #[arg(long, value_name = "USER", value_parser = account::uid)]
    pub(crate) uid: Option<u32>,
}

#[derive(Args)]
pub(crate) struct MounterArgs {
    /// Listen on this socket; one that a mounter left behind is replaced
    #[arg(long, value_name = "SOCKET", requires = "beneath")]
    pub(crate) listen: Option<PathBuf>,

    /// Mount only below these directories; only root may write to them or move them, and they are made if they are missing
    #[arg(long, value_name = "DIR", num_args = 1..)]
    pub(crate) beneath: Vec<PathBuf>,

    /// The account that may connect, by name or uid, beside root; the socket is made its own [default: root]
    #[arg(long, value_name = "ACCOUNT")]
    pub(crate) admit: Option<String>,
}

#[derive(Args)]
pub(crate) struct MountArgs {
    /// An empty directory, best one that belongs to root
    pub(crate) mountpoint: PathBuf,

    #[command(flatten)]
    pub(crate) serve: ServeArgs,

    /// File with the user's API key [default: $CREDENTIALS_DIRECTORY/api-key, or standard input]
    #[arg(long, value_name = "FILE", env = "TENANTFS_API_KEY_FILE")]
    pub(crate) api_key_file: Option<PathBuf>,

    /// The user of this host whom the mount admits, by name or uid, never root [default: who called sudo, else who runs this]
    #[arg(long, value_name = "USER", value_parser = account::uid, env = "TENANTFS_UID")]
    pub(crate) uid: Option<u32>,

    /// The group of the processes that the mount admits: the kernel refuses those of the same user that have another [default:
    /// the user's primary group]
    #[arg(long, value_name = "GROUP", value_parser = account::gid, env = "TENANTFS_GID")]
    pub(crate) gid: Option<u32>,

    /// Return when it is mounted, and serve in the background
    #[arg(short = 'd', long, env = "TENANTFS_BACKGROUND", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL",
        value_parser = BoolishValueParser::new())]
    pub(crate) background: Option<bool>,
}

#[derive(Args)]
pub(crate) struct DaemonArgs {
    #[command(flatten)]
    pub(crate) serve: ServeArgs,

    /// Where users' views are mounted [default: /run/tenantfs/mnt/{uid}]
    #[arg(long, value_name = "PATH", env = "TENANTFS_MOUNTS")]
    pub(crate) mounts: Option<String>,

    /// How many sessions one user of the service may have on this host, under different accounts [default: 4]
    #[arg(long, value_name = "COUNT", env = "TENANTFS_SESSIONS_PER_USER")]
    pub(crate) sessions_per_user: Option<NonZeroUsize>,

    /// The control socket [default: /run/tenantfs/control.sock]
    #[arg(long, value_name = "SOCKET", env = "TENANTFS_SOCKET")]
    pub(crate) socket: Option<PathBuf>,

    /// Say whether the configuration is good, and end: exit code 2 if it is not
    #[arg(long)]
    pub(crate) check: bool,
}

#[derive(Args)]
pub(crate) struct DoctorArgs {
    #[command(flatten)]
    pub(crate) daemon: DaemonArgs,

    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Subcommand)]
pub(crate) enum KeysCommand {
    /// Make a new file with one key, which only its owner can read; prints the key's id
    ///
    /// Never overwrites a file: without its keys nothing that they sealed can be opened. So keep a copy of it, apart from
    /// the volume's backups.
    Generate(KeysArgs),
    /// Add a key to the file, which seals from then on; prints its id
    ///
    /// The other keys stay, and open what they sealed. The servers read the file when they start; then `tenantfs reseal`
    /// seals anew what is sealed with older keys.
    Rotate(KeysArgs),
}

#[derive(Args)]
pub(crate) struct KeysArgs {
    /// The file [default: records.sealing_keys of the config file]
    #[arg(value_name = "FILE", env = "TENANTFS_SEALING_KEYS")]
    pub(crate) file: Option<PathBuf>,

    /// Config file [default: /etc/tenantfs/config.toml, if there is one]
    #[arg(long, value_name = "FILE", env = "TENANTFS_CONFIG")]
    pub(crate) config: Option<PathBuf>,
}
