//! What the host has, as whoever runs the doctor sees it.

use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use tenantfs::daemon::Check;
use tenantfs::escape::quoted;
use tenantfs::mounter::Mounter;
use tenantfs::session::confine::{self, Confinement};

use crate::account;
use crate::config::Serving;

/// The oldest kernel that has what is used: mounts without symbolic links (5.14), statx that tells mount points (5.8),
/// openat2 (5.6), fsopen (5.2).
const OLDEST_KERNEL: (u32, u32) = (5, 14);

pub(super) fn kernel() -> Check {
    let uname = rustix::system::uname();
    let release = uname.release().to_string_lossy();
    let mut numbers = release
        .split(['.', '-'])
        .map(|part| part.parse::<u32>().unwrap_or(0));
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    let (major, minor) = OLDEST_KERNEL;
    Check::of(
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

pub(super) fn landlock() -> Check {
    // For a thread that ends at once.
    let confined = std::thread::spawn(|| confine::confine(&[])).join();
    let mend = match std::fs::read_to_string("/sys/kernel/security/lsm") {
        // A filter answers in the kernel's place.
        Ok(modules) if modules.split(',').any(|module| module.trim() == "landlock") => {
            "the kernel has Landlock, and something forbids it, such as a container's filter of system calls: allow \
             landlock_create_ruleset, landlock_add_rule and landlock_restrict_self there"
        }
        _ => {
            "enable Landlock in the kernel (CONFIG_SECURITY_LANDLOCK, and landlock in lsm=); in a container, allow its system calls \
             (landlock_create_ruleset and so on)"
        }
    }
    .to_owned();
    Check::of(
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
                "sessions cannot be confined here; the other layers of isolation hold".to_owned(),
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

pub(super) fn device() -> Check {
    let path = "/dev/fuse";
    Check::of(
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

pub(super) fn config_file(path: &Path) -> Check {
    let shown = path.display();
    Check::of(
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
pub(super) fn group() -> Check {
    let (uid, own) = (account::caller(), account::caller_group());
    let (views, group) = (account::primary_group(uid), account::group_name(own));
    let others = "the kernel refuses the processes of the same user that have another group (newgrp, sg, systemd's Group=)";
    Check::of(
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
pub(super) fn places(template: &str) -> Check {
    let directory = template.trim_end_matches("/{uid}");
    let made = "the mounter makes it".to_owned();
    Check::of(
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
            Ok(_) => match movable_in(Path::new(directory)) {
                None => Ok(format!("{template}, in a directory of root's")),
                Some(above) => Err((
                    format!("others than root can rename what is in {above}, and with it {directory}"),
                    format!(
                        "use another directory (mounts.path), or chown root {0}; chmod 755 {0}",
                        quoted(&above)
                    ),
                )),
            },
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                Ok(format!("{template}; {directory} is not there yet, {made}"))
            }
            Err(error) => Err((format!("{directory}: {error}"), "correct mounts.path".to_owned())),
        },
    )
}

/// A directory on the way to this one in which others than root may rename what is root's.
fn movable_in(directory: &Path) -> Option<String> {
    const STICKY: u32 = 0o1000;
    let real = directory.canonicalize().ok()?;
    let movable = |above: &&Path| {
        let found = std::fs::metadata(above);
        found.is_ok_and(|found| found.uid() != 0 || found.mode() & 0o022 != 0 && found.mode() & STICKY == 0)
    };
    let found = real.ancestors().skip(1).find(movable);
    found.map(|above| above.display().to_string())
}

pub(super) fn mounter(serving: &Serving) -> Check {
    let socket = serving.mounter.as_ref().unwrap_or(&serving.mounter_beside);
    let shown = socket.display();
    let own = serving.mounter.is_none() && rustix::process::geteuid().is_root() && !socket.exists();
    Check::of(
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
