//! The command lines of what works on a whole volume.

use std::path::PathBuf;

use clap::Args;
use tenantfs::layout::Layout;

use super::shared::{QuotaArgs, VolumeArgs};

#[derive(Args)]
#[command(group = clap::ArgGroup::new("whose").required(true))]
pub(crate) struct ListArgs {
    #[command(flatten)]
    pub(crate) on: VolumeArgs,

    /// The records of this user of the service
    #[arg(long, value_name = "ID", group = "whose")]
    pub(crate) user_id: Option<String>,

    /// The records of these users: a file with a user id on each line
    #[arg(long, value_name = "FILE", group = "whose")]
    pub(crate) users_file: Option<PathBuf>,

    /// Everybody's records
    #[arg(long, group = "whose")]
    pub(crate) all: bool,

    /// Those of one resource only
    #[arg(long, value_name = "NAME")]
    pub(crate) resource: Option<String>,

    #[command(flatten)]
    pub(crate) quota: QuotaArgs,

    /// How much each user has instead, of what they may have
    #[arg(long, conflicts_with_all = ["contents", "resource"])]
    pub(crate) usage: bool,

    /// The records themselves, too, without their secrets
    #[arg(long)]
    pub(crate) contents: bool,

    /// Print how many there are as JSON, too
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args)]
pub(crate) struct ExportArgs {
    #[command(flatten)]
    pub(crate) on: VolumeArgs,

    /// The user of the service
    #[arg(long, value_name = "ID")]
    pub(crate) user_id: String,

    /// A directory that is empty or new, a new file *.tar.zst, or - for a tar on standard output
    ///
    /// A file is a tar archive compressed with zstd, and called so; what has the name of another kind of archive (.tar, .tar.gz, .zip and the
    /// like) is refused. For those, compress what is on standard output: tenantfs export --user-id ID --to - | gzip > ID.tar.gz
    #[arg(long, value_name = "TARGET")]
    pub(crate) to: PathBuf,

    /// Print what was exported as JSON; on standard error when the export is on standard output
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args)]
pub(crate) struct EraseArgs {
    #[command(flatten)]
    pub(crate) on: VolumeArgs,

    /// The user of the service
    #[arg(long, value_name = "ID")]
    pub(crate) user_id: String,

    /// Do not ask
    #[arg(long)]
    pub(crate) yes: bool,

    /// Print what would be erased, and erase nothing
    #[arg(long, conflicts_with = "yes")]
    pub(crate) dry_run: bool,

    /// The control socket of the daemon that has the user's sessions [default: /run/tenantfs/control.sock]
    #[arg(long, value_name = "SOCKET", env = "TENANTFS_SOCKET")]
    pub(crate) socket: Option<PathBuf>,

    /// Print the receipt as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args)]
pub(crate) struct MigrateArgs {
    #[command(flatten)]
    pub(crate) on: VolumeArgs,

    /// The layout that the volume has
    #[arg(long, value_name = "LAYOUT")]
    pub(crate) from: Layout,

    /// The layout that it is to have
    #[arg(long, value_name = "LAYOUT")]
    pub(crate) to: Layout,

    /// Copy everything to this volume instead, and compare; the old one stays as it is
    #[arg(long, value_name = "DIR")]
    pub(crate) to_volume: Option<PathBuf>,

    /// Print what was done as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args)]
pub(crate) struct VerifyArgs {
    #[command(flatten)]
    pub(crate) on: VolumeArgs,

    /// Move records home that are in another user's directory, and remove temporary files that nobody needs; audited
    #[arg(long)]
    pub(crate) repair: bool,

    /// Print what was seen as JSON, too
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args)]
pub(crate) struct ResealArgs {
    #[command(flatten)]
    pub(crate) on: VolumeArgs,

    /// Seal secrets in plain text, too: those that the service wrote so, or encrypted in a way of its own
    #[arg(long)]
    pub(crate) adopt_plain: bool,

    /// Print what was done as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args)]
pub(crate) struct UnsealArgs {
    /// The user of the service
    pub(crate) user: String,

    /// The resource, such as schedules
    pub(crate) resource: String,

    /// The record, without the .json
    pub(crate) id: String,

    #[command(flatten)]
    pub(crate) on: VolumeArgs,

    /// Which secret
    #[arg(long, value_name = "NAME", default_value = "api_key")]
    pub(crate) member: String,

    /// Print it as it is, also where it has characters that act on a terminal
    #[arg(long)]
    pub(crate) raw: bool,
}
