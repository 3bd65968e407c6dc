//! The metrics of this process, and where they can be read.

use std::net::TcpListener;
use std::sync::Arc;

use tenantfs::audit::AuditLog;
use tenantfs::error::{Error, Result};
use tenantfs::metrics::{self, Listener, Metrics};
use tenantfs::quota::Quotas;
use tenantfs::vfs::Pools;
use tenantfs::volume::Followed;

use crate::config::Endpoint;
use crate::socket;

/// Who may connect to a Unix socket: only whoever starts this, so that is root as a rule. Not the server's group, whose
/// members can read the volume. systemd can admit others (tenantfs-metrics.socket).
const SOCKET_MODE: u32 = 0o600;

/// Listens where it is configured; before privileges are dropped, which a socket's directory may want.
///
/// # Errors
/// [`Kind::Config`](tenantfs::error::Kind::Config) when that cannot be.
pub(crate) fn listen(endpoint: Option<&Endpoint>, account: u32) -> Result<Option<Listener>> {
    Ok(match endpoint {
        None => None,
        Some(Endpoint::Unix(path)) => {
            let listener = socket::listen(
                path,
                (SOCKET_MODE, account),
                "the socket for metrics",
                "--metrics-listen",
            )?;
            Some(Listener::Unix(listener))
        }
        Some(Endpoint::Tcp(address)) => {
            let listener = TcpListener::bind(address).map_err(|error| {
                Error::config(format!(
                    "metrics cannot be read at {address}: {error}; correct --metrics-listen"
                ))
            })?;
            Some(Listener::Tcp(listener))
        }
    })
}

/// What this process counts, and what it takes.
pub(crate) fn of_process(
    pools: &Pools,
    audit: Option<&AuditLog>,
    quotas: Option<&Arc<Quotas>>,
) -> Arc<Metrics> {
    let metrics = Metrics::new();
    metrics.gauge(
        "resident_memory_bytes",
        "Memory of this process that is in RAM",
        || in_status("VmRSS:"),
    );
    metrics.gauge(
        "locked_memory_bytes",
        "Address space of this process that is never written to swap; zero where that is not allowed",
        || in_status("VmLck:"),
    );
    metrics.gauge("threads", "Threads of this process", || {
        count_in_status("Threads:")
    });
    let of = pools.clone();
    metrics.gauge(
        "open_files",
        "Files and directories that are open in the mounts",
        move || of.open(),
    );
    let of = pools.clone();
    metrics.gauge(
        "held_memory_bytes",
        "Memory that drafts, open records and listings take of what users may take together",
        move || of.held(),
    );
    let of = quotas.cloned();
    metrics.gauge("quota_users", "Users who have a session and a quota", move || {
        of.as_ref().map_or(0, |quotas| quotas.users().0)
    });
    let of = quotas.cloned();
    metrics.gauge(
        "quota_full_users",
        "Users who have a session, and 95 % of their quota or more",
        move || of.as_ref().map_or(0, |quotas| quotas.users().1),
    );
    let of = audit.cloned();
    metrics.gauge(
        "audit_queue_lines",
        "Lines of the audit log that wait to be written",
        move || of.as_ref().map_or(0, |audit| audit.waiting() as u64),
    );
    let of = audit.cloned();
    metrics.gauge(
        "audit_failed",
        "1 while the audit log cannot be written, and operations are refused for that",
        move || u64::from(of.as_ref().is_some_and(AuditLog::failed)),
    );
    let of = audit.cloned();
    metrics.gauge(
        "audit_scarce",
        "1 while the audit log's file system is nearly full, and users who wrote most of it are refused",
        move || u64::from(of.as_ref().is_some_and(AuditLog::is_scarce)),
    );
    metrics
}

/// Whether the volume answers.
pub(crate) fn look_after(metrics: &Metrics, volume: &Arc<Followed>) {
    let of = Arc::clone(volume);
    metrics.gauge(
        "volume_up",
        "1 while the volume answers; 0 when it has not for 5 seconds",
        move || u64::from(of.silent_for().is_none()),
    );
}

/// Answers whoever reads them, beside whatever else this runtime does.
pub(crate) fn publish(listener: Option<Listener>, metrics: &Arc<Metrics>) {
    let Some(listener) = listener else { return };
    let metrics = Arc::clone(metrics);
    tokio::spawn(async move {
        let Err(error) = metrics::serve(listener, metrics).await;
        log::error!("{error:#}");
    });
}

/// A size in /proc/self/status, in bytes; zero when it is not there.
fn in_status(name: &str) -> u64 {
    count_in_status(name) * 1024
}

fn count_in_status(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|rest| rest.split_whitespace().next()?.parse().ok());
    number.unwrap_or_default()
}
