//! The numbers by which the kernel asks.

/// An inode number.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Ino(pub u64);

/// The root directory, which has the resources.
pub const ROOT: Ino = Ino(1);

/// The handle of an open file or directory, of this session only.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Fh(pub u64);
