//! Who says whose a key is, and how the server, which has no network, gets there.

use std::net::IpAddr;
use std::path::PathBuf;

use reqwest::Url;
use tenantfs::error::{Error, Result};

use super::host::{self, Account};
use crate::cli::SetupArgs;

/// How the server asks whose a key is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Auth {
    /// Through tenantfs-auth.socket, which leads to this host and port. TLS ends in the server.
    Tls { url: String, host: String },
    /// By itself, on this host's own network, and nowhere else: so the kernel can be asked who answers, which has to be root, the
    /// server's account or this one.
    Loopback {
        url: String,
        service_user: Option<String>,
    },
    /// A file.
    Keys(PathBuf),
}

impl Auth {
    /// What the command line says, and in `notes` what it leaves open.
    ///
    /// # Errors
    /// [`Kind::Config`](tenantfs::error::Kind::Config) for what no server would be started with.
    pub(super) fn of(args: &SetupArgs, account: &Account, notes: &mut Vec<String>) -> Result<Self> {
        let Some(text) = &args.auth_url else {
            let file = args.static_keys.clone().unwrap_or_default();
            let file = std::path::absolute(&file).unwrap_or(file);
            return Ok(Self::Keys(file));
        };
        let url = Url::parse(text)
            .map_err(|error| Error::config(format!("--auth-url {text:?} is no URL: {error}")))?;
        let no_host = || Error::config(format!("--auth-url {text:?} names no host"));
        let host = url
            .host_str()
            .filter(|host| !host.is_empty())
            .ok_or_else(no_host)?;
        let port = url.port_or_known_default().unwrap_or(443);
        match (url.scheme(), is_loopback(host)) {
            ("https", _) => Ok(Self::Tls {
                url: text.clone(),
                host: format!("{host}:{port}"),
            }),
            ("http", true) => {
                let service_user = match &args.auth_service_user {
                    Some(name) => Some(name.clone()),
                    None => who_listens(port, account, notes),
                };
                Ok(Self::Loopback {
                    url: text.clone(),
                    service_user,
                })
            }
            _ => Err(Error::config(format!(
                "--auth-url {text:?}: keys would pass the network in plain text; use https://, or http:// to a loopback address of \
                 this host"
            ))),
        }
    }

    /// Whether it is reached through tenantfs-auth.socket.
    pub(super) fn is_proxied(&self) -> bool {
        matches!(self, Self::Tls { .. })
    }
}

fn is_loopback(host: &str) -> bool {
    let address = host.trim_matches(['[', ']']).parse::<IpAddr>();
    address.map_or(host == "localhost", |address| address.is_loopback())
}

/// The account that listens on `port` now, if it has to be named.
fn who_listens(port: u16, account: &Account, notes: &mut Vec<String>) -> Option<String> {
    let tables =
        ["/proc/net/tcp", "/proc/net/tcp6"].map(|path| std::fs::read_to_string(path).unwrap_or_default());
    let mut uids: Vec<u32> = tables.iter().flat_map(|table| listeners(table, port)).collect();
    uids.sort_unstable();
    uids.dedup();
    let name =
        |uid: u32| host::account(&uid.to_string()).map_or_else(|_| uid.to_string(), |account| account.name);
    match uids.as_slice() {
        [] => {
            notes.push(format!(
                "Nobody listens on port {port} now. Unless root or {} will, name the account with --auth-service-user.",
                account.name
            ));
            None
        }
        [uid] if *uid == 0 || *uid == account.uid => None,
        [uid] => {
            let name = name(*uid);
            notes.push(format!("{name} listens on port {port} now: keys will be sent to its auth service, and to root's, only."));
            Some(name)
        }
        several => {
            let names: Vec<String> = several.iter().map(|uid| name(*uid)).collect();
            notes.push(format!(
                "Several accounts listen on port {port}: {}. Name the one that runs the auth service with --auth-service-user.",
                names.join(", ")
            ));
            None
        }
    }
}

/// Whose the sockets are that listen on `port`, of a table as in /proc/net/tcp.
fn listeners(table: &str, port: u16) -> Vec<u32> {
    const LISTENS: &str = "0A";
    let listener = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (_, local_port) = fields.get(1)?.rsplit_once(':')?;
        let is_it = u16::from_str_radix(local_port, 16) == Ok(port) && *fields.get(3)? == LISTENS;
        is_it.then(|| fields.get(7)?.parse().ok())?
    };
    table.lines().filter_map(listener).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listeners_are_known_by_their_port_and_state() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   \
            0: 0100007F:1F99 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1007        0 1 1 0 100 0 0 10 0\n   \
            1: 0100007F:1F99 0100007F:A000 01 00000000:00000000 00:00000000 00000000  1008        0 2 1 0 20 4 30 10 -1\n   \
            2: 00000000:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 3 1 0 100 0 0 10 0\n";
        assert_eq!(listeners(table, 8089), [1007]);
        assert_eq!(listeners(table, 22), [0]);
        assert!(listeners(table, 23).is_empty());
    }

    #[test]
    fn plain_http_is_for_this_host() {
        for here in ["127.0.0.1", "127.9.9.9", "[::1]", "localhost"] {
            assert!(is_loopback(here), "{here}");
        }
        for elsewhere in [
            "192.0.2.1",
            "example.org",
            "[2001:db8::1]",
            "localhost.example.org",
        ] {
            assert!(!is_loopback(elsewhere), "{elsewhere}");
        }
    }
}
