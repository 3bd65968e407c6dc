//! `tenantfs login`, `logout`, `status` and `revoke`.

use std::fmt::Write as _;

use indicatif::HumanBytes;
use tenantfs::daemon::{Client, Failure, KeptStatus, QuotaStatus, Reply, Request, SessionStatus, Whose};
use tenantfs::error::{Error, Kind, Result};
use tenantfs::escape::plain;

use crate::cli::{ClientArgs, LoginArgs, LogoutArgs, RevokeArgs, StatusArgs};
use crate::{account, config, hygiene, key, say};

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
    run(
        args.client,
        |client| client.ask(&Request::Logout { uid: args.uid }),
        |_| Ok(String::new()),
    )
}

pub(crate) fn status(args: StatusArgs) -> Result<()> {
    let ask = |client: Client| client.ask(&Request::Status {});
    run(args.client, ask, |reply| match reply {
        Reply::Sessions(sessions) if sessions.is_empty() => Ok("nobody is logged in\n".to_owned()),
        Reply::Sessions(sessions) => Ok(sessions.iter().map(describe).collect::<Vec<_>>().join("\n")),
        _ => Err(unexpected()),
    })
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
    print!("{}", text(&reply?.done()?)?);
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

/// A few lines on one session.
fn describe(session: &SessionStatus) -> String {
    let user = session.user_id.as_deref().unwrap_or("not known yet");
    let state = match session.state.as_str() {
        "active" => format!("active, the key is good for another {} s", session.good_for),
        "stale" => {
            "stale: the auth service cannot be asked; work goes on through the grace period".to_owned()
        }
        "suspended" => {
            "suspended: the auth service cannot be asked; comes back by itself when it can".to_owned()
        }
        "restoring" => "restoring: waits for the auth service since the daemon was restarted".to_owned(),
        other => plain(other).to_string(),
    };
    let mut text = format!(
        "{}\n  user        {}, uid {}\n  lease       {state}\n  since       {}\n  open files  {}\n",
        plain(&session.mountpoint),
        plain(user),
        session.uid,
        plain(&session.since),
        session.open_files
    );
    if let Some(quota) = &session.quota {
        let _ = writeln!(text, "  quota       {}", describe_quota(quota));
    }
    if let Some(KeptStatus {
        bytes,
        records,
        counted,
    }) = session.removed
    {
        let least = if counted { "" } else { "at least " };
        let size = HumanBytes(bytes);
        let _ = writeln!(
            text,
            "  removed     {least}{size} in {records} records wait to go by themselves; see tenantfs removed"
        );
    }
    for draft in &session.drafts {
        let (path, reason) = (plain(&draft.path), plain(&draft.reason));
        let _ = writeln!(text, "  not saved   {path}: {reason}");
    }
    if session.more_drafts && session.state != "restoring" {
        text += "  not saved   there may be more: not all could be looked at; see tenantfs drafts\n";
    }
    for resource in &session.replaced {
        let _ = writeln!(
            text,
            "  replaced    {}: the volume has another directory now; the session keeps that of its login: log out and in",
            plain(resource)
        );
    }
    text
}

fn describe_quota(quota: &QuotaStatus) -> String {
    let of = |used: String, most: Option<String>| match most {
        Some(most) => format!("{used} of {most}"),
        None => used,
    };
    let bytes = of(
        HumanBytes(quota.used_bytes).to_string(),
        quota.bytes.map(|most| HumanBytes(most).to_string()),
    );
    let files = of(
        quota.used_files.to_string(),
        quota.files.map(|most| most.to_string()),
    );
    let counted = match quota.counted {
        true => "",
        false => "; what is there is still being counted",
    };
    format!("{bytes}, {files} files{counted}")
}
