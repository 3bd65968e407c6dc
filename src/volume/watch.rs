//! Changes on the volume, as the kernel tells of them (inotify).
//!
//! One instance and one thread for the whole process: `fs.inotify.max_user_instances` is 128 by default, for all of an account's
//! processes. What is watched costs one of `fs.inotify.max_user_watches`, however many sessions watch it.

use std::collections::HashMap;
use std::fmt;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use parking_lot::Mutex;
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use rustix::io::Errno;

use super::dir::Dir;
use crate::clock::Stopwatch;

/// Everything that can change what a name leads to, or what is in it. Closing, for maps are written without a word.
const INTERESTING: WatchFlags = WatchFlags::CREATE
    .union(WatchFlags::DELETE)
    .union(WatchFlags::MOVED_FROM)
    .union(WatchFlags::MOVED_TO)
    .union(WatchFlags::MODIFY)
    .union(WatchFlags::ATTRIB)
    .union(WatchFlags::CLOSE_WRITE)
    .union(WatchFlags::ONLYDIR)
    .union(WatchFlags::EXCL_UNLINK);

/// After these a name is another's, or nobody's.
const NAMES: ReadFlags = ReadFlags::CREATE
    .union(ReadFlags::DELETE)
    .union(ReadFlags::MOVED_FROM)
    .union(ReadFlags::MOVED_TO);

/// The kernel is asked for changes at most this often. What changes while it is not asked, it tells of at once, and of what is
/// written a piece at a time once: a thread woken for each piece would take as long as the writing.
const PACE: Duration = Duration::from_millis(1);

/// What of a directory changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Change<'event> {
    /// An entry: whether it is another file's name now, or nobody's; and if not, its content or attributes.
    Entry {
        /// Its name.
        name: &'event [u8],
        /// Whether the directory itself is another by it.
        names: bool,
    },
    /// The directory's own attributes.
    Itself,
    /// Anything may have: the kernel had more to tell than it keeps.
    Anything,
    /// Nothing more is told: the directory is gone.
    Ended,
}

/// Who is told.
pub trait Watching: Send + Sync {
    /// Something changed. Called on the thread that everybody else waits for: has to return at once.
    fn changed(&self, change: Change<'_>);
}

/// A directory that is watched. Dropped, it is no longer.
pub struct Watch {
    watcher: &'static Watcher,
    descriptor: i32,
    number: u64,
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Watch({})", self.descriptor)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.watcher.forget(self.descriptor, self.number);
    }
}

/// What watches, for the whole process.
pub struct Watcher {
    inotify: OwnedFd,
    watched: Mutex<Watched>,
    exhausted: AtomicBool,
}

/// Who is told of what, by inotify's descriptors, which are not used again.
#[derive(Default)]
struct Watched {
    directories: HashMap<i32, Vec<Told>>,
    next: u64,
}

/// One who is told, and the number of their watch.
type Told = (u64, Arc<dyn Watching>);

impl fmt::Debug for Watcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Watcher({:?})", self.inotify)
    }
}

impl Watcher {
    /// The process's own, started if it is the first time; none where the kernel has no more for this account.
    pub fn of_process() -> Option<&'static Self> {
        static WATCHER: OnceLock<Option<&'static Watcher>> = OnceLock::new();
        *WATCHER.get_or_init(|| {
            let started = Self::start();
            let inspected = started.inspect_err(|errno| {
                log::warn!(
                    "changes on the volume show up within a second, not at once: inotify: {errno}; \
                     is fs.inotify.max_user_instances reached?"
                );
            });
            inspected.ok()
        })
    }

    fn start() -> rustix::io::Result<&'static Self> {
        let watcher: &'static Self = Box::leak(Box::new(Self {
            inotify: inotify::init(CreateFlags::CLOEXEC)?,
            watched: Mutex::default(),
            exhausted: AtomicBool::new(false),
        }));
        thread::Builder::new()
            .name("watch".to_owned())
            .spawn(|| watcher.run())
            .map_err(|_| Errno::AGAIN)?;
        Ok(watcher)
    }

    /// Watches a directory, from now on; none when not all of its changes would be told, or there is no more to be had.
    pub fn watch(&'static self, dir: &Dir, watching: Arc<dyn Watching>) -> Option<Watch> {
        // Of another host's changes this kernel does not tell.
        if !dir.file_system().engine().is_local() {
            return None;
        }
        // The way over /proc: inotify takes paths only, and this one leads to what is open, whatever it is called.
        let path = format!("/proc/self/fd/{}", dir.as_fd().as_raw_fd());
        // Locked before: what changes at once has to find who wants to know.
        let mut watched = self.watched.lock();
        match inotify::add_watch(&self.inotify, path, INTERESTING) {
            Ok(descriptor) => {
                let number = watched.next;
                watched.next += 1;
                let told = watched.directories.entry(descriptor).or_default();
                told.push((number, watching));
                Some(Watch {
                    watcher: self,
                    descriptor,
                    number,
                })
            }
            Err(errno) => {
                if errno == Errno::NOSPC && !self.exhausted.swap(true, Ordering::Relaxed) {
                    log::warn!(
                        "some changes on the volume show up within a second, not at once: fs.inotify.max_user_watches \
                         is reached; raise it with sysctl"
                    );
                }
                log::debug!("watching a directory: {errno}");
                None
            }
        }
    }

    fn forget(&self, descriptor: i32, number: u64) {
        let mut watched = self.watched.lock();
        let Some(told) = watched.directories.get_mut(&descriptor) else {
            return;
        };
        told.retain(|(known, _)| *known != number);
        if told.is_empty() {
            watched.directories.remove(&descriptor);
            // It is gone already when its directory is.
            let _ = inotify::remove_watch(&self.inotify, descriptor);
        }
    }

    fn run(&self) {
        let mut buffer = [MaybeUninit::uninit(); 64 << 10];
        let mut events = Reader::new(&self.inotify, &mut buffer);
        let mut asked = Stopwatch::start();
        loop {
            if events.is_buffer_empty() {
                thread::sleep(PACE.saturating_sub(asked.elapsed()));
                asked = Stopwatch::start();
            }
            match events.next() {
                Ok(event) => self.tell(
                    event.wd(),
                    event.events(),
                    event.file_name().map(|name| name.to_bytes()),
                ),
                Err(Errno::INTR) => {}
                Err(errno) => {
                    log::error!("changes on the volume are not noticed any more: inotify: {errno}");
                    self.everybody(Change::Ended);
                    return;
                }
            }
        }
    }

    fn tell(&self, descriptor: i32, events: ReadFlags, name: Option<&[u8]>) {
        if events.contains(ReadFlags::QUEUE_OVERFLOW) {
            return self.everybody(Change::Anything);
        }
        let mut watched = self.watched.lock();
        let told = match events.contains(ReadFlags::IGNORED) {
            true => watched.directories.remove(&descriptor),
            false => watched.directories.get(&descriptor).cloned(),
        };
        drop(watched);
        let change = match name {
            _ if events.contains(ReadFlags::IGNORED) => Change::Ended,
            Some(name) => Change::Entry {
                name,
                names: events.intersects(NAMES),
            },
            None => Change::Itself,
        };
        for (_, watching) in told.into_iter().flatten() {
            watching.changed(change);
        }
    }

    fn everybody(&self, change: Change<'_>) {
        let told: Vec<_> = self
            .watched
            .lock()
            .directories
            .values()
            .flatten()
            .cloned()
            .collect();
        for (_, watching) in told {
            watching.changed(change);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::mpsc::{Sender, channel};
    use std::time::Duration;

    use super::*;
    use crate::volume::Volume;

    struct Noted(Sender<String>);

    impl Watching for Noted {
        fn changed(&self, change: Change<'_>) {
            let said = match change {
                Change::Entry { name, names } => format!("{} {names}", String::from_utf8_lossy(name)),
                other => format!("{other:?}"),
            };
            let _ = self.0.send(said);
        }
    }

    #[test]
    fn everybody_who_watches_is_told_until_they_stop() {
        let directory = tempfile::tempdir_in("/var/tmp").unwrap();
        let volume = Volume::open(directory.path()).unwrap();
        let watcher = Watcher::of_process().unwrap();
        let (first, told_first) = channel();
        let (second, told_second) = channel();
        let one = watcher.watch(volume.root(), Arc::new(Noted(first))).unwrap();
        let other = watcher.watch(volume.root(), Arc::new(Noted(second))).unwrap();
        let wait = Duration::from_secs(5);
        fs::create_dir(directory.path().join("made")).unwrap();
        assert_eq!(told_first.recv_timeout(wait).unwrap(), "made true");
        assert_eq!(told_second.recv_timeout(wait).unwrap(), "made true");
        drop(one);
        fs::remove_dir(directory.path().join("made")).unwrap();
        assert_eq!(told_second.recv_timeout(wait).unwrap(), "made true");
        assert!(
            told_first.recv_timeout(wait).is_err(),
            "its sender is gone with its watch"
        );
        // What is still open is still there.
        drop(volume);
        fs::remove_dir(directory.path()).unwrap();
        let last = std::iter::from_fn(|| told_second.recv_timeout(wait).ok()).find(|said| said != "Itself");
        assert_eq!(last.as_deref(), Some("Ended"));
        drop(other);
    }
}
