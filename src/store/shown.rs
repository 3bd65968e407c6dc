//! The permission bits that the mount shows.

use std::fs::File;

use super::attributes::Attributes;
use crate::error::{Kind, Result};
use crate::volume::{self, Dir, Numbered, Shown, Times};

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
    show(
        file,
        Shown {
            mode: Some(mode),
            number: None,
        },
    )
}

/// Has the mount show that of a new file, where that can be kept.
///
/// # Errors
/// The volume's.
pub(super) fn show(file: &File, shown: Shown) -> Result<()> {
    match shown == Shown::default() {
        true => Ok(()),
        false => optional(volume::set_shown(file, shown)),
    }
}

/// Changes the permission bits that the mount shows for an open file.
///
/// # Errors
/// [`Kind::Unsupported`] where the volume's file system has no user attributes; the volume's.
pub(super) fn change_mode(file: &File, mode: u16) -> Result<()> {
    let shown = Shown {
        mode: Some(mode),
        ..volume::shown(file)
    };
    volume::set_shown(file, shown)
}

/// As [`change_mode`], of what `name` leads to.
///
/// # Errors
/// As `change_mode`.
pub(super) fn change_mode_of(dir: &Dir, name: &str, mode: u16) -> Result<()> {
    let shown = Shown {
        mode: Some(mode),
        ..dir.shown(name)
    };
    dir.set_shown(name, shown)
}

/// Changes the times of a record. It keeps its number: its content is the same.
///
/// # Errors
/// The volume's.
pub(super) fn change_times_of(dir: &Dir, name: &str, times: Times, known: &Attributes) -> Result<()> {
    let (before, shown) = (dir.stat(name)?, dir.shown(name));
    dir.set_times(name, times)?;
    match before.id == known.id && before.version() == known.version {
        true => {
            let number = Some(Numbered::given_to(&dir.stat(name)?, known.number));
            optional(dir.set_shown(name, Shown { number, ..shown }))
        }
        false => Ok(()),
    }
}
