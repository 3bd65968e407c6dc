//! A request of the kernel, as far as it matters to whoever lets it in.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;

use fuser::{INodeNo, Request};

use crate::event::Op;
use crate::vfs::{Ino, Target};

/// A request: who asks for what.
pub(super) struct Call<'a> {
    pub(super) op: Op,
    pub(super) target: Target<'a>,
    /// Where a rename leads.
    pub(super) to: Target<'a>,
    pub(super) uid: u32,
    pub(super) pid: u32,
}

impl<'a> Call<'a> {
    pub(super) fn new(op: Op, request: &Request, target: Target<'a>) -> Self {
        Self {
            op,
            target,
            to: Target::Nothing,
            uid: request.uid(),
            pid: request.pid(),
        }
    }

    pub(super) fn to(self, to: Target<'a>) -> Self {
        Self { to, ..self }
    }
}

/// An entry of a directory.
pub(super) fn named(parent: INodeNo, name: &OsStr) -> Target<'_> {
    Target::Entry(Ino(parent.0), name.as_bytes())
}

/// A file or directory.
pub(super) fn inode(ino: INodeNo) -> Target<'static> {
    Target::Inode(Ino(ino.0))
}
