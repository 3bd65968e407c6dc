//! What another host changes: the client of a distributed file system remembers names for a while, and says of a file that was
//! replaced elsewhere that it is there and, when it is opened, that it is not.

use std::ops::ControlFlow;
use std::thread;
use std::time::Duration;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::dir::Dir;
use super::engine::Engine;
use super::stat::Stat;
use crate::clock::{self, Stopwatch};
use crate::error::Error;

/// How long apart it is tried again.
const PAUSE: Duration = Duration::from_millis(25);

/// How much longer than names are remembered it is tried.
const MARGIN: Duration = Duration::from_millis(300);

/// The most entries that are listed to find a name anew.
const MOST_LISTED: usize = 4096;

/// Whether `error`, met with what is open, may come of another host's having replaced the file: not everywhere does it outlive its
/// name.
pub(super) fn says_replaced(error: &Error) -> bool {
    let gone = [Errno::NOENT, Errno::STALE, Errno::BADF].map(|errno| Some(errno.raw_os_error()));
    gone.contains(&error.errno())
}

/// A file that was given its name after it was written has another time of change of the inode than of the content, by more than
/// this, in milliseconds: where both are set by one write, they may be read from the clock one after the other.
const ONE_WRITE_MILLIS: i64 = 1;

/// How long it is to be waited before what is read of a file with these attributes is of one content; none if it is already. What
/// was written before it got its name here is.
pub(super) fn settles_in(engine: &Engine, stat: &Stat) -> Option<Duration> {
    let long_enough = engine.content_settles_within();
    if long_enough.is_zero() || stat.ctime.millis_since(stat.mtime) > ONE_WRITE_MILLIS {
        return None;
    }
    // A time that lies ahead is another host's clock.
    let age = Duration::from_millis(clock::now().millis_since(stat.mtime).try_into().unwrap_or(0));
    long_enough.checked_sub(age).filter(|left| !left.is_zero())
}

/// Trying again what may fail because of what another host did to a name. On a file system of this host nothing does.
pub struct RemoteRetry<'dir> {
    dir: &'dir Dir,
    name: &'dir str,
    /// How long it lasts, and since when; none before it was needed.
    trying: Option<(Stopwatch, Duration)>,
}

impl<'dir> RemoteRetry<'dir> {
    /// Of what is done with `name` in `dir`.
    pub fn of(dir: &'dir Dir, name: &'dir str) -> Self {
        Self {
            dir,
            name,
            trying: None,
        }
    }

    /// Whether `error`, met with what was open, is to be met with by opening the name again: it was replaced, and does not outlive
    /// its name. Waits a little.
    pub fn outlasts(&mut self, error: &Error) -> bool {
        says_replaced(error) && self.again()
    }

    /// Whether it is to be tried once more. Waits a little.
    fn again(&mut self) -> bool {
        let engine = self.dir.file_system().engine();
        match self.trying {
            None if engine.is_local() => false,
            None => {
                self.trying = Some((Stopwatch::start(), engine.others_see_within() + MARGIN));
                // The kernel learns names anew from a listing.
                self.list();
                true
            }
            Some((trying, long_enough)) => {
                thread::sleep(PAUSE);
                trying.elapsed() < long_enough
            }
        }
    }

    fn list(&self) {
        let mut listed = 0;
        // What goes wrong here the next try tells.
        let _ = self.dir.entries_until(|entry| {
            listed += 1;
            match entry == self.name.as_bytes() || listed == MOST_LISTED {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        });
    }
}

impl Dir {
    /// How long it is to be waited before what is read of a file here is of one content: see [`Engine::content_settles_within`].
    pub fn settles_in(&self, stat: &Stat) -> Option<Duration> {
        settles_in(self.file_system().engine(), stat)
    }

    /// Does something with `name`, and tries it again as long as this host's client may be wrong about it: when it says that what
    /// the name leads to is gone (ENOENT, ESTALE), and has the name all the same.
    pub(super) fn patiently<T>(
        &self,
        name: &str,
        mut act: impl FnMut() -> rustix::io::Result<T>,
    ) -> rustix::io::Result<T> {
        let mut retry = RemoteRetry::of(self, name);
        loop {
            let done = act();
            let may_be_wrong = match &done {
                Err(Errno::STALE) => true,
                Err(Errno::NOENT) => !self.file_system().engine().is_local() && self.has_name(name),
                _ => false,
            };
            if !may_be_wrong || !retry.again() {
                return done;
            }
        }
    }

    /// Whether the kernel has something under `name`, be it gone: such a descriptor asks nothing of what it is of.
    fn has_name(&self, name: &str) -> bool {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(self, name, flags, Mode::empty()).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;

    #[test]
    fn what_was_written_in_place_just_now_settles_and_what_was_renamed_into_place_has() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("file"), "").unwrap();
        let volume = crate::volume::Volume::open(directory.path()).unwrap();
        let mut stat = volume.root().stat("file").unwrap();
        (stat.mtime, stat.ctime) = (clock::now(), clock::now());
        assert_eq!(settles_in(volume.root().file_system().engine(), &stat), None);
        let gluster = settles_in(&Engine::Gluster, &stat).unwrap();
        assert!(gluster > Duration::from_secs(1) && gluster <= Duration::from_millis(1_200));
        stat.mtime = Timestamp {
            seconds: stat.ctime.seconds - 2,
            ..stat.ctime
        };
        assert_eq!(settles_in(&Engine::Gluster, &stat), None);
        stat.ctime = stat.mtime;
        assert_eq!(settles_in(&Engine::Gluster, &stat), None);
    }
}
