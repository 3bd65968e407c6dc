//! `tenantfs mount`.

use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::Mode;
use tenantfs::audit::{AuditLog, Prepared};
use tenantfs::auth::{ApiKey, Authenticator};
use tenantfs::clock::Moment;
use tenantfs::error::{Doing, Error, Kind, Result};
use tenantfs::event::{Event, Observers, SessionChange, Subject};
use tenantfs::hosts::Host;
use tenantfs::metrics::Metrics;
use tenantfs::mounter::{Grant, Mounter, Viewer};
use tenantfs::quota::Quotas;
use tenantfs::session::{self, Ending, Leased, Presence, Session, SessionOptions, privilege};
use tenantfs::store::{self, Store};
use tenantfs::vfs::Pools;
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::MountArgs;
use crate::config::MountSettings;
use crate::hooks::Hooks;
use crate::serving::{self, Half};
use crate::{account, background, key, metrics, verbosity};

/// How long the begin of a session waits until what other hosts published is fetched.
const RELOAD: Duration = Duration::from_secs(10);

pub(crate) fn run(args: Box<MountArgs>) -> Result<()> {
    let settings = MountSettings::of(*args)?;
    match (settings.background, background::is_here()) {
        (true, false) => background::start(),
        (in_background, _) => {
            if in_background {
                background::leave_terminal()?;
            }
            prepare(&settings)
        }
    }
}

/// Reads what root may read, and becomes an ordinary process.
fn prepare(settings: &MountSettings) -> Result<()> {
    serving::arrange_resources();
    serving::outside_of_volume(&settings.mountpoint, "MOUNTPOINT", &settings.serving.on)?;
    let authenticator = serving::authenticator(&settings.serving.auth)?;
    let key = key::read(settings.api_key_file.as_deref())?;
    let (server_uid, server_gid) = serving::server_account(&settings.serving.on)?;
    let log = match settings.background && !background::keeps_log() {
        true => Stdio::null(),
        false => Stdio::inherit(),
    };
    let listener = metrics::listen(settings.serving.metrics.as_ref(), server_uid)?;
    let viewer = viewer(settings)?;
    let grant = Grant::Once {
        mountpoint: settings.mountpoint.clone(),
        viewer,
        read_only: settings.serving.store.read_only,
        exec: settings.serving.exec,
    };
    let mounter = Half::of(&settings.serving, true, &grant, log)?;
    let audit = serving::open_audit(&settings.serving.on, (server_uid, server_gid))?;
    privilege::drop_to(server_uid, server_gid)?;
    rustix::process::umask(Mode::empty());
    let quotas = settings.serving.quota.quotas()?;
    let makes_mountpoint = mounter.is_elsewhere();
    let mounter = mounter.reach()?;
    let audit = audit.map(Prepared::start).transpose()?;
    let pools = Pools::alone();
    let metrics = metrics::of_process(&pools, audit.as_ref(), quotas.as_ref());
    let hooks = Hooks::start(&settings.serving, &metrics)?;
    if let Some(Err(error)) = hooks.reload.as_ref().map(|reload| reload.finish(RELOAD)) {
        log::warn!("what other hosts saved last may not be seen: {error:#}");
    }
    let around = Around {
        authenticator: authenticator.as_ref(),
        mounter: &mounter,
        makes_mountpoint,
        viewer,
        observers: hooks.beside(serving::observers(audit.as_ref(), &metrics)),
        pools,
        quotas,
        audit: audit.as_ref(),
        metrics: &metrics,
    };
    let served = serving::run(async {
        metrics::publish(listener, &metrics);
        serve(settings, key, around).await
    });
    hooks.finish();
    serving::close_audit(audit.as_ref(), served)
}

/// Whose the view is.
fn viewer(settings: &MountSettings) -> Result<Viewer> {
    let uid = settings.uid.unwrap_or_else(account::caller);
    Viewer::new(uid, settings.gid.unwrap_or_else(|| account::primary_group(uid)))
}

/// What a session is served with.
struct Around<'a> {
    authenticator: &'a dyn Authenticator,
    mounter: &'a Mounter,
    makes_mountpoint: bool,
    viewer: Viewer,
    observers: Box<Observers>,
    pools: Pools,
    quotas: Option<Arc<Quotas>>,
    audit: Option<&'a AuditLog>,
    metrics: &'a Metrics,
}

async fn serve(settings: &MountSettings, key: ApiKey, around: Around<'_>) -> Result<()> {
    let (authenticator, audit) = (around.authenticator, around.audit);
    verbosity::follow_signals()?;
    // From here on they are events: one that comes while it mounts ends it when it has.
    let doing = "waiting for signals";
    let mut hangup = signal(SignalKind::hangup()).doing(doing)?;
    let mut interrupt = signal(SignalKind::interrupt()).doing(doing)?;
    let mut terminate = signal(SignalKind::terminate()).doing(doing)?;

    // Who closes the terminal ends what runs in it; without one, it is the log that is rotated.
    let in_terminal = background::has_terminal();
    let hangup = async {
        match in_terminal {
            true => _ = hangup.recv().await,
            false => serving::reopen_with(&mut hangup, audit).await,
        }
    };

    let asked = Moment::now();
    let uid = around.viewer.uid();
    let validation = authenticator.validate(&key).await.inspect_err(|error| {
        // In the audit log only: this process ends with the error.
        if let Some(audit) = audit {
            let nobody = audit.observer(&Subject { user: None, uid });
            nobody.observe(&Event::LoginFailed {
                kind: error.kind(),
                reason: error.to_string(),
            });
        }
    })?;
    let volume = serving::followed_volume(&settings.serving)?;
    metrics::look_after(around.metrics, &volume);
    let observer = (around.observers)(Subject {
        user: Some(validation.principal.user().hash()),
        uid,
    });
    let options = store::Options {
        quotas: around.quotas.clone(),
        ..settings.serving.store.clone()
    };
    let store = Store::open(&volume.now(), &validation.principal, options, observer)?;
    session::check_writable(&store)?;
    store.attach_session_key(key.expose())?;
    let options = SessionOptions {
        mountpoint: settings.mountpoint.clone(),
        make_mountpoint: around.makes_mountpoint,
        viewer: around.viewer,
        exec: settings.serving.exec,
        limits: around.pools.limits(validation.principal.user())?,
    };
    let session = Arc::new(Session::start(store, around.mounter, &options)?);
    let leased = Leased::new(
        Arc::clone(&session),
        Arc::new(key),
        &validation,
        asked,
        settings.serving.terms,
    );
    say_who_gets_in(around.viewer);
    announce(&session, settings.background)?;
    let host = Host::this(&settings.mountpoint);
    let mut presence = Presence::of(host, &volume, settings.serving.store.read_only);
    let present = async {
        match &mut presence {
            Some(presence) => presence.tell(|| vec![leased.served()]).await,
            None => std::future::pending().await,
        }
    };
    let ending = tokio::select! {
        () = present => None,
        ending = leased.keep(authenticator) => Some(ending),
        () = hangup => None,
        _ = interrupt.recv() => None,
        _ = terminate.recv() => None,
    };
    let why = ending
        .as_ref()
        .map_or_else(|| "it was told to".to_owned(), Ending::to_string);
    session.is(SessionChange::Ends, &why);
    session.end_with_process(around.mounter).await?;
    if let Some(presence) = &mut presence {
        presence.leave().await;
    }
    match ending {
        Some(Ending::Refused(why)) => Err(Error::new(
            Kind::AuthenticationRefused,
            format!("the session has ended: {why}"),
        )),
        Some(Ending::VolumeReplaced) => Err(Error::new(
            Kind::Io,
            "the session has ended: the volume's file system was mounted anew; start this again",
        )),
        Some(Ending::Withdrawn(why)) => Err(Error::new(Kind::Busy, format!("the session has ended: {why}"))),
        Some(Ending::Broken) | None => Ok(()),
    }
}

/// The kernel goes by the group too, which surprises whoever has another one.
fn say_who_gets_in(viewer: Viewer) {
    let (uid, gid) = (viewer.uid(), viewer.gid());
    let (group, own) = (account::group_name(gid), account::caller_group());
    match uid == account::caller() && own != gid {
        true => log::warn!(
            "the view is for processes of group {group}; yours have group {}, and the kernel will refuse them (EACCES): use \
             --gid {own}",
            account::group_name(own)
        ),
        false => log::info!(
            "the view is for processes of uid {uid} and group {group}; the kernel refuses all others (EACCES): see --gid"
        ),
    }
}

/// Says that it is ready, on standard output and to systemd.
fn announce(session: &Session, in_background: bool) -> Result<()> {
    serving::announce(session.mountpoint())?;
    let (uid, _) = session.vfs().owner();
    let place = session.mountpoint().display();
    let status = format!("{place}, for {}", tenantfs::account::shown(uid));
    let states = [
        sd_notify::NotifyState::Ready,
        sd_notify::NotifyState::Status(&status),
    ];
    if let Err(error) = sd_notify::notify(&states) {
        log::warn!("telling systemd that it is ready: {error}");
    }
    match in_background {
        true => background::let_go(),
        false => Ok(()),
    }
}
