//! tenantfs: per-user views of a shared volume of JSON records.

mod account;
mod admin;
mod audit;
mod background;
mod cli;
mod client;
mod config;
mod daemon;
mod demo;
mod doctor;
mod exit;
mod hooks;
mod hosts;
mod hygiene;
mod key;
mod keys;
mod metrics;
mod mount;
mod mount_helper;
mod mounter;
mod pam_session;
mod passed;
mod processes;
mod say;
mod serving;
mod setup;
mod shown;
mod socket;
mod status;
mod top;
mod trusted;
mod verbosity;
mod way_back;

use std::ffi::OsStr;
use std::process::ExitCode;

use clap::Parser;
use tenantfs::error::{Kind, Result};

use cli::{Cli, Command};

fn main() -> ExitCode {
    close_inherited();
    keep_large_buffers_apart();
    // The mounter and what serves in the background are started from /proc/self/exe, and would be called
    // "exe".
    let _ = rustix::thread::set_name(c"tenantfs");
    if mount_helper::is_here() {
        return for_mount();
    }
    // Before they are taken.
    let sessions_wait = passed::has_sessions();
    match Cli::try_parse() {
        Ok(cli) => obey(cli).unwrap_or_else(|error| exit::code(error.kind(), sessions_wait)),
        Err(error) => wrong_usage(&error, sessions_wait),
    }
}

/// As mount(8) wants it: exit code 1 for what was asked wrongly, 32 for what failed.
fn for_mount() -> ExitCode {
    let told = match mount_helper::asked() {
        Ok(mount_helper::Asked::Mount(told)) => told,
        Ok(mount_helper::Asked::Nothing) => return ExitCode::SUCCESS,
        Err(error) => {
            say::note(format_args!("{error:#}"));
            return ExitCode::from(1);
        }
    };
    let parsed = Cli::try_parse_from(told).inspect_err(|error| say::note(error.to_string().trim_end()));
    match parsed.map(obey) {
        Ok(Ok(code)) => code,
        Ok(Err(error)) if error.kind() != Kind::Config => ExitCode::from(32),
        Ok(Err(_)) | Err(_) => ExitCode::from(1),
    }
}

/// Does what the command line says, and says what went wrong.
fn obey(cli: Cli) -> Result<ExitCode> {
    verbosity::init();
    hygiene::keep_to_oneself();
    let result = match cli.command {
        Command::Setup(args) => setup::run(&args),
        Command::PamSession => pam_session::run(),
        Command::Mount(args) => mount::run(args),
        Command::Daemon(args) => daemon::run(args),
        Command::Login(args) => client::login(args),
        Command::Logout(args) => client::logout(args),
        Command::Status(args) if args.all_hosts => hosts::status(args.client),
        Command::Revoke(args) if args.all_hosts => hosts::revoke(args),
        Command::Status(args) => return told(status::run(args)),
        Command::Revoke(args) => client::revoke(args),
        Command::Top(args) => top::run(&args),
        Command::Removed(args) => way_back::removed(*args),
        Command::Restore(args) => way_back::restore(*args),
        Command::Drafts(args) => way_back::drafts(*args),
        Command::Audit(command) => audit::run(command),
        Command::Doctor(args) => doctor::run(*args),
        Command::Demo(args) => demo::run(&args),
        Command::List(args) => admin::list(args),
        Command::Export(args) => admin::export(args),
        Command::Erase(args) => admin::erase(args),
        Command::Migrate(args) => admin::migrate(args),
        Command::Verify(args) => admin::verify(args),
        Command::Reseal(args) => admin::reseal(args),
        Command::Unseal(args) => admin::unseal(args),
        Command::KeyHash => key::print_hash(),
        Command::Keys(command) => keys::run(command),
        Command::Mounter(args) => mounter::run(args),
    };
    told(result.map(|()| ExitCode::SUCCESS))
}

/// Whoever gives commands is told everything; users of the mount see errnos.
fn told<T>(result: Result<T>) -> Result<T> {
    result.inspect_err(|error| say::note(format_args!("tenantfs: {error:#}")))
}

/// What clap says of a command line; its help, too, which is no error.
fn wrong_usage(error: &clap::Error, sessions_wait: bool) -> ExitCode {
    // Where nobody can be told, the code says it.
    let _ = error.print();
    match error.use_stderr() {
        true => exit::code(Kind::Config, sessions_wait),
        false => ExitCode::SUCCESS,
    }
}

/// Each serving thread has 16 MiB to receive requests in, of which it touches as much as the largest request.
/// Once one of them was freed, the C library would take the next from memory that it recycles, and fill all
/// of it with zeros.
fn keep_large_buffers_apart() {
    #[cfg(target_env = "gnu")]
    {
        const FROM: libc::c_int = 1 << 20;
        // SAFETY: mallopt(3) changes a setting of the allocator, and there is no other thread yet that could
        // use it.
        #[expect(unsafe_code, reason = "no crate has this call")]
        let set = unsafe { libc::mallopt(libc::M_MMAP_THRESHOLD, FROM) };
        if set == 0 {
            log::warn!("the C library does not keep large buffers apart: sessions will take more memory");
        }
    }
}

/// Whatever else the caller has open is nothing to a process that drops its privileges; but for what systemd
/// passes, and what the command line or a variable of ours names, as a shell's `<(command)` does.
fn close_inherited() {
    let open: Vec<i32> = std::fs::read_dir("/proc/self/fd").map_or_else(
        |_| Vec::new(),
        |entries| {
            let names = entries.flatten().map(|entry| entry.file_name());
            names.filter_map(|name| name.to_str()?.parse().ok()).collect()
        },
    );
    let passed = passed::descriptors();
    let variables = std::env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"TENANTFS_"));
    let named: Vec<i32> = std::env::args_os()
        .chain(variables.map(|(_, value)| value))
        .filter_map(|argument| descriptor_named_by(&argument))
        .collect();
    let nothing_to_us =
        |descriptor: &i32| *descriptor > 2 && !passed.contains(descriptor) && !named.contains(descriptor);
    for descriptor in open.into_iter().filter(nothing_to_us) {
        // EBADF: the one that listed them is among them.
        let _ = nix::unistd::close(descriptor);
    }
}

/// The descriptor that an argument, or the value of an option, names by its path.
fn descriptor_named_by(argument: &OsStr) -> Option<i32> {
    let argument = argument.to_str()?;
    let value = argument.split_once('=').map_or(argument, |(_, value)| value);
    tenantfs::input::own_descriptor(value.as_ref())
}
