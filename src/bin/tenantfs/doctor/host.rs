//! What the host has, as whoever runs the doctor sees it.

use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::UnixStream;
use std::path::Path;

use tenantfs::escape::quoted;
use tenantfs::mounter::Mounter;
use tenantfs::session::confine::{self, Confinement};

use super::finding::{Finding, look};
use crate::account;
use crate::config::Serving;

/// The oldest kernel that has what is used: mounts without symbolic links (5.14), statx that tells mount points (5.8),
/// openat2 (5.6), fsopen (5.2).
const OLDEST_KERNEL: (u32, u32) = (5, 14);

pub(super) fn kernel() -> Finding {
    let uname = rustix::system::uname();
    let release = uname.release().to_string_lossy();
    let mut numbers = release
        .split(['.', '-'])
        .map(|part| part.parse::<u32>().unwrap_or(0));
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    let (major, minor) = OLDEST_KERNEL;
    look(
        "kernel",
        match version >= OLDEST_KERNEL {
            true => Ok(format!("Linux {release}")),
            false => Err((
                format!("Linux {release} is too old"),
                format!("use a kernel of at least {major}.{minor}"),
            )),
        },
    )
}

pub(super) fn landlock() -> Finding {
    // For a thread that ends at once.
    let confined = std::thread::spawn(|| confine::confine(&[])).join();
    let mend = "enable Landlock in the kernel (CONFIG_SECURITY_LANDLOCK, and landlock in lsm=)".to_owned();
    look(
        "landlock",
        match confined {
            Ok(Ok(Confinement::Full)) => {
                Ok("each session can be confined to its user's directories".to_owned())
            }
            Ok(Ok(Confinement::Partial)) => Ok(
                "each session can be confined to its user's directories, by the rules that this kernel knows"
                    .to_owned(),
            ),
            Ok(Ok(Confinement::None)) => Err((
                "this kernel cannot confine sessions; the other layers of isolation hold".to_owned(),
                mend,
            )),
            Ok(Err(error)) => Err((error.to_string(), mend)),
            Err(_) => Err((
                "the check failed; this is a bug, please report it".to_owned(),
                mend,
            )),
        },
    )
}

pub(super) fn device() -> Finding {
    let path = "/dev/fuse";
    look(
        "fuse",
        match std::fs::metadata(path) {
            Ok(metadata) if !metadata.file_type().is_char_device() => Err((
                format!("{path} is not a device"),
                "load the kernel's module: modprobe fuse".to_owned(),
            )),
            Ok(metadata) if metadata.uid() != 0 => Err((
                format!("{path} does not belong to root"),
                format!("chown root {path}"),
            )),
            Ok(_) => Ok(format!("{path} is there")),
            Err(error) => Err((
                format!("{path}: {error}"),
                "load the kernel's module: modprobe fuse; or pass the device to the container".to_owned(),
            )),
        },
    )
}

pub(super) fn config_file(path: &Path) -> Finding {
    let shown = path.display();
    look(
        "config",
        match std::fs::metadata(path) {
            Ok(metadata) if metadata.mode() & 0o022 != 0 => Err((
                format!("{shown} is writable by others, who could let anybody in"),
                format!("chmod go-w {}", quoted(path)),
            )),
            Ok(_) => Ok(format!("{shown} is understood")),
            Err(_) => Ok("there is no config file; options and variables have all that is needed".to_owned()),
        },
    )
}

/// Whether whoever runs this has its processes in the group that a view of its own would be for.
pub(super) fn group() -> Finding {
    let (uid, own) = (account::caller(), account::caller_group());
    let (views, group) = (account::primary_group(uid), account::group_name(own));
    let others = "the kernel refuses the processes of the same user that have another group (newgrp, sg, systemd's Group=)";
    look(
        "group",
        match (uid, own == views) {
            (0, _) => Ok(format!(
                "a view is for its user's primary group; {others}, without --gid"
            )),
            (_, true) => Ok(format!("a view of yours is for your group, {group}; {others}")),
            (_, false) => Err((
                format!(
                    "a view of yours is for group {}, and your processes have group {group}; {others}",
                    account::group_name(views)
                ),
                format!("tenantfs login --gid {own}, or mount --gid {own}"),
            )),
        },
    )
}

/// The directory that has the mountpoints.
pub(super) fn places(template: &str) -> Finding {
    let directory = template.trim_end_matches("/{uid}");
    let made = "the mounter makes it".to_owned();
    look(
        "mounts",
        match std::fs::metadata(directory) {
            Ok(metadata) if !metadata.is_dir() => Err((
                format!("{directory} is no directory"),
                "correct mounts.path".to_owned(),
            )),
            Ok(metadata) if metadata.uid() != 0 || metadata.mode() & 0o022 != 0 => Err((
                format!("{directory} is not root's alone: others could put a directory where a view belongs"),
                format!("chown root {0}; chmod 755 {0}", quoted(directory)),
            )),
            Ok(_) => Ok(format!("{template}, in a directory of root's")),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                Ok(format!("{template}; {directory} is not there yet, {made}"))
            }
            Err(error) => Err((format!("{directory}: {error}"), "correct mounts.path".to_owned())),
        },
    )
}

pub(super) fn mounter(serving: &Serving) -> Finding {
    let socket = serving.mounter.as_ref().unwrap_or(&serving.mounter_beside);
    let shown = socket.display();
    let own = serving.mounter.is_none() && rustix::process::geteuid().is_root() && !socket.exists();
    look(
        "mounter",
        match (!own).then(|| Mounter::connect(socket)).transpose() {
            Ok(Some(_)) => Ok(format!("listens on {shown}")),
            Ok(None) => Ok("none is running; a daemon that root starts starts its own".to_owned()),
            Err(error) => Err((
                error.to_string(),
                "systemctl enable --now tenantfs-mounter.socket; it answers root and the server's account"
                    .to_owned(),
            )),
        },
    )
}

pub(super) fn control(socket: &Path) -> Finding {
    let shown = socket.display();
    look(
        "daemon",
        match UnixStream::connect(socket) {
            Ok(_) => Ok(format!("listens on {shown}")),
            Err(error) => Err((
                format!("nobody listens on {shown}: {error}"),
                "systemctl enable --now tenantfs.socket tenantfs.service".to_owned(),
            )),
        },
    )
}
