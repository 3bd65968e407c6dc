//! tenantfs: per-user views of a shared volume of JSON records.

mod account;
mod background;
mod cli;
mod config;
mod demo;
mod exit;
mod key;
mod mount;
mod mounter;

use std::process::ExitCode;

use clap::Parser;

use cli::{Cli, Command};

fn main() -> ExitCode {
    // The mounter and what serves in the background are started from /proc/self/exe, and would be called "exe".
    let _ = rustix::thread::set_name(c"tenantfs");
    let cli = Cli::parse();
    let log = env_logger::Env::new().filter_or("TENANTFS_LOG", "warn");
    env_logger::Builder::from_env(log).init();
    let result = match cli.command {
        Command::Mount(args) => mount::run(args),
        Command::Demo(args) => demo::run(&args),
        Command::KeyHash => key::print_hash(),
        Command::Mounter => mounter::run(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tenantfs: {error}");
            exit::code(error.kind())
        }
    }
}
