//! What the mount says of a node.

use crate::clock::Timestamp;
use crate::volume::{FileId, FileType, Stat, Version};

/// What a visible name leads to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NodeKind {
    /// A directory.
    Directory,
    /// A record: its content is a view.
    Record,
    /// Any other regular file: its content is the volume's.
    Attachment,
}

/// The attributes of a visible node.
#[derive(Clone, Copy, Debug)]
pub struct Attributes {
    /// The identity of the backing file.
    pub id: FileId,
    /// The inode number to show, unless another file that is known has it.
    pub number: u32,
    /// How many names the backing file has; what the mount shows of a directory's, [`Folder::links`](super::Folder::links) says.
    pub names: u32,
    /// What it is.
    pub kind: NodeKind,
    /// Bytes as shown: a record's view, a draft's text.
    pub size: u64,
    /// Space as shown, in units of 512 bytes.
    pub blocks: u64,
    /// Permission bits as shown, and the sticky bit.
    pub mode: u16,
    /// Last access.
    pub atime: Timestamp,
    /// Last change of the content.
    pub mtime: Timestamp,
    /// Last change of the inode.
    pub ctime: Timestamp,
    /// The version of the backing file.
    pub version: Version,
    /// A record whose kept draft is what is shown.
    pub kept_draft: bool,
}

impl Attributes {
    /// Attributes of a node whose bytes are the volume's; `mode` are the permission bits its user gave it, if any.
    pub(super) fn of(stat: &Stat, kind: NodeKind, mode: Option<u16>, number: u32) -> Self {
        debug_assert_ne!(stat.file_type, FileType::Special);
        let (size, blocks) = match kind {
            // A directory is as large as all names in it need, the hidden ones included.
            NodeKind::Directory => (0, 0),
            NodeKind::Record | NodeKind::Attachment => (stat.size, stat.blocks),
        };
        Self {
            id: stat.id,
            number,
            names: stat.nlink,
            kind,
            size,
            blocks,
            mode: mode.unwrap_or(stat.mode & 0o777),
            atime: stat.atime,
            mtime: stat.mtime,
            ctime: stat.ctime,
            version: stat.version(),
            kept_draft: false,
        }
    }

    /// The same node with `size` bytes of view: the volume's size would tell the length of what is hidden.
    pub(super) fn with_view(self, size: u64) -> Self {
        Self {
            size,
            blocks: size.div_ceil(512),
            ..self
        }
    }
}
