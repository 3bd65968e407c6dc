//! `tenantfs status --all-hosts` and `tenantfs revoke --all-hosts`.

use std::fmt::Write as _;

use tenantfs::daemon::{Client, Reply, Request, Whose};
use tenantfs::error::{Error, Kind, Result};
use tenantfs::escape::plain;
use tenantfs::hosts::Host;

use crate::cli::{ClientArgs, RevokeArgs};
use crate::client::{run, unexpected};
use crate::config;

pub(crate) fn status(args: ClientArgs) -> Result<()> {
    run(
        args,
        |client| client.ask(&Request::Hosts {}),
        |reply| match reply {
            Reply::Hosts(hosts) if hosts.is_empty() => Ok("nobody is logged in on any host\n".to_owned()),
            Reply::Hosts(hosts) => Ok(table(hosts)),
            _ => Err(unexpected()),
        },
    )
}

pub(crate) fn revoke(args: RevokeArgs) -> Result<()> {
    let whose = match (args.uid, args.user_id) {
        (Some(uid), _) => Whose::Uid(uid),
        (None, Some(user)) => Whose::UserId(user),
        (None, None) => Whose::All,
    };
    let json = args.client.json;
    let socket = config::client_socket(args.client)?;
    let reply = Client::connect(&socket)?.ask(&Request::RevokeEverywhere(whose));
    let left = match &reply {
        Ok(Reply::Hosts(hosts)) => table(hosts),
        _ => String::new(),
    };
    crate::client::print(reply, json, |_| Ok(String::new()))?;
    match left.is_empty() {
        true => Ok(()),
        false => Err(Error::new(
            Kind::Busy,
            format!(
                "not every host says that its sessions have ended; one that is gone expires within a minute:\n{}",
                left.trim_end()
            ),
        )),
    }
}

fn since(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds).map_or_else(|_| "?".to_owned(), |time| time.to_string())
}

/// One line for each session.
fn table(hosts: &[Host]) -> String {
    let mut text = String::new();
    for host in hosts {
        for session in &host.sessions {
            let user: String = session.user.chars().take(16).collect();
            let _ = writeln!(
                text,
                "{:<20} {} uid {:<8} {:<10} since {}",
                plain(&host.host),
                plain(&user),
                session.uid,
                plain(&session.state),
                since(session.since)
            );
        }
    }
    text
}
