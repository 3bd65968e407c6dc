//! The FUSE protocol: the only code that knows fuser. A thin adapter over [`Vfs`], with one gate and
//! one errno table.

mod adapter;
mod convert;
mod errno;
mod gate;
mod pages;

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use fuser::{Config, Notifier, Session, SessionACL};
use parking_lot::Mutex;

pub use pages::Pages;

use crate::error::{Error, Kind, Result};
use crate::vfs::Vfs;
use adapter::Adapter;
use gate::Gate;

/// One more worker makes a busy mount a third faster; further ones do not (DESIGN.md section 8).
const WORKERS: usize = 2;

/// How long requests under way may take to finish at the end of a session.
const DRAIN: Duration = Duration::from_secs(5);

/// A file system that is being served.
pub struct Server {
    gate: Arc<Gate>,
    notifier: Notifier,
    thread: Mutex<Option<JoinHandle<()>>>,
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
            let invalidating = spawn("invalidate", pages.connect(notifier.clone()));
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
        })
    }

    /// Waits until the connection is gone, whoever ended it.
    pub fn wait(&self) {
        self.gate.wait();
    }

    /// Stops serving, in the order of DESIGN.md section 6: what programs have mapped is written back, nobody gets in
    /// any more, who is inside comes out, drafts are saved, and the kernel drops what it has cached.
    pub fn stop(&self) {
        // Without workers nothing that the kernel writes back would be answered.
        let connected = !self.gate.is_broken();
        if connected {
            self.invalidate_all();
        }
        if !self.gate.close(DRAIN) {
            log::warn!("requests are still under way after {DRAIN:?}; ending the session without them");
        }
        self.gate.vfs().settle_all();
        if connected {
            self.invalidate_all();
        }
        self.gate.break_off();
    }

    fn invalidate_all(&self) {
        for ino in self.gate.vfs().known_inodes() {
            pages::invalidate(&self.notifier, ino);
        }
    }

    /// Waits for the serving threads, once the connection is gone.
    pub fn join(&self) {
        if let Some(thread) = self.thread.lock().take()
            && thread.join().is_err()
        {
            log::error!("the serving thread panicked; this is a bug, please report it");
        }
    }
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

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>> {
    thread::Builder::new()
        .name(name.to_owned())
        .spawn(work)
        .map_err(|error| Error::io(&error, "starting a thread"))
}
