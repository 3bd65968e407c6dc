//! One mount of one tenant's view, from the first byte served to the last.

mod alarm;
mod apart;
pub mod confine;
mod leased;
mod own_thread;
mod present;
pub mod privilege;

use std::fs::File;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::timeout;

use crate::error::{Doing, Result};
use crate::escape::quoted;
use crate::event::{Event, Op, SessionChange};
use crate::fuse::{Pages, Server};
use crate::mounter::{Mount, MountRequest, Mounter, Viewer};
use crate::store::Store;
use crate::vfs::{Limits, Vfs};
pub use apart::apart;
use confine::{Confinement, Reach};
pub use leased::{Ending, Leased};
use own_thread::OwnThread;
pub use present::Presence;

/// Finds out whether the volume takes what is saved in `store`, before a session relies on it: the user's directories may
/// be there and be another account's.
///
/// # Errors
/// [`Kind::ReadOnly`](crate::error::Kind::ReadOnly), [`Kind::AccessDenied`](crate::error::Kind::AccessDenied) and the like,
/// with what to do about it. None for a store that is read-only anyway.
pub fn check_writable(store: &Store) -> Result<()> {
    match store.read_only() {
        true => Ok(()),
        false => store
            .directories()
            .iter()
            .try_for_each(|dir| dir.check_writable()),
    }
}

/// How many descriptors a session keeps for its end: saving a draft takes a file, and may take its directory.
const SPARE_DESCRIPTORS: usize = 3;
/// How many threads a session has when nothing is asked of it: one that serves, its two workers, one that invalidates, and one
/// that suspends and ends it.
pub const IDLE_THREADS: usize = 5;

/// How many it has at most: beside those, one each that starts it, looks beside it, saves drafts, and notifies the kernel.
pub const MOST_THREADS: usize = IDLE_THREADS + 4;

/// How long the end of a process waits for the mounter: once, for all its mounts.
pub const LAST_UNMOUNT: Duration = Duration::from_secs(2);

/// Where and for whom a session's mount is made.
#[derive(Clone, Debug)]
pub struct SessionOptions {
    /// An empty directory.
    pub mountpoint: PathBuf,
    /// Whether the mounter makes it, and removes it at the end.
    pub make_mountpoint: bool,
    /// The only user whom the kernel admits, and the owner of everything shown.
    pub viewer: Viewer,
    /// Whether programs in the mount may be run.
    pub exec: bool,
    /// How much it may hold at a time.
    pub limits: Limits,
}

/// A principal's store, mounted. Dropped, it ends.
pub struct Session {
    server: Server,
    own_thread: OwnThread,
    mountpoint: PathBuf,
    end: Mutex<End>,
    /// Given back when it ends, so that there are descriptors to save its drafts with though others have used up all.
    spare: Mutex<Vec<File>>,
    /// Read while the end is under way.
    unmounted: AtomicBool,
}

/// How far the end of a session is.
enum End {
    /// It goes on.
    Ahead(Mount),
    /// Nothing is served any more and drafts are saved, but it is still mounted.
    Dark(Mount),
    /// Nothing is left of it.
    Reached,
}

impl Session {
    /// Mounts `store`, read-only if the store is, and serves it on threads of its own that are confined to the
    /// tenant's directories.
    ///
    /// # Errors
    /// What is wrong with the mountpoint, with the mounter, or with the store's observer; nothing is mounted then.
    pub fn start(store: Store, mounter: &Mounter, options: &SessionOptions) -> Result<Self> {
        store.admit(Op::Session)?;
        let own_thread = OwnThread::start()?;
        let spare = (0..SPARE_DESCRIPTORS).map(|_| File::open("/dev/null"));
        let spare = spare
            .collect::<std::io::Result<_>>()
            .doing("keeping descriptors for the end")?;
        let (mount, connection) = mounter.mount(&MountRequest {
            mountpoint: options.mountpoint.clone(),
            make: options.make_mountpoint,
            viewer: options.viewer,
            read_only: store.read_only(),
            exec: options.exec,
        })?;
        let confined = store.clone();
        let prepare = move || {
            let directories = confined.directories();
            let read_only = confined.read_only();
            let handles = directories.iter().map(|directory| directory.as_fd());
            let reaches: Vec<_> = handles.map(|directory| Reach { directory, read_only }).collect();
            let confinement = confine::confine(&reaches)?;
            let level = match confinement {
                Confinement::Full => log::Level::Info,
                Confinement::Partial | Confinement::None => log::Level::Warn,
            };
            log::log!(level, "session of {}: {confinement}", confined.user());
            Ok(())
        };
        let pages = Arc::new(Pages::default());
        let vfs = Vfs::new(
            store,
            options.viewer.uid(),
            options.viewer.gid(),
            Arc::clone(&pages) as _,
            options.limits.clone(),
        );
        let server = Server::start(vfs, pages, connection, prepare)?;
        let session = Self {
            server,
            own_thread,
            mountpoint: options.mountpoint.clone(),
            end: Mutex::new(End::Ahead(mount)),
            spare: Mutex::new(spare),
            unmounted: AtomicBool::new(false),
        };
        session.is(SessionChange::Begins, "");
        Ok(session)
    }

    /// Where it is mounted.
    pub fn mountpoint(&self) -> &Path {
        &self.mountpoint
    }

    /// Tells the store's observer what becomes of the session, and why.
    pub fn is(&self, change: SessionChange, reason: &str) {
        self.vfs().store().report(&Event::Session {
            change,
            reason: reason.to_owned(),
        });
    }

    /// The file system that it shows.
    pub fn vfs(&self) -> &Vfs {
        self.server.vfs()
    }

    /// Waits until nothing is served any more: because of [`end`](Self::end), or because somebody else unmounted it.
    pub async fn broken(&self) {
        self.server.broken().await;
    }

    /// Does `work` on a thread that only this session has, when what was asked for before is done, whether or not the result
    /// is awaited. It is there already: no
    /// shortage of threads keeps a session from being suspended or ended.
    ///
    /// # Errors
    /// [`Io`](crate::error::Kind::Io) when the work panics.
    pub fn in_turn<T, W>(self: &Arc<Self>, work: W) -> impl Future<Output = Result<T>> + use<T, W>
    where
        T: Send + 'static,
        W: FnOnce(&Self) -> T + Send + 'static,
    {
        let session = Arc::clone(self);
        self.own_thread.run(move || work(&session))
    }

    /// Refuses everything with ENOTCONN from now on, for good: the first step of [`stop`](Self::stop), without waiting for
    /// anything. Needs no lock, no thread, no memory and no disk. What is cached may still be read until the next step.
    pub fn close(&self) {
        self.server.close();
    }

    /// Goes on for so long from now on. If nobody says so again before that, everything is refused with EACCES then, whether
    /// or not anybody is there to notice.
    pub fn serve_for(&self, time: Duration) {
        self.server.serve_for(time);
    }

    /// Refuses everything with EACCES from now on, without waiting for anything. What is cached may still be read: this is
    /// the first half of [`suspend`](Self::suspend).
    pub fn shut(&self) {
        self.server.shut();
    }

    /// Refuses everything with EACCES until [`resume`](Self::resume), cached content included. What is open stays open.
    pub fn suspend(&self) {
        self.server.suspend();
    }

    /// Serves again.
    pub fn resume(&self) {
        self.server.resume();
    }

    /// The first half of [`end`](Self::end): nothing is served any more, nothing is cached, and drafts are saved. Needs no
    /// mounter, and takes bounded time, also when the volume hangs.
    pub fn stop(&self) {
        self.stop_first(&mut self.end.lock());
    }

    fn stop_first(&self, end: &mut End) {
        if matches!(end, End::Ahead(_)) {
            self.server.close();
            self.spare.lock().clear();
            self.server.stop();
        }
        *end = match std::mem::replace(end, End::Reached) {
            End::Ahead(mount) | End::Dark(mount) => End::Dark(mount),
            End::Reached => End::Reached,
        };
    }

    /// Ends the session: gate, write-back, drain, caches, drafts, abort, detach. Drafts are saved before anything waits for
    /// the mounter. Called again, it waits until that is done, and tries again what could not be done. Takes bounded time,
    /// also when the volume hangs.
    ///
    /// # Errors
    /// [`MountFailed`](crate::error::Kind::MountFailed) when the mount cannot be removed. Nothing is served any more, but
    /// the kernel lets go of the serving threads only when it is removed, or the process exits.
    pub fn end(&self) -> Result<()> {
        let mut end = self.end.lock();
        self.stop_first(&mut end);
        let End::Dark(mount) = std::mem::replace(&mut *end, End::Reached) else {
            return Ok(());
        };
        let unmounted = mount.unmount();
        self.unmounted.store(unmounted.is_ok(), Ordering::SeqCst);
        self.server.let_go();
        if let Err(error) = unmounted {
            *end = End::Dark(mount);
            let (shown, quoted) = (self.mountpoint.display(), quoted(&*self.mountpoint));
            return Err(error.context(format_args!("{shown} is still mounted; run: umount -l {quoted}")));
        }
        self.server.join();
        Ok(())
    }

    /// Whether its mount has been removed. What its end waits for after that, is the volume.
    pub fn is_unmounted(&self) -> bool {
        self.unmounted.load(Ordering::SeqCst)
    }

    /// Ends the session together with its process, which is not kept waiting by a mounter that does not answer: what is
    /// left then, the mounter ends when the process is gone.
    ///
    /// # Errors
    /// Those of [`end`](Self::end).
    pub async fn end_with_process(self: &Arc<Self>, mounter: &Mounter) -> Result<()> {
        self.in_turn(Self::stop).await?;
        let mut ended = pin!(self.in_turn(Self::end));
        match timeout(LAST_UNMOUNT, &mut ended).await {
            Ok(ended) => ended?,
            Err(_) => {
                if !self.is_unmounted() {
                    mounter.give_up();
                }
                ended.await?
            }
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let known = matches!(self.end.get_mut(), End::Dark(_));
        match self.end() {
            Err(error) if known => log::debug!("{error:#}"),
            Err(error) => log::error!("{error:#}"),
            Ok(()) => {}
        }
    }
}
