//! tenantfs: per-user views of a shared volume of JSON records.

mod account;
mod background;
mod cli;
mod client;
mod config;
mod daemon;
mod demo;
mod doctor;
mod exit;
mod key;
mod mount;
mod mounter;
mod passed;
mod serving;

use std::process::ExitCode;

use clap::Parser;

use cli::{Cli, Command};

fn main() -> ExitCode {
    close_inherited();
    // The mounter and what serves in the background are started from /proc/self/exe, and would be called "exe".
    let _ = rustix::thread::set_name(c"tenantfs");
    let cli = Cli::parse();
    let log = env_logger::Env::new().filter_or("TENANTFS_LOG", "warn");
    env_logger::Builder::from_env(log).init();
    let result = match cli.command {
        Command::Mount(args) => mount::run(args),
        Command::Daemon(args) => daemon::run(args),
        Command::Login(args) => client::login(args),
        Command::Logout(args) => client::logout(args),
        Command::Status(args) => client::status(args),
        Command::Revoke(args) => client::revoke(args),
        Command::Doctor(args) => doctor::run(*args),
        Command::Demo(args) => demo::run(&args),
        Command::KeyHash => key::print_hash(),
        Command::Mounter(args) => mounter::run(args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tenantfs: {}", one_line(&error.to_string()));
            exit::code(error.kind())
        }
    }
}

/// Whatever else the caller has open is nothing to a process that drops its privileges; but for what systemd passes.
fn close_inherited() {
    let open: Vec<i32> = std::fs::read_dir("/proc/self/fd").map_or_else(
        |_| Vec::new(),
        |entries| {
            let names = entries.flatten().map(|entry| entry.file_name());
            names.filter_map(|name| name.to_str()?.parse().ok()).collect()
        },
    );
    let passed = passed::descriptors();
    let nothing_to_us = |descriptor: &i32| *descriptor > 2 && !passed.contains(descriptor);
    for descriptor in open.into_iter().filter(nothing_to_us) {
        // EBADF: the one that listed them is among them.
        let _ = nix::unistd::close(descriptor);
    }
}

/// An error is one line, whatever the names in it are made of.
fn one_line(message: &str) -> String {
    let escaped = |c: char| match c.is_control() {
        true => c.escape_default().to_string(),
        false => c.to_string(),
    };
    message.chars().map(escaped).collect()
}
