//! Serving in the background: the same command again, in a session of its own.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use rustix::fs::FileType;
use tenantfs::error::{Doing, Error, Kind, Result};

use crate::mount_helper;

/// Tells the second process that it is the one in the background.
const MARK: &str = "TENANTFS_IN_BACKGROUND";

const LEAVING: &str = "leaving the terminal";

/// Whether this is the process in the background.
pub(crate) fn is_here() -> bool {
    std::env::var_os(MARK).is_some()
}

/// Starts the process in the background, and waits until it has mounted. Its errors are on our standard error already;
/// when it fails, so do we, with its exit code.
pub(crate) fn start() -> Result<()> {
    const STARTING: &str = "starting in the background";
    let mut arguments = std::env::args_os();
    let name = match (arguments.next(), mount_helper::is_here()) {
        // By which it knows how it was asked.
        (Some(name), true) => name,
        _ => "tenantfs".into(),
    };
    let mut child = Command::new("/proc/self/exe")
        .arg0(name)
        .args(arguments)
        .env(MARK, "1")
        .stdout(Stdio::piped())
        .spawn()
        .doing(STARTING)?;
    let mut line = String::new();
    if let Some(stdout) = child.stdout.take() {
        BufReader::new(stdout).read_line(&mut line).doing(STARTING)?;
    }
    if !line.is_empty() {
        print!("{line}");
        return Ok(());
    }
    let status = child.wait().doing(STARTING)?;
    match status.code() {
        Some(code) => std::process::exit(code),
        None => Err(Error::new(
            Kind::Io,
            format!("the process in the background was ended: {status}"),
        )),
    }
}

/// In the background process, before it has threads: no terminal's signals.
pub(crate) fn leave_terminal() -> Result<()> {
    tenantfs::mounter::own_session().doing(LEAVING)
}

/// Whether this process ends with a terminal.
pub(crate) fn has_terminal() -> bool {
    File::open("/dev/tty").is_ok()
}

/// Where the log goes on when the caller is gone: only into a file. Whoever holds a caller's pipe or terminal keeps the
/// caller waiting.
pub(crate) fn keeps_log() -> bool {
    let stat = rustix::fs::fstat(std::io::stderr());
    stat.is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile)
}

/// In the background process, when it has mounted: lets go of the caller's pipes and terminal.
pub(crate) fn let_go() -> Result<()> {
    let null = File::options()
        .read(true)
        .write(true)
        .open("/dev/null")
        .doing("opening /dev/null")?;
    rustix::stdio::dup2_stdin(&null).doing(LEAVING)?;
    rustix::stdio::dup2_stdout(&null).doing(LEAVING)?;
    if !keeps_log() {
        rustix::stdio::dup2_stderr(&null).doing(LEAVING)?;
    }
    Ok(())
}
