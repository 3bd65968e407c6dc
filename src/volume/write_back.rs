//! Having a file's content written, without waiting for the disk to say that it is there for good.

use std::fs::File;
use std::os::fd::AsRawFd;

use crate::error::{Error, Result};

/// Writes the content, and waits until the disk has it, though perhaps in its cache only. A name that is given afterwards is
/// durable later than the content.
///
/// To begin the writing is not enough: ext4 allocates blocks that read as zeros until they are written, and would make
/// the name durable in between. fdatasync would do, but waits for a flush of the disk's cache, too.
///
/// # Errors
/// The operating system's.
pub(super) fn write_back(file: &File) -> Result<()> {
    let how =
        libc::SYNC_FILE_RANGE_WAIT_BEFORE | libc::SYNC_FILE_RANGE_WRITE | libc::SYNC_FILE_RANGE_WAIT_AFTER;
    // SAFETY: it takes no memory, and the descriptor is open.
    #[expect(unsafe_code, reason = "no crate has this call")]
    let done = unsafe { libc::sync_file_range(file.as_raw_fd(), 0, 0, how) };
    match done {
        0 => Ok(()),
        _ => Err(Error::io(
            &std::io::Error::last_os_error(),
            "writing to the volume",
        )),
    }
}
