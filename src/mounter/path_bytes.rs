//! Paths in messages, as the bytes that they are: they need not be UTF-8. For `#[serde(with = "path_bytes")]`.
//!
//! A path that comes with a message is an absolute one that the kernel would take, and can be shown in a log: no control
//! characters.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The longest path that the kernel takes, in bytes, with the NUL at its end (PATH_MAX).
const MAX_PATH: usize = 4096;

pub(super) fn serialize<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    path.as_os_str().as_bytes().serialize(serializer)
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PathBuf, D::Error> {
    let bytes = Vec::<u8>::deserialize(deserializer)?;
    let path = PathBuf::from(OsString::from_vec(bytes));
    match why_not(&path) {
        None => Ok(path),
        Some(why) => Err(D::Error::custom(why)),
    }
}

/// Why a path cannot be in a message, if it cannot.
pub(super) fn why_not(path: &Path) -> Option<&'static str> {
    if path.as_os_str().len() >= MAX_PATH {
        return Some("the mountpoint's path is longer than 4095 bytes; use a shorter one");
    }
    if path.to_string_lossy().contains(char::is_control) {
        return Some("the mountpoint's path has control characters; use another one");
    }
    (!path.is_absolute()).then_some("the mountpoint's path is not absolute")
}
