//! The mounter itself.

use std::collections::HashMap;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, UnmountFlags, fsconfig_create,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, move_mount, unmount,
};
use rustix::process::DumpableBehavior;
use rustix::thread::{CapabilitySet, CapabilitySets};

use super::MountRequest;
use super::mount_entry::{self, MountEntry};
use super::mountpoint;
use super::wire::{self, Reply, Request};
use crate::error::{Error, Kind, Result};

/// Serves requests from the socket on standard input until the other side closes it; then ends every mount it made.
///
/// Gives up every capability but CAP_SYS_ADMIN first. Without that one each mount is refused with a message that says so.
///
/// # Errors
/// [`Kind::MountFailed`] when standard input is no such socket, or privileges cannot be given up.
pub fn serve() -> Result<()> {
    let socket = std::io::stdin();
    confine().map_err(|errno| Error::os(errno, "the mounter giving up privileges"))?;
    let mut mounts = Mounts::default();
    loop {
        match wire::receive(socket.as_fd()) {
            Ok(Some((request, _))) => mounts.answer(socket.as_fd(), request)?,
            Ok(None) => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

/// A session of its own, so that what a terminal sends to the server does not end the mounts before it has; nothing to
/// gain from reading its memory or from programs it might start; and one capability.
fn confine() -> rustix::io::Result<()> {
    // Fails for a leader of a process group, which has no terminal's signals to fear.
    let _ = rustix::process::setsid();
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    rustix::thread::set_no_new_privs(true)?;
    rustix::thread::clear_ambient_capability_set()?;
    let held = rustix::thread::capabilities(None)?.permitted;
    if held.contains(CapabilitySet::SETGID) {
        rustix::thread::set_thread_groups(&[])?;
    }
    if held.contains(CapabilitySet::SETPCAP) {
        for capability in CapabilitySet::all().difference(CapabilitySet::SYS_ADMIN).iter() {
            match rustix::thread::remove_capability_from_bounding_set(capability) {
                // A capability that this kernel does not know.
                Ok(()) | Err(Errno::INVAL) => {}
                Err(errno) => return Err(errno),
            }
        }
    }
    let kept = held.intersection(CapabilitySet::SYS_ADMIN);
    rustix::thread::set_capabilities(
        None,
        CapabilitySets {
            effective: kept,
            permitted: kept,
            inheritable: CapabilitySet::empty(),
        },
    )
}

/// The mounts made, by number. Dropped, they end.
#[derive(Default)]
struct Mounts {
    made: HashMap<u64, Made>,
    last: u64,
}

impl Mounts {
    fn answer(&mut self, socket: BorrowedFd<'_>, request: Request) -> Result<()> {
        match request {
            Request::Mount(request) => match mount(&request) {
                Ok(mounted) => {
                    self.last += 1;
                    let number = self.last;
                    self.made.insert(number, mounted.made);
                    let warnings = mounted.warnings;
                    wire::send(
                        socket,
                        &Reply::Mounted { number, warnings },
                        Some(mounted.connection.as_fd()),
                    )
                }
                Err(error) => wire::send(socket, &Reply::Failed(error.to_string()), None),
            },
            Request::Unmount(number) => {
                let ended = self.made.remove(&number).map_or(Ok(()), |made| end(&made));
                let reply = match ended {
                    Ok(()) => Reply::Unmounted,
                    Err(error) => Reply::Failed(error.to_string()),
                };
                wire::send(socket, &reply, None)
            }
        }
    }
}

impl Drop for Mounts {
    fn drop(&mut self) {
        for made in self.made.values() {
            if let Err(error) = end(made) {
                log::error!("{error}");
            }
        }
    }
}

/// A mount, by what identifies it. Not by a descriptor of it: that would keep it busy, and nobody else could unmount it.
struct Made {
    /// The directory beneath it.
    directory: OwnedFd,
    entry: MountEntry,
}

struct Mounted {
    made: Made,
    /// Dropped once it is sent: the server's end of the connection must be the only one, so that it ends with it.
    connection: OwnedFd,
    warnings: Vec<String>,
}

fn mount(request: &MountRequest) -> Result<Mounted> {
    let mountpoint = mountpoint::open(&request.mountpoint)?;
    // Before the device, whose mode is not what is wrong when it is the privilege that is missing.
    let context = fsopen("fuse", FsOpenFlags::FSOPEN_CLOEXEC).map_err(unprivileged)?;
    let flags = OFlags::RDWR | OFlags::CLOEXEC;
    let connection = rustix::fs::open("/dev/fuse", flags, Mode::empty()).map_err(|errno| {
        failed(match errno {
            Errno::NOENT | Errno::NODEV | Errno::NXIO => {
                "there is no /dev/fuse; load the module (modprobe fuse), or pass the device to the container"
                    .into()
            }
            errno => format!("/dev/fuse cannot be opened: {errno}; correct its mode"),
        })
    })?;
    configure(&context, &connection, request)
        .map_err(|errno| failed(format!("the kernel refuses the mount: {errno}{}", said(&context))))?;
    let mount =
        fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes(request)).map_err(unprivileged)?;
    move_mount(
        &mount,
        "",
        &mountpoint.directory,
        "",
        MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH,
    )
    .map_err(|errno| failed(format!("mounting on {}: {errno}", request.mountpoint.display())))?;
    let entry = MountEntry::of(&mount)?;
    Ok(Mounted {
        made: Made {
            directory: mountpoint.directory,
            entry,
        },
        connection,
        warnings: mountpoint.warnings,
    })
}

/// No allow_other: the kernel lets nobody in but the user, root neither.
fn configure(context: &OwnedFd, connection: &OwnedFd, request: &MountRequest) -> rustix::io::Result<()> {
    fsconfig_set_string(context, "source", "tenantfs")?;
    fsconfig_set_string(context, "subtype", "tenantfs")?;
    fsconfig_set_string(context, "fd", connection.as_raw_fd().to_string())?;
    fsconfig_set_string(context, "rootmode", "40000")?;
    fsconfig_set_string(context, "user_id", request.uid.to_string())?;
    fsconfig_set_string(context, "group_id", request.gid.to_string())?;
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

/// Aborts the connection and detaches the mount, also when it is in use. Unless somebody was first; and unless something
/// else is mounted over it, for that is what the kernel would unmount.
fn end(made: &Made) -> Result<()> {
    match made.entry.state()? {
        mount_entry::State::Gone => return Ok(()),
        mount_entry::State::Covered => {
            let shown = made.entry.mountpoint();
            return Err(failed(format!(
                "something else is mounted over {shown}; unmount that, and then run: umount -l {shown}"
            )));
        }
        mount_entry::State::OnTop => {}
    }
    // From the directory beneath, the kernel goes up to what is mounted on it.
    let path = format!("/proc/self/fd/{}", made.directory.as_raw_fd());
    unmount(path, UnmountFlags::FORCE | UnmountFlags::DETACH).map_err(|errno| Error::os(errno, "unmounting"))
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

fn failed(why: String) -> Error {
    Error::new(Kind::MountFailed, why)
}

fn unprivileged(errno: Errno) -> Error {
    failed(match errno {
        Errno::PERM => "mounting needs CAP_SYS_ADMIN: run tenantfs as root, for example with sudo".into(),
        Errno::NODEV => "the kernel has no FUSE; load the module: modprobe fuse".into(),
        errno => format!("the kernel refuses the mount: {errno}"),
    })
}
