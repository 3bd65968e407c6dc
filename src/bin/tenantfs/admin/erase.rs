//! `tenantfs erase`.

use std::io::{BufRead, IsTerminal, Write};

use tenantfs::admin::{Erasure, would_erase};
use tenantfs::audit::Record;
use tenantfs::daemon::{Client, Whose};
use tenantfs::error::{Doing, Error, Kind, Result};
use tenantfs::identity::UserId;

use super::progress::Progress;
use super::{become_account, confined, found, interrupted, open, tell};
use crate::cli::{ClientArgs, EraseArgs};
use crate::config::{self, VolumeSettings};
use crate::{account, say};

/// What is said where not everything could be erased.
const LEFT: [&str; 2] = [
    "place may have something of this user's, and was left: mend what is said of it, and run this again",
    "places may have something of this user's, and were left: mend what is said of them, and run this again",
];

pub(crate) fn erase(args: EraseArgs) -> Result<()> {
    let user = UserId::new(args.user_id.as_str())?;
    let socket = config::client_socket(ClientArgs {
        socket: args.socket,
        config: args.on.config.clone(),
        json: false,
    })?;
    let (settings, uid) = (VolumeSettings::alone(args.on)?, account::caller());
    if args.dry_run {
        become_account(&settings)?;
        return dry_run(&settings, &user);
    }
    if !args.yes {
        confirm(&user)?;
    }
    // While this is root: the daemon goes by who connects.
    let daemon = match Client::connect(&socket) {
        Err(error) if error.kind() == Kind::NotConnected => None,
        connected => Some(connected?),
    };
    become_account(&settings)?;
    let hash = user.hash();
    let record = Record {
        user: Some(&hash),
        ..Record::of("erase", uid)
    };
    tell(
        &settings,
        &Record {
            reason: "begins",
            ..record.clone()
        },
    )?;
    let ground = open(&settings)?;
    let mut progress = Progress::start("erasing")?.quiet();
    // Once it has begun nobody can log in as this user; whoever has, is ended.
    let end_sessions = || daemon.map_or(Ok(()), |daemon| end_sessions(daemon, &user));
    let receipt = Erasure::begin(&ground, &user, &mut progress, end_sessions)
        .and_then(|erasure| erasure.run(&mut progress));
    progress.finish()?;
    // Its user may read the line, should there be one again, and is told no path.
    let said = match &receipt {
        Ok(receipt) => serde_json::to_string(receipt).unwrap_or_default(),
        Err(error) => error.to_string(),
    };
    tell(
        &settings,
        &Record {
            outcome: receipt.as_ref().map(drop).map_err(Error::kind),
            reason: &said,
            ..record
        },
    )?;
    let receipt = receipt?;
    if args.json {
        say::json(&serde_json::json!({ "erased": receipt }))?;
    } else {
        println!(
            "{} records, {} other files, {} drafts{}; {} files searched; names {}",
            receipt.records,
            receipt.attachments + receipt.other,
            receipt.drafts,
            if receipt.profile { " and the profile" } else { "" },
            receipt.searched,
            receipt.names_sha256
        );
    }
    let done = found(receipt.left, LEFT).and_then(|()| interrupted(receipt.finished.is_some()));
    done.map_err(|error| match receipt.keeps_out() {
        true => {
            error.context("the erasure is not finished, and keeps the user out until another run finishes it")
        }
        false => error,
    })
}

fn end_sessions(daemon: Client, user: &UserId) -> Result<()> {
    match daemon.revoke(Whose::UserId(user.as_str().to_owned())) {
        Err(error) if error.kind() != Kind::NotFound => Err(error.context("ending the user's sessions")),
        _ => Ok(()),
    }
}

fn dry_run(settings: &VolumeSettings, user: &UserId) -> Result<()> {
    let ground = confined(open(settings)?, false, None)?;
    let mut progress = Progress::start("looking")?.quiet();
    let (mut stdout, mut printed) = (std::io::stdout().lock(), Ok(()));
    let complete = would_erase(&ground, user, &mut progress, &mut |path| {
        if printed.is_ok() {
            let line = say::json_text(&serde_json::json!({ "would_erase": path }));
            printed = line.and_then(|line| writeln!(stdout, "{line}").doing("printing"));
        }
    })?;
    let left = progress.count();
    progress.finish()?;
    printed?;
    interrupted(complete)?;
    found(left, LEFT)
}

fn confirm(user: &UserId) -> Result<()> {
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        return Err(Error::config(
            "nothing was erased: there is no terminal to ask on; use --yes",
        ));
    }
    eprint!("Everything of this user is erased for good. To confirm, type the user id again: ");
    let mut line = String::new();
    stdin.lock().read_line(&mut line).doing("asking")?;
    match line.trim_end_matches(['\r', '\n']) == user.as_str() {
        true => Ok(()),
        false => Err(Error::config("nothing was erased: that was another user id")),
    }
}
