//! The clients' side of the control socket.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use zeroize::Zeroizing;

use super::wire::{MAX_REQUEST, Reply, Request, Whose};
use crate::error::{Doing, Error, Kind, Result};

/// How long the daemon may take: it waits for the auth service and for the mounter.
const PATIENCE: Duration = Duration::from_secs(60);

/// The longest answer, in bytes: thousands of sessions with a hundred drafts each.
const MAX_REPLY: u64 = 256 << 20;

const TALKING: &str = "talking to the daemon";

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
            _ => Error::io(&error, "connecting to the daemon").at(socket),
        })?;
        for set in [UnixStream::set_read_timeout, UnixStream::set_write_timeout] {
            set(&stream, Some(PATIENCE)).doing(TALKING)?;
        }
        Ok(Self { stream })
    }

    /// Ends sessions, as root.
    ///
    /// # Errors
    /// What the daemon says.
    pub fn revoke(self, whose: Whose) -> Result<Reply> {
        self.ask(&Request::Revoke(whose))?.done()
    }

    /// Asks, and returns what the daemon answers: that it could not be done is an answer too.
    ///
    /// # Errors
    /// [`Kind::Io`] when there is no answer, or one that makes no sense.
    pub fn ask(mut self, request: &Request) -> Result<Reply> {
        // Room for all of it: no copy is left behind by growing.
        let mut line = Zeroizing::new(Vec::with_capacity(MAX_REQUEST));
        serde_json::to_writer(&mut *line, request)
            .map_err(std::io::Error::from)
            .doing("writing the request")?;
        line.push(b'\n');
        // A daemon that has too much to do answers without reading.
        let sent = self.stream.write_all(&line);
        let mut answer = Vec::new();
        let read = self
            .stream
            .shutdown(std::net::Shutdown::Write)
            .and_then(|()| (&self.stream).take(MAX_REPLY).read_to_end(&mut answer));
        if answer.is_empty() {
            sent.doing(TALKING)?;
            read.doing(TALKING)?;
        }
        match serde_json::from_slice(&answer) {
            Ok(reply) => Ok(reply),
            Err(error) => Err(Error::new(
                Kind::Io,
                format!("the daemon's answer makes no sense ({error}); are both of the same version?"),
            )),
        }
    }
}
