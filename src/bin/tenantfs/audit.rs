//! `tenantfs audit`.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use tenantfs::audit::{self, Findings, HostFindings, OwnEvent};
use tenantfs::daemon::{Failure, Reply, Request};
use tenantfs::error::{Doing, Error, Result};
use tenantfs::escape::plain;

use crate::cli::{AuditCommand, MineArgs, VerifyAuditArgs};
use crate::config::Log;
use crate::{client, config, say};

pub(crate) fn run(command: AuditCommand) -> Result<()> {
    match command {
        AuditCommand::Verify(args) if args.merged => merged(args),
        AuditCommand::Verify(args) => verify(args),
        AuditCommand::Mine(args) => mine(args),
    }
}

fn verify(args: VerifyAuditArgs) -> Result<()> {
    let config = args.config.as_deref();
    let found = files(args.files, config).and_then(|files| {
        let keys = config::head_keys(args.sealing_keys, config)?;
        audit::verify(&files, &keys)
    });
    if args.json {
        match &found {
            Ok(findings) => say::json(findings)?,
            Err(error) => say::json(&Reply::Error(Failure::local(error)))?,
        }
        return found?.check();
    }
    let findings = found?;
    print!("{}", describe(&findings));
    findings.check()
}

/// Verifies the logs of several hosts, and prints them as one.
fn merged(args: VerifyAuditArgs) -> Result<()> {
    let keys = config::head_keys(args.sealing_keys, args.config.as_deref())?;
    let hosts = audit::verify_hosts(&args.files, &keys)?;
    let mut stdout = std::io::stdout().lock();
    audit::merge(&args.files, &mut |line| {
        let written = stdout.write_all(line).and_then(|()| stdout.write_all(b"\n"));
        written.doing("printing")
    })?;
    for HostFindings { host, findings } in &hosts {
        let name = match host.as_str() {
            "" => "no host",
            name => name,
        };
        say::note(format!("{}: {}", plain(name), describe(findings).trim_end()));
    }
    hosts.iter().try_for_each(|host| host.findings.check())
}

/// The files that are named, or else those of the log that is configured.
fn files(named: Vec<PathBuf>, config: Option<&Path>) -> Result<Vec<PathBuf>> {
    if named.is_empty() {
        return match config::log(config)? {
            Log::Files(files) => Ok(files),
            Log::Journal => Err(Error::config(
                "the audit log is in the journal; run: journalctl -o cat -t tenantfs-audit | tenantfs audit verify -",
            )),
        };
    }
    let from_stdin = |file: PathBuf| match file.as_os_str() == "-" {
        true => "/dev/stdin".into(),
        false => file,
    };
    Ok(named.into_iter().map(from_stdin).collect())
}

fn describe(findings: &Findings) -> String {
    let mut text = String::new();
    for problem in &findings.problems {
        let _ = writeln!(text, "{}", plain(&problem.to_string()));
    }
    let untold = findings.problem_count - findings.problems.len() as u64;
    if untold > 0 {
        let _ = writeln!(text, "… and {untold} more problems");
    }
    for note in &findings.notes {
        let _ = writeln!(text, "note: {}", plain(note));
    }
    let verdict = match findings.problem_count {
        0 => "as they were written",
        _ => "NOT as they were written",
    };
    let _ = match (findings.first, findings.last) {
        (Some(first), Some(last)) => {
            writeln!(text, "{} lines, {first} to {last}: {verdict}", findings.lines)
        }
        _ => writeln!(text, "{} lines: {verdict}", findings.lines),
    };
    text
}

fn mine(args: MineArgs) -> Result<()> {
    let (lines, uid) = (args.lines, args.uid);
    client::run(
        args.client,
        |client| client.ask(&Request::Audit { lines, uid }),
        |reply| match reply {
            Reply::Events(events) if events.is_empty() => Ok("there are no events of yours\n".to_owned()),
            Reply::Events(events) => Ok(events.iter().map(event).collect()),
            _ => Err(client::unexpected()),
        },
    )
}

/// One line on one event.
fn event(event: &OwnEvent) -> String {
    let OwnEvent {
        ts,
        pid,
        op,
        path,
        outcome,
        reason,
        how,
        ..
    } = event;
    let mut text = format!(
        "{} {:6} {:15} pid {pid:<7}",
        plain(ts),
        plain(outcome).to_string(),
        plain(op).to_string()
    );
    let how = how.as_ref().map(|how| format!("({how})")).unwrap_or_default();
    for part in [path, &how, reason] {
        if !part.is_empty() {
            let _ = write!(text, " {}", plain(part));
        }
    }
    text + "\n"
}
