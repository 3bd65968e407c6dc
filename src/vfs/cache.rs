//! What the kernel keeps of what it was told.

use std::time::Duration;

use super::ids::Ino;
use crate::name::EntryName;

/// How long the kernel may believe what it was told, when nobody tells it of changes: changes on the volume show up within
/// a second.
pub(super) const CACHE_LIFETIME: Duration = Duration::from_millis(700);

/// The kernel's cache of file content, as far as it is driven from here.
pub trait PageCache: Send + Sync {
    /// Puts a file's whole content there, and returns whether it is there now. Only called for a file of that size that
    /// nobody has had open.
    fn fill(&self, ino: Ino, content: &[u8]) -> bool;

    /// Drops a file's content and attributes, soon: never waits.
    fn drop_soon(&self, ino: Ino);

    /// Drops a file's attributes, now: never waits.
    fn drop_attributes(&self, ino: Ino);

    /// Has [`Vfs::notice_changes`](super::Vfs::notice_changes) called, soon: never waits.
    fn notice_soon(&self);

    /// Drops a name: waits for operations under way in its directory.
    fn drop_name(&self, parent: Ino, name: &EntryName);

    /// Drops a directory's attributes, and what it lists.
    fn drop_listing(&self, ino: Ino);
}
