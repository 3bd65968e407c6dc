//! `tenantfs audit`.

use std::fmt::Write as _;

use tenantfs::audit::{self, Findings, OwnEvent};
use tenantfs::daemon::{Failure, Reply, Request};
use tenantfs::error::Result;
use tenantfs::escape::plain;

use crate::cli::{AuditCommand, MineArgs, VerifyAuditArgs};
use crate::{client, config, say};

pub(crate) fn run(command: AuditCommand) -> Result<()> {
    match command {
        AuditCommand::Verify(args) => verify(args),
        AuditCommand::Mine(args) => mine(args),
    }
}

fn verify(args: VerifyAuditArgs) -> Result<()> {
    let found = config::head_keys(args.sealing_keys).and_then(|keys| audit::verify(&args.files, &keys));
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
        ..
    } = event;
    let mut text = format!(
        "{} {:6} {:15} pid {pid:<7}",
        plain(ts),
        plain(outcome).to_string(),
        plain(op).to_string()
    );
    for part in [path, reason] {
        if !part.is_empty() {
            let _ = write!(text, " {}", plain(part));
        }
    }
    text + "\n"
}
