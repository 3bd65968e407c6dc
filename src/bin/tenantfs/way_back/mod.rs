//! `tenantfs removed`, `restore` and `drafts`: asked of the daemon by users, done on the volume by operators.

mod args;
mod place;
mod text;

use std::path::{Path, PathBuf};

use tenantfs::daemon::{Client, Code, Failure, Reply, Request, SessionStatus};
use tenantfs::error::Result;

use crate::admin::way_back as volume;
use crate::{client, config};
pub(crate) use args::{DraftsArgs, RemovedArgs, RestoreArgs, WhoseArgs};

pub(crate) fn removed(args: RemovedArgs) -> Result<()> {
    let whose = args.whose;
    let (json, uid) = (whose.json, whose.uid);
    let reply = match whose.user_id.clone() {
        Some(user) => volume::removed(whose.on, user),
        None => ask(&whose, &Request::Removed { uid }),
    };
    client::print(reply, json, text::removed)
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
        return client::print(reply, json, text::drafts);
    };
    let reply = match whose.user_id.clone() {
        Some(user) => place::in_mount(&path).and_then(|path| volume::discard(whose.on, user, &path)),
        None => ask_at(&whose, &path, |path| Request::Discard { path, uid }),
    };
    client::print(reply, json, text::done)
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
    match (&reply, meant.other) {
        (Reply::Error(Failure { code, .. }), Some(other)) if *code == Code::NotFound => {
            ask(whose, &request(other))
        }
        _ => Ok(reply),
    }
}

/// Where the view is that a path may lead into; none without a session, which the daemon says of whatever is asked next.
fn mountpoint(whose: &WhoseArgs) -> Result<Option<PathBuf>> {
    let uid = whose.uid.unwrap_or_else(|| rustix::process::geteuid().as_raw());
    let is_meant = |session: &SessionStatus| session.uid == uid;
    match ask(whose, &Request::Status {})?.done()? {
        Reply::Sessions(sessions) => {
            let session = sessions.into_iter().find(is_meant);
            Ok(session.map(|session| place::real(Path::new(&session.mountpoint))))
        }
        _ => Err(client::unexpected()),
    }
}
