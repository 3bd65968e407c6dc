//! The file beside the log (`FILE.head`), as whoever verifies the log finds it.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use super::head::{HEAD_FILE_LEN, Head};

const SUFFIX: &str = ".head";

/// Where the file beside the log at `path` is.
pub(super) fn head_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(SUFFIX);
    name.into()
}

/// What says where a file of the log ends.
pub(super) struct Beside {
    pub(super) path: PathBuf,
    file: File,
    /// The inode of the log's file, where that was renamed.
    renamed: Option<u64>,
}

impl Beside {
    /// The file beside the one at `path`; or, where that was rotated and its writer has yet to notice, or to write anything, the one
    /// that was beside it and still speaks of it. None where the log has gone on since.
    pub(super) fn of(path: &Path) -> Option<Self> {
        let own = head_path(path);
        match open(&own) {
            Ok(file) => Some(Self {
                path: own,
                file,
                renamed: None,
            }),
            Err(error) if error.kind() == ErrorKind::NotFound => Self::of_renamed(path),
            Err(_) => None,
        }
    }

    fn of_renamed(path: &Path) -> Option<Self> {
        let metadata = fs::metadata(path).ok().filter(fs::Metadata::is_file)?;
        let directory = match path.parent() {
            Some(parent) if parent != Path::new("") => parent,
            _ => Path::new("."),
        };
        let names = fs::read_dir(directory).ok()?.flatten().map(|entry| entry.path());
        let heads = names.filter(|path| path.as_os_str().as_encoded_bytes().ends_with(SUFFIX.as_bytes()));
        heads
            .filter_map(|path| {
                let beside = Self {
                    file: open(&path).ok()?,
                    path,
                    renamed: Some(metadata.ino()),
                };
                beside.content().ok()?.map(|_| beside)
            })
            .next()
    }

    /// Keeps the log's writers waiting as long as this lives. Who may not lock may be told of a line that came meanwhile.
    pub(super) fn lock(&self) {
        let _ = flock(&self.file, FlockOperation::LockShared);
    }

    /// What it says; none when it speaks of another file than the one that was renamed.
    pub(super) fn content(&self) -> std::io::Result<Option<Vec<u8>>> {
        let mut content = vec![0; HEAD_FILE_LEN];
        let mut length = 0;
        while let Some(rest) = content.get_mut(length..).filter(|rest| !rest.is_empty()) {
            match self.file.read_at(rest, length as u64)? {
                0 => break,
                read => length += read,
            }
        }
        content.truncate(length);
        let speaks_of_it = match self.renamed {
            None => true,
            Some(ino) => Head::parse(&content).is_some_and(|head| head.ino == ino),
        };
        Ok(speaks_of_it.then_some(content))
    }
}

/// Never what keeps one waiting.
fn open(path: &Path) -> std::io::Result<File> {
    let mut options = File::options();
    options
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path)
}
