//! What may be mounted on.

use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, RawDir, StatxAttributes, StatxFlags};
use rustix::io::Errno;

use crate::error::{Error, Kind, Result};

/// A directory that was checked, and the descriptor it was checked on: what is at its path later does not matter.
pub(super) struct Mountpoint {
    pub(super) directory: OwnedFd,
    /// What is not as it should be.
    pub(super) warnings: Vec<String>,
}

/// Checks the mountpoint at `path` and opens it.
///
/// # Errors
/// [`Kind::MountFailed`] when it is missing, a symbolic link, not a directory, not empty, or mounted on already.
pub(super) fn open(path: &Path) -> Result<Mountpoint> {
    let shown = path.display();
    let refuse = |why: String| Error::new(Kind::MountFailed, why);
    let cannot = |errno: Errno| match errno {
        Errno::NOENT => refuse(format!(
            "the mountpoint {shown} does not exist; create it: mkdir {shown}"
        )),
        Errno::ACCESS => refuse(format!(
            "the mountpoint {shown} cannot be reached or listed: the mounter has no right to enter other users' private \
             directories; use one below a directory that root may enter, such as /run/tenantfs/mnt"
        )),
        // What a FUSE mount says whose server is gone, and what it says to anybody but its user.
        Errno::NOTCONN => refuse(format!(
            "the mountpoint {shown} has a dead mount on it; run: umount -l {shown}"
        )),
        errno => refuse(format!("the mountpoint {shown} cannot be opened: {errno}")),
    };
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
    let named = rustix::fs::statx(CWD, path, flags, StatxFlags::BASIC_STATS).map_err(|errno| {
        match (errno, parent_is_reachable(path)) {
            (Errno::ACCESS, true) => refuse(already_mounted(path)),
            _ => cannot(errno),
        }
    })?;
    match FileType::from_raw_mode(u32::from(named.stx_mode)) {
        FileType::Directory => {}
        FileType::Symlink => {
            return Err(refuse(format!(
                "the mountpoint {shown} is a symbolic link; give the directory that it leads to"
            )));
        }
        _ => {
            return Err(refuse(format!(
                "the mountpoint {shown} is not a directory; create an empty one"
            )));
        }
    }
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = rustix::fs::open(path, flags, Mode::empty()).map_err(cannot)?;
    let opened =
        rustix::fs::statx(&directory, "", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS).map_err(cannot)?;
    if opened.stx_attributes.contains(StatxAttributes::MOUNT_ROOT) {
        return Err(refuse(already_mounted(path)));
    }
    if !is_empty(&directory).map_err(cannot)? {
        return Err(refuse(format!(
            "the mountpoint {shown} is not empty; its files would be out of reach: use an empty directory"
        )));
    }
    let mut warnings = Vec::new();
    if opened.stx_uid != 0 {
        warnings.push(format!(
            "the mountpoint {shown} does not belong to root: when nothing is mounted, its owner may put files there"
        ));
    }
    Ok(Mountpoint { directory, warnings })
}

fn already_mounted(path: &Path) -> String {
    let shown = path.display();
    format!("something is mounted on {shown} already; unmount it, or use another directory")
}

/// A FUSE mount lets nobody but its user in, not even to ask what it is.
fn parent_is_reachable(path: &Path) -> bool {
    path.parent()
        .is_some_and(|parent| rustix::fs::access(parent, rustix::fs::Access::EXEC_OK).is_ok())
}

fn is_empty(directory: &OwnedFd) -> rustix::io::Result<bool> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let readable = rustix::fs::openat(directory, ".", flags, Mode::empty())?;
    let mut buffer = [MaybeUninit::uninit(); 4096];
    let mut entries = RawDir::new(readable, &mut buffer);
    while let Some(entry) = entries.next() {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            return Ok(false);
        }
    }
    Ok(true)
}
