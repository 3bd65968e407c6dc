//! One mount of one tenant's view, from the first byte served to the last.

pub mod confine;
pub mod privilege;

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::error::Result;
use crate::fuse::{Pages, Server};
use crate::mounter::{Mount, MountRequest, Mounter};
use crate::store::Store;
use crate::vfs::Vfs;
use confine::Confinement;

/// Where and for whom a session's mount is made.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SessionOptions {
    /// An empty directory.
    pub mountpoint: PathBuf,
    /// The only user whom the kernel admits, and the owner of everything shown.
    pub uid: u32,
    /// The group of everything shown.
    pub gid: u32,
    /// Whether programs in the mount may be run.
    pub exec: bool,
}

/// A principal's store, mounted. Dropped, it ends.
pub struct Session {
    server: Server,
    mountpoint: PathBuf,
    /// Taken by whoever ends the session.
    mount: Mutex<Option<Mount>>,
}

impl Session {
    /// Mounts `store`, read-only if the store is, and serves it on threads of its own that are confined to the
    /// tenant's directories.
    ///
    /// # Errors
    /// What is wrong with the mountpoint, or with the mounter; nothing is mounted then.
    pub fn start(store: Store, mounter: &Mounter, options: &SessionOptions) -> Result<Self> {
        let (mount, connection) = mounter.mount(&MountRequest {
            mountpoint: options.mountpoint.clone(),
            uid: options.uid,
            gid: options.gid,
            read_only: store.read_only(),
            exec: options.exec,
        })?;
        let confined = store.clone();
        let prepare = move || {
            let directories = confined.directories();
            let handles: Vec<_> = directories.iter().map(|directory| directory.as_fd()).collect();
            let confinement = confine::confine(&handles, confined.read_only())?;
            let level = match confinement {
                Confinement::Full => log::Level::Info,
                Confinement::Partial | Confinement::None => log::Level::Warn,
            };
            log::log!(level, "session of {}: {confinement}", confined.user());
            Ok(())
        };
        let pages = Arc::new(Pages::default());
        let vfs = Vfs::new(store, options.uid, options.gid, Arc::clone(&pages) as _);
        let server = Server::start(vfs, pages, connection, prepare)?;
        Ok(Self {
            server,
            mountpoint: options.mountpoint.clone(),
            mount: Mutex::new(Some(mount)),
        })
    }

    /// Where it is mounted.
    pub fn mountpoint(&self) -> &Path {
        &self.mountpoint
    }

    /// Waits until the session has ended, by [`end`](Self::end) or because somebody else unmounted it.
    pub fn wait(&self) {
        self.server.wait();
        self.end();
    }

    /// Ends the session: flag, drain, drafts, caches, abort, detach (DESIGN.md section 6). Called again, it waits until
    /// that is done.
    pub fn end(&self) {
        let mut mount = self.mount.lock();
        let Some(mount) = mount.take() else {
            return;
        };
        self.server.stop();
        if let Err(error) = mount.unmount() {
            log::error!("unmounting {}: {error}", self.mountpoint.display());
        }
        self.server.join();
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.end();
    }
}
