//! `tenantfs mounter`.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::low_level::pipe;
use tenantfs::error::{Doing, Error, Result};
use tenantfs::mounter::Admission;

use crate::cli::MounterArgs;
use crate::{account, passed};

pub(crate) fn run(args: MounterArgs) -> Result<()> {
    let uid = match &args.admit {
        Some(account) => account::find(account)?.0,
        None => 0,
    };
    let socket = match &args.listen {
        Some(path) => Some(tenantfs::mounter::bind(path, uid)?),
        None => passed_socket()?,
    };
    let Some(socket) = socket else {
        if !args.beneath.is_empty() || args.admit.is_some() {
            return Err(Error::config(
                "--beneath and --admit are for a mounter that listens: give it --listen SOCKET, or start it by its \
                 systemd socket",
            ));
        }
        // The mounts end with the server: who ends both at once must not end this one first.
        ignore(&[SIGHUP, SIGINT, SIGTERM])?;
        return tenantfs::mounter::serve();
    };
    ignore(&[SIGHUP])?;
    let admission = Admission {
        uid,
        beneath: args.beneath,
    };
    tenantfs::mounter::listen(&socket, &admission, ended()?)
}

/// The socket that systemd listens on for us, if it has started us.
fn passed_socket() -> Result<Option<OwnedFd>> {
    let mut passed = passed::take();
    match passed.len() {
        0 => Ok(None),
        1 => passed
            .take_custom(
                0,
                libc::AF_UNIX,
                libc::SOCK_SEQPACKET,
                "AF_UNIX SOCK_SEQPACKET socket",
            )
            .map_err(|error| {
                Error::config(format!(
                    "the socket that was passed: {error}; use ListenSequentialPacket="
                ))
            }),
        count => Err(Error::config(format!(
            "the mounter listens on one socket, and {count} were passed"
        ))),
    }
}

fn ignore(signals: &[i32]) -> Result<()> {
    let ignored = Arc::new(AtomicBool::new(false));
    for signal in signals {
        signal_hook::flag::register(*signal, Arc::clone(&ignored)).doing("ignoring signals")?;
    }
    Ok(())
}

/// Can be read when SIGTERM or SIGINT has come.
fn ended() -> Result<UnixStream> {
    const WAITING: &str = "waiting for signals";
    let (ended, signalled) = UnixStream::pair().doing(WAITING)?;
    for signal in [SIGINT, SIGTERM] {
        let signalled = signalled.try_clone().doing(WAITING)?;
        pipe::register(signal, signalled).doing(WAITING)?;
    }
    Ok(ended)
}
