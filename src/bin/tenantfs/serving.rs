//! What `mount` and `daemon` do alike before they serve.

use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;

use rustix::process::{Resource, Rlimit};
use tenantfs::audit::{self, AuditLog, Destination};
use tenantfs::auth::{Authenticator, HttpService, ServiceOptions, Shared, StaticKeysFile};
use tenantfs::error::{At, Doing, Error, Kind, Result};
use tenantfs::event::{Log, Observer, Observers};
use tenantfs::layout::Layout;
use tenantfs::metrics::Metrics;
use tenantfs::mounter::{Grant, Mounter};
use tenantfs::name;
use tenantfs::store::LayoutMark;
use tenantfs::vfs::{Capacity, Pools};
use tenantfs::volume::{Followed, Otherwise, Volume};
use tokio::signal::unix::Signal;

use crate::config::{AuthSource, Serving, VolumeSettings};
use crate::trusted::Trust;
use crate::{account, hygiene};

/// As many open files as are allowed, and nothing in swap.
pub(crate) fn arrange_resources() {
    let files = rustix::process::getrlimit(Resource::Nofile);
    let all = Rlimit {
        current: files.maximum,
        maximum: files.maximum,
    };
    if let Err(errno) = rustix::process::setrlimit(Resource::Nofile, all) {
        log::warn!("setting the limit of open files: {errno}");
    }
    hygiene::lock_memory();
}

/// What the sessions of a daemon share: the memory for what is open and being written, in bytes; and the descriptors that this
/// process may have.
pub(crate) fn pools(max_record: u64, sessions_per_user: usize) -> Pools {
    const MEMORY: u64 = 1 << 30;
    let descriptors = rustix::process::getrlimit(Resource::Nofile).current;
    Pools::new(Capacity::of_process(
        descriptors.unwrap_or(u64::MAX),
        MEMORY,
        max_record,
        sessions_per_user,
    ))
}

/// The account that serves, as (uid, gid): the volume's owner, unless another was asked for.
pub(crate) fn server_account(on: &VolumeSettings) -> Result<(u32, u32)> {
    match &on.server_user {
        Some(name) => account::find(name),
        None => Ok(Volume::open(&on.path)?.owner()),
    }
}

/// The volume, which takes what is saved on it unless it is served read-only: nobody is to work for hours on what nothing can
/// be saved of.
pub(crate) fn volume(serving: &Serving) -> Result<Volume> {
    OpenAs::of(serving).open()
}

/// The volume, looked after as long as it is served.
pub(crate) fn followed_volume(serving: &Serving) -> Result<Arc<Followed>> {
    let again = OpenAs::of(serving);
    Followed::begin(settled_volume(serving)?, move || again.open())
}

/// How the volume is opened, at the start and when it was mounted anew.
struct OpenAs {
    path: PathBuf,
    layout: Layout,
    resources: Vec<name::Resource>,
    read_only: bool,
}

impl OpenAs {
    fn of(serving: &Serving) -> Self {
        Self {
            path: serving.on.path.clone(),
            layout: serving.on.layout,
            resources: serving.on.resources.clone(),
            read_only: serving.store.read_only,
        }
    }

    fn open(&self) -> Result<Volume> {
        let volume = Volume::open(&self.path)?;
        if !self.read_only {
            volume.check_writable(&self.layout.outermost(self.resources.as_slice()))?;
        }
        Ok(volume)
    }
}

/// What is done another way on this volume than on a local disk, and what cannot be promised.
fn tell_of_abilities(volume: &Volume) {
    let file_system = volume.root().file_system();
    let Some(abilities) = file_system.found() else {
        return;
    };
    log::info!("the volume is on {}", file_system.engine());
    for ability in abilities.table().iter().filter(|ability| !ability.there) {
        match ability.otherwise {
            Otherwise::As(how) => log::info!(
                "the volume's file system has nothing that {}: {how}",
                ability.name
            ),
            Otherwise::Weaker(what) | Otherwise::Refused(what) => {
                log::warn!(
                    "the volume's file system has nothing that {}: {what}",
                    ability.name
                );
            }
        }
    }
}

/// The volume, which says from now on which layout it has.
fn settled_volume(serving: &Serving) -> Result<Volume> {
    let volume = volume(serving)?;
    let (layout, resources) = (serving.on.layout, &serving.on.resources);
    if serving.store.read_only {
        LayoutMark::check(volume.root(), layout, resources)?;
        return Ok(volume);
    }
    tell_of_abilities(&volume);
    if let Err(error) = volume.remove_leftovers(&layout.outermost(resources)) {
        log::info!("removing what killed processes left on the volume: {error:#}");
    }
    match LayoutMark::settle(volume.root(), layout, resources) {
        Ok(None) => {}
        Ok(Some(home)) => log::warn!(
            "{home} of the volume is as in {other}, and nobody sees it: the volume is {layout}; to move it, run `tenantfs migrate \
             --from {other} --to {layout}`",
            other = layout.other()
        ),
        // Whoever may not write there serves it all the same, and asks again at the next start.
        Err(error) if error.kind() != Kind::Config => {
            log::info!("the volume does not say its layout: {error:#}")
        }
        Err(error) => return Err(error),
    }
    Ok(volume)
}

/// Refuses a place for mounts that is in the volume: it would be served, and be in the way of whoever reads the volume.
pub(crate) fn outside_of_volume(place: &Path, setting: &str, on: &VolumeSettings) -> Result<()> {
    // As far as it is there: the rest is made.
    let real = place.ancestors().find_map(|there| there.canonicalize().ok());
    let volume = on.path.canonicalize();
    match (real, volume) {
        (Some(real), Ok(volume)) if real.starts_with(&volume) => Err(Error::config(format!(
            "{} is inside the volume {}: name a place outside of it ({setting})",
            place.display(),
            on.path.display()
        ))),
        _ => Ok(()),
    }
}

/// Who is asked whose a key is.
pub(crate) fn authenticator(source: &AuthSource) -> Result<Box<dyn Authenticator>> {
    Ok(match source {
        AuthSource::Service {
            url,
            socket,
            insecure,
            user,
        } => {
            let user = user.as_deref().map(account::find).transpose()?;
            let options = ServiceOptions {
                socket: socket.as_deref(),
                insecure: *insecure,
                service_user: user.map(|(uid, _)| uid),
            };
            Box::new(Shared::new(HttpService::new(url, options)?))
        }
        AuthSource::StaticKeys(path) => Box::new(StaticKeysFile::open(path)?),
    })
}

/// The audit log, opened while this process may still make it; it is the server's.
pub(crate) fn open_audit(on: &VolumeSettings, owner: (u32, u32)) -> Result<Option<audit::Prepared>> {
    let Some(options) = &on.audit else {
        log::info!("no audit log is kept: see --audit-log");
        return Ok(None);
    };
    if let (Destination::File(path), true) = (&options.destination, rustix::process::geteuid().is_root()) {
        Trust::of_caller("--audit-log").and(owner.0).log(path)?;
    }
    audit::Prepared::open(options, owner).map(Some)
}

/// Who is told what happens in each session.
pub(crate) fn observers(audit: Option<&AuditLog>, metrics: &Arc<Metrics>) -> Box<Observers> {
    let (audit, metrics, log) = (audit.cloned(), Arc::clone(metrics), Log::default());
    Box::new(move |subject| {
        let mut all: Vec<Arc<dyn Observer>> = vec![Arc::new(log.observer(&subject)), metrics.observer()];
        all.extend(audit.as_ref().map(|audit| audit.observer(&subject)));
        Arc::new(all)
    })
}

/// Sees to it that what happened is in the audit log before this process ends.
pub(crate) fn close_audit<T>(audit: Option<&AuditLog>, result: Result<T>) -> Result<T> {
    let closed = audit.map_or(Ok(()), AuditLog::close);
    match (result, closed) {
        (Ok(_), Err(error)) => Err(error),
        (result, Ok(())) => result,
        (result, Err(error)) => {
            log::error!("{error:#}");
            result
        }
    }
}

/// Has the audit log go on in the file that its path leads to, with each SIGHUP.
pub(crate) async fn reopen_with(hangup: &mut Signal, audit: Option<&AuditLog>) {
    while hangup.recv().await.is_some() {
        if let Some(audit) = audit {
            audit.reopen();
        }
    }
}

/// The privileged half: one that we started while we still could, or one that somebody else runs.
pub(crate) enum Half {
    Own(Mounter),
    Elsewhere(PathBuf),
}

impl Half {
    /// The one that was named, or the one that runs beside us, or one that we start. As root, `mount` starts its own
    /// before it looks for others, who mount below certain directories only. Ours may do what `grant` says.
    pub(crate) fn of(serving: &Serving, prefer_own: bool, grant: &Grant, log: Stdio) -> Result<Self> {
        if let Some(socket) = &serving.mounter {
            return Ok(Self::Elsewhere(socket.clone()));
        }
        let own = prefer_own && rustix::process::geteuid().is_root();
        match own || !serving.mounter_beside.exists() {
            true => Mounter::spawn(grant, log).map(Self::Own),
            false => Ok(Self::Elsewhere(serving.mounter_beside.clone())),
        }
    }

    /// Whether somebody else runs it, and makes mountpoints.
    pub(crate) fn is_elsewhere(&self) -> bool {
        matches!(self, Self::Elsewhere(_))
    }

    /// The mounter. One that is elsewhere is watched by a thread: not before privileges are dropped.
    pub(crate) fn reach(self) -> Result<Mounter> {
        match self {
            Self::Own(mounter) => Ok(mounter),
            Self::Elsewhere(socket) => Mounter::connect(&socket),
        }
    }
}

/// Prints a path, alone: whoever started this knows then that it is ready, and where.
pub(crate) fn announce(path: &Path) -> Result<()> {
    let mut stdout = std::io::stdout();
    let written = writeln!(stdout, "{}", path.display()).and_then(|()| stdout.flush());
    match written {
        // Nobody wants to know: that is no reason not to serve.
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(error).doing("printing where it is").at(path)
        }
        _ => Ok(()),
    }
}

/// Sees a task to its end, on one thread for everything that waits: leases, signals, the control socket.
pub(crate) fn run<T>(task: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(64)
        .build()
        .doing("starting the event loop")?;
    let result = runtime.block_on(task);
    // A name server that does not answer keeps a thread, which nobody waits for any more.
    runtime.shutdown_background();
    result
}
