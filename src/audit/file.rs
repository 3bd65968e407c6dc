//! The log's file, and the file beside it that says where the log ends (`FILE.head`).
//!
//! The file beside it is never rotated, so it is also the lock of all processes that write the log.

use std::fs::{File, Metadata, Permissions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, FlockOperation, fallocate, fchown, flock, ftruncate};
use rustix::io::Errno;
use rustix::process::{Gid, Uid};

use super::beside::head_path;
use super::head::{HEAD_FILE_LEN, Head};
use super::line::{Digest256, Line, MAX_LINE, digest};
use crate::account;
use crate::error::{At, Doing, Error, Kind, Result};
use crate::escape::quoted;

const WRITING: &str = "writing the audit log";

/// The log's readers may be a group, as with other logs; its writer is one account.
const MODE: u32 = 0o640;

/// How far ahead space is taken, in bytes: half of it is more than may wait to be written.
pub(super) const RESERVE: u64 = 2 << 20;

/// How little is left in the log's file system, in bytes, when it begins to matter who wrote how much: or an eighth, on a
/// small one.
const LITTLE: u64 = 256 << 20;

/// How much is read back to find where a log ends: some of the longest lines.
const TAIL: u64 = 4 * MAX_LINE as u64;

/// The account that writes the log, as (uid, gid).
pub type Owner = (u32, u32);

/// An open log.
pub(super) struct LogFile {
    path: PathBuf,
    head_path: PathBuf,
    owner: Owner,
    file: File,
    /// Up to where in the file there is space for sure; none where the file system cannot say.
    reserved: Option<u64>,
    head: File,
}

/// The log's lock, held.
pub(super) struct Locked(File);

impl Drop for Locked {
    fn drop(&mut self) {
        let _ = flock(&self.0, FlockOperation::Unlock);
    }
}

/// Where a file ends.
pub(super) struct Tail {
    /// The last line's number and hash.
    pub(super) seq: u64,
    pub(super) digest: Digest256,
    /// Whether it has no newline: whoever wrote it was stopped.
    pub(super) torn: bool,
}

impl LogFile {
    /// Opens the log at `path`, or makes it, for `owner`.
    ///
    /// # Errors
    /// [`Kind::Config`] when what is there is not a file of that account's, or others may write it, or it
    /// cannot be opened; [`Kind::NoSpace`] and the like where that may be otherwise in a moment.
    pub(super) fn open(path: &Path, owner: Owner) -> Result<Self> {
        let head_path = head_path(path);
        let file = open(path, owner, true)?;
        let head = open(&head_path, owner, false)?;
        // It must not be what a full disk has no room for; where that cannot be, it is told when it is.
        let _ = fallocate(&head, FallocateFlags::KEEP_SIZE, 0, HEAD_FILE_LEN as u64);
        Ok(Self {
            path: path.to_owned(),
            head_path,
            owner,
            file,
            reserved: None,
            head,
        })
    }

    /// Waits until no other process writes.
    pub(super) fn lock(&mut self) -> Result<Locked> {
        const LOCKING: &str = "locking the audit log";
        loop {
            flock(&self.head, FlockOperation::LockExclusive)
                .doing(LOCKING)
                .at(&self.head_path)?;
            if leads_to(&self.head_path, &self.head) {
                return self.head.try_clone().map(Locked).doing(LOCKING);
            }
            // Somebody removed it: whoever comes now locks another one.
            self.head = open(&self.head_path, self.owner, false)?;
        }
    }

    /// Whether the path leads to another file by now, or to none.
    pub(super) fn is_rotated(&self) -> bool {
        !leads_to(&self.path, &self.file)
    }

    /// Goes on in the file that the path leads to, which is made if there is none.
    pub(super) fn reopen(&mut self) -> Result<()> {
        let file = open(&self.path, self.owner, true)?;
        self.release();
        self.file = file;
        self.reserved = None;
        Ok(())
    }

    /// Gives back the space that was taken ahead.
    fn release(&self) {
        if self.reserved.is_some()
            && let Ok((size, _)) = self.position()
        {
            let _ = ftruncate(&self.file, size);
        }
    }

    /// The file's size and inode.
    pub(super) fn position(&self) -> Result<(u64, u64)> {
        let metadata = self.file.metadata().doing(WRITING).at(&self.path)?;
        Ok((metadata.len(), metadata.ino()))
    }

    /// What the file beside the log says.
    pub(super) fn read_head(&self) -> Option<Vec<u8>> {
        let mut bytes = vec![0; HEAD_FILE_LEN];
        self.head.read_exact_at(&mut bytes, 0).ok()?;
        Some(bytes)
    }

    /// Says in it where the log ends.
    pub(super) fn write_head(&self, head: &Head<'_>) -> Result<()> {
        self.head
            .write_all_at(&head.to_bytes(), 0)
            .doing(WRITING)
            .at(&self.head_path)
    }

    /// Sees to it that there is space for what is written next.
    pub(super) fn reserve(&mut self) -> Result<()> {
        let (size, _) = self.position()?;
        if self.reserved.is_some_and(|until| until >= size + RESERVE / 2) {
            return Ok(());
        }
        match fallocate(&self.file, FallocateFlags::KEEP_SIZE, size, RESERVE) {
            Ok(()) => self.reserved = Some(size + RESERVE),
            // Not every file system can: there a full disk is met by the line that does not fit any more.
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => self.reserved = Some(u64::MAX),
            Err(errno) => return Err(Error::os(errno, "making room for the audit log").at(&self.path)),
        }
        Ok(())
    }

    /// How much there is left for the log, while that is little; none where there is plenty, or nobody knows.
    pub(super) fn left(&self) -> Option<u64> {
        let (size, _) = self.position().ok()?;
        let system = rustix::fs::fstatvfs(&self.file).ok()?;
        let all = system.f_blocks.saturating_mul(system.f_frsize);
        let free = system.f_bavail.saturating_mul(system.f_frsize);
        let taken_ahead = match self.reserved {
            Some(until) if until != u64::MAX => until.saturating_sub(size),
            _ => 0,
        };
        let left = free.saturating_add(taken_ahead).saturating_sub(RESERVE / 2);
        (left < LITTLE.min(all / 8)).then_some(left)
    }

    /// Appends all of it or nothing.
    pub(super) fn append(&mut self, lines: &[u8]) -> Result<()> {
        let (size, _) = self.position()?;
        let written = self.file.write_all(lines);
        if written.is_err() {
            // A part of a line would be taken for a crash.
            let _ = ftruncate(&self.file, size);
            self.reserved = None;
        }
        written.doing(WRITING).at(&self.path)
    }

    /// Where the file ends, from its last lines; none when it is empty.
    pub(super) fn tail(&self) -> Result<Option<Tail>> {
        let (size, _) = self.position()?;
        let start = size.saturating_sub(TAIL);
        let mut bytes = vec![0; usize::try_from(size - start).unwrap_or_default()];
        self.file
            .read_exact_at(&mut bytes, start)
            .doing("reading the audit log")
            .at(&self.path)?;
        Ok(tail_of(&bytes))
    }
}

/// The last line, and its number: its own, or what it must have been.
fn tail_of(bytes: &[u8]) -> Option<Tail> {
    let torn = !bytes.ends_with(b"\n");
    let text = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    if bytes.is_empty() {
        return None;
    }
    let mut lines = text.rsplit(|byte| *byte == b'\n');
    let last = lines.clone().next().unwrap_or_default();
    let mut unreadable = 0;
    let seq = lines.find_map(|line| {
        let seq = Line::parse(line).map(|line| line.seq);
        unreadable += u64::from(seq.is_none());
        seq
    });
    Some(Tail {
        seq: seq.unwrap_or(0).saturating_add(unreadable),
        digest: digest(last),
        torn,
    })
}

fn leads_to(path: &Path, file: &File) -> bool {
    let id = |metadata: Metadata| (metadata.dev(), metadata.ino());
    match (std::fs::symlink_metadata(path), file.metadata()) {
        (Ok(there), Ok(open)) => id(there) == id(open),
        _ => false,
    }
}

/// Opens a file of the log's, or makes it, and looks whose it is.
///
/// # Errors
/// As [`LogFile::open`].
fn open(path: &Path, owner: Owner, appending: bool) -> Result<File> {
    let opened = open_or_make(path, owner, appending);
    let (file, metadata) = opened
        .doing("opening the audit log, which --audit-log names")
        .at(path)
        .map_err(|error| match error.kind() {
            Kind::NoSpace | Kind::QuotaExceeded | Kind::ReadOnly | Kind::Io => error,
            _ => error.as_kind(Kind::Config),
        })?;
    let shown = path.display();
    if !metadata.is_file() {
        return Err(Error::config(format!(
            "the audit log {shown} is not a regular file; correct --audit-log"
        )));
    }
    if metadata.uid() != owner.0 {
        return Err(Error::config(format!(
            "the audit log {shown} belongs to {}, and the server is {}: chown it, or name another with --audit-log",
            account::shown(metadata.uid()),
            account::shown(owner.0)
        )));
    }
    if metadata.mode() & 0o022 != 0 {
        return Err(Error::config(format!(
            "the audit log {shown}: others may write it; run: chmod 640 {}",
            quoted(path)
        )));
    }
    Ok(file)
}

/// Not through a symbolic link, and never something that keeps one waiting.
fn open_or_make(path: &Path, owner: Owner, appending: bool) -> std::io::Result<(File, Metadata)> {
    let mut options = File::options();
    options
        .read(true)
        .write(true)
        .append(appending)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY);
    let file = match options.open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            match options.clone().create_new(true).mode(0o600).open(path) {
                // Another process was faster.
                Err(error) if error.kind() == ErrorKind::AlreadyExists => options.open(path)?,
                made => {
                    let made = made?;
                    give(&made, owner)?;
                    made
                }
            }
        }
        opened => opened?,
    };
    let metadata = file.metadata()?;
    Ok((file, metadata))
}

fn give(file: &File, (uid, gid): Owner) -> std::io::Result<()> {
    if rustix::process::geteuid().is_root() {
        fchown(file, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
    }
    file.set_permissions(Permissions::from_mode(MODE))
}
