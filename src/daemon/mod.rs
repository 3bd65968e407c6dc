//! All sessions of a host in one process: users log in with their keys, and out; root sees and ends them.
//!
//! One thread waits for everything that takes time: leases, the control socket, systemd. Files are served by each
//! session's own threads, which never wait for it.

mod activity;
mod anew;
mod asked;
mod audited;
mod check;
mod client;
mod control;
mod ends;
mod everywhere;
mod live;
mod login;
mod opening;
mod overview;
mod refusal;
mod requests;
mod restore;
mod sessions;
mod setup;
mod slot;
mod systemd;
mod times;
mod turns;
mod way_back;
mod wire;

use std::future::Future;
use std::os::unix::net::UnixListener;

pub use activity::{Activity, Counted, LATENCIES, QuotaStatus, latency};
pub use check::Check;
pub use client::Client;
pub use ends::EndStatus;
pub use requests::Requests;
pub use setup::Setup;
pub use systemd::{Kept, NAME_PREFIX};
pub use wire::{
    Code, DraftStatus, Failure, KeptStatus, RemovedStatus, Reply, Request, SessionStatus, UnreadableStatus,
    Whose,
};

use crate::error::{Doing, Result};
use crate::hosts::Host;
use crate::session::Presence;
use sessions::Sessions;

/// Serves until `shutdown`: answers on `listener`, brings back the sessions whose keys were `kept`, and tells systemd.
/// Then ends every session.
///
/// # Errors
/// [`Kind::Io`](crate::error::Kind::Io) when the listener cannot be waited for.
pub async fn serve(
    setup: Setup,
    listener: UnixListener,
    kept: Vec<Kept>,
    shutdown: impl Future<Output = ()>,
) -> Result<()> {
    let doing = "listening on the control socket";
    listener.set_nonblocking(true).doing(doing)?;
    let listener = tokio::net::UnixListener::from_std(listener).doing(doing)?;
    let sessions = Sessions::new(setup);
    sessions.restore(kept);
    systemd::ready();
    let host = Host::this(&sessions.setup.places);
    let mut presence = Presence::of(host, &sessions.setup.volume, sessions.setup.store.read_only);
    let present = async {
        match &mut presence {
            Some(presence) => presence.tell(|| sessions.served()).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = present => {}
        () = control::serve(&listener, &sessions) => {}
        () = systemd::keep_alive() => {}
        () = sessions.audited.follow() => {}
        () = sessions.tell_systemd() => {}
        () = shutdown => {}
    }
    drop(listener);
    systemd::stopping();
    tokio::select! {
        () = async {
            sessions.stop().await;
            if let Some(presence) = &mut presence {
                presence.leave().await;
            }
        } => {}
        () = systemd::keep_alive() => {}
    }
    Ok(())
}
