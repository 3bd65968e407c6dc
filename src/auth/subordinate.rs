//! Whose a uid is: accounts have ranges of subordinate uids, subuid(5), in which they are as many users as they like.

use std::fs::Metadata;
use std::ops::RangeInclusive;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::unistd::User;
use parking_lot::Mutex;

/// Where the ranges are.
const FILE: &str = "/etc/subuid";

/// The ranges of this host, read again when their file changes. Those that a name service has are not known.
pub struct SubordinateUids {
    path: PathBuf,
    read: Mutex<Ranges>,
}

#[derive(Default)]
struct Ranges {
    /// Of which file.
    version: Option<(u64, u64, i64, i64)>,
    owners: Vec<(RangeInclusive<u32>, u32)>,
}

impl SubordinateUids {
    /// Those of this host.
    pub fn of_host() -> Self {
        Self::of_file(Path::new(FILE))
    }

    fn of_file(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            read: Mutex::default(),
        }
    }

    /// The account that `uid` was given to; `uid` itself, when it was given to nobody.
    pub fn owner(&self, uid: u32) -> u32 {
        let mut read = self.read.lock();
        let version = std::fs::metadata(&self.path).ok().as_ref().map(version);
        if version != read.version {
            let text = std::fs::read_to_string(&self.path).unwrap_or_default();
            *read = Ranges {
                version,
                owners: parse(&text),
            };
        }
        let range = read.owners.iter().find(|(range, _)| range.contains(&uid));
        range.map_or(uid, |(_, owner)| *owner)
    }
}

fn version(metadata: &Metadata) -> (u64, u64, i64, i64) {
    (
        metadata.ino(),
        metadata.size(),
        metadata.ctime(),
        metadata.ctime_nsec(),
    )
}

/// Lines of `ACCOUNT:FIRST:COUNT`, where the account is a name or a uid. What is no such line gives nobody anything.
fn parse(text: &str) -> Vec<(RangeInclusive<u32>, u32)> {
    let ranges = text.lines().filter_map(|line| {
        let mut fields = line.trim().split(':');
        let (account, first, count) = (fields.next()?, fields.next()?, fields.next()?);
        let (first, count) = (first.parse::<u32>().ok()?, count.parse::<u32>().ok()?);
        let last = first.saturating_add(count.checked_sub(1)?);
        // Whoever it is that this host does not know: it is one.
        Some((first..=last, uid(account).unwrap_or(first)))
    });
    ranges.collect()
}

fn uid(account: &str) -> Option<u32> {
    let named = || User::from_name(account).ok().flatten();
    account
        .parse()
        .ok()
        .or_else(|| named().map(|user| user.uid.as_raw()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subordinate_uid_is_its_owners_and_any_other_its_own() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("subuid");
        let uids = SubordinateUids::of_file(&path);
        assert_eq!(uids.owner(100_000), 100_000, "without such a file");
        let text = "1000:100000:65536\nroot:300000:10\nno-such-account:400000:10\n\nnonsense\n1:2\n1:2:0\n2000:4294967290:100\n";
        std::fs::write(&path, text).unwrap();
        for (uid, owner) in [
            (99_999, 99_999),
            (100_000, 1000),
            (165_535, 1000),
            (165_536, 165_536),
            (300_009, 0),
            (400_000, 400_000),
            (400_009, 400_000),
            (2, 2),
            (u32::MAX, 2000),
        ] {
            assert_eq!(uids.owner(uid), owner, "{uid}");
        }
        std::fs::write(&path, "1001:100000:65536\n").unwrap();
        assert_eq!(uids.owner(100_000), 1001, "it is read again");
    }
}
