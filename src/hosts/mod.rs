//! Which hosts serve the volume, and whom: each process that serves it keeps a file of its sessions in a directory of ours in the
//! volume's root, and renews it. One that is gone expires by itself.
//!
//! One file for all sessions of a process, and not one for each: a thousand sessions cost a file system over a network one write in
//! [`RENEWED_EVERY`], and what is read is true of one moment. On a file system of this host there are no other hosts, and no such
//! directory.

use std::io::Read;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::clock::{self, Timestamp};
use crate::error::{Doing, Error, Kind, Result};
use crate::volume::{Access, Dir, Durability, Staged};

/// The directory, in the volume's root.
const DIRECTORY: &str = ".tenantfs-hosts";

/// How often a process says again whom it serves.
pub const RENEWED_EVERY: Duration = Duration::from_secs(15);

/// After how long without that it counts as gone, in milliseconds: its host's clock may be off by some seconds.
const EXPIRES_MILLIS: i64 = 60_000;

/// How long a file of one that is gone is kept, in milliseconds.
const KEPT_MILLIS: i64 = 86_400_000;

/// The longest file that is read, in bytes: many thousand sessions.
const MAX: u64 = 16 << 20;

const ENDING: &str = ".json";

/// One session, as other hosts are told.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Served {
    /// SHA-256 of the user id.
    pub user: String,
    /// The user of that host.
    pub uid: u32,
    /// As in its status: `active`, `stale`, `suspended`, `ended`.
    pub state: String,
    /// Since when, in seconds since 1970 by its host's clock.
    pub since: i64,
}

/// A process that serves the volume, and whom it serves.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Host {
    /// The host's name.
    pub host: String,
    /// Which process of it: of each place of mounts there is one, before and after a restart.
    pub id: String,
    /// When it said so, in seconds since 1970 by its host's clock.
    pub renewed: i64,
    /// Whom it serves.
    pub sessions: Vec<Served>,
}

impl Host {
    /// This process, which mounts at `place`, or in it.
    pub fn this(place: &Path) -> Self {
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        // A machine's id is not to be told as it is (machine-id(5)).
        let machine = std::fs::read("/etc/machine-id").unwrap_or_default();
        let mut digest = Sha256::new();
        for part in [
            b"tenantfs host",
            &*machine,
            host.as_bytes(),
            place.as_os_str().as_encoded_bytes(),
        ] {
            digest.update(part);
            digest.update([0]);
        }
        let digest = hex::encode(digest.finalize());
        Self {
            host,
            id: digest.chars().take(16).collect(),
            renewed: 0,
            sessions: Vec::new(),
        }
    }

    /// Says on the volume whom it serves now; nobody leaves no file.
    ///
    /// # Errors
    /// The volume's.
    pub fn tell(&mut self, root: &Dir, sessions: &[Served]) -> Result<()> {
        let name = format!("{}{ENDING}", self.id);
        let directory = match root.open_dir(DIRECTORY) {
            Err(error) if error.kind() == Kind::NotFound && sessions.is_empty() => return Ok(()),
            Err(error) if error.kind() == Kind::NotFound => root.make_private_dir(DIRECTORY),
            opened => opened,
        }?;
        if sessions.is_empty() {
            return match directory.unlink(&name) {
                Err(error) if error.kind() != Kind::NotFound => Err(error),
                _ => Ok(()),
            };
        }
        (self.renewed, self.sessions) = (clock::now().seconds, sessions.to_vec());
        let text = serde_json::to_vec(self).map_err(|error| Error::new(Kind::Io, error.to_string()))?;
        let mut staged = Staged::private(&directory)?;
        staged.write(&text)?;
        // After a power cut nobody is served.
        staged.place(&name, Durability::Ordered).map(drop)
    }

    /// Those of its sessions that are a user's, by the user's full hash.
    pub fn sessions_of<'s>(&'s self, user: &'s str) -> impl Iterator<Item = &'s Served> {
        self.sessions.iter().filter(move |session| session.user == user)
    }

    fn age_millis(&self, now: Timestamp) -> i64 {
        now.millis_since(Timestamp {
            seconds: self.renewed,
            nanos: 0,
        })
    }
}

/// All that serve the volume, as far as they say so, by name.
///
/// # Errors
/// The volume's.
pub fn hosts(root: &Dir) -> Result<Vec<Host>> {
    let directory = match root.open_dir(DIRECTORY) {
        Err(error) if error.kind() == Kind::NotFound => return Ok(Vec::new()),
        opened => opened?,
    };
    let (mut names, mut hosts) = (Vec::new(), Vec::new());
    directory.entries_until(|entry| {
        let name = std::str::from_utf8(entry).ok();
        names.extend(name.filter(|name| name.ends_with(ENDING)).map(str::to_owned));
        std::ops::ControlFlow::Continue(())
    })?;
    let now = clock::now();
    for name in names {
        let host = match read(&directory, &name) {
            Ok(host) => host,
            Err(error) if error.kind() == Kind::NotFound => continue,
            Err(error) => {
                log::warn!("{DIRECTORY}/{name} says nothing of its host: {error:#}");
                continue;
            }
        };
        match host.age_millis(now) {
            age if age <= EXPIRES_MILLIS => hosts.push(host),
            age if age > KEPT_MILLIS => _ = directory.unlink(&name),
            _ => {}
        }
    }
    hosts.sort_by(|one, other| (&one.host, &one.id).cmp(&(&other.host, &other.id)));
    Ok(hosts)
}

fn read(directory: &Dir, name: &str) -> Result<Host> {
    let mut text = Vec::new();
    let file = directory.open_file(name, Access::Read)?;
    file.take(MAX).read_to_end(&mut text).doing("reading")?;
    serde_json::from_slice(&text).map_err(|error| Error::new(Kind::Io, error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::volume::Volume;

    fn served(user: &str) -> Served {
        Served {
            user: user.to_owned(),
            uid: 1001,
            state: "active".to_owned(),
            since: 1_700_000_000,
        }
    }

    #[test]
    fn each_process_says_whom_it_serves_until_it_serves_nobody_or_is_gone() {
        let directory = tempfile::tempdir().unwrap();
        let volume = Volume::open(directory.path()).unwrap();
        let root = volume.root();
        let [mut one, mut other] = ["/mnt/a", "/mnt/b"].map(|place| Host::this(Path::new(place)));
        assert_ne!(one.id, other.id);
        assert_eq!(Host::this(Path::new("/mnt/a")), one);
        one.tell(root, &[]).unwrap();
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
        one.tell(root, &[served("alice")]).unwrap();
        other.tell(root, &[served("alice"), served("bob")]).unwrap();
        let all = hosts(root).unwrap();
        assert_eq!(all.len(), 2);
        assert_eq!(all.iter().flat_map(|host| host.sessions_of("alice")).count(), 2);
        other.tell(root, &[served("bob")]).unwrap();
        one.tell(root, &[]).unwrap();
        assert_eq!(hosts(root).unwrap(), [other.clone()]);
        let later = Timestamp {
            seconds: other.renewed + 61,
            nanos: 0,
        };
        assert!(other.age_millis(later) > EXPIRES_MILLIS);
        other.renewed -= 61;
        let text = serde_json::to_vec(&other).unwrap();
        let path = directory
            .path()
            .join(DIRECTORY)
            .join(format!("{}.json", other.id));
        std::fs::write(&path, text).unwrap();
        assert_eq!(hosts(root).unwrap(), []);
        assert!(path.exists(), "its host may be back in a moment");
        other.renewed -= 86_400;
        std::fs::write(&path, serde_json::to_vec(&other).unwrap()).unwrap();
        std::fs::write(path.with_file_name("torn.json"), "{").unwrap();
        assert_eq!(hosts(root).unwrap(), []);
        assert!(!path.exists());
    }
}
