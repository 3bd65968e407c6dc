//! fuser's trait: each method asks the file system through the gate, and turns the result into a reply.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use fuser::{
    CopyFileRangeFlags, Errno, FileHandle, Filesystem, Generation, INodeNo, InitFlags, IoctlFlags,
    KernelConfig, LockOwner, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectoryPlus,
    ReplyEmpty, ReplyEntry, ReplyIoctl, ReplyLseek, ReplyOpen, ReplyStatfs, ReplyWrite, ReplyXattr, Request,
    TimeOrNow, WriteFlags,
};

use super::convert;
use super::gate::Gate;
use crate::name::MAX_NAME;
use crate::vfs::{CACHE_LIFETIME, Changes, Fh, Ino, Node, Vfs};
use crate::volume::Times;

/// The largest read and write, in bytes.
const MAX_TRANSFER: u32 = 1 << 20;

/// In what units statfs counts, in bytes.
const STATFS_UNIT: u32 = 4096;

/// Inode numbers are not used again for another file while the kernel knows them.
const GENERATION: Generation = Generation(0);

/// What is asked of the kernel, where it can do it.
const CAPABILITIES: [InitFlags; 6] = [
    // Truncation comes with the open that asks for it.
    InitFlags::FUSE_ATOMIC_O_TRUNC,
    // Lookups in one directory at the same time.
    InitFlags::FUSE_PARALLEL_DIROPS,
    // Pages go when size or modification time change on the volume.
    InitFlags::FUSE_AUTO_INVAL_DATA,
    // Listing and looking up in one go, always.
    InitFlags::FUSE_DO_READDIRPLUS,
    InitFlags::FUSE_ASYNC_READ,
    InitFlags::FUSE_BIG_WRITES,
];

pub(super) struct Adapter {
    gate: Arc<Gate>,
}

impl Adapter {
    pub(super) fn new(gate: Arc<Gate>) -> Self {
        Self { gate }
    }

    fn entry(&self, result: Result<Node, Errno>, reply: ReplyEntry) {
        match result {
            Ok(node) => reply.entry(&CACHE_LIFETIME, &self.attr(&node), GENERATION),
            Err(errno) => reply.error(errno),
        }
    }

    fn attributes(&self, result: Result<Node, Errno>, reply: ReplyAttr) {
        match result {
            Ok(node) => reply.attr(&CACHE_LIFETIME, &self.attr(&node)),
            Err(errno) => reply.error(errno),
        }
    }

    fn attr(&self, node: &Node) -> fuser::FileAttr {
        convert::attr(node, self.gate.vfs().owner())
    }
}

fn done(result: Result<(), Errno>, reply: ReplyEmpty) {
    match result {
        Ok(()) => reply.ok(),
        Err(errno) => reply.error(errno),
    }
}

fn bytes(size: u32) -> usize {
    usize::try_from(size).unwrap_or(usize::MAX)
}

impl Filesystem for Adapter {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> io::Result<()> {
        for capability in CAPABILITIES {
            if config.add_capabilities(capability).is_err() {
                log::info!("this kernel's FUSE lacks {capability:?}");
            }
        }
        let _ = config.set_max_write(MAX_TRANSFER);
        if let Err(most) = config.set_max_readahead(MAX_TRANSFER) {
            let _ = config.set_max_readahead(most);
        }
        Ok(())
    }

    fn lookup(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let result = self.gate.user("lookup", request, |vfs| {
            vfs.lookup(Ino(parent.0), name.as_bytes())
        });
        self.entry(result, reply);
    }

    fn forget(&self, _: &Request, ino: INodeNo, count: u64) {
        // Nobody waits for an answer.
        let _ = self.gate.let_go("forget", |vfs, _| vfs.forget(Ino(ino.0), count));
    }

    fn getattr(&self, request: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        let result = self.gate.user("getattr", request, |vfs| vfs.getattr(Ino(ino.0)));
        self.attributes(result, reply);
    }

    fn setattr(
        &self,
        request: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        _: Option<SystemTime>,
        fh: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<fuser::BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let changes = Changes {
            mode: mode.map(convert::permissions),
            uid,
            gid,
            size,
            times: Times {
                atime: atime.map(convert::timestamp),
                mtime: mtime.map(convert::timestamp),
            },
        };
        let fh = fh.map(|fh| Fh(fh.0));
        let result = self
            .gate
            .user("setattr", request, |vfs| vfs.setattr(Ino(ino.0), fh, changes));
        self.attributes(result, reply);
    }

    fn mknod(&self, _: &Request, _: INodeNo, _: &OsStr, _: u32, _: u32, _: u32, reply: ReplyEntry) {
        reply.error(Errno::EPERM);
    }

    fn symlink(&self, _: &Request, _: INodeNo, _: &OsStr, _: &Path, reply: ReplyEntry) {
        reply.error(Errno::EPERM);
    }

    fn link(&self, _: &Request, _: INodeNo, _: INodeNo, _: &OsStr, reply: ReplyEntry) {
        reply.error(Errno::EPERM);
    }

    fn readlink(&self, _: &Request, _: INodeNo, reply: ReplyData) {
        reply.error(Errno::EINVAL);
    }

    fn mkdir(&self, request: &Request, parent: INodeNo, name: &OsStr, mode: u32, _: u32, reply: ReplyEntry) {
        let mode = convert::permissions(mode);
        let result = self.gate.user("mkdir", request, |vfs| {
            vfs.mkdir(Ino(parent.0), name.as_bytes(), mode)
        });
        self.entry(result, reply);
    }

    fn unlink(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let result = self.gate.user("unlink", request, |vfs| {
            vfs.unlink(Ino(parent.0), name.as_bytes())
        });
        done(result, reply);
    }

    fn rmdir(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let result = self
            .gate
            .user("rmdir", request, |vfs| vfs.rmdir(Ino(parent.0), name.as_bytes()));
        done(result, reply);
    }

    fn rename(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let from = (Ino(parent.0), name.as_bytes());
        let to = (Ino(new_parent.0), new_name.as_bytes());
        let result = self.gate.user("rename", request, |vfs| {
            vfs.rename(from, to, convert::rename(flags)?)
        });
        done(result, reply);
    }

    fn open(&self, request: &Request, ino: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        let mode = convert::open_mode(flags);
        let result = self
            .gate
            .user("open", request, |vfs| vfs.open(Ino(ino.0), mode, request.pid()));
        match result {
            Ok(opened) => reply.opened(FileHandle(opened.fh.0), convert::open_flags(&opened)),
            Err(errno) => reply.error(errno),
        }
    }

    fn create(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _: u32,
        flags: i32,
        reply: ReplyCreate,
    ) {
        let permissions = convert::permissions(mode);
        let mode = convert::open_mode(OpenFlags(flags));
        let result = self.gate.user("create", request, |vfs| {
            vfs.create(Ino(parent.0), name.as_bytes(), permissions, mode, request.pid())
        });
        match result {
            Ok((node, opened)) => reply.created(
                &CACHE_LIFETIME,
                &self.attr(&node),
                GENERATION,
                FileHandle(opened.fh.0),
                convert::open_flags(&opened),
            ),
            Err(errno) => reply.error(errno),
        }
    }

    fn read(
        &self,
        _: &Request,
        _: INodeNo,
        fh: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        match self
            .gate
            .content("read", |vfs| vfs.read(Fh(fh.0), offset, bytes(size)))
        {
            Ok(data) => reply.data(&data),
            Err(errno) => reply.error(errno),
        }
    }

    fn write(
        &self,
        _: &Request,
        _: INodeNo,
        fh: FileHandle,
        offset: u64,
        data: &[u8],
        flags: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let from_cache = flags.contains(WriteFlags::FUSE_WRITE_CACHE);
        match self
            .gate
            .kernel("write", |vfs| vfs.write(Fh(fh.0), offset, data, from_cache))
        {
            Ok(()) => reply.written(u32::try_from(data.len()).unwrap_or(u32::MAX)),
            Err(errno) => reply.error(errno),
        }
    }

    fn flush(&self, request: &Request, _: INodeNo, fh: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        let closer = request.pid();
        done(
            self.gate.kernel("flush", |vfs| vfs.flush(Fh(fh.0), closer)),
            reply,
        );
    }

    fn release(
        &self,
        _: &Request,
        _: INodeNo,
        fh: FileHandle,
        _: OpenFlags,
        _: Option<LockOwner>,
        _: bool,
        reply: ReplyEmpty,
    ) {
        let released = |vfs: &Vfs, may_commit| match may_commit {
            true => vfs.release(Fh(fh.0)),
            false => vfs.release_without_commit(Fh(fh.0)),
        };
        done(self.gate.let_go("release", released), reply);
    }

    fn fsync(&self, _: &Request, _: INodeNo, fh: FileHandle, data_only: bool, reply: ReplyEmpty) {
        done(
            self.gate.kernel("fsync", |vfs| vfs.fsync(Fh(fh.0), data_only)),
            reply,
        );
    }

    fn opendir(&self, request: &Request, ino: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        match self.gate.user("opendir", request, |vfs| vfs.opendir(Ino(ino.0))) {
            Ok(fh) => reply.opened(FileHandle(fh.0), fuser::FopenFlags::empty()),
            Err(errno) => reply.error(errno),
        }
    }

    fn readdirplus(
        &self,
        _: &Request,
        _: INodeNo,
        fh: FileHandle,
        offset: u64,
        mut reply: ReplyDirectoryPlus,
    ) {
        let result = self.gate.kernel("readdir", |vfs| {
            vfs.readdir(Fh(fh.0), offset, |listed| {
                let full = reply.add(
                    INodeNo(listed.node.ino.0),
                    listed.next_offset,
                    OsStr::new(listed.name.as_str()),
                    &CACHE_LIFETIME,
                    &self.attr(&listed.node),
                    GENERATION,
                );
                !full
            })
        });
        match result {
            Ok(()) => reply.ok(),
            Err(errno) => reply.error(errno),
        }
    }

    fn releasedir(&self, _: &Request, _: INodeNo, fh: FileHandle, _: OpenFlags, reply: ReplyEmpty) {
        let released = |vfs: &Vfs, _| vfs.releasedir(Fh(fh.0));
        done(self.gate.let_go("releasedir", released), reply);
    }

    fn fsyncdir(&self, _: &Request, ino: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        done(
            self.gate.kernel("fsyncdir", |vfs| vfs.fsyncdir(Ino(ino.0))),
            reply,
        );
    }

    fn statfs(&self, request: &Request, _: INodeNo, reply: ReplyStatfs) {
        match self.gate.user("statfs", request, |vfs| vfs.statfs()) {
            Ok(usage) => {
                let unit = u64::from(STATFS_UNIT);
                let free = usage.free / unit;
                let blocks = usage.used.div_ceil(unit).saturating_add(free);
                let name_len = u32::try_from(MAX_NAME).unwrap_or(u32::MAX);
                let files = usage.files.saturating_add(free);
                reply.statfs(
                    blocks,
                    free,
                    free,
                    files,
                    free,
                    STATFS_UNIT,
                    name_len,
                    STATFS_UNIT,
                );
            }
            Err(errno) => reply.error(errno),
        }
    }

    // The kernel asks once, remembers that there are none, and says EOPNOTSUPP from then on.
    fn getxattr(&self, _: &Request, _: INodeNo, _: &OsStr, _: u32, reply: ReplyXattr) {
        reply.error(Errno::ENOSYS);
    }

    fn listxattr(&self, _: &Request, _: INodeNo, _: u32, reply: ReplyXattr) {
        reply.error(Errno::ENOSYS);
    }

    fn setxattr(&self, _: &Request, _: INodeNo, _: &OsStr, _: &[u8], _: i32, _: u32, reply: ReplyEmpty) {
        reply.error(Errno::ENOSYS);
    }

    fn removexattr(&self, _: &Request, _: INodeNo, _: &OsStr, reply: ReplyEmpty) {
        reply.error(Errno::ENOSYS);
    }

    fn ioctl(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        _: IoctlFlags,
        _: u32,
        _: &[u8],
        _: u32,
        reply: ReplyIoctl,
    ) {
        reply.error(Errno::ENOTTY);
    }

    fn fallocate(
        &self,
        _: &Request,
        _: INodeNo,
        fh: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        let result = self.gate.kernel("fallocate", |vfs| {
            vfs.allocate(Fh(fh.0), convert::allocate(mode)?, offset, length)
        });
        done(result, reply);
    }

    fn lseek(&self, _: &Request, _: INodeNo, fh: FileHandle, offset: i64, whence: i32, reply: ReplyLseek) {
        let result = self.gate.kernel("lseek", |vfs| {
            let (what, offset) = convert::seek(whence, offset)?;
            vfs.seek(Fh(fh.0), what, offset)
        });
        match result {
            Ok(offset) => reply.offset(i64::try_from(offset).unwrap_or(i64::MAX)),
            Err(errno) => reply.error(errno),
        }
    }

    fn copy_file_range(
        &self,
        _: &Request,
        _: INodeNo,
        from: FileHandle,
        from_offset: u64,
        _: INodeNo,
        to: FileHandle,
        to_offset: u64,
        len: u64,
        _: CopyFileRangeFlags,
        reply: ReplyWrite,
    ) {
        // The reply counts in 32 bits; the caller asks again for the rest.
        let len = bytes(u32::try_from(len).unwrap_or(u32::MAX));
        let result = self.gate.kernel("copy_file_range", |vfs| {
            vfs.copy((Fh(from.0), from_offset), (Fh(to.0), to_offset), len)
        });
        match result {
            Ok(copied) => reply.written(u32::try_from(copied).unwrap_or(u32::MAX)),
            Err(errno) => reply.error(errno),
        }
    }
}
