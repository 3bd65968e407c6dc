//! All mounts as the kernel lists them in /proc/self/mountinfo.

use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use super::mount_id::{Identity, MountEntry};
use crate::error::{Doing, Result};

const MOUNTINFO: &str = "/proc/self/mountinfo";

/// The type of our own mounts, and of what waits for somebody to look before something is mounted on it.
const TENANTFS: &[u8] = b"fuse.tenantfs";
const AUTOFS: &[u8] = b"autofs";

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

/// The mounts at one moment.
pub(super) struct Mountinfo {
    lines: HashMap<u64, Line>,
    /// The numbers of those that have another one mounted over them.
    covered: HashSet<u64>,
}

/// The fields of a line that matter here (proc_pid_mountinfo(5)).
struct Line {
    number: u64,
    parent: u64,
    device: (u32, u32),
    mountpoint: PathBuf,
    /// Whether it is one of ours.
    tenantfs: bool,
    /// Whether it is an automount that waits.
    autofs: bool,
}

impl Mountinfo {
    /// Reads the list.
    ///
    /// # Errors
    /// [`Kind::Io`](crate::error::Kind::Io) when /proc cannot be read.
    pub(super) fn read() -> Result<Self> {
        let text = std::fs::read(MOUNTINFO).doing(format!("reading {MOUNTINFO}"))?;
        Ok(Self::parse(&text))
    }

    fn parse(text: &[u8]) -> Self {
        let lines = text.split(|byte| *byte == b'\n').filter_map(Line::parse);
        let lines: HashMap<u64, Line> = lines.map(|line| (line.number, line)).collect();
        let covering = |line: &&Line| {
            lines
                .get(&line.parent)
                .is_some_and(|parent| parent.mountpoint == line.mountpoint)
        };
        let covered = lines.values().filter(covering).map(|line| line.parent).collect();
        Self { lines, covered }
    }

    /// What became of a mount.
    pub(super) fn state(&self, entry: &MountEntry) -> State {
        let number = entry.identity.number;
        match self.lines.get(&number) {
            Some(line) if line.device == entry.identity.device && line.mountpoint == entry.mountpoint() => {
                match self.covered.contains(&number) {
                    true => State::Covered,
                    false => State::OnTop,
                }
            }
            _ => State::Gone,
        }
    }

    /// Whether something is mounted on a directory of the mount `beneath`.
    pub(super) fn has_mount_on(&self, beneath: u64, directory: &Path) -> bool {
        let mut lines = self.lines.values();
        lines.any(|line| line.parent == beneath && line.mountpoint == directory)
    }

    /// Whether it is one of ours.
    pub(super) fn is_tenantfs(&self, entry: &MountEntry) -> bool {
        let line = self.lines.get(&entry.identity.number);
        line.is_some_and(|line| line.tenantfs)
    }

    /// Whether it is an automount, which waits for a mount on it (systemd.automount(5)).
    pub(super) fn is_automount(&self, mount: Identity) -> bool {
        let line = self.lines.get(&mount.number);
        line.is_some_and(|line| line.autofs && line.device == mount.device)
    }

    /// The mounts whose mountpoints are entries of `directory`.
    pub(super) fn directly_in(&self, directory: &Path) -> Vec<MountEntry> {
        let lines = self.lines.values();
        let inside = lines.filter(|line| line.mountpoint.parent() == Some(directory));
        inside.map(Line::entry).collect()
    }
}

impl Line {
    fn parse(line: &[u8]) -> Option<Self> {
        let mut fields = line.split(|byte| *byte == b' ');
        let number = parse(fields.next()?)?;
        let parent = parse(fields.next()?)?;
        let device = fields.next()?;
        let colon = device.iter().position(|byte| *byte == b':')?;
        let device = (parse(device.get(..colon)?)?, parse(device.get(colon + 1..)?)?);
        let mountpoint = unescape(fields.nth(1)?);
        let mut fields = fields.skip_while(|field| *field != b"-");
        let kind = fields.nth(1)?;
        Some(Self {
            number,
            parent,
            device,
            mountpoint,
            tenantfs: kind == TENANTFS,
            autofs: kind == AUTOFS,
        })
    }

    fn entry(&self) -> MountEntry {
        let identity = Identity {
            number: self.number,
            device: self.device,
        };
        MountEntry::new(identity, self.mountpoint.clone())
    }
}

fn parse<T: std::str::FromStr>(field: &[u8]) -> Option<T> {
    std::str::from_utf8(field).ok()?.parse().ok()
}

/// The kernel writes spaces, tabs, newlines, backslashes and hashes as `\` and three octal digits.
fn unescape(field: &[u8]) -> PathBuf {
    let mut path = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, after)) = rest.split_first() {
        let digits = (*first == b'\\').then(|| after.get(..3)).flatten();
        let code = digits
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        path.push(code.unwrap_or(*first));
        rest = match code {
            Some(_) => after.get(3..).unwrap_or_default(),
            None => after,
        };
    }
    PathBuf::from(OsString::from_vec(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(number: u64, device: (u32, u32), mountpoint: &str) -> MountEntry {
        let identity = Identity { number, device };
        MountEntry::new(identity, mountpoint.into())
    }

    #[test]
    fn a_mount_is_there_covered_or_gone() {
        let entry = entry(42, (0, 39), "/mnt");
        let ours = "42 27 0:39 / /mnt rw,nosuid - fuse.tenantfs tenantfs rw\n";
        let beneath = "27 1 8:1 / / rw - ext4 /dev/sda rw\n";
        let inside = "50 42 0:50 / /mnt/schedules rw - tmpfs tmpfs rw\n";
        let over = "51 42 0:51 / /mnt rw - tmpfs tmpfs rw\n";
        let reused = "42 27 0:60 / /elsewhere rw - tmpfs tmpfs rw\n";
        let state = |lines: &[&str]| Mountinfo::parse(lines.concat().as_bytes()).state(&entry);
        assert_eq!(state(&[beneath, ours, inside]), State::OnTop);
        assert_eq!(state(&[beneath, ours, over]), State::Covered);
        assert_eq!(state(&[beneath]), State::Gone);
        assert_eq!(state(&[beneath, reused]), State::Gone);
    }

    #[test]
    fn mountpoints_are_spelled_as_their_directories_are() {
        let line =
            br"42 27 0:39 / /a\040b\011\134040/x\0431 rw shared:1 master:2 - fuse.tenantfs tenantfs rw";
        let table = Mountinfo::parse(line);
        let entry = entry(42, (0, 39), "/a b\t\\040/x#1");
        assert_eq!(
            table.directly_in(Path::new("/a b\t\\040")),
            std::slice::from_ref(&entry)
        );
        assert_eq!(table.state(&entry), State::OnTop);
        assert!(table.is_tenantfs(&entry));
        assert_eq!(table.directly_in(Path::new("/")), []);
    }
}
