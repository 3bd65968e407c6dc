//! Between fuser's words and ours.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fuser::{FileAttr, FileType, FopenFlags, INodeNo, OpenFlags, RenameFlags, TimeOrNow};

use crate::clock::{self, Timestamp};
use crate::error::{Error, Kind, Result};
use crate::store::{Allocate, NodeKind, Seek};
use crate::vfs::{NodeInfo, OpenMode, Opened, OpenedDirectory};
use crate::volume::Rename;

/// What programs are told is a good size for reads and writes, in bytes.
const BLOCK_SIZE: u32 = 4096;

pub(super) fn attr(node: &NodeInfo, (uid, gid): (u32, u32)) -> FileAttr {
    let attributes = &node.attributes;
    FileAttr {
        ino: INodeNo(node.ino.0),
        size: attributes.size,
        blocks: attributes.blocks,
        atime: system_time(attributes.atime),
        mtime: system_time(attributes.mtime),
        ctime: system_time(attributes.ctime),
        crtime: UNIX_EPOCH,
        kind: match attributes.kind {
            NodeKind::Directory => FileType::Directory,
            NodeKind::Record | NodeKind::Attachment => FileType::RegularFile,
        },
        perm: attributes.mode,
        nlink: node.links,
        uid,
        gid,
        rdev: 0,
        blksize: BLOCK_SIZE,
        flags: 0,
    }
}

fn system_time(time: Timestamp) -> SystemTime {
    let after = Duration::from_secs(time.seconds.unsigned_abs());
    let second = match time.seconds >= 0 {
        true => UNIX_EPOCH.checked_add(after),
        false => UNIX_EPOCH.checked_sub(after),
    };
    second
        .and_then(|second| second.checked_add(Duration::from_nanos(u64::from(time.nanos))))
        .unwrap_or(UNIX_EPOCH)
}

pub(super) fn timestamp(time: TimeOrNow) -> Timestamp {
    let time = match time {
        TimeOrNow::Now => return clock::now(),
        TimeOrNow::SpecificTime(time) => time,
    };
    let seconds = |since: Duration| i64::try_from(since.as_secs()).unwrap_or(i64::MAX);
    match time.duration_since(UNIX_EPOCH) {
        Ok(since) => Timestamp {
            seconds: seconds(since),
            nanos: since.subsec_nanos(),
        },
        // fuser subtracts the nanoseconds of a time before the epoch that it should add; so they are as they were.
        Err(before) => Timestamp {
            seconds: -seconds(before.duration()),
            nanos: before.duration().subsec_nanos(),
        },
    }
}

pub(super) fn open_mode(flags: OpenFlags) -> OpenMode {
    OpenMode {
        write: flags.0 & libc::O_ACCMODE != libc::O_RDONLY,
        append: flags.0 & libc::O_APPEND != 0,
        truncate: flags.0 & libc::O_TRUNC != 0,
        exclusive: flags.0 & libc::O_EXCL != 0,
        // O_SYNC has the bit of O_DSYNC, too.
        synchronous: flags.0 & libc::O_DSYNC != 0,
    }
}

pub(super) fn open_flags(opened: &Opened) -> FopenFlags {
    let mut flags = FopenFlags::empty();
    flags.set(FopenFlags::FOPEN_KEEP_CACHE, opened.keep_cache);
    flags.set(FopenFlags::FOPEN_NOFLUSH, opened.no_flush);
    flags
}

pub(super) fn listing_flags(opened: &OpenedDirectory) -> FopenFlags {
    let mut flags = FopenFlags::empty();
    flags.set(FopenFlags::FOPEN_CACHE_DIR, opened.cache);
    flags.set(FopenFlags::FOPEN_KEEP_CACHE, opened.keep_cache);
    flags
}

pub(super) fn rename(flags: RenameFlags) -> Result<Rename> {
    if flags.is_empty() {
        Ok(Rename::Replace)
    } else if flags == RenameFlags::RENAME_NOREPLACE {
        Ok(Rename::NoReplace)
    } else if flags == RenameFlags::RENAME_EXCHANGE {
        Ok(Rename::Exchange)
    } else {
        Err(Error::new(Kind::InvalidArgument, "unknown flags of rename"))
    }
}

pub(super) fn allocate(mode: i32) -> Result<Allocate> {
    const PUNCH: i32 = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
    const ZERO_KEEP: i32 = libc::FALLOC_FL_ZERO_RANGE | libc::FALLOC_FL_KEEP_SIZE;
    match mode {
        0 => Ok(Allocate::Extend),
        libc::FALLOC_FL_KEEP_SIZE => Ok(Allocate::KeepSize),
        PUNCH => Ok(Allocate::PunchHole),
        libc::FALLOC_FL_ZERO_RANGE => Ok(Allocate::ZeroRange),
        ZERO_KEEP => Ok(Allocate::ZeroRangeKeepSize),
        _ => Err(Error::new(Kind::Unsupported, "unknown mode of fallocate")),
    }
}

/// How much is asked for.
pub(super) fn bytes(size: u32) -> usize {
    usize::try_from(size).unwrap_or(usize::MAX)
}

/// The kernel answers SEEK_SET, SEEK_CUR and SEEK_END itself.
pub(super) fn seek(whence: i32, offset: i64) -> Result<(Seek, u64)> {
    let offset = u64::try_from(offset).map_err(|_| Error::new(Kind::NoData, "a negative offset"))?;
    match whence {
        libc::SEEK_DATA => Ok((Seek::Data, offset)),
        libc::SEEK_HOLE => Ok((Seek::Hole, offset)),
        _ => Err(Error::new(Kind::InvalidArgument, "unknown whence of lseek")),
    }
}

/// Permission, set-id and sticky bits of a mode.
pub(super) fn permissions(mode: u32) -> u16 {
    u16::try_from(mode & 0o7777).unwrap_or(0)
}
