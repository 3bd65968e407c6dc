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
    end: Mutex<End>,
}

/// How far the end of a session is.
enum End {
    /// It goes on.
    Ahead(Mount),
    /// It has ended, well or not.
    Reached(Result<()>),
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
            end: Mutex::new(End::Ahead(mount)),
        })
    }

    /// Where it is mounted.
    pub fn mountpoint(&self) -> &Path {
        &self.mountpoint
    }

    /// Waits until the session has ended, by [`end`](Self::end) or because somebody else unmounted it.
    ///
    /// # Errors
    /// As `end`.
    pub fn wait(&self) -> Result<()> {
        self.server.wait();
        self.end()
    }

    /// Ends the session: flag, drain, drafts, caches, abort, detach (DESIGN.md section 6). Called again, it waits until
    /// that is done, and says the same.
    ///
    /// # Errors
    /// [`MountFailed`](crate::error::Kind::MountFailed) when the mount cannot be removed. Nothing is served any more, but
    /// the kernel lets go of the serving threads only when the process exits.
    pub fn end(&self) -> Result<()> {
        let mut end = self.end.lock();
        if let End::Ahead(mount) = &*end {
            self.server.stop();
            let shown = self.mountpoint.display();
            let removed = mount.unmount().map_err(|error| {
                error.context(format_args!("{shown} is still mounted; run: umount -l {shown}"))
            });
            if removed.is_ok() {
                self.server.join();
            }
            *end = End::Reached(removed);
        }
        match &*end {
            End::Ahead(_) => Ok(()),
            End::Reached(result) => result.clone(),
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let ahead = matches!(*self.end.lock(), End::Ahead(_));
        if ahead && let Err(error) = self.end() {
            log::error!("{error}");
        }
    }
}
