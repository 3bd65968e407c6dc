//! The clients' side of the control socket.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use zeroize::Zeroizing;

use super::wire::{MAX_REQUEST, Reply, Request, Whose};
use crate::auth::ApiKey;
use crate::error::{Error, Kind, Result};

/// How long the daemon may take: it waits for the auth service and for the mounter.
const PATIENCE: Duration = Duration::from_secs(60);

/// The longest answer, in bytes: thousands of sessions with a hundred drafts each.
const MAX_REPLY: u64 = 256 << 20;

/// A connection to a daemon.
#[derive(Debug)]
pub struct Client {
    stream: UnixStream,
}

impl Client {
    /// Connects to the daemon that listens on `socket`.
    ///
    /// # Errors
    /// [`Kind::NotConnected`] when none does; [`Kind::AccessDenied`].
    pub fn connect(socket: &Path) -> Result<Self> {
        let shown = socket.display();
        let stream = UnixStream::connect(socket).map_err(|error| match error.kind() {
            ErrorKind::NotFound | ErrorKind::ConnectionRefused => Error::new(
                Kind::NotConnected,
                format!("the daemon is not running: nobody listens on {shown}; ask the operator to start tenantfs.service"),
            ),
            _ => Error::io(&error, format!("connecting to the daemon on {shown}")),
        })?;
        for set in [UnixStream::set_read_timeout, UnixStream::set_write_timeout] {
            set(&stream, Some(PATIENCE)).map_err(|error| broken(&error))?;
        }
        Ok(Self { stream })
    }

    /// Logs in with `key`; as root perhaps another uid.
    ///
    /// # Errors
    /// What the daemon says.
    pub fn login(self, key: ApiKey, uid: Option<u32>) -> Result<Reply> {
        self.ask(&Request::Login { key, uid })
    }

    /// Logs out; as root perhaps another uid.
    ///
    /// # Errors
    /// What the daemon says.
    pub fn logout(self, uid: Option<u32>) -> Result<Reply> {
        self.ask(&Request::Logout { uid })
    }

    /// Every session that the caller may see.
    ///
    /// # Errors
    /// What the daemon says.
    pub fn status(self) -> Result<Reply> {
        self.ask(&Request::Status {})
    }

    /// Ends sessions, as root.
    ///
    /// # Errors
    /// What the daemon says.
    pub fn revoke(self, whose: Whose) -> Result<Reply> {
        self.ask(&Request::Revoke(whose))
    }

    /// The latest events of the caller in the audit log, at most so many; as root perhaps those of another uid.
    ///
    /// # Errors
    /// What the daemon says.
    pub fn audit(self, lines: u32, uid: Option<u32>) -> Result<Reply> {
        self.ask(&Request::Audit { lines, uid })
    }

    fn ask(mut self, request: &Request) -> Result<Reply> {
        // Room for all of it: no copy is left behind by growing.
        let mut line = Zeroizing::new(Vec::with_capacity(MAX_REQUEST));
        serde_json::to_writer(&mut *line, request)
            .map_err(|error| Error::new(Kind::Io, format!("writing the request: {error}")))?;
        line.push(b'\n');
        // A daemon that has too much to do answers without reading.
        let sent = self.stream.write_all(&line);
        let mut answer = Vec::new();
        let read = self
            .stream
            .shutdown(std::net::Shutdown::Write)
            .and_then(|()| (&self.stream).take(MAX_REPLY).read_to_end(&mut answer));
        if answer.is_empty() {
            sent.map_err(|error| broken(&error))?;
            read.map_err(|error| broken(&error))?;
        }
        match serde_json::from_slice(&answer) {
            Ok(Reply::Error(failure)) => Err(failure.into()),
            Ok(reply) => Ok(reply),
            Err(error) => Err(Error::new(
                Kind::Io,
                format!("the daemon's answer makes no sense ({error}); are both of the same version?"),
            )),
        }
    }
}

fn broken(error: &std::io::Error) -> Error {
    Error::io(error, "talking to the daemon")
}
