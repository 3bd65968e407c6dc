//! The systemd journal, by its native protocol (<https://systemd.io/JOURNAL_NATIVE_PROTOCOL/>): one datagram a line.
//!
//! By hand: a crate for it would bring more code than these few lines.

use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::Duration;

use super::line::{Entry, OK, Who};
use crate::error::{At, Doing, Result};

/// Where the journal listens.
pub(super) const SOCKET: &str = "/run/systemd/journal/socket";

/// How long it may take to take a line.
const PATIENCE: Duration = Duration::from_secs(2);

/// As in syslog(3): what is refused stands out from what is usual.
const WARNING: u8 = 4;
const INFO: u8 = 6;

pub(super) struct Journal {
    socket: UnixDatagram,
}

impl Journal {
    /// # Errors
    /// [`Kind::Io`](crate::error::Kind::Io) and the like when there is none.
    pub(super) fn connect(path: &Path) -> Result<Self> {
        Self::connected(path)
            .map(|socket| Self { socket })
            .doing("connecting to the journal")
            .at(path)
    }

    fn connected(path: &Path) -> std::io::Result<UnixDatagram> {
        let socket = UnixDatagram::unbound()?;
        socket.set_write_timeout(Some(PATIENCE))?;
        socket.connect(path)?;
        Ok(socket)
    }

    /// Sends a line, given without its newline, with its members as fields beside it.
    pub(super) fn send(&self, line: &[u8], who: &Who, entry: &Entry) -> Result<()> {
        let priority = if entry.outcome == OK { INFO } else { WARNING };
        let mut datagram = Vec::with_capacity(line.len() + 256);
        for (name, value) in [
            ("SYSLOG_IDENTIFIER", "tenantfs-audit"),
            ("PRIORITY", &priority.to_string()),
            ("TENANTFS_OP", &entry.op),
            ("TENANTFS_OUTCOME", entry.outcome),
            ("TENANTFS_USER", &who.user),
            ("TENANTFS_UID", &who.uid.to_string()),
        ] {
            datagram.extend_from_slice(name.as_bytes());
            datagram.push(b'=');
            datagram.extend_from_slice(value.as_bytes());
            datagram.push(b'\n');
        }
        // JSON has no newline in it: the simple form of a field will do.
        datagram.extend_from_slice(b"MESSAGE=");
        datagram.extend_from_slice(line);
        datagram.push(b'\n');
        let sent = self.socket.send(&datagram);
        sent.map(drop).doing("writing to the journal")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_one_datagram_with_its_members_as_fields() {
        let directory = tempfile::TempDir::new().unwrap();
        let path = directory.path().join("socket");
        assert!(Journal::connect(&path).is_err());
        let listener = UnixDatagram::bind(&path).unwrap();
        let who = Who {
            session: "0123abcd".to_owned(),
            user: "2bd806c97f0e00af".to_owned(),
            uid: 1000,
        };
        let entry = Entry::now("open", "schedules/x.json", "EACCES", "why");
        let journal = Journal::connect(&path).unwrap();
        journal.send(b"{\"seq\":1}", &who, &entry).unwrap();
        let mut received = [0; 1024];
        let length = listener.recv(&mut received).unwrap();
        assert_eq!(
            str::from_utf8(&received[..length]).unwrap(),
            "SYSLOG_IDENTIFIER=tenantfs-audit\nPRIORITY=4\nTENANTFS_OP=open\nTENANTFS_OUTCOME=EACCES\n\
             TENANTFS_USER=2bd806c97f0e00af\nTENANTFS_UID=1000\nMESSAGE={\"seq\":1}\n"
        );
    }
}
