//! What the kernel has cached, driven through notifications.

use std::ffi::OsStr;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use fuser::{INodeNo, Notifier};
use parking_lot::Mutex;

use crate::name::EntryName;
use crate::vfs::{Ino, PageCache};

/// Content longer than this is read when it is wanted, in bytes.
const MAX_FILL: usize = 1 << 20;

/// How many invalidations may wait. When more do, the attributes' lifetime has to do.
const QUEUE: usize = 1024;

/// How long after changes were looked at the next ones are: a program that writes without end is told of once in that time.
const PAUSE: Duration = Duration::from_millis(5);

/// What the invalidating thread is to do.
enum Work {
    Drop(Ino),
    Notice,
}

/// Sends notifications, once there is a session to send them through.
pub struct Pages {
    notifier: OnceLock<Notifier>,
    queue: SyncSender<Work>,
    /// Whether somebody is going to look at changes.
    noticing: Arc<AtomicBool>,
    waiting: Mutex<Option<Receiver<Work>>>,
}

impl Default for Pages {
    fn default() -> Self {
        let (queue, waiting) = sync_channel(QUEUE);
        Self {
            notifier: OnceLock::new(),
            queue,
            noticing: Arc::default(),
            waiting: Mutex::new(Some(waiting)),
        }
    }
}

impl Pages {
    /// From now on notifications go through `notifier`. Returns what the invalidating thread has to run: it waits in
    /// the kernel for what handlers have to answer for, so no handler can do its work. `notice` looks at changes, and says
    /// whether there is still anybody to do that for, and when it has to look again though nothing changes.
    pub(super) fn connect(
        &self,
        notifier: Notifier,
        notice: impl Fn() -> ControlFlow<(), Option<Duration>> + Send + 'static,
    ) -> impl FnOnce() + Send + 'static {
        let waiting = self.waiting.lock().take();
        let _ = self.notifier.set(notifier.clone());
        let noticing = Arc::clone(&self.noticing);
        move || {
            let Some(waiting) = waiting else { return };
            let mut again = None;
            loop {
                let work = match again {
                    None => waiting.recv().map_err(RecvTimeoutError::from),
                    Some(after) => waiting.recv_timeout(after),
                };
                match work {
                    Ok(Work::Drop(ino)) => invalidate(&notifier, ino),
                    Ok(Work::Notice) | Err(RecvTimeoutError::Timeout) => {
                        // Before: what changes from now on is for the next time.
                        noticing.store(false, Ordering::SeqCst);
                        match notice() {
                            ControlFlow::Continue(after) => again = after,
                            ControlFlow::Break(()) => return,
                        }
                        thread::sleep(PAUSE);
                    }
                    Err(RecvTimeoutError::Disconnected) => return,
                }
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
        let _ = self.queue.try_send(Work::Drop(ino));
    }

    fn notice_soon(&self) {
        if !self.noticing.swap(true, Ordering::SeqCst) && self.queue.try_send(Work::Notice).is_err() {
            // Asked again with the next change.
            self.noticing.store(false, Ordering::SeqCst);
        }
    }

    fn drop_name(&self, parent: Ino, name: &EntryName) {
        if let Some(notifier) = self.notifier.get() {
            forget_name(notifier, parent, name.as_str());
        }
    }

    fn drop_listing(&self, ino: Ino) {
        if let Some(notifier) = self.notifier.get() {
            invalidate(notifier, ino);
        }
    }
}
