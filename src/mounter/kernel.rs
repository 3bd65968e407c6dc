//! The system calls that mount and unmount.

use std::io::Read;
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, UnmountFlags, fsconfig_create,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, move_mount,
};

use super::protocol::MountRequest;
use crate::error::{Doing, Error, Kind, Result};

/// A mount that was made.
pub(super) struct Mounted {
    pub(super) mount: OwnedFd,
    /// Dropped once it is sent: the server's end of the connection must be the only one, so that it ends with it.
    pub(super) connection: OwnedFd,
}

/// Mounts on an open directory.
///
/// # Errors
/// [`Kind::MountFailed`] with what the kernel refuses, and what to do.
pub(super) fn mount(request: &MountRequest, directory: &OwnedFd) -> Result<Mounted> {
    // Before the device, whose mode is not what is wrong when it is the privilege that is missing.
    let context = fsopen("fuse", FsOpenFlags::FSOPEN_CLOEXEC).map_err(unprivileged)?;
    let flags = OFlags::RDWR | OFlags::CLOEXEC;
    let connection = rustix::fs::open("/dev/fuse", flags, Mode::empty()).map_err(|errno| {
        Error::mount_failed(match errno {
            Errno::NOENT | Errno::NODEV | Errno::NXIO => {
                "there is no /dev/fuse; load the module (modprobe fuse), or pass the device to the container"
                    .into()
            }
            errno => format!("/dev/fuse cannot be opened: {errno}; correct its mode"),
        })
    })?;
    configure(&context, &connection, request).map_err(|errno| {
        Error::mount_failed(format!("the kernel refuses the mount: {errno}{}", said(&context)))
    })?;
    let mount =
        fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes(request)).map_err(unprivileged)?;
    move_mount(
        &mount,
        "",
        directory,
        "",
        MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH,
    )
    .doing(format!("mounting on {}", request.mountpoint.display()))
    .map_err(|error| error.as_kind(Kind::MountFailed))?;
    Ok(Mounted { mount, connection })
}

/// No allow_other: the kernel lets nobody in but the user, root neither.
fn configure(context: &OwnedFd, connection: &OwnedFd, request: &MountRequest) -> rustix::io::Result<()> {
    fsconfig_set_string(context, "source", "tenantfs")?;
    fsconfig_set_string(context, "subtype", "tenantfs")?;
    fsconfig_set_string(context, "fd", connection.as_raw_fd().to_string())?;
    fsconfig_set_string(context, "rootmode", "40000")?;
    fsconfig_set_string(context, "user_id", request.viewer.uid().to_string())?;
    fsconfig_set_string(context, "group_id", request.viewer.gid().to_string())?;
    fsconfig_set_flag(context, "default_permissions")?;
    fsconfig_create(context)
}

fn attributes(request: &MountRequest) -> MountAttrFlags {
    let mut attributes = MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOATIME
        | MountAttrFlags::MOUNT_ATTR_NOSYMFOLLOW;
    attributes.set(MountAttrFlags::MOUNT_ATTR_NOEXEC, !request.exec);
    attributes.set(MountAttrFlags::MOUNT_ATTR_RDONLY, request.read_only);
    attributes
}

/// Aborts the connection and detaches the mount, also when it is in use: the one that an open descriptor leads to, or that
/// is mounted on the directory that it leads to.
///
/// # Errors
/// Those of umount2.
pub(super) fn unmount(open: &OwnedFd) -> Result<()> {
    let path = format!("/proc/self/fd/{}", open.as_raw_fd());
    // From the directory beneath, the kernel goes up to what is mounted on it.
    rustix::mount::unmount(path, UnmountFlags::FORCE | UnmountFlags::DETACH).doing("unmounting")
}

/// What the kernel has to say of a file system context: lines such as `e fuse: Unknown parameter`.
fn said(context: &OwnedFd) -> String {
    let mut text = String::new();
    let mut line = [0; 256];
    let Ok(file) = context.try_clone() else {
        return text;
    };
    let mut file = std::fs::File::from(file);
    while let Ok(length @ 1..) = file.read(&mut line) {
        text.push_str("; ");
        text.push_str(String::from_utf8_lossy(line.get(..length).unwrap_or_default()).trim());
    }
    text
}

fn unprivileged(errno: Errno) -> Error {
    Error::mount_failed(match errno {
        Errno::PERM => "mounting needs CAP_SYS_ADMIN: run tenantfs as root, for example with sudo".into(),
        Errno::NODEV => "the kernel has no FUSE; load the module: modprobe fuse".into(),
        errno => format!("the kernel refuses the mount: {errno}"),
    })
}
