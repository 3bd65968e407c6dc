//! A mount as the kernel lists it in /proc/self/mountinfo.

use std::os::fd::{AsRawFd, OwnedFd};

use crate::error::{Error, Kind, Result};

/// What identifies a mount while it is there: its number, device and place. The number alone may be given to another
/// mount once it is gone.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct MountEntry {
    number: String,
    device: String,
    /// As the kernel spells it.
    mountpoint: String,
}

/// What became of a mount.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum State {
    /// It is there, and nothing is mounted over it.
    OnTop,
    /// Something else is mounted over it.
    Covered,
    /// Somebody unmounted it.
    Gone,
}

impl MountEntry {
    /// The entry of the mount that an open descriptor of it leads to.
    ///
    /// # Errors
    /// [`Kind::MountFailed`] when the kernel does not list it.
    pub(super) fn of(mount: &OwnedFd) -> Result<Self> {
        // Not statx: a FUSE mount answers nobody but its user.
        let info = read(&format!("/proc/self/fdinfo/{}", mount.as_raw_fd()))?;
        let number = info.lines().find_map(|line| line.strip_prefix("mnt_id:"));
        let number = number.map(str::trim).ok_or_else(unlisted)?;
        let lines = read(MOUNTINFO)?;
        let entry = lines
            .lines()
            .filter_map(Line::parse)
            .find(|line| line.number == number);
        let line = entry.ok_or_else(unlisted)?;
        Ok(Self {
            number: line.number.to_owned(),
            device: line.device.to_owned(),
            mountpoint: line.mountpoint.to_owned(),
        })
    }

    /// Where it is, as the kernel spells it.
    pub(super) fn mountpoint(&self) -> &str {
        &self.mountpoint
    }

    /// What became of it.
    ///
    /// # Errors
    /// [`Kind::Io`] when /proc cannot be read.
    pub(super) fn state(&self) -> Result<State> {
        let lines = read(MOUNTINFO)?;
        Ok(self.state_in(&lines))
    }

    fn state_in(&self, mountinfo: &str) -> State {
        let (mut there, mut covered) = (false, false);
        for line in mountinfo.lines().filter_map(Line::parse) {
            there |= line.number == self.number
                && line.device == self.device
                && line.mountpoint == self.mountpoint;
            covered |= line.parent == self.number && line.mountpoint == self.mountpoint;
        }
        match (there, covered) {
            (false, _) => State::Gone,
            (true, true) => State::Covered,
            (true, false) => State::OnTop,
        }
    }
}

const MOUNTINFO: &str = "/proc/self/mountinfo";

/// The fields of a line of mountinfo that matter here (proc_pid_mountinfo(5)).
struct Line<'l> {
    number: &'l str,
    parent: &'l str,
    device: &'l str,
    mountpoint: &'l str,
}

impl<'l> Line<'l> {
    fn parse(line: &'l str) -> Option<Self> {
        let mut fields = line.split(' ');
        Some(Self {
            number: fields.next()?,
            parent: fields.next()?,
            device: fields.next()?,
            mountpoint: fields.nth(1)?,
        })
    }
}

fn read(path: &str) -> Result<String> {
    std::fs::read(path)
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .map_err(|error| Error::io(&error, format_args!("reading {path}")))
}

fn unlisted() -> Error {
    Error::new(
        Kind::MountFailed,
        "the kernel does not list the mount that was made",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_is_there_covered_or_gone() {
        let entry = MountEntry {
            number: "42".into(),
            device: "0:39".into(),
            mountpoint: "/mnt".into(),
        };
        let ours = "42 27 0:39 / /mnt rw,nosuid - fuse.tenantfs tenantfs rw\n";
        let beneath = "27 1 8:1 / / rw - ext4 /dev/sda rw\n";
        let inside = "50 42 0:50 / /mnt/schedules rw - tmpfs tmpfs rw\n";
        let over = "51 42 0:51 / /mnt rw - tmpfs tmpfs rw\n";
        let reused = "42 27 0:60 / /elsewhere rw - tmpfs tmpfs rw\n";
        assert_eq!(entry.state_in(&[beneath, ours, inside].concat()), State::OnTop);
        assert_eq!(entry.state_in(&[beneath, ours, over].concat()), State::Covered);
        assert_eq!(entry.state_in(beneath), State::Gone);
        assert_eq!(entry.state_in(reused), State::Gone);
    }
}
