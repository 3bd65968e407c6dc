//! `tenantfs list`.

use std::io::{BufRead, BufReader, BufWriter, Read, Write};
use std::path::Path;

use tenantfs::admin::{self, Listed, Listing, Users, Whose};
use tenantfs::error::{At, Doing, Error, Kind, Result};
use tenantfs::identity::UserId;
use tenantfs::input;
use tenantfs::name::Resource;

use super::progress::Progress;
use super::{UNREADABLE, found, ground, interrupted};
use crate::cli::ListArgs;
use crate::config::Quota;
use crate::say;

/// The longest line of a users file, in bytes: what is longer can be no user id.
const MAX_LINE: u64 = 4096;

/// Who is meant, and how many lines of the users file name nobody.
fn whose(args: &ListArgs) -> Result<(Whose, u64)> {
    Ok(match (&args.user_id, &args.users_file) {
        (Some(user), _) => {
            let mut users = Users::default();
            users.add(UserId::new(user.as_str())?);
            (Whose::Users(users), 0)
        }
        (None, Some(path)) => {
            let read = read_users(path).doing("reading the users file").at(path);
            let (users, wrong) = read.map_err(|error| error.as_kind(Kind::Config))?;
            (Whose::Users(users), wrong)
        }
        (None, None) => (Whose::All, 0),
    })
}

/// How much each user has.
fn usage(args: ListArgs) -> Result<()> {
    let (whose, wrong_lines) = whose(&args)?;
    let (quotas, _) = Quota::alone(args.quota, args.on.config.as_deref())?.users()?;
    let ground = ground(args.on)?;
    let mut progress = Progress::start("counting")?.quiet();
    let counted = admin::usage(&ground, &whose, &quotas, &mut progress);
    let unreadable = progress.count();
    progress.finish()?;
    let (used, complete) = counted?;
    let mut output = BufWriter::new(std::io::stdout());
    for used in &used {
        let printed = serde_json::to_writer(&mut output, used).map_err(std::io::Error::from);
        printed.and_then(|()| output.write_all(b"\n")).doing("printing")?;
    }
    output.flush().doing("printing")?;
    drop(output);
    ended(
        "users",
        used.len() as u64,
        args.json,
        complete,
        (unreadable, wrong_lines),
    )
}

/// Says how much was listed, and what was not.
fn ended(
    what: &str,
    count: u64,
    json: bool,
    complete: bool,
    (unreadable, wrong_lines): (u64, u64),
) -> Result<()> {
    if json {
        let counts = serde_json::json!({ what: count, "unreadable": unreadable, "wrong_lines": wrong_lines });
        say::json(&serde_json::json!({ "listed": counts }))?;
    }
    interrupted(complete)?;
    found(unreadable, UNREADABLE)?;
    found(
        wrong_lines,
        [
            "line of the users file names no new user",
            "lines of the users file name no new user",
        ],
    )
}

pub(crate) fn list(args: ListArgs) -> Result<()> {
    if args.usage {
        return usage(args);
    }
    let (whose, wrong_lines) = whose(&args)?;
    let resource = args.resource.as_deref().map(Resource::new).transpose()?;
    let ground = ground(args.on)?;
    if let Some(unknown) = resource
        .as_ref()
        .filter(|resource| !ground.resources.contains(resource))
    {
        return Err(Error::config(format!(
            "there is no resource {:?}; see --resources",
            unknown.as_str()
        )));
    }
    let listing = Listing {
        resource: resource.as_ref(),
        contents: args.contents,
    };
    let mut output = BufWriter::new(std::io::stdout());
    let (mut records, mut printed) = (0_u64, Ok(()));
    let mut each = |listed: &Listed| {
        records += 1;
        if printed.is_ok() {
            printed = say::json_text(listed).and_then(|line| writeln!(output, "{line}").doing("printing"));
        }
    };
    let mut progress = Progress::start("listing")?.quiet();
    let complete = admin::list(&ground, &whose, listing, &mut progress, &mut each);
    let unreadable = progress.count();
    progress.finish()?;
    printed.and_then(|()| output.flush().doing("printing"))?;
    let complete = complete?;
    ended("records", records, args.json, complete, (unreadable, wrong_lines))
}

/// The users that a file names, and how many of its lines name none. These are told, and the rest is done.
fn read_users(path: &Path) -> std::io::Result<(Users, u64)> {
    let mut file = BufReader::new(input::open(path)?);
    let (mut users, mut wrong) = (Users::default(), 0);
    let mut line = Vec::new();
    for number in 1_u64.. {
        line.clear();
        let read = (&mut file).take(MAX_LINE).read_until(b'\n', &mut line)?;
        if read == 0 {
            break;
        }
        let mut tell = |why: &str| {
            say::note(format_args!("{}, line {number}: {why}", path.display()));
            wrong += 1;
        };
        if !line.ends_with(b"\n") && read as u64 == MAX_LINE {
            tell("too long to be a user id");
            file.skip_until(b'\n')?;
            continue;
        }
        let text = line.strip_suffix(b"\n").unwrap_or(&line);
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        if text.is_empty() {
            continue;
        }
        let user = std::str::from_utf8(text)
            .map_err(|_| Error::config("not UTF-8"))
            .and_then(UserId::new);
        match user.map(|user| users.add(user)) {
            Ok(true) => {}
            Ok(false) => tell("this user was named before"),
            Err(error) => tell(&error.to_string()),
        }
    }
    Ok((users, wrong))
}
