//! `tenantfs status`.

use std::fmt::Write as _;
use std::io::IsTerminal;
use std::path::Path;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use indicatif::HumanBytes;
use tenantfs::account;
use tenantfs::daemon::{Client, EndStatus, Failure, KeptStatus, QuotaStatus, Reply, Request, SessionStatus};
use tenantfs::error::{Kind, Result};
use tenantfs::escape::plain;

use crate::cli::StatusArgs;
use crate::client::unexpected;
use crate::shown::{self, Cell, ago, lasting, table};
use crate::{config, exit, say};

/// What a terminal does to begin anew.
const CLEAR: &str = "\x1b[H\x1b[2J";

/// What the daemon says.
enum Said {
    /// All that may be seen; of one user, there is one.
    Sessions(Vec<SessionStatus>),
    /// One user has none, and how the last one ended, where that is known.
    Nobody(Option<EndStatus>),
}

/// Whose session is shown.
#[derive(Clone, Copy)]
enum Whose {
    Everybodys,
    /// Of whoever asks.
    Own,
    Of(u32),
}

pub(crate) fn run(args: StatusArgs) -> Result<ExitCode> {
    let whose = match args.uid {
        Some(uid) => Whose::Of(uid),
        None if rustix::process::geteuid().is_root() => Whose::Everybodys,
        None => Whose::Own,
    };
    let (json, watch) = (args.client.json, args.watch);
    let socket = config::client_socket(args.client);
    if json {
        let said = socket.and_then(|socket| ask(&socket, whose));
        return print_json(said, whose);
    }
    let socket = socket?;
    let Some(seconds) = watch else {
        let said = ask(&socket, whose)?;
        anstream::print!("{}", text(&said, whose));
        return Ok(code(&said, whose));
    };
    let clear = match std::io::stdout().is_terminal() {
        true => CLEAR,
        false => "",
    };
    loop {
        // The daemon may be restarted meanwhile.
        let shown = match ask(&socket, whose) {
            Ok(said) => text(&said, whose),
            Err(error) => format!("{}\n", plain(&format!("{error:#}"))),
        };
        anstream::print!("{clear}{shown}\n");
        thread::sleep(Duration::from_secs(seconds.into()));
    }
}

fn ask(socket: &Path, whose: Whose) -> Result<Said> {
    let uid = match whose {
        Whose::Of(uid) => Some(uid),
        Whose::Everybodys | Whose::Own => None,
    };
    let sessions = match Client::connect(socket)?.ask(&Request::Status { uid })?.done()? {
        Reply::Sessions(sessions) => sessions,
        _ => return Err(unexpected()),
    };
    if !sessions.is_empty() || matches!(whose, Whose::Everybodys) {
        return Ok(Said::Sessions(sessions));
    }
    match Client::connect(socket)?.ask(&Request::LastEnd { uid })?.done()? {
        Reply::LastEnd(end) => Ok(Said::Nobody(end)),
        _ => Err(unexpected()),
    }
}

fn print_json(said: Result<Said>, whose: Whose) -> Result<ExitCode> {
    match &said {
        Ok(Said::Sessions(sessions)) => say::json(&serde_json::json!({ "sessions": sessions }))?,
        Ok(Said::Nobody(end)) => say::json(&serde_json::json!({ "sessions": [], "last_end": end }))?,
        Err(error) => say::json(&Reply::Error(Failure::local(error)))?,
    }
    said.map(|said| code(&said, whose))
}

/// For scripts: whether the one session that was asked for is there and serves.
fn code(said: &Said, whose: Whose) -> ExitCode {
    let kind = match said {
        _ if matches!(whose, Whose::Everybodys) => return ExitCode::SUCCESS,
        Said::Nobody(Some(end)) if end.refused => Kind::AuthenticationRefused,
        Said::Nobody(_) => Kind::NotFound,
        Said::Sessions(sessions) => match sessions.first().map(|session| session.state.as_str()) {
            Some("active" | "stale") => return ExitCode::SUCCESS,
            Some("suspended" | "restoring") => Kind::AuthenticationUnreachable,
            _ => Kind::NotFound,
        },
    };
    exit::code(kind, false)
}

fn text(said: &Said, whose: Whose) -> String {
    match said {
        Said::Nobody(end) => nobody(end.as_ref(), whose),
        Said::Sessions(sessions) => match sessions.as_slice() {
            [] => "nobody is logged in\n".to_owned(),
            [session] => describe(session),
            several => overview(several),
        },
    }
}

fn nobody(end: Option<&EndStatus>, whose: Whose) -> String {
    let who = match whose {
        Whose::Of(uid) => format!("{} is", account::shown(uid)),
        Whose::Own | Whose::Everybodys => "you are".to_owned(),
    };
    match end {
        None => format!("{who} not logged in\n"),
        Some(end) => format!(
            "{who} not logged in: the last session ended {}: {}\n",
            ago(&end.ended, shown::now()),
            plain(&end.why)
        ),
    }
}

/// A line for each session, and below what somebody should look at.
fn overview(sessions: &[SessionStatus]) -> String {
    let headings = [
        "USER",
        "UID",
        "USER ID",
        "STATE",
        "KEY GOOD FOR",
        "SINCE",
        "OPEN",
        "NOT SAVED",
        "QUOTA",
    ];
    let mut rows = vec![headings.map(|heading| Cell::styled(heading, shown::ASIDE))];
    rows.extend(sessions.iter().map(row));
    let mut text = table(&rows);
    for session in sessions {
        let who = account::shown(session.uid);
        if let Some(reason) = &session.reason {
            let _ = writeln!(text, "{who}: {}: {}", plain(&session.state), plain(reason));
        }
        // What waits to go by itself is nothing to worry about.
        for (what, detail) in to_look_at(session).iter().filter(|(what, _)| *what != "removed") {
            let _ = writeln!(text, "{who}: {what}: {detail}");
        }
    }
    text
}

fn row(session: &SessionStatus) -> [Cell; 9] {
    let dash = || "-".to_owned();
    let user_id = session.user_id.as_deref();
    let more = if session.more_drafts { "+" } else { "" };
    let not_saved = match session.drafts.len() {
        0 if session.more_drafts => "?".into(),
        0 => dash().into(),
        count => Cell::styled(format!("{count}{more}"), shown::BAD),
    };
    [
        shown::user(session.uid).into(),
        session.uid.to_string().into(),
        user_id.map_or_else(dash, |user| plain(user).to_string()).into(),
        Cell::styled(
            plain(&session.state).to_string(),
            shown::state_style(&session.state),
        ),
        match session.good_for {
            0 => dash().into(),
            seconds => lasting(seconds).into(),
        },
        ago(&session.since, shown::now()).into(),
        session.open_files.to_string().into(),
        not_saved,
        session.quota.as_ref().map_or_else(dash, quota_in_short).into(),
    ]
}

/// A few lines on one session.
fn describe(session: &SessionStatus) -> String {
    let user = session.user_id.as_deref().unwrap_or("not known yet");
    let reason = session.reason.as_deref().map(|why| plain(why).to_string());
    let state = match session.state.as_str() {
        "active" => match &reason {
            None => format!("the key is good for another {}", lasting(session.good_for)),
            Some(why) => format!("the key is good for another {}; {why}", lasting(session.good_for)),
        },
        "stale" => format!(
            "{}; work goes on through the grace period",
            reason.as_deref().unwrap_or("the auth service cannot be asked")
        ),
        "suspended" => format!(
            "{}; comes back by itself when it can be asked",
            reason.as_deref().unwrap_or("the auth service cannot be asked")
        ),
        "restoring" => format!(
            "since the daemon was restarted; {}",
            reason.as_deref().unwrap_or("its key is being validated")
        ),
        _ => reason.unwrap_or_default(),
    };
    let style = shown::state_style(&session.state);
    let mut text = format!(
        "{}\n  user        {}, {}\n  lease       {style}{}{style:#}: {state}\n  since       {} ({})\n  open files  {}\n",
        plain(&session.mountpoint),
        plain(user),
        account::shown(session.uid),
        plain(&session.state),
        ago(&session.since, shown::now()),
        shown::moment(&session.since),
        session.open_files
    );
    if let Some(quota) = &session.quota {
        let _ = writeln!(text, "  quota       {}", describe_quota(quota));
    }
    for (what, detail) in to_look_at(session) {
        let _ = writeln!(text, "  {what:<11} {detail}");
    }
    text
}

/// What somebody should look at, each with a word for it.
fn to_look_at(session: &SessionStatus) -> Vec<(&'static str, String)> {
    let mut all = Vec::new();
    if let Some(KeptStatus {
        bytes,
        records,
        counted,
    }) = session.removed
    {
        let least = if counted { "" } else { "at least " };
        let size = HumanBytes(bytes);
        let what =
            format!("{least}{size} in {records} records wait to go by themselves; see tenantfs removed");
        all.push(("removed", what));
    }
    let drafts = session.drafts.iter();
    all.extend(drafts.map(|draft| {
        (
            "not saved",
            format!("{}: {}", plain(&draft.path), plain(&draft.reason)),
        )
    }));
    if session.more_drafts && session.state != "restoring" {
        let what = "there may be more: not all could be looked at; see tenantfs drafts";
        all.push(("not saved", what.to_owned()));
    }
    all.extend(session.replaced.iter().map(|resource| {
        let resource = plain(resource);
        let what =
            format!("{resource}: the volume has another directory now; the session keeps that of its login: log out and in");
        ("replaced", what)
    }));
    all
}

/// Of what there is a limit of.
fn quota_in_short(quota: &QuotaStatus) -> String {
    let files = quota
        .files
        .map(|most| format!("{} of {most} files", quota.used_files));
    let bytes = quota.bytes.map(|_| bytes_of(quota));
    let parts: Vec<_> = [bytes, files].into_iter().flatten().collect();
    parts.join(", ")
}

fn of(used: String, most: Option<String>) -> String {
    match most {
        Some(most) => format!("{used} of {most}"),
        None => used,
    }
}

fn bytes_of(quota: &QuotaStatus) -> String {
    let most = quota.bytes.map(|most| HumanBytes(most).to_string());
    of(HumanBytes(quota.used_bytes).to_string(), most)
}

fn describe_quota(quota: &QuotaStatus) -> String {
    let bytes = bytes_of(quota);
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
