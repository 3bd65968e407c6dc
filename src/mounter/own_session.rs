//! A process session of one's own.

use std::fs::File;

use rustix::process::setsid;

/// Has this process get no signals of the caller's terminal.
///
/// But where systemd mounts for an automount: it does so in its own process group, for whoever is not in that waits, on the way to the
/// mountpoint, for the very mount (autofs; systemd.automount(5)). There is no terminal then.
///
/// # Errors
/// The kernel's: for a leader of a process group.
pub fn own_session() -> rustix::io::Result<()> {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    match process_group(&stat) == Some(INIT) && File::open("/dev/tty").is_err() {
        true => Ok(()),
        false => setsid().map(drop),
    }
}

/// The process group of systemd, the first process.
const INIT: u32 = 1;

/// The process group in a line of /proc/PID/stat. The system call would do, were there not groups of outside a container, which have
/// the number 0 in it.
fn process_group(stat: &str) -> Option<u32> {
    // The name, in parentheses, may have spaces and parentheses in it.
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_whitespace().nth(2)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_group_is_found_whatever_the_process_is_called() {
        assert_eq!(process_group("12 (mount) S 1 1 1 0 -1 4194560 0"), Some(1));
        assert_eq!(process_group("12 (a) S 1 (b)) R 7 0 0 0 -1 0 0"), Some(0));
        assert_eq!(process_group(""), None);
    }
}
