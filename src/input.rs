//! Files that somebody names to be read, which may be in a place where others are at work.
//!
//! What is a FIFO by then would keep whoever opens it waiting, and what is a terminal, whoever reads it. A descriptor of one's own is
//! another matter, whatever it is: `/dev/stdin`, and `/dev/fd/63`, which is how a shell's `<(command)` looks to a program.

use std::fs::{File, Metadata};
use std::io::{Error, ErrorKind, Result};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::makedev;

/// Opens the file at `path` for reading.
///
/// # Errors
/// What the operating system says; [`ErrorKind::InvalidInput`] when it is no regular file, nor `/dev/null`, nor a descriptor that the
/// caller has.
pub fn open(path: &Path) -> Result<File> {
    if is_own_descriptor(path) {
        return File::open(path);
    }
    let mut options = File::options();
    let options = options.read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY);
    let file = options.open(path)?;
    let metadata = file.metadata()?;
    match metadata.is_file() || is_null(&metadata) {
        true => Ok(file),
        false => Err(Error::new(
            ErrorKind::InvalidInput,
            "it is not a regular file; what a command prints can be given as <(command)",
        )),
    }
}

/// Whether it is the null device, which is how "none" is said to a program that wants a file.
pub fn is_null(metadata: &Metadata) -> bool {
    metadata.file_type().is_char_device() && metadata.rdev() == makedev(1, 3)
}

/// Whether the path means a descriptor that this process has, and was given by whoever started it.
pub fn is_own_descriptor(path: &Path) -> bool {
    own_descriptor(path).is_some()
}

/// The number of the descriptor that the path means.
pub fn own_descriptor(path: &Path) -> Option<i32> {
    let path = path.to_str()?;
    if path == "/dev/stdin" {
        return Some(0);
    }
    let number = path
        .strip_prefix("/dev/fd/")
        .or_else(|| path.strip_prefix("/proc/self/fd/"))?;
    number.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::os::fd::AsRawFd as _;

    use super::*;

    #[test]
    fn what_would_keep_one_waiting_is_refused_and_an_own_descriptor_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let fifo = directory.path().join("fifo");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &fifo,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RUSR,
            0,
        )
        .unwrap();
        for path in [fifo.as_path(), directory.path(), Path::new("/dev/zero")] {
            assert_eq!(
                open(path).unwrap_err().kind(),
                ErrorKind::InvalidInput,
                "{path:?}"
            );
        }
        let mut nothing = Vec::new();
        open(Path::new("/dev/null"))
            .unwrap()
            .read_to_end(&mut nothing)
            .unwrap();
        assert!(nothing.is_empty());
        let link = directory.path().join("link");
        std::os::unix::fs::symlink("/dev/fd/0", &link).unwrap();
        assert!(
            !is_own_descriptor(&link),
            "where it leads is for whoever made it to say"
        );

        let (reader, mut writer) = std::io::pipe().unwrap();
        writer.write_all(b"alice").unwrap();
        drop(writer);
        let mut text = String::new();
        let path = format!("/dev/fd/{}", reader.as_raw_fd());
        open(Path::new(&path)).unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "alice");
    }
}
