//! The permission bits that the mount shows.

use std::fs::File;

use crate::error::{Kind, Result};
use crate::volume;

/// What a user's permission bits are worth on a file system that cannot keep them: less than the file.
pub(super) fn optional(result: Result<()>) -> Result<()> {
    match result {
        Err(error) if error.kind() == Kind::Unsupported => Ok(()),
        result => result,
    }
}

/// Has the mount show `mode` for a file, where that can be kept.
///
/// # Errors
/// The volume's.
pub(super) fn show_mode(file: &File, mode: u16) -> Result<()> {
    optional(volume::set_shown_mode(file, mode))
}
