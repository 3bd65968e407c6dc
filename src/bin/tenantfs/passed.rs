//! What systemd passes to a service that it starts: descriptors, from number 3 on (sd_listen_fds(3)).

use std::fs::File;
use std::net::TcpListener;
use std::ops::Range;
use std::os::unix::net::UnixListener;

use listenfd::ListenFd;
use tenantfs::daemon::{Kept, NAME_PREFIX};
use tenantfs::error::{Doing, Result};
use tenantfs::metrics::Listener;

/// How systemd calls the control socket (`FileDescriptorName=` in tenantfs.socket).
const CONTROL: &str = "control";

/// How systemd calls the socket where metrics can be read (tenantfs-metrics.socket).
const METRICS: &str = "metrics";

/// The first one, after the standard streams.
const FIRST: i32 = 3;

/// The numbers of the descriptors that were passed to this very process. None, when the variables that say so
/// are another process's, which has left them to us.
pub(crate) fn descriptors() -> Range<i32> {
    let variable = |name| std::env::var(name).ok();
    let ours = variable("LISTEN_PID").and_then(|pid| pid.parse().ok()) == Some(std::process::id());
    let count = variable("LISTEN_FDS").and_then(|count| count.parse::<u16>().ok());
    FIRST..FIRST + i32::from(count.filter(|_| ours).unwrap_or(0))
}

/// Whether systemd keeps the keys of sessions for this process.
pub(crate) fn has_sessions() -> bool {
    let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
    !descriptors().is_empty() && names.split(':').any(|name| name.starts_with(NAME_PREFIX))
}

/// Those descriptors, to be taken one by one. The variables are gone then, so that no child takes them for
/// its own.
pub(crate) fn take() -> ListenFd {
    match descriptors().is_empty() {
        true => ListenFd::empty(),
        false => ListenFd::from_env(),
    }
}

/// What a daemon is passed.
#[derive(Default)]
pub(crate) struct ToDaemon {
    pub(crate) control: Option<UnixListener>,
    pub(crate) metrics: Option<Listener>,
    pub(crate) kept: Vec<Kept>,
}

impl ToDaemon {
    /// Takes it, before this process gives up the right to look at its own descriptors.
    ///
    /// # Errors
    /// [`Kind::Io`](tenantfs::error::Kind::Io) when what is called the control socket, or the metrics', is
    /// not a socket.
    pub(crate) fn take() -> Result<Self> {
        let mut to_daemon = Self::default();
        let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
        let (numbers, mut passed) = (descriptors(), take());
        for (index, (descriptor, name)) in numbers.zip(names.split(':')).enumerate() {
            if name == CONTROL {
                to_daemon.control = passed
                    .take_unix_listener(index)
                    .doing("taking the control socket that systemd passed")?;
            } else if name == METRICS {
                to_daemon.metrics = listener(&mut passed, index)
                    .doing("taking the socket for metrics that systemd passed")?;
            } else if name.starts_with(NAME_PREFIX) {
                // One that cannot be read is a session whose user has to log in again: no reason not to serve
                // the others.
                match kept(descriptor) {
                    Ok(kept) => to_daemon.kept.push(kept),
                    Err(error) => log::warn!("{error:#}"),
                }
            } else {
                log::warn!("systemd passed a descriptor called {name:?}, which tenantfs does not use");
            }
        }
        Ok(to_daemon)
    }
}

/// A Unix socket, or one that only this host reaches. What is no Unix socket stays where it is.
fn listener(passed: &mut ListenFd, index: usize) -> std::io::Result<Option<Listener>> {
    if let Ok(listener) = passed.take_unix_listener(index) {
        return Ok(listener.map(Listener::Unix));
    }
    let listener = passed.take_tcp_listener(index)?;
    let address = listener.as_ref().map(TcpListener::local_addr).transpose()?;
    match address {
        Some(address) if !address.ip().to_canonical().is_loopback() => Err(std::io::Error::other(format!(
            "{address} is where other hosts would read them too; listen on 127.0.0.1"
        ))),
        _ => Ok(listener.map(Listener::Tcp)),
    }
}

fn kept(descriptor: i32) -> Result<Kept> {
    let path = format!("/proc/self/fd/{descriptor}");
    let mut file = File::open(path).doing("opening what systemd kept")?;
    // systemd has its own.
    let _ = nix::unistd::close(descriptor);
    Kept::read(&mut file)
}
