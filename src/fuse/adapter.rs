//! fuser's trait: each method asks the file system through the gate, and turns the result into a reply.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use fuser::{
    CopyFileRangeFlags, Errno, FileHandle, Filesystem, Generation, INodeNo, IoctlFlags, KernelConfig,
    LockOwner, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectoryPlus, ReplyEmpty,
    ReplyEntry, ReplyIoctl, ReplyLseek, ReplyOpen, ReplyStatfs, ReplyWrite, ReplyXattr, Request, TimeOrNow,
    WriteFlags,
};

use super::call::{Call, How, inode, named};
use super::convert;
use super::gate::Gate;
use super::handshake::negotiate;
use crate::error::Kind;
use crate::event::Op;
use crate::name::MAX_NAME;
use crate::vfs::{Changes, Fh, Ino, NodeInfo, ROOT, Target, Vfs};
use crate::volume::Times;

/// The most that is copied within the volume for one request, in bytes: each is answered in bounded time.
const MAX_COPY: u64 = 64 << 20;

/// In what units statfs counts, in bytes.
const STATFS_UNIT: u32 = 4096;

/// Inode numbers are not used again for another file while the kernel knows them.
const GENERATION: Generation = Generation(0);

pub(super) struct Adapter {
    gate: Arc<Gate>,
}

impl Adapter {
    pub(super) fn new(gate: Arc<Gate>) -> Self {
        Self { gate }
    }

    fn entry(&self, result: Result<NodeInfo, Errno>, reply: ReplyEntry) {
        match result {
            Ok(node) => reply.entry(&node.lifetime, &self.attr(&node), GENERATION),
            Err(errno) => reply.error(errno),
        }
    }

    fn attributes(&self, result: Result<NodeInfo, Errno>, reply: ReplyAttr) {
        match result {
            Ok(node) => reply.attr(&node.lifetime, &self.attr(&node)),
            Err(errno) => reply.error(errno),
        }
    }

    /// What could trick another reader of the volume is not made.
    fn plants(&self, op: Op, request: &Request, target: Target<'_>, reply: ReplyEntry) {
        let call = Call::new(op, request, target);
        let refused = self.gate.refuse(
            &call,
            Kind::NotPermitted,
            "there are no links, FIFOs, sockets or devices",
        );
        self.entry(refused, reply);
    }

    fn attr(&self, node: &NodeInfo) -> fuser::FileAttr {
        convert::attr(node, self.gate.vfs().owner())
    }
}

fn done(result: Result<(), Errno>, reply: ReplyEmpty) {
    match result {
        Ok(()) => reply.ok(),
        Err(errno) => reply.error(errno),
    }
}

impl Filesystem for Adapter {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> io::Result<()> {
        negotiate(config);
        Ok(())
    }

    fn lookup(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let call = Call::new(Op::Lookup, request, named(parent, name));
        let result = self.gate.user(&call, |vfs| {
            vfs.lookup(Ino(parent.0), name.as_bytes(), request.pid())
        });
        self.entry(result, reply);
    }

    fn forget(&self, request: &Request, ino: INodeNo, count: u64) {
        let call = Call::new(Op::Forget, request, inode(ino));
        // Nobody waits for an answer.
        let _ = self.gate.let_go(&call, |vfs, _| vfs.forget(Ino(ino.0), count));
    }

    fn getattr(&self, request: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        let call = Call::new(Op::Getattr, request, inode(ino));
        let result = self.gate.user(&call, |vfs| vfs.getattr(Ino(ino.0)));
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
        let call = Call::new(Op::Setattr, request, inode(ino)).how(How::Change(changes));
        let fh = fh.map(|fh| Fh(fh.0));
        let asker = request.pid();
        let result = self
            .gate
            .user(&call, |vfs| vfs.setattr(Ino(ino.0), fh, changes, asker));
        self.attributes(result, reply);
    }

    fn mknod(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        _: u32,
        _: u32,
        _: u32,
        reply: ReplyEntry,
    ) {
        self.plants(Op::Mknod, request, named(parent, name), reply);
    }

    fn symlink(&self, request: &Request, parent: INodeNo, name: &OsStr, _: &Path, reply: ReplyEntry) {
        self.plants(Op::Symlink, request, named(parent, name), reply);
    }

    fn link(&self, request: &Request, _: INodeNo, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        self.plants(Op::Link, request, named(parent, name), reply);
    }

    fn readlink(&self, _: &Request, _: INodeNo, reply: ReplyData) {
        reply.error(Errno::EINVAL);
    }

    fn mkdir(&self, request: &Request, parent: INodeNo, name: &OsStr, mode: u32, _: u32, reply: ReplyEntry) {
        let call = Call::new(Op::Mkdir, request, named(parent, name));
        let mode = convert::permissions(mode);
        let result = self.gate.user(&call, |vfs| {
            vfs.mkdir(Ino(parent.0), name.as_bytes(), mode, call.pid)
        });
        self.entry(result, reply);
    }

    fn unlink(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let call = Call::new(Op::Unlink, request, named(parent, name));
        let result = self
            .gate
            .user(&call, |vfs| vfs.unlink(Ino(parent.0), name.as_bytes(), call.pid));
        done(result, reply);
    }

    fn rmdir(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let call = Call::new(Op::Rmdir, request, named(parent, name));
        let result = self
            .gate
            .user(&call, |vfs| vfs.rmdir(Ino(parent.0), name.as_bytes(), call.pid));
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
        let call = Call::new(Op::Rename, request, named(parent, name))
            .to(named(new_parent, new_name))
            .how(How::Rename(flags));
        let from = (Ino(parent.0), name.as_bytes());
        let to = (Ino(new_parent.0), new_name.as_bytes());
        let result = self.gate.user(&call, |vfs| {
            vfs.rename(from, to, convert::rename(flags)?, call.pid)
        });
        done(result, reply);
    }

    fn open(&self, request: &Request, ino: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        let call = Call::new(Op::Open, request, inode(ino)).how(How::Open(flags));
        let mode = convert::open_mode(flags);
        let result = self
            .gate
            .user(&call, |vfs| vfs.open(Ino(ino.0), mode, request.pid()));
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
        let call = Call::new(Op::Create, request, named(parent, name)).how(How::Open(OpenFlags(flags)));
        let permissions = convert::permissions(mode);
        let mode = convert::open_mode(OpenFlags(flags));
        let result = self.gate.user(&call, |vfs| {
            vfs.create(Ino(parent.0), name.as_bytes(), permissions, mode, request.pid())
        });
        match result {
            Ok((node, opened)) => reply.created(
                &node.lifetime,
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
        request: &Request,
        ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let call = Call::new(Op::Read, request, inode(ino));
        match self
            .gate
            .content(&call, |vfs| vfs.read(Fh(fh.0), offset, convert::bytes(size)))
        {
            Ok(data) => reply.data(&data),
            Err(errno) => reply.error(errno),
        }
    }

    fn write(
        &self,
        request: &Request,
        ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        data: &[u8],
        flags: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let call = Call::new(Op::Write, request, inode(ino));
        let from_cache = flags.contains(WriteFlags::FUSE_WRITE_CACHE);
        let write = |vfs: &Vfs| vfs.write(Fh(fh.0), offset, data, from_cache);
        let written = match from_cache {
            true => self.gate.write_back(&call, write),
            false => self.gate.kernel(&call, write),
        };
        match written {
            Ok(()) => reply.written(u32::try_from(data.len()).unwrap_or(u32::MAX)),
            Err(errno) => reply.error(errno),
        }
    }

    fn flush(&self, request: &Request, ino: INodeNo, fh: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        let call = Call::new(Op::Flush, request, inode(ino));
        let closer = request.pid();
        done(self.gate.kernel(&call, |vfs| vfs.flush(Fh(fh.0), closer)), reply);
    }

    fn release(
        &self,
        request: &Request,
        ino: INodeNo,
        fh: FileHandle,
        _: OpenFlags,
        _: Option<LockOwner>,
        _: bool,
        reply: ReplyEmpty,
    ) {
        let call = Call::new(Op::Release, request, inode(ino));
        let released = |vfs: &Vfs, may_commit| match may_commit {
            true => vfs.release(Fh(fh.0)),
            false => vfs.release_without_commit(Fh(fh.0)),
        };
        done(self.gate.let_go(&call, released), reply);
    }

    fn fsync(&self, request: &Request, ino: INodeNo, fh: FileHandle, data_only: bool, reply: ReplyEmpty) {
        let call = Call::new(Op::Fsync, request, inode(ino));
        done(
            self.gate.kernel(&call, |vfs| vfs.fsync(Fh(fh.0), data_only)),
            reply,
        );
    }

    fn opendir(&self, request: &Request, ino: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        let call = Call::new(Op::Opendir, request, inode(ino));
        match self.gate.user(&call, |vfs| vfs.opendir(Ino(ino.0), call.pid)) {
            Ok(opened) => reply.opened(FileHandle(opened.fh.0), convert::listing_flags(&opened)),
            Err(errno) => reply.error(errno),
        }
    }

    fn readdirplus(
        &self,
        request: &Request,
        ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        mut reply: ReplyDirectoryPlus,
    ) {
        let call = Call::new(Op::Readdir, request, inode(ino));
        // A handle, but one that names things: it may have been passed to somebody else.
        let result = self.gate.user(&call, |vfs| {
            vfs.readdir(Fh(fh.0), offset, |listed| {
                let full = reply.add(
                    INodeNo(listed.node.ino.0),
                    listed.next_offset,
                    OsStr::new(listed.name.as_str()),
                    &listed.node.lifetime,
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

    fn releasedir(&self, request: &Request, ino: INodeNo, fh: FileHandle, _: OpenFlags, reply: ReplyEmpty) {
        let call = Call::new(Op::Releasedir, request, inode(ino));
        let released = |vfs: &Vfs, _| vfs.releasedir(Fh(fh.0));
        done(self.gate.let_go(&call, released), reply);
    }

    fn fsyncdir(&self, request: &Request, ino: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        let call = Call::new(Op::Fsyncdir, request, inode(ino));
        done(self.gate.kernel(&call, |vfs| vfs.fsyncdir(Ino(ino.0))), reply);
    }

    fn statfs(&self, request: &Request, _: INodeNo, reply: ReplyStatfs) {
        let call = Call::new(Op::Statfs, request, Target::Inode(ROOT));
        match self.gate.user(&call, |vfs| Ok(vfs.statfs())) {
            Ok(usage) => {
                let unit = u64::from(STATFS_UNIT);
                let free = usage.free / unit;
                let blocks = usage.used.div_ceil(unit).saturating_add(free);
                let name_len = u32::try_from(MAX_NAME).unwrap_or(u32::MAX);
                let files = usage.files.saturating_add(usage.free_files);
                reply.statfs(
                    blocks,
                    free,
                    free,
                    files,
                    usage.free_files,
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
        request: &Request,
        ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        let call = Call::new(Op::Fallocate, request, inode(ino)).how(How::Allocate(mode));
        let result = self.gate.kernel(&call, |vfs| {
            vfs.allocate(Fh(fh.0), convert::allocate(mode)?, offset, length)
        });
        done(result, reply);
    }

    fn lseek(
        &self,
        request: &Request,
        ino: INodeNo,
        fh: FileHandle,
        offset: i64,
        whence: i32,
        reply: ReplyLseek,
    ) {
        let call = Call::new(Op::Lseek, request, inode(ino));
        let result = self.gate.kernel(&call, |vfs| {
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
        request: &Request,
        _: INodeNo,
        from: FileHandle,
        from_offset: u64,
        into: INodeNo,
        to: FileHandle,
        to_offset: u64,
        len: u64,
        _: CopyFileRangeFlags,
        reply: ReplyWrite,
    ) {
        let call = Call::new(Op::CopyFileRange, request, inode(into));
        // The caller asks again for the rest.
        let len = usize::try_from(len.min(MAX_COPY)).unwrap_or(usize::MAX);
        let result = self.gate.kernel(&call, |vfs| {
            vfs.copy((Fh(from.0), from_offset), (Fh(to.0), to_offset), len)
        });
        match result {
            Ok(copied) => reply.written(u32::try_from(copied).unwrap_or(u32::MAX)),
            Err(errno) => reply.error(errno),
        }
    }
}
