//! The kernel's page cache, driven through notifications.

use std::ffi::OsStr;
use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use fuser::{INodeNo, Notifier};
use parking_lot::Mutex;

use crate::vfs::{Ino, PageCache};

/// Content longer than this is read when it is wanted, in bytes.
const MAX_FILL: usize = 1 << 20;

/// How many invalidations may wait. When more do, the attributes' lifetime has to do.
const QUEUE: usize = 1024;

/// Sends notifications, once there is a session to send them through.
pub struct Pages {
    notifier: OnceLock<Notifier>,
    queue: SyncSender<Ino>,
    waiting: Mutex<Option<Receiver<Ino>>>,
}

impl Default for Pages {
    fn default() -> Self {
        let (queue, waiting) = sync_channel(QUEUE);
        Self {
            notifier: OnceLock::new(),
            queue,
            waiting: Mutex::new(Some(waiting)),
        }
    }
}

impl Pages {
    /// From now on notifications go through `notifier`. Returns what the invalidating thread has to run: it waits in
    /// the kernel for pages that handlers have to answer for, so no handler can do its work.
    pub(super) fn connect(&self, notifier: Notifier) -> impl FnOnce() + Send + 'static {
        let waiting = self.waiting.lock().take();
        let _ = self.notifier.set(notifier.clone());
        move || {
            for ino in waiting.into_iter().flatten() {
                invalidate(&notifier, ino);
            }
        }
    }
}

/// Drops the pages and the attributes of an inode.
pub(super) fn invalidate(notifier: &Notifier, ino: Ino) {
    if let Err(error) = notifier.inval_inode(INodeNo(ino.0), 0, 0) {
        // ENOENT: the kernel has forgotten it meanwhile.
        log::debug!("invalidating an inode: {error}");
    }
}

/// Drops a name.
pub(super) fn forget_name(notifier: &Notifier, parent: Ino, name: &str) {
    if let Err(error) = notifier.inval_entry(INodeNo(parent.0), OsStr::new(name)) {
        log::debug!("invalidating a name: {error}");
    }
}

impl PageCache for Pages {
    fn fill(&self, ino: Ino, content: &[u8]) -> bool {
        match self.notifier.get() {
            Some(notifier) if !content.is_empty() && content.len() <= MAX_FILL => {
                notifier.store(INodeNo(ino.0), 0, content).is_ok()
            }
            _ => false,
        }
    }

    fn drop_attributes(&self, ino: Ino) {
        // A negative offset leaves the pages, and whoever has locked them, alone.
        if let Some(notifier) = self.notifier.get()
            && let Err(error) = notifier.inval_inode(INodeNo(ino.0), -1, 0)
        {
            log::debug!("invalidating attributes: {error}");
        }
    }

    fn drop_soon(&self, ino: Ino) {
        let _ = self.queue.try_send(ino);
    }
}
