//! Who may be at the other end of a connection that stays on this host and carries a key in plain text.
//!
//! While the service is away, every user of a host can listen at its port. So the kernel is asked whose the other end
//! is: of the very connection that will carry the key, after it is made and before anything is sent. Connections are
//! never used twice, see [`HttpService`](super::HttpService). Nothing that happens later can put somebody else there.

use std::fmt;
use std::fs::File;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::http::Extensions;
use hyper_util::client::legacy::connect::{Connection, HttpInfo};
use rustix::fs::{Mode, OFlags};
use tokio::time::sleep;
use tower_layer::Layer;
use tower_service::Service;

use super::answer::not_a_yes;
use super::sock_diag::{FarEnd, SockDiag};
use crate::account;
use crate::error::{Error, Result};

/// What the kernel calls whoever it cannot name in this user namespace: this may be anybody.
pub(super) const NOBODY_KNOWN: u32 = 65534;

/// How soon it is looked again whether a connection was accepted, at first and after some times.
const FIRST_LOOK: Duration = Duration::from_millis(1);
const LAST_LOOK: Duration = Duration::from_millis(50);

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The accounts that may be an auth service on this host: root, this process's own, and one that was named.
#[derive(Clone, Copy, Debug)]
pub(super) struct Trusted {
    pub(super) service_user: Option<u32>,
}

impl Trusted {
    fn includes(self, uid: u32) -> bool {
        // Asked each time: a server gives up root after it is configured.
        let own = rustix::process::geteuid().as_raw();
        uid != NOBODY_KNOWN && (uid == 0 || uid == own || Some(uid) == self.service_user)
    }

    fn check(self, uid: u32, what: impl fmt::Display) -> Result<()> {
        match self.includes(uid) {
            true => Ok(()),
            false => Err(not_a_yes(format!(
                "was not asked, for {what} belongs to {}, and any user could have put it there; if that account \
                 runs the service, name it: auth.service_user",
                account::shown(uid)
            ))),
        }
    }

    /// Checks whose a Unix socket is.
    pub(super) fn check_socket(self, socket: &UnixSocket<'_>) -> Result<()> {
        self.check(socket.owner, format_args!("the socket {}", socket.path.display()))
    }

    /// Checks a connection between two addresses of this host.
    async fn check_connection(self, near: SocketAddr, far: SocketAddr) -> Result<()> {
        let unknown =
            |error: Error| not_a_yes(format!("was not asked, for it is unknown who it is: {error}"));
        let diag = SockDiag::open().map_err(unknown)?;
        let mut pause = FIRST_LOOK;
        loop {
            if let Some(verdict) = self.look(&diag, near, far).map_err(unknown)? {
                return verdict;
            }
            sleep(pause).await;
            pause = (pause * 2).min(LAST_LOOK);
        }
    }

    /// The verdict, if there can be one yet.
    fn look(self, diag: &SockDiag, near: SocketAddr, far: SocketAddr) -> Result<Option<Result<()>>> {
        let end = diag.far_end(near, far)?;
        Ok(match end {
            FarEnd::Held(uid) => Some(self.check(uid, format_args!("the socket at {far}"))),
            FarEnd::Absent => Some(Err(not_a_yes(format!(
                "was not asked, for the socket at {far} is nobody's on this host: it is closed, or in a container or \
                 another network namespace; use https, or a Unix socket (auth.socket)"
            )))),
            FarEnd::Waiting | FarEnd::Deferred => {
                let Some(listener) = diag.listener(far)? else {
                    return Ok(None);
                };
                let listening = self.check(listener, format_args!("the socket that listens at {far}"));
                // Nothing can be accepted but by whoever has the listener. It is this connection's own if that was waiting
                // both before and after: it ends with its listener.
                let final_word = end == FarEnd::Deferred && diag.far_end(near, far)? == end;
                // Who accepts may be another account than who listens, and is waited for.
                (listening.is_err() || final_word).then_some(listening)
            }
        })
    }
}

/// A Unix socket that was opened to be connected to: what is looked at is then what is connected to.
pub(super) struct UnixSocket<'a> {
    path: &'a Path,
    handle: File,
    owner: u32,
}

impl<'a> UnixSocket<'a> {
    pub(super) fn open(path: &'a Path) -> Result<Self> {
        let opened = rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).map(File::from);
        let looked = opened
            .map_err(Into::into)
            .and_then(|handle| Ok((handle.metadata()?, handle)));
        let (metadata, handle) =
            looked.map_err(|error: std::io::Error| not_a_yes(format!("cannot be reached: {error}")))?;
        match metadata.file_type().is_socket() {
            true => Ok(Self {
                path,
                handle,
                owner: metadata.uid(),
            }),
            false => Err(not_a_yes("cannot be reached: that is not a socket")),
        }
    }

    /// Where this very socket can be connected to, while this lives.
    pub(super) fn place(&self) -> PathBuf {
        format!("/proc/self/fd/{}", self.handle.as_raw_fd()).into()
    }
}

/// Makes connections as another connector does, and gives out only those that may carry a key.
#[derive(Clone)]
pub(super) struct Checked<S> {
    inner: S,
    trusted: Trusted,
}

impl<S> Layer<S> for Trusted {
    type Service = Checked<S>;

    fn layer(&self, inner: S) -> Checked<S> {
        Checked {
            inner,
            trusted: *self,
        }
    }
}

impl<S, T> Service<T> for Checked<S>
where
    S: Service<T, Error = BoxError>,
    S::Response: Connection + Send,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = std::result::Result<S::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<std::result::Result<(), BoxError>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, target: T) -> Self::Future {
        let (connecting, trusted) = (self.inner.call(target), self.trusted);
        Box::pin(async move {
            let connection = connecting.await?;
            match ends(&connection) {
                Some((near, far)) if !is_within(near, far) => {}
                Some((near, far)) => trusted.check_connection(near, far).await?,
                None => return Err(not_a_yes("was not asked, for it is unknown where it is").into()),
            }
            Ok(connection)
        })
    }
}

/// The two addresses of a connection.
fn ends(connection: &impl Connection) -> Option<(SocketAddr, SocketAddr)> {
    let mut extras = Extensions::new();
    connection.connected().get_extras(&mut extras);
    let info: &HttpInfo = extras.get()?;
    Some((info.local_addr(), info.remote_addr()))
}

/// Whether a connection stays on this host: its own addresses are reached from themselves.
fn is_within(near: SocketAddr, far: SocketAddr) -> bool {
    let (near, far) = (near.ip().to_canonical(), far.ip().to_canonical());
    far.is_loopback() || near == far
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_the_own_account_and_the_named_one_are_trusted_and_whom_the_kernel_cannot_name_is_not() {
        let own = rustix::process::geteuid().as_raw();
        let none = Trusted { service_user: None };
        let named = Trusted {
            service_user: Some(990),
        };
        assert!(none.includes(0) && none.includes(own));
        assert!(!none.includes(990) && named.includes(990) && !named.includes(991));
        let nobody = Trusted {
            service_user: Some(NOBODY_KNOWN),
        };
        assert!(!nobody.includes(NOBODY_KNOWN));
    }

    #[test]
    fn connections_within_this_host_are_known_by_their_addresses() {
        let within = |near: &str, far: &str| is_within(near.parse().unwrap(), far.parse().unwrap());
        assert!(within("127.0.0.1:1", "127.0.0.1:2"));
        assert!(within("127.0.0.1:1", "127.9.9.9:2"));
        assert!(within("[::1]:1", "[::1]:2"));
        assert!(within("[::ffff:127.0.0.1]:1", "[::ffff:127.0.0.1]:2"));
        assert!(within("192.0.2.1:1", "192.0.2.1:2"));
        assert!(!within("192.0.2.1:1", "192.0.2.2:2"));
    }
}
