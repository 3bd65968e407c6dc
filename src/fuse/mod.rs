//! The FUSE protocol: the only code that knows fuser. A thin adapter over [`Vfs`], with one gate and
//! one errno table.

mod adapter;
mod admission;
mod call;
mod convert;
mod errno;
mod gate;
mod handshake;
mod inside;
mod pages;
mod sweep;
mod threads;

use std::ops::ControlFlow;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use fuser::{Config, Notifier, Session, SessionACL};
use parking_lot::Mutex;

pub use pages::Pages;

use crate::clock::Stopwatch;
use crate::error::{Error, Kind, Result};
use crate::vfs::Vfs;
use adapter::Adapter;
use gate::Gate;
use threads::spawn;

/// One more worker makes a busy mount a third faster; further ones do not.
const WORKERS: usize = 2;

/// How long requests under way may take to finish when a session is suspended or ends; and usually take.
const HURRY: Duration = Duration::from_millis(100);
const DRAIN: Duration = Duration::from_secs(5);

/// How long the kernel may take to write back what programs have mapped, once nobody else gets in any more; and to let go
/// of what it has cached, after that. It waits for our own answers, which a volume may keep waiting.
const WRITE_BACK: Duration = Duration::from_millis(500);
const LET_GO: Duration = Duration::from_secs(5);

/// How long saving drafts may take before it is unmounted; after that, how long the next one may take, since there may be
/// many; and how long closing files may take then. The volume decides, and the end must come.
const SAVE: Duration = Duration::from_secs(2);
const SAVE_NEXT: Duration = Duration::from_secs(3);
const CLOSE: Duration = Duration::from_secs(5);

/// How long the serving threads may take to end once the connection is gone.
const JOIN: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(2);

/// A file system that is being served.
pub struct Server {
    gate: Arc<Gate>,
    notifier: Notifier,
    thread: Mutex<Option<JoinHandle<()>>>,
    /// Saves drafts at the end, if that takes long.
    saving: Mutex<Option<JoinHandle<()>>>,
}

impl Server {
    /// Serves `vfs` on a mounted FUSE connection. `prepare` runs first on the thread whose children serve: what it
    /// gives up, they do not have.
    ///
    /// # Errors
    /// What `prepare` says; [`Kind::MountFailed`] when the kernel does not shake hands.
    pub fn start(
        vfs: Vfs,
        pages: Arc<Pages>,
        connection: OwnedFd,
        prepare: impl FnOnce() -> Result<()> + Send + 'static,
    ) -> Result<Self> {
        let gate = Gate::new(vfs);
        let (ready, started) = sync_channel(1);
        let serving = Arc::clone(&gate);
        let thread = spawn("serve", move || {
            let session = match prepare().and_then(|()| connect(Arc::clone(&serving), connection)) {
                Ok(session) => session,
                Err(error) => return drop(ready.send(Err(error))),
            };
            let notifier = session.notifier();
            let noticing = Arc::downgrade(&serving);
            let notice = move || match noticing.upgrade() {
                Some(gate) => ControlFlow::Continue(gate.notice_changes()),
                None => ControlFlow::Break(()),
            };
            let invalidating = spawn("invalidate", pages.connect(notifier.clone(), notice));
            if let Err(error) = invalidating {
                return drop(ready.send(Err(error)));
            }
            let _ = ready.send(Ok(notifier));
            if let Err(error) = session.run() {
                log::debug!("the FUSE connection ended: {error}");
            }
            serving.break_off();
        })?;
        let notifier = started.recv().unwrap_or_else(|_| {
            Err(Error::new(
                Kind::MountFailed,
                "the serving thread ended before it served",
            ))
        })?;
        Ok(Self {
            gate,
            notifier,
            thread: Mutex::new(Some(thread)),
            saving: Mutex::default(),
        })
    }

    /// The file system that is served.
    pub fn vfs(&self) -> &Vfs {
        self.gate.vfs()
    }

    /// Waits until the connection is gone, whoever ended it.
    pub async fn broken(&self) {
        self.gate.broken().await;
    }

    /// Lets nobody in for the time being, and waits for nothing.
    pub fn shut(&self) {
        self.gate.suspend();
    }

    /// Lets nobody in ever again, and waits for nothing: needs no lock, no thread and no memory.
    pub fn close(&self) {
        self.gate.close();
    }

    /// Lets the user in for so long from now on, unless that is said again.
    pub fn serve_for(&self, time: Duration) {
        self.gate.serve_for(time);
    }

    /// Lets nobody in for the time being: every request from now on is EACCES, what programs have mapped is written back,
    /// who is inside comes out, and the kernel drops what it has cached. What is open stays open, and drafts stay in memory.
    /// Takes bounded time, also when the volume hangs; that nobody gets in does not wait for it.
    pub fn suspend(&self) {
        self.gate.suspend();
        self.empty();
        self.drop_pages(LET_GO);
        self.drop_names(LET_GO);
    }

    /// Lets the user in again, and saves what was closed meanwhile.
    pub fn resume(&self) {
        self.gate.resume();
        self.gate.vfs().settle_closed();
    }

    /// Stops serving: nobody gets in any more, what programs have mapped is written back, who is inside comes out, the
    /// kernel drops what it has cached, and drafts are saved. The connection is still there.
    ///
    /// Takes bounded time, also when the volume hangs. What that does not take by then is saved when it does, if this process
    /// is still there.
    pub fn stop(&self) {
        self.gate.close();
        self.empty();
        let gate = Arc::clone(&self.gate);
        // What is to go dark does not wait for the volume.
        let saving = spawn("settle", move || gate.vfs().settle_all());
        self.drop_pages(LET_GO);
        match saving {
            Ok(saving) if finished(&saving, SAVE) => {}
            Ok(saving) => *self.saving.lock() = Some(saving),
            Err(error) => {
                log::warn!("{error:#}");
                self.gate.vfs().settle_all();
            }
        }
        self.gate.break_off();
    }

    /// Closes what is open, once the connection is gone: for bounded time.
    pub fn let_go(&self) {
        if let Some(saving) = self.saving.lock().take()
            && !self.saves_on(&saving)
        {
            log::warn!("drafts are not saved yet, long after the end of their session: the volume hangs");
        }
        // Not left to whoever drops the session: closing a file may wait for the volume too.
        let open = self.gate.vfs().take_open();
        if !within(CLOSE, "close", move || drop(open)) {
            log::warn!(
                "files are still being closed, {CLOSE:?} after the end of their session: the volume hangs"
            );
        }
    }

    /// Waits until drafts are saved, as long as one after the other is. Returns whether all are.
    fn saves_on(&self, saving: &JoinHandle<()>) -> bool {
        let (mut watch, mut left) = (Stopwatch::start(), usize::MAX);
        while !saving.is_finished() {
            let now = self.gate.vfs().unsaved();
            if now != left {
                (watch, left) = (Stopwatch::start(), now);
            }
            if watch.elapsed() > SAVE_NEXT {
                return false;
            }
            thread::sleep(POLL);
        }
        true
    }

    /// Has what programs have mapped written back, and waits for those inside. When that takes long, what they do not hold
    /// goes dark before.
    fn empty(&self) {
        self.drop_pages(WRITE_BACK);
        if self.gate.lock(HURRY) {
            return;
        }
        self.drop_pages(WRITE_BACK);
        if !self.gate.drained(DRAIN) {
            log::warn!("requests are still under way {DRAIN:?} after nobody is let in any more");
        }
    }

    /// Makes the kernel drop the content and attributes of every file, for at most `patience`.
    fn drop_pages(&self, patience: Duration) {
        let (notifier, known) = (self.notifier.clone(), self.gate.vfs().known_inodes());
        self.sweep(patience, known, move |ino| pages::invalidate(&notifier, ino));
    }

    /// Makes the kernel drop every name, for at most `patience`.
    fn drop_names(&self, patience: Duration) {
        let (notifier, known) = (self.notifier.clone(), self.gate.vfs().known_names());
        self.sweep(patience, known, move |(parent, name)| {
            pages::forget_name(&notifier, parent, name.as_str());
        });
    }

    fn sweep<T: Send + 'static>(
        &self,
        patience: Duration,
        known: Vec<T>,
        notify: impl Fn(T) + Clone + Send + 'static,
    ) {
        // Without workers nothing that the kernel writes back would be answered.
        if !self.gate.is_broken() && !sweep::sweep(patience, known, notify) {
            log::warn!("the kernel has not let go of cached content within {patience:?}");
        }
    }

    /// Waits for the serving threads, once the connection is gone: for bounded time, for the volume may hold one.
    pub fn join(&self) {
        let Some(thread) = self.thread.lock().take() else {
            return;
        };
        if !finished(&thread, JOIN) {
            log::warn!(
                "a serving thread is still waiting for the volume, {JOIN:?} after the end of its session"
            );
        } else if thread.join().is_err() {
            log::error!("the serving thread panicked; this is a bug, please report it");
        }
    }
}

/// Does something on a thread of its own, and waits for it, for at most `patience`. Returns whether it is done.
fn within(patience: Duration, name: &str, work: impl FnOnce() + Send + 'static) -> bool {
    match spawn(name, work) {
        Ok(thread) => finished(&thread, patience),
        Err(error) => {
            log::warn!("{error:#}");
            false
        }
    }
}

fn finished(thread: &JoinHandle<()>, patience: Duration) -> bool {
    let watch = Stopwatch::start();
    while !thread.is_finished() {
        if watch.elapsed() > patience {
            return false;
        }
        thread::sleep(POLL);
    }
    true
}

fn connect(gate: Arc<Gate>, connection: OwnedFd) -> Result<Session<Adapter>> {
    let mut config = Config::default();
    config.n_threads = Some(WORKERS);
    // Each worker gets a queue of its own, where the device may be opened for it.
    config.clone_fd = std::fs::File::options()
        .read(true)
        .write(true)
        .open("/dev/fuse")
        .is_ok();
    // Who may ask is checked at the gate: the library compares with the server's own uid.
    Session::from_fd(Adapter::new(gate), connection, SessionACL::All, config)
        .map_err(|error| Error::new(Kind::MountFailed, format!("the FUSE handshake failed: {error}")))
}
