//! `tenantfs doctor`: whether everything is there that serving needs, and how to mend what is not. It is looked at from here, as root
//! and as the account that serves; and from where the running server is, which a unit's sandbox may show other things.

mod finding;
mod host;
mod own;
mod served;
mod threads;

use std::path::Path;

use tenantfs::account;
use tenantfs::daemon::{Check, Client, Reply, Request};
use tenantfs::error::{Error, Kind, Result};
use tenantfs::escape::plain;
use tenantfs::session::privilege;

use crate::cli::DoctorArgs;
use crate::config::{self, DaemonSettings};
use crate::{say, serving, shown};
use finding::explained;
pub(crate) use own::{Own, examine};

/// Where units of the server are, where there are any.
const UNITS: [&str; 3] = [
    "/etc/systemd/system/tenantfs.service",
    "/usr/lib/systemd/system/tenantfs.service",
    "/lib/systemd/system/tenantfs.service",
];

/// What was found.
#[derive(Default, serde::Serialize)]
struct Report {
    /// From here.
    checks: Vec<Check>,
    /// From the server, where one answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    server: Option<Vec<Check>>,
}

pub(crate) fn run(args: DoctorArgs) -> Result<()> {
    let (file, socket) = (args.daemon.serve.on.config.clone(), args.daemon.socket.clone());
    let mut report = Report {
        checks: vec![
            host::kernel(),
            host::landlock(),
            host::device(),
            host::group(),
            threads::enough(),
        ],
        server: None,
    };
    let checks = &mut report.checks;
    let shown = config::shown_file(file.as_deref());
    match DaemonSettings::of(args.daemon) {
        Err(error) => {
            let mend = "correct it; systemd/config.toml and man tenantfs.toml explain every key";
            checks.push(Check::of("config", Err(explained(&error, mend))));
            // A server that began before goes on with what it read then.
            let (daemon, server) = ask(&socket.unwrap_or_else(|| config::DEFAULT_CONTROL.into()));
            checks.push(daemon);
            report.server = server;
        }
        Ok(settings) => {
            checks.push(host::config_file(&shown));
            checks.push(host::places(&settings.mounts));
            checks.push(host::mounter(&settings.serving));
            let (daemon, server) = ask(&settings.control);
            checks.push(daemon);
            // What a server that runs has read, it could read.
            let by_unit = server.is_none() && UNITS.iter().any(|unit| Path::new(unit).exists());
            checks.extend(as_server(&settings, by_unit));
            report.server = server;
        }
    }
    match args.json {
        true => say::json(&report)?,
        false => print(&report)?,
    }
    let all = report.checks.iter().chain(report.server.iter().flatten());
    match all.filter(|check| !check.ok).count() {
        0 => Ok(()),
        1 => Err(Error::new(Kind::Io, "1 problem found")),
        problems => Err(Error::new(Kind::Io, format!("{problems} problems found"))),
    }
}

/// Whether a server listens, and how everything looks from there.
fn ask(socket: &Path) -> (Check, Option<Vec<Check>>) {
    let shown = socket.display();
    let answered = Client::connect(socket).and_then(|client| client.ask(&Request::Doctor {})?.done());
    let (found, server) = match answered {
        Ok(Reply::Checks(checks)) => (Ok(format!("listens on {shown}, and says how it is there")), Some(checks)),
        Ok(_) => (
            Err((
                format!("the server on {shown} answers another question: it is of another version"),
                "systemctl restart tenantfs".to_owned(),
            )),
            None,
        ),
        // It is there, and tells root more.
        Err(error) if error.kind() == Kind::NotPermitted => (
            Ok(format!("listens on {shown}; run doctor as root to be told how it is there")),
            None,
        ),
        Err(error) if error.kind() == Kind::NotConnected => (
            Err((
                format!("nobody listens on {shown}"),
                "systemctl enable --now tenantfs.socket tenantfs.service; if that fails: journalctl -u tenantfs -n 20".to_owned(),
            )),
            None,
        ),
        Err(error) => (
            Err((
                format!("{error:#}"),
                "systemctl restart tenantfs; if that fails: journalctl -u tenantfs -n 20".to_owned(),
            )),
            None,
        ),
    };
    (Check::of("daemon", found), server)
}

/// The rest is looked at as the account that serves: what root may do says nothing of it. By a thread of its own, for the account
/// is each thread's: whether others are still about to end is all one.
fn as_server(settings: &DaemonSettings, by_unit: bool) -> Vec<Check> {
    let serving = &settings.serving;
    let look = || {
        let account = serving::server_account(&serving.on);
        let became = account.and_then(|(uid, gid)| privilege::drop_thread_to(uid, gid).map(|()| uid));
        match became {
            Ok(uid) => vec![
                Check::of(
                    "account",
                    Ok(format!(
                        "the server runs as {}, without any capability",
                        account::shown(uid)
                    )),
                ),
                served::volume(serving),
                served::clock(serving),
                served::sealing(serving, by_unit),
                served::authenticator(&serving.auth),
                served::quota(serving),
            ],
            Err(error) => vec![Check::of(
                "account",
                Err(explained(
                    &error,
                    match rustix::process::geteuid().is_root() {
                        true => "correct volume.path, or server.user",
                        false => {
                            "run doctor as root: it becomes the account that serves, and looks on as such"
                        }
                    },
                )),
            )],
        }
    };
    let looked = std::thread::scope(|scope| scope.spawn(look).join());
    looked.unwrap_or_else(|_| {
        let mend = "this is a bug, please report it".to_owned();
        vec![Check::of("account", Err(("the check failed".to_owned(), mend)))]
    })
}

fn print(report: &Report) -> Result<()> {
    report.checks.iter().try_for_each(print_one)?;
    if let Some(server) = &report.server {
        let style = shown::ASIDE;
        say::styled(format_args!("{style}as the running server sees it:{style:#}"))?;
        server.iter().try_for_each(print_one)?;
    }
    Ok(())
}

fn print_one(check: &Check) -> Result<()> {
    let (style, verdict) = match check.ok {
        true => (shown::GOOD, "ok"),
        false => (shown::BAD, "problem"),
    };
    let (name, message) = (plain(&check.check).to_string(), plain(&check.message));
    say::styled(format_args!("{style}{verdict:<8}{style:#} {name:<8} {message}"))?;
    match &check.mend {
        Some(mend) => say::styled(format_args!("{:17} mend: {}", "", plain(mend))),
        None => Ok(()),
    }
}
