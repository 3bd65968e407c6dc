//! What the server says of itself: how everything that serving needs looks from where it is.

use std::fs;
use std::sync::Arc;

use rustix::process::Resource;
use tenantfs::account;
use tenantfs::audit::{AuditLog, Destination};
use tenantfs::daemon::Check;

use super::{host, served};
use crate::config::{DaemonSettings, Version};

/// What the server has to look at.
pub(crate) struct Own {
    pub(crate) settings: Arc<DaemonSettings>,
    pub(crate) audit: Option<AuditLog>,
    /// The config file as it was when the server began.
    pub(crate) config: Version,
}

/// Looks at everything, in the server's own process: may take its time.
pub(crate) fn examine(own: &Own) -> Vec<Check> {
    let serving = &own.settings.serving;
    vec![
        program(),
        config(&own.config),
        sandbox(),
        host::landlock(),
        limits(),
        served::volume(serving),
        served::clock(serving),
        served::sealing(serving, false),
        served::authenticator(&serving.auth),
        served::quota(serving),
        audit(own),
    ]
}

fn program() -> Check {
    let pid = std::process::id();
    let who = account::shown(rustix::process::geteuid().as_raw());
    let what = format!("tenantfs {}, process {pid}, {who}", env!("CARGO_PKG_VERSION"));
    let path = fs::read_link("/proc/self/exe").unwrap_or_default();
    let is_replaced = path.to_string_lossy().ends_with(" (deleted)");
    Check::of(
        "program",
        match is_replaced {
            false => Ok(what),
            true => Err((
                format!("{what}: another program has its name since it was started"),
                "systemctl restart tenantfs: the sessions come back by themselves".to_owned(),
            )),
        },
    )
}

fn config(before: &Version) -> Check {
    let shown = before.path.display();
    Check::of(
        "config",
        match (before.is_current(), before.check()) {
            (_, Err(error)) => Err((
                format!("{error:#}; the server goes on with what it read when it began"),
                "correct it before the server is restarted: tenantfs daemon --check".to_owned(),
            )),
            (true, Ok(())) if !before.is_there() => Ok("there is no config file".to_owned()),
            (true, Ok(())) => Ok(format!("{shown} is what the server goes by")),
            (false, Ok(())) => Err((
                format!("{shown} was changed since the server read it"),
                "systemctl restart tenantfs: the sessions come back by themselves".to_owned(),
            )),
        },
    )
}

/// What this process is kept from.
fn sandbox() -> Check {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.map(|rest| rest.trim().to_owned()).unwrap_or_default()
    };
    let has_capabilities =
        field("CapEff:").bytes().any(|b| b != b'0') || field("CapPrm:").bytes().any(|b| b != b'0');
    if has_capabilities || field("NoNewPrivs:") != "1" {
        return Check::of(
            "sandbox",
            Err((
                format!(
                    "the server has capabilities (CapEff {}), or could gain some (NoNewPrivs {})",
                    field("CapEff:"),
                    field("NoNewPrivs:")
                ),
                "this is a bug, please report it".to_owned(),
            )),
        );
    }
    let filter = match field("Seccomp:").as_str() {
        "2" => "system calls are filtered",
        _ => "system calls are not filtered",
    };
    Check::of(
        "sandbox",
        Ok(format!(
            "no capability, and none to be gained; {filter}; {}",
            network()
        )),
    )
}

/// Whether there are other hosts for this process.
fn network() -> &'static str {
    // Two lines of headings, and one for each interface.
    let interfaces = fs::read_to_string("/proc/self/net/dev").unwrap_or_default();
    let mut names = interfaces
        .lines()
        .skip(2)
        .filter_map(|line| line.split(':').next());
    match names.any(|name| name.trim() != "lo") {
        true => "the host's network",
        false => "no network",
    }
}

fn limits() -> Check {
    /// How many open files a daemon should be able to have.
    const FILES: u64 = 4096;
    let files = rustix::process::getrlimit(Resource::Nofile).current;
    let shown = files.map_or_else(|| "any number of".to_owned(), |files| files.to_string());
    let locked = match rustix::process::getrlimit(Resource::Memlock).current {
        None => "memory is kept out of swap",
        Some(_) => "memory may be swapped, where that is not forbidden",
    };
    let found = format!("{shown} open files; {locked}");
    Check::of(
        "limits",
        match files {
            Some(files) if files < FILES => Err((
                found,
                format!("systemctl edit tenantfs.service: [Service] LimitNOFILE=1048576; at least {FILES}"),
            )),
            _ => Ok(found),
        },
    )
}

fn audit(own: &Own) -> Check {
    let destination = own
        .settings
        .serving
        .on
        .audit
        .as_ref()
        .map(|options| &options.destination);
    let place = match destination {
        Some(Destination::File(path)) => path.display().to_string(),
        Some(Destination::Journal) => "the journal".to_owned(),
        None => return Check::of("audit", Ok("no audit log is kept: see audit.path".to_owned())),
    };
    let (failed, scarce, waiting) = own.audit.as_ref().map_or((false, false, 0), |audit| {
        (audit.failed(), audit.is_scarce(), audit.waiting())
    });
    Check::of(
        "audit",
        match (failed, scarce) {
            (true, _) => Err((
                format!(
                    "{place} cannot be written: {waiting} lines wait, and nothing is done that is owed one"
                ),
                "make room on its file system, or correct its mode: journalctl -u tenantfs says what it is"
                    .to_owned(),
            )),
            (false, true) => Err((
                format!(
                    "{place}: its file system is nearly full, and users who wrote most of it are refused"
                ),
                "make room, or run logrotate".to_owned(),
            )),
            (false, false) => Ok(format!("{place} is written")),
        },
    )
}
