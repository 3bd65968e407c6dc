//! Errors in fuser's words.

use fuser::Errno;

use crate::error::Kind;

/// What a program in the mount sees of an error.
pub(super) fn errno(kind: Kind) -> Errno {
    Errno::from_i32(kind.errno().number)
}
