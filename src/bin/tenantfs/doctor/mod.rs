//! `tenantfs doctor`: whether everything is there that serving needs, and how to mend what is not.

mod finding;
mod host;
mod served;

use tenantfs::error::{Error, Kind, Result};
use tenantfs::session::privilege;

use crate::cli::DoctorArgs;
use crate::config::{self, DaemonSettings};
use crate::say;
use crate::serving;
use finding::{Finding, explained, look};

pub(crate) fn run(args: DoctorArgs) -> Result<()> {
    let file = args.daemon.serve.on.config.clone();
    let mut findings = vec![host::kernel(), host::landlock(), host::device(), host::group()];
    let shown = config::shown_file(file.as_deref());
    match DaemonSettings::of(args.daemon) {
        Err(error) => findings.push(look(
            "config",
            Err(explained(
                &error,
                "correct it; systemd/config.toml explains every key",
            )),
        )),
        Ok(settings) => {
            findings.push(host::config_file(&shown));
            findings.push(host::places(&settings.mounts));
            findings.push(host::mounter(&settings.serving));
            findings.push(host::control(&settings.control));
            findings.extend(as_server(&settings));
        }
    }
    report(&findings, args.json)?;
    match findings.iter().filter(|finding| !finding.ok).count() {
        0 => Ok(()),
        1 => Err(Error::new(Kind::Io, "1 problem found")),
        problems => Err(Error::new(Kind::Io, format!("{problems} problems found"))),
    }
}

/// The rest is looked at as the account that serves: what root may do says nothing of it.
fn as_server(settings: &DaemonSettings) -> Vec<Finding> {
    let account = serving::server_account(&settings.serving.on);
    let became = account.and_then(|(uid, gid)| privilege::drop_to(uid, gid).map(|()| uid));
    match became {
        Ok(uid) => vec![
            look(
                "account",
                Ok(format!("the server runs as uid {uid}, without any capability")),
            ),
            served::volume(&settings.serving),
            served::clock(&settings.serving),
            served::sealing(&settings.serving),
            served::authenticator(&settings.serving.auth),
        ],
        Err(error) => vec![look(
            "account",
            Err(explained(
                &error,
                match rustix::process::geteuid().is_root() {
                    true => "correct volume.path, or server.user",
                    false => "run doctor as root: it becomes the account that serves, and looks on as such",
                },
            )),
        )],
    }
}

fn report(findings: &[Finding], json: bool) -> Result<()> {
    if json {
        let object = serde_json::json!({ "checks": findings });
        return say::json(&object);
    }
    for finding in findings {
        let verdict = if finding.ok { "ok" } else { "problem" };
        say::line(format_args!(
            "{verdict:<8} {:<8} {}",
            finding.check, finding.message
        ))?;
        if let Some(mend) = &finding.mend {
            say::line(format_args!("{:17} mend: {mend}", ""))?;
        }
    }
    Ok(())
}
