//! The command line of `demo`.

use clap::Args;
use tenantfs::layout::Layout;

#[derive(Args)]
pub(crate) struct DemoArgs {
    /// Leave the mounts up until Ctrl-C, to look around
    #[arg(long)]
    pub(crate) keep: bool,

    /// How the temporary volume is laid out: resource-first or user-first
    #[arg(long, value_name = "LAYOUT", default_value_t)]
    pub(crate) layout: Layout,
}
