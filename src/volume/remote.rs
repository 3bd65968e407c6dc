//! What another host changes: the client of a distributed file system remembers names for a while, and says of a file that was
//! replaced elsewhere that it is there and, when it is opened, that it is not.

use std::fs::File;
use std::ops::ControlFlow;
use std::thread;
use std::time::Duration;

use rustix::fs::{Advice, Mode, OFlags, ResolveFlags, fadvise};
use rustix::io::Errno;

use super::dir::Dir;
use super::engine::Engine;
use super::stat::{FileId, Stat, stat};
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

/// Whether it had its name already when it was written last, as far as its times tell.
fn was_written_in_place(stat: &Stat) -> bool {
    stat.ctime.millis_since(stat.mtime) <= ONE_WRITE_MILLIS
}

/// How long it is to be waited before what is read of a file with these attributes is of one content; none if it is already. What
/// was written before it got its name here is.
pub(super) fn settles_in(engine: &Engine, stat: &Stat) -> Option<Duration> {
    let long_enough = engine.content_settles_within();
    if long_enough.is_zero() || !was_written_in_place(stat) {
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
    /// The file that was waited for, and how many were.
    waited: Option<FileId>,
    waits: u32,
}

/// Whether all that was read of a file is of one content.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Settled {
    /// It is.
    Already,
    /// It may not be, and is to be read once more. It was waited for.
    Again,
    /// It is written to whenever it is read.
    Never,
}

/// How many files are waited for that have one name after the other.
const MOST_WAITS: u32 = 5;

impl<'dir> RemoteRetry<'dir> {
    /// Of what is done with `name` in `dir`.
    pub fn of(dir: &'dir Dir, name: &'dir str) -> Self {
        Self {
            dir,
            name,
            trying: None,
            waited: None,
            waits: 0,
        }
    }

    /// Has the kernel forget what it has of a file that is about to be read and was written in place: pages that were read while
    /// another host wrote stay as they are, a mixture, for as long as the kernel likes. CephFS: 308 of 308 reads.
    pub fn forget_pages(&self, file: &File) {
        let engine = self.dir.file_system().engine();
        if !engine.content_settles_within().is_zero()
            && stat(file).is_ok_and(|stat| was_written_in_place(&stat))
        {
            // What cannot be forgotten is being written here.
            let _ = fadvise(file, 0, None, Advice::DontNeed);
        }
    }

    /// Whether what was read of a file with these attributes is of one content; see [`Engine::content_settles_within`]. Waits for
    /// it.
    pub fn settles(&mut self, stat: &Stat) -> Settled {
        let Some(wait) = settles_in(self.dir.file_system().engine(), stat) else {
            return Settled::Already;
        };
        self.waits += 1;
        if self.waited == Some(stat.id) || self.waits > MOST_WAITS {
            return Settled::Never;
        }
        // What is remembered of it may be from before it was renamed into place: a listing tells.
        if self.trying.is_none() {
            self.again();
        } else {
            self.waited = Some(stat.id);
            thread::sleep(wait);
        }
        Settled::Again
    }

    /// Whether a text that is none, of a file with these attributes, is to be read again: the client may remember the size from when
    /// the file was still written, under the name that it had then. Waits a little.
    pub fn may_be_a_part(&mut self, stat: &Stat) -> bool {
        let engine = self.dir.file_system().engine();
        let age = clock::now().millis_since(stat.ctime);
        let remembered = engine.others_see_within() + MARGIN;
        u128::try_from(age).is_ok_and(|age| age < remembered.as_millis()) && self.again()
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
    /// Whether this host's client has two names for one file, of which another host has made one out of the other: the kernel takes
    /// such a renaming for done, and does not ask. On a file system of this host it knows.
    pub fn are_one_file(&self, name: &str, other: &str) -> bool {
        let id = |name| self.stat(name).map(|stat| stat.id);
        !self.file_system().engine().is_local()
            && matches!((id(name), id(other)), (Ok(one), Ok(another)) if one == another)
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

    /// Whether the kernel has something under `name` and asks nobody for it, be it gone: such a descriptor asks nothing of what it is
    /// of.
    fn has_name(&self, name: &str) -> bool {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let in_memory = ResolveFlags::BENEATH | ResolveFlags::CACHED;
        match rustix::fs::openat2(self, name, flags, Mode::empty(), in_memory) {
            // Linux before 5.12 looks in memory too, and asks when it finds nothing there.
            Err(Errno::INVAL) => rustix::fs::openat(self, name, flags, Mode::empty()).is_ok(),
            opened => opened.is_ok(),
        }
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
