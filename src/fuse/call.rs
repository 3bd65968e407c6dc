//! A request of the kernel, as far as it matters to whoever lets it in.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt as _;

use fuser::{INodeNo, OpenFlags, RenameFlags, Request};

use crate::event::Op;
use crate::vfs::{Changes, Ino, Target};
use crate::volume::Times;

/// A request: who asks for what.
pub(super) struct Call<'a> {
    pub(super) op: Op,
    pub(super) target: Target<'a>,
    /// Where a rename leads.
    pub(super) to: Target<'a>,
    pub(super) how: How,
    pub(super) uid: u32,
    pub(super) pid: u32,
}

impl<'a> Call<'a> {
    pub(super) fn new(op: Op, request: &Request, target: Target<'a>) -> Self {
        Self {
            op,
            target,
            to: Target::Nothing,
            how: How::OnlyOne,
            uid: request.uid(),
            pid: request.pid(),
        }
    }

    pub(super) fn to(self, to: Target<'a>) -> Self {
        Self { to, ..self }
    }

    pub(super) fn how(self, how: How) -> Self {
        Self { how, ..self }
    }
}

/// In which way something is asked for, in words for whoever observes.
#[derive(Clone, Copy)]
pub(super) enum How {
    /// There is only one way, or it does not matter.
    OnlyOne,
    Open(OpenFlags),
    Change(Changes),
    Rename(RenameFlags),
    /// The mode of fallocate(2).
    Allocate(i32),
}

impl How {
    fn words(&self) -> Vec<Cow<'static, str>> {
        let mut words: Vec<Cow<'static, str>> = Vec::new();
        let mut say = |is: bool, word: &'static str| words.extend(is.then_some(Cow::Borrowed(word)));
        match self {
            Self::OnlyOne => {}
            Self::Open(OpenFlags(flags)) => {
                let access = flags & libc::O_ACCMODE;
                say(access != libc::O_WRONLY, "read");
                say(access != libc::O_RDONLY, "write");
                say(flags & libc::O_APPEND != 0, "append");
                say(flags & libc::O_TRUNC != 0, "truncate");
            }
            Self::Change(changes) => {
                say(changes.uid.is_some() || changes.gid.is_some(), "owner");
                say(changes.times != Times::default(), "times");
                words.extend(changes.mode.map(|mode| format!("mode {mode:o}").into()));
                words.extend(changes.size.map(|size| format!("size {size}").into()));
            }
            Self::Rename(flags) => {
                say(flags.contains(RenameFlags::RENAME_EXCHANGE), "exchange");
                say(flags.contains(RenameFlags::RENAME_NOREPLACE), "no replace");
            }
            Self::Allocate(mode) => {
                say(*mode == 0, "extend");
                say(mode & libc::FALLOC_FL_PUNCH_HOLE != 0, "punch hole");
                say(mode & libc::FALLOC_FL_ZERO_RANGE != 0, "zero range");
                say(mode & libc::FALLOC_FL_KEEP_SIZE != 0, "keep size");
            }
        }
        words
    }
}

impl fmt::Display for How {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words().join(" "))
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
