//! `tenantfs login`, `logout` and `revoke`; and how every command talks to the daemon.

use tenantfs::daemon::{Client, Code, Failure, Reply, Request, SessionStatus, Whose};
use tenantfs::error::{Error, Kind, Result};
use tenantfs::escape::plain;

use crate::cli::{ClientArgs, LoginArgs, LogoutArgs, RevokeArgs};
use crate::{account, config, hygiene, key, processes, say};

pub(crate) fn login(args: LoginArgs) -> Result<()> {
    hygiene::hide_memory();
    let ask = |client: Client| {
        let reply = client.ask(&Request::Login {
            key: key::read(args.api_key_file.as_deref())?,
            uid: args.uid,
            gid: args.gid,
        })?;
        if let Reply::Session(session) = &reply {
            warn_of_group(session, args.gid);
        }
        Ok(reply)
    };
    run(args.client, ask, |reply| match reply {
        Reply::Session(session) => Ok(plain(&session.mountpoint).to_string() + "\n"),
        _ => Err(unexpected()),
    })
}

pub(crate) fn logout(args: LogoutArgs) -> Result<()> {
    let uid = args.uid.unwrap_or_else(account::caller);
    if args.if_idle && processes::of(uid) {
        return Ok(());
    }
    run(
        args.client,
        |client| match client.ask(&Request::Logout { uid: args.uid })? {
            // Who was not logged in is logged out.
            Reply::Error(failure) if args.if_idle && failure.code == Code::NotLoggedIn => {
                Ok(Reply::Ended(Vec::new()))
            }
            reply => Ok(reply),
        },
        |_| Ok(String::new()),
    )
}

pub(crate) fn revoke(args: RevokeArgs) -> Result<()> {
    let whose = match (args.uid, args.user_id) {
        (Some(uid), _) => Whose::Uid(uid),
        (None, Some(user)) => Whose::UserId(user),
        (None, None) => Whose::All,
    };
    run(
        args.client,
        |client| client.ask(&Request::Revoke(whose)),
        |reply| match reply {
            Reply::Ended(uids) => Ok(match uids.len() {
                1 => "1 session ended\n".to_owned(),
                several => format!("{several} sessions ended\n"),
            }),
            _ => Err(unexpected()),
        },
    )
}

/// Asks, and prints the answer: as `text` has it, or as the daemon sent it, errors too.
pub(crate) fn run(
    args: ClientArgs,
    ask: impl FnOnce(Client) -> Result<Reply>,
    text: impl FnOnce(&Reply) -> Result<String>,
) -> Result<()> {
    let json = args.json;
    let reply = config::client_socket(args).and_then(|socket| ask(Client::connect(&socket)?));
    print(reply, json, text)
}

/// Prints an answer: as `text` has it, or as JSON, errors too.
pub(crate) fn print(
    reply: Result<Reply>,
    json: bool,
    text: impl FnOnce(&Reply) -> Result<String>,
) -> Result<()> {
    if json {
        let failed = |error| Reply::Error(Failure::local(error));
        let shown = reply.as_ref().map_or_else(failed, Reply::clone);
        say::json(&shown)?;
        return reply?.done().map(drop);
    }
    anstream::print!("{}", text(&reply?.done()?)?);
    Ok(())
}

/// Says on standard error which processes the kernel will refuse, where that is not what whoever logs in expects.
fn warn_of_group(session: &SessionStatus, wanted: Option<u32>) {
    let Some(gid) = session.gid else { return };
    let group = account::group_name(gid);
    let own = account::other_group_than(gid);
    match (wanted, own) {
        (Some(wanted), _) if wanted != gid => eprintln!(
            "tenantfs: the session was there already, for processes of group {group}, and goes on so; to change that, log out \
             and log in with --gid {wanted}"
        ),
        (None, Some(own)) if session.uid == account::caller() => eprintln!(
            "tenantfs: the view is for processes of group {group}; this one has group {}, and the kernel will refuse it \
             (EACCES): to use the view from here, log out and log in with --gid {own}",
            account::group_name(own)
        ),
        _ => {}
    }
}

pub(crate) fn unexpected() -> Error {
    Error::new(
        Kind::Io,
        "the daemon answered another question; are both of the same version?",
    )
}
