//! `tenantfs daemon`.

use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;

use rustix::fs::{FlockOperation, Mode, flock};
use rustix::io::Errno;
use tenantfs::audit::{AuditLog, Destination, Prepared};
use tenantfs::auth::Authenticator;
use tenantfs::daemon::{self, Kept, Setup};
use tenantfs::error::{At, Doing, Error, Kind, Result};
use tenantfs::event::Observers;
use tenantfs::hooks::Hook;
use tenantfs::metrics::Listener;
use tenantfs::mounter::{Grant, Mounter};
use tenantfs::quota::Quotas;
use tenantfs::session::privilege;
use tenantfs::store::{self, LayoutMark};
use tenantfs::vfs::Pools;
use tenantfs::volume::Followed;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::cli::DaemonArgs;
use crate::config::{AuthSource, DaemonSettings, Version};
use crate::doctor::{self, Own};
use crate::hooks::Hooks;
use crate::passed::ToDaemon;
use crate::serving::{self, Half};
use crate::trusted::Trust;
use crate::{account, metrics, say, socket, verbosity};

/// What each session may remember of views, in bytes: there are many.
const REMEMBERED: usize = 1 << 20;

pub(crate) fn run(args: Box<DaemonArgs>) -> Result<()> {
    let config = Version::now(args.serve.on.config.as_deref());
    if args.check {
        return check(*args);
    }
    let passed = ToDaemon::take()?;
    let settings = Arc::new(DaemonSettings::of(*args)?);
    serving::arrange_resources();
    let (server_uid, server_gid) = serving::server_account(&settings.serving.on)?;
    let (listener, metrics_listener) = listen(passed.control, passed.metrics, &settings, server_uid)?;
    let places = PathBuf::from(settings.mounts.trim_end_matches("/{uid}"));
    if rustix::process::geteuid().is_root() {
        // With whatever it is in: the mountpoints are made there by name.
        Trust::of_caller("--mounts").place_and_make(&places.join("uid"))?;
    }
    serving::outside_of_volume(&places, "mounts.path", &settings.serving.on)?;
    let grant = Grant::Sessions {
        places: places.clone(),
        read_only: settings.serving.store.read_only,
        exec: settings.serving.exec,
    };
    let mounter = Half::of(&settings.serving, false, &grant, Stdio::inherit())?;
    // Held to the end. A mounter of our own takes another daemon's mounts for a dead one's; one for all knows them.
    let _lock = match mounter.is_elsewhere() {
        true => None,
        false => Some(lock(&places)?),
    };
    let audit = serving::open_audit(&settings.serving.on, (server_uid, server_gid))?;
    privilege::drop_to(server_uid, server_gid)?;
    rustix::process::umask(Mode::empty());
    // As the account that will have to read it again when it changes.
    let authenticator = serving::authenticator(&settings.serving.auth)
        .map_err(|error| readable_by(&settings.serving.auth, server_uid, error))?;
    let quotas = settings.serving.quota.quotas()?;
    let mounter = mounter.reach()?;
    for warning in mounter.take_over(&places)? {
        log::warn!("{warning}");
    }
    let control = settings.control.clone();
    let audit = audit.map(Prepared::start).transpose()?;
    let pools = serving::pools(settings.serving.on.max_record, settings.sessions_per_user);
    let metrics = metrics::of_process(&pools, audit.as_ref(), quotas.as_ref());
    let hooks = Hooks::start(&settings.serving, &metrics)?;
    let observers = hooks.beside(serving::observers(audit.as_ref(), &metrics));
    let own = Own {
        settings: Arc::clone(&settings),
        audit: audit.clone(),
        config: config.clone(),
    };
    let volume = serving::followed_volume(&settings.serving)?;
    metrics::look_after(&metrics, &volume);
    let setup = setup(
        (volume, hooks.reload.clone()),
        own,
        authenticator,
        mounter,
        places,
        (pools, quotas),
        observers,
    )?;
    serving::announce(&control)?;
    let served = serving::run(async {
        metrics::publish(metrics_listener, &metrics);
        serve(setup, listener, passed.kept, (audit.as_ref(), &config)).await
    });
    hooks.finish();
    serving::close_audit(audit.as_ref(), served)
}

/// Where clients and readers of the metrics are heard: where systemd does already, or as it is configured.
fn listen(
    control: Option<UnixListener>,
    metrics: Option<Listener>,
    settings: &DaemonSettings,
    server_uid: u32,
) -> Result<(UnixListener, Option<Listener>)> {
    let control = match control {
        Some(listener) => listener,
        // Everybody may ask: what they may do, is decided by who they are.
        None => socket::listen(
            &settings.control,
            (0o666, server_uid),
            "the control socket",
            "control.socket",
        )?,
    };
    let metrics = match metrics {
        Some(listener) => Some(listener),
        None => metrics::listen(settings.serving.metrics.as_ref(), server_uid)?,
    };
    Ok((control, metrics))
}

/// Says whether a daemon could begin with this configuration, and begins nothing.
fn check(args: DaemonArgs) -> Result<()> {
    let settings = DaemonSettings::of(args)?;
    let serving = &settings.serving;
    let wrong = |error: Error| error.as_kind(Kind::Config);
    let (uid, gid) = serving::server_account(&serving.on)?;
    let places = PathBuf::from(settings.mounts.trim_end_matches("/{uid}"));
    serving::outside_of_volume(&places, "mounts.path", &serving.on)?;
    privilege::drop_to(uid, gid)?;
    let volume = serving::volume(serving).map_err(wrong)?;
    LayoutMark::check(volume.root(), serving.on.layout, &serving.on.resources).map_err(wrong)?;
    serving::authenticator(&serving.auth).map_err(|error| wrong(readable_by(&serving.auth, uid, error)))?;
    serving.quota.quotas().map_err(wrong)?;
    say::note("tenantfs: the configuration is good");
    Ok(())
}

fn setup(
    (volume, reload): (Arc<Followed>, Option<Arc<Hook>>),
    own: Own,
    authenticator: Box<dyn Authenticator>,
    mounter: Mounter,
    places: PathBuf,
    (pools, quotas): (Pools, Option<Arc<Quotas>>),
    observers: Box<Observers>,
) -> Result<Setup> {
    let settings = Arc::clone(&own.settings);
    Ok(Setup {
        volume,
        reload,
        store: store::Options {
            remembered: REMEMBERED,
            quotas,
            ..settings.serving.store.clone()
        },
        authenticator,
        terms: settings.serving.terms,
        observers,
        audit: settings
            .serving
            .on
            .audit
            .as_ref()
            .and_then(|options| match &options.destination {
                Destination::File(path) => Some(path.clone()),
                Destination::Journal => None,
            }),
        mounter,
        places,
        exec: settings.serving.exec,
        pools,
        primary_group: account::primary_group,
        examine: Box::new(move || doctor::examine(&own)),
    })
}

async fn serve(
    setup: Setup,
    listener: UnixListener,
    kept: Vec<Kept>,
    (audit, config): (Option<&AuditLog>, &Version),
) -> Result<()> {
    verbosity::follow_signals()?;
    let doing = "waiting for signals";
    let mut interrupt = signal(SignalKind::interrupt()).doing(doing)?;
    let mut terminate = signal(SignalKind::terminate()).doing(doing)?;
    // Whoever closes the terminal does not mean everybody's sessions.
    let mut hangup = signal(SignalKind::hangup()).doing(doing)?;
    let shutdown = async {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            () = reload_with(&mut hangup, audit, config) => {}
        }
    };
    daemon::serve(setup, listener, kept, shutdown).await
}

/// With each SIGHUP, has the audit log go on in the file that its path leads to, and says what became of the config file: what it says
/// now holds from the next start on, if it can be understood.
async fn reload_with(hangup: &mut Signal, audit: Option<&AuditLog>, config: &Version) {
    while hangup.recv().await.is_some() {
        if let Some(audit) = audit {
            audit.reopen();
        }
        match config.check() {
            Err(error) => log::error!("{error:#}; this goes on with what it read when it began"),
            Ok(()) if !config.is_current() => log::warn!(
                "{} has changed: it holds from the next start on (systemctl restart tenantfs), over which sessions go on",
                config.path.display()
            ),
            Ok(()) => {}
        }
    }
}

/// Sees to it that no other daemon has its mounts in `places`. The lock is a file of its own, which only its owner may
/// open: the directory is everybody's to open, and to lock.
fn lock(places: &Path) -> Result<File> {
    let mut path = places.as_os_str().to_owned();
    path.push(".lock");
    let doing = "locking the directory of the mounts";
    let file = File::options()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW)
        .open(&path)
        .doing(doing)
        .at(&path)
        .map_err(|error| error.as_kind(Kind::Config))?;
    let locked = flock(&file, FlockOperation::NonBlockingLockExclusive);
    let locked = locked.map_err(|errno| match (errno, Error::os(errno, doing).at(&path)) {
        (Errno::WOULDBLOCK, error) => {
            error.because("another daemon has its mounts there; give this one others: --mounts")
        }
        (_, error) => error,
    });
    locked.map_err(|error| error.as_kind(Kind::Config))?;
    Ok(file)
}

fn readable_by(source: &AuthSource, uid: u32, error: Error) -> Error {
    match source {
        AuthSource::StaticKeys(path) => error.context(format_args!(
            "the daemon reads {} as {}, to notice its changes",
            path.display(),
            tenantfs::account::shown(uid)
        )),
        AuthSource::Service { .. } => error,
    }
}
