//! Writes the man pages and the shells' completions, from the command line's own definition and the commented configuration:
//!
//!     cargo run --example manual -- DIRECTORY
//!
//! An example, so that the program itself carries none of it.

mod configuration;

/// The program's own, and what its options are read with.
#[path = "../../../src/bin/tenantfs/account.rs"]
#[allow(dead_code, reason = "nothing is parsed here")]
mod account;
#[path = "../../../src/bin/tenantfs/cli/mod.rs"]
#[allow(dead_code, unused_imports, reason = "nothing is parsed here")]
mod cli;

use std::fs::{self, File};
use std::io;
use std::path::Path;

use clap::CommandFactory as _;
use clap_complete::Shell;

const NAME: &str = "tenantfs";

fn main() -> io::Result<()> {
    let target = std::env::args_os().nth(1);
    let target = target.ok_or_else(|| io::Error::other("usage: manual DIRECTORY"))?;
    let target = Path::new(&target);
    write_pages(&target.join("man"))?;
    write_completions(&target.join("completions"))
}

/// `tenantfs(1)`, one for each command, and `tenantfs.toml(5)`.
fn write_pages(directory: &Path) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    clap_mangen::generate_to(cli::Cli::command(), directory)?;
    let mut page = File::create(directory.join("tenantfs.toml.5"))?;
    configuration::page(include_str!("../../../systemd/config.toml")).to_writer(&mut page)
}

fn write_completions(directory: &Path) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        clap_complete::generate_to(shell, &mut cli::Cli::command(), NAME, directory)?;
    }
    Ok(())
}
