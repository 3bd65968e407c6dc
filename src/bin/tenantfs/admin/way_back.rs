//! `tenantfs removed`, `restore` and `drafts` with `--user-id`: on the volume, for operators.

use std::thread;

use tenantfs::admin::{self, Ground};
use tenantfs::audit::Record;
use tenantfs::daemon::Reply;
use tenantfs::error::{Error, Kind, Result};
use tenantfs::identity::UserId;

use super::{become_account, confined, ground, open, tell};
use crate::account;
use crate::cli::VolumeArgs;
use crate::config::VolumeSettings;

/// The most records or drafts that are looked for: as the daemon has it.
const MOST: usize = 1000;

/// What is done to one record of a user.
type Change = fn(&Ground, &UserId, &str) -> Result<()>;

pub(crate) fn removed(on: VolumeArgs, user: String) -> Result<Reply> {
    let user = UserId::new(user)?;
    let survey = admin::removed(&ground(on)?, &user, MOST)?;
    Ok(Reply::removed(survey, for_operator))
}

pub(crate) fn drafts(on: VolumeArgs, user: String) -> Result<Reply> {
    let user = UserId::new(user)?;
    let survey = admin::drafts(&ground(on)?, &user, MOST)?;
    Ok(Reply::drafts(survey, for_operator))
}

fn for_operator(error: &Error) -> String {
    format!("{error:#}")
}

pub(crate) fn restore(on: VolumeArgs, user: String, path: &str) -> Result<Reply> {
    change(on, user, path, ("restore", admin::restore))?;
    let path = path.to_owned();
    Ok(Reply::Restored { path })
}

pub(crate) fn discard(on: VolumeArgs, user: String, path: &str) -> Result<Reply> {
    change(on, user, path, ("discard", admin::discard_draft))?;
    let path = path.to_owned();
    Ok(Reply::Discarded { path })
}

/// Changes one record, accounted for before and after.
fn change(on: VolumeArgs, user: String, path: &str, (op, change): (&'static str, Change)) -> Result<()> {
    let user = UserId::new(user)?;
    let (settings, uid) = (VolumeSettings::alone(on)?, account::caller());
    become_account(&settings)?;
    let ground = open(&settings)?;
    let hash = user.hash();
    let record = Record {
        user: Some(&hash),
        path,
        ..Record::of(op, uid)
    };
    let begins = Record {
        reason: "begins",
        ..record.clone()
    };
    tell(&settings, &begins)?;
    let changed = apart(ground, move |ground| change(ground, &user, path));
    // Its user reads the line, too, and is told no path of the volume.
    let reason = changed.as_ref().err().map(Error::to_string);
    let outcome = Record {
        outcome: changed.as_ref().copied().map_err(Error::kind),
        reason: reason.as_deref().unwrap_or_default(),
        ..record
    };
    tell(&settings, &outcome)?;
    changed
}

/// Works on a thread that is confined to the volume: this one has a line to write in the audit log yet.
fn apart<T: Send>(ground: Ground, work: impl FnOnce(&Ground) -> Result<T> + Send) -> Result<T> {
    thread::scope(|scope| {
        let working = scope.spawn(|| work(&confined(ground, true, None)?));
        let bug = |_| Error::new(Kind::Io, "a panic; this is a bug, please report it");
        working.join().map_err(bug)?
    })
}
