//! `tenantfs removed`, `restore` and `drafts`: asked of the daemon by users, done on the volume by operators.

mod place;
mod text;

use std::path::{Path, PathBuf};

use tenantfs::daemon::{Client, Code, Failure, Reply, Request, SessionStatus};
use tenantfs::error::Result;

use crate::admin::{UNREADABLE, found, way_back as volume};
use crate::cli::{DraftsArgs, RemovedArgs, RestoreArgs, WhoseArgs};
use crate::{client, config};

pub(crate) fn removed(args: RemovedArgs) -> Result<()> {
    let whose = args.whose;
    let (json, uid) = (whose.json, whose.uid);
    let reply = match whose.user_id.clone() {
        Some(user) => volume::removed(whose.on, user),
        None => ask(&whose, &Request::Removed { uid }),
    };
    show(reply, json, text::removed)
}

pub(crate) fn restore(args: RestoreArgs) -> Result<()> {
    let (whose, path) = (args.whose, args.path);
    let (json, uid) = (whose.json, whose.uid);
    let reply = match whose.user_id.clone() {
        Some(user) => place::in_mount(&path).and_then(|path| volume::restore(whose.on, user, &path)),
        None => ask_at(&whose, &path, |path| Request::Restore { path, uid }),
    };
    client::print(reply, json, text::done)
}

pub(crate) fn drafts(args: DraftsArgs) -> Result<()> {
    let whose = args.whose;
    let (json, uid) = (whose.json, whose.uid);
    let Some(path) = args.discard else {
        let reply = match whose.user_id.clone() {
            Some(user) => volume::drafts(whose.on, user),
            None => ask(&whose, &Request::Drafts { uid }),
        };
        return show(reply, json, text::drafts);
    };
    let reply = match whose.user_id.clone() {
        Some(user) => place::in_mount(&path).and_then(|path| volume::discard(whose.on, user, &path)),
        None => ask_at(&whose, &path, |path| Request::Discard { path, uid }),
    };
    client::print(reply, json, text::done)
}

/// Prints a list. Where not everything could be looked at, that is an error in the end.
fn show(reply: Result<Reply>, json: bool, text: impl FnOnce(&Reply) -> Result<String>) -> Result<()> {
    let unreadable = reply.as_ref().map_or(0, |reply| reply.unreadable().len());
    client::print(reply, json, text)?;
    found(unreadable as u64, UNREADABLE)
}

fn ask(whose: &WhoseArgs, request: &Request) -> Result<Reply> {
    Client::connect(&config::client_socket(whose.client())?)?.ask(request)
}

/// Asks for what a path means: of two meanings that it may have, the one of which the daemon knows something.
fn ask_at(whose: &WhoseArgs, path: &Path, request: impl Fn(String) -> Request) -> Result<Reply> {
    let mountpoint = mountpoint(whose)?;
    // None in a directory that was removed: what is said from there is as in the mount.
    let here = std::env::current_dir().ok();
    let meant = place::meant(path, here.as_deref(), mountpoint.as_deref())?;
    let reply = ask(whose, &request(meant.first))?;
    let is_unknown =
        |reply: &Reply| matches!(reply, Reply::Error(Failure { code, .. }) if *code == Code::NotFound);
    match meant.other {
        Some(other) if is_unknown(&reply) => {
            let second = ask(whose, &request(other))?;
            // Of two that mean nothing, the likelier one is what there is to say about.
            Ok(if is_unknown(&second) { reply } else { second })
        }
        _ => Ok(reply),
    }
}

/// Where the view is that a path may lead into; none without a session, which the daemon says of whatever is asked next.
fn mountpoint(whose: &WhoseArgs) -> Result<Option<PathBuf>> {
    let uid = whose.uid.unwrap_or_else(|| rustix::process::geteuid().as_raw());
    let is_meant = |session: &SessionStatus| session.uid == uid;
    match ask(whose, &Request::Status { uid: None })?.done()? {
        Reply::Sessions(sessions) => {
            let session = sessions.into_iter().find(is_meant);
            Ok(session.map(|session| place::real(Path::new(&session.mountpoint))))
        }
        _ => Err(client::unexpected()),
    }
}
