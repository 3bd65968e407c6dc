//! Listing directories.

use std::mem::MaybeUninit;
use std::ops::ControlFlow;
use std::os::fd::OwnedFd;

use rustix::fs::{FileType, Mode, OFlags, RawDir};
use rustix::io::Errno;

use super::dir::Dir;
use crate::error::Result;

/// What the kernel is asked for at once, in bytes.
const BUFFER: usize = 32 * 1024;

impl Dir {
    /// Calls `each` with every entry's name but `.` and `..`, in the file system's order.
    ///
    /// # Errors
    /// The operating system's.
    pub fn entries(&self, mut each: impl FnMut(&[u8])) -> Result<()> {
        self.entries_until(|name| {
            each(name);
            ControlFlow::Continue(())
        })
    }

    /// As [`entries`](Self::entries), until `each` has had enough.
    ///
    /// # Errors
    /// The operating system's.
    pub fn entries_until(&self, mut each: impl FnMut(&[u8]) -> ControlFlow<()>) -> Result<()> {
        self.walk(|name, _| each(name))
    }

    /// The names of what may be directories in it, `.` and `..` left out. Not every file system knows without looking.
    ///
    /// # Errors
    /// The operating system's.
    pub fn directories(&self) -> Result<Vec<Vec<u8>>> {
        let mut names = Vec::new();
        self.walk(|name, kind| {
            if matches!(kind, FileType::Directory | FileType::Unknown) {
                names.push(name.to_vec());
            }
            ControlFlow::Continue(())
        })?;
        Ok(names)
    }

    fn walk(&self, mut each: impl FnMut(&[u8], FileType) -> ControlFlow<()>) -> Result<()> {
        let failed = |errno| self.failed(errno, "listing a directory", ".");
        let fd = self.open_listing().map_err(failed)?;
        let mut buffer = vec![MaybeUninit::uninit(); BUFFER];
        let mut entries = RawDir::new(fd, &mut buffer);
        while let Some(entry) = entries.next() {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." && each(name, entry.file_type()).is_break() {
                break;
            }
        }
        Ok(())
    }

    /// A description of its own to list it by: the position of a shared one would be everybody's.
    fn open_listing(&self) -> rustix::io::Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        // Our listings are not the user's, as our reads.
        match self.open(".", flags | OFlags::NOATIME, Mode::empty()) {
            Err(Errno::PERM) => self.open(".", flags, Mode::empty()),
            opened => opened,
        }
    }
}
