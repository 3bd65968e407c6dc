//! What the file system of a volume can do: found out by trying, and never assumed.
//!
//! Distributed file systems differ in what they have. Whatever relies on one of these asks here, and does it another way
//! that is as safe where it is missing; what cannot be done another way is refused when the volume is opened for serving.

use std::fmt;
use std::fs::File;
use std::sync::OnceLock;

use rustix::fs::{FlockOperation, RenameFlags, XattrFlags, flock, fsetxattr, renameat_with};
use rustix::io::Errno;

use super::dir::{Access, Dir};
use super::engine::Engine;
use super::metadata::{Times, set_times};
use super::staged::temporary_name;
use super::stat::stat;
use crate::clock::Timestamp;
use crate::error::{Error, Kind, Result};

/// A file system as one volume has it: shared by every handle of it.
#[derive(Debug)]
pub struct FileSystem {
    engine: Engine,
    found: OnceLock<Abilities>,
}

impl FileSystem {
    pub(super) fn of(engine: Engine) -> Self {
        Self {
            engine,
            found: OnceLock::new(),
        }
    }

    /// Which one it is.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// What it can do; none where nobody has had to know yet.
    pub fn found(&self) -> Option<&Abilities> {
        self.found.get()
    }

    /// What it can do, found out in `dir`, which is on it, unless it is known.
    ///
    /// # Errors
    /// That nothing can be made in `dir`: the operating system's.
    pub(super) fn abilities(&self, dir: &Dir) -> Result<&Abilities> {
        match self.found.get() {
            Some(found) => Ok(found),
            None => {
                let found = Abilities::find_out(dir, &self.engine)?;
                Ok(self.found.get_or_init(|| found))
            }
        }
    }
}

/// What a file system can do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Abilities {
    /// renameat2(2) with `RENAME_NOREPLACE`. Instead, a file is linked to its new name and unlinked from its old one; for a
    /// directory, an empty one is made and then replaced.
    pub renames_without_replacing: bool,
    /// renameat2(2) with `RENAME_EXCHANGE`. Instead, what has to be compared is compared, and then replaced.
    pub exchanges: bool,
    /// link(2), refused where the name is taken.
    pub links: bool,
    /// `O_TMPFILE` that can be trusted. Instead, new files have a name of ours until they are complete.
    pub has_unnamed_files: bool,
    /// Extended attributes that users may set.
    pub keeps_attributes: bool,
    /// flock(2) on a file that is opened twice.
    pub locks_files: bool,
    /// fsync(2) of a directory.
    pub syncs_directories: bool,
    /// The smallest difference between two times of files.
    pub times: Granularity,
}

/// How exact the times of files are.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[allow(missing_docs)]
pub enum Granularity {
    Nanoseconds,
    Microseconds,
    Milliseconds,
    Seconds,
}

impl fmt::Display for Granularity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nanoseconds => "nanoseconds",
            Self::Microseconds => "microseconds",
            Self::Milliseconds => "milliseconds",
            Self::Seconds => "whole seconds",
        })
    }
}

/// One ability, as the operator is told of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ability {
    /// What it is called.
    pub name: &'static str,
    /// Whether it is there.
    pub there: bool,
    /// What is done without it.
    pub otherwise: Otherwise,
}

/// What follows where an ability is missing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Otherwise {
    /// It is done another way, which is as safe.
    As(&'static str),
    /// Something cannot be promised.
    Weaker(&'static str),
    /// The volume is not served for writing.
    Refused(&'static str),
}

impl Abilities {
    /// Tries everything with files of our own in `dir`, which are removed again.
    fn find_out(dir: &Dir, engine: &Engine) -> Result<Self> {
        let trial = Trial::begin(dir)?;
        Ok(Self {
            exchanges: trial.exchanges()?,
            renames_without_replacing: trial.renames_without_replacing()?,
            links: trial.links()?,
            has_unnamed_files: engine.is_trusted_with_unnamed_files() && dir.create_unnamed(0o600).is_ok(),
            keeps_attributes: trial.keeps_attributes()?,
            locks_files: trial.locks_files()?,
            syncs_directories: dir.sync().is_ok(),
            times: trial.times()?,
        })
    }

    /// Each of them, with what follows where it is missing.
    pub fn table(&self) -> Vec<Ability> {
        let renames = self.renames_without_replacing || self.links;
        let ability = |name, there, otherwise| Ability {
            name,
            there,
            otherwise,
        };
        vec![
            ability(
                "renames a file only where nothing has the name (RENAME_NOREPLACE)",
                self.renames_without_replacing,
                match renames {
                    true => Otherwise::As("a file is linked to its new name, then unlinked from the old one"),
                    false => Otherwise::Refused(
                        "and it has no link(2) either: two who save one name at once would lose one of both",
                    ),
                },
            ),
            ability(
                "exchanges two files (RENAME_EXCHANGE)",
                self.exchanges,
                Otherwise::Weaker(
                    "users' exchanges are refused; reseal and migrate compare, and then replace: what a service saves in the same \
                     moment they may replace",
                ),
            ),
            ability(
                "makes unnamed files that can be trusted (O_TMPFILE)",
                self.has_unnamed_files,
                Otherwise::As("a new file has a name beginning with .tenantfs-tmp- until it is complete"),
            ),
            ability(
                "keeps extended attributes of users",
                self.keeps_attributes,
                Otherwise::Weaker(
                    "chmod in a mount is refused, inode numbers change with each save, and of removed records with long names \
                     the list tells nothing",
                ),
            ),
            ability(
                "locks files (flock)",
                self.locks_files,
                Otherwise::Weaker("what two commands of the operator do at once is not kept apart"),
            ),
            ability(
                "makes a directory durable (fsync)",
                self.syncs_directories,
                Otherwise::Refused("and what was saved could be gone after a power cut"),
            ),
            ability(
                "keeps times that are finer than a second",
                self.times < Granularity::Seconds,
                Otherwise::Weaker(
                    "what is rewritten in place within a second is read twice before it is served",
                ),
            ),
        ]
    }

    /// # Errors
    /// [`Kind::Unsupported`] when something is missing that nothing stands in for: which, and why it is needed.
    pub fn check(&self) -> Result<()> {
        let refused = self
            .table()
            .into_iter()
            .find_map(|ability| match ability.otherwise {
                Otherwise::Refused(why) if !ability.there => Some((ability.name, why)),
                _ => None,
            });
        match refused {
            None => Ok(()),
            Some((name, why)) => Err(Error::new(
                Kind::Unsupported,
                format!(
                    "the volume cannot be served for writing: its file system has nothing that {name}, {why}; serve it with \
                     --read-only, or put it on another file system"
                ),
            )),
        }
    }
}

/// Two files of our own in a directory, to try things with. Dropped, they are removed.
struct Trial<'dir> {
    dir: &'dir Dir,
    names: [String; 3],
}

impl<'dir> Trial<'dir> {
    fn begin(dir: &'dir Dir) -> Result<Self> {
        let trial = Self {
            dir,
            names: [temporary_name()?, temporary_name()?, temporary_name()?],
        };
        for name in trial.there() {
            trial.dir.create_file(name, 0o600)?;
        }
        Ok(trial)
    }

    fn there(&self) -> [&str; 2] {
        let [one, other, _] = &self.names;
        [one, other]
    }

    /// A name that nothing has.
    fn free(&self) -> &str {
        let [.., free] = &self.names;
        free
    }

    fn open(&self) -> Result<File> {
        self.dir.open_file(self.there()[0], Access::ReadWrite)
    }

    fn rename(&self, from: &str, to: &str, flags: RenameFlags) -> Result<Tried> {
        tried(renameat_with(self.dir, from, self.dir, to, flags), self.dir)
    }

    fn exchanges(&self) -> Result<bool> {
        let [one, other] = self.there();
        Ok(self.rename(one, other, RenameFlags::EXCHANGE)? == Tried::Done)
    }

    /// To a free name, and not to one that is taken: some take the flag and do not heed it.
    fn renames_without_replacing(&self) -> Result<bool> {
        let [one, other] = self.there();
        let flags = RenameFlags::NOREPLACE;
        if self.rename(one, self.free(), flags)? != Tried::Done {
            return Ok(false);
        }
        let refuses = self.rename(other, self.free(), flags)? == Tried::Exists;
        renameat_with(self.dir, self.free(), self.dir, one, RenameFlags::empty())
            .map_err(|errno| self.dir.failed(errno, TRYING, "."))?;
        // Where it did replace, it is made again for what is tried next.
        if !refuses {
            self.dir.create_file(other, 0o600)?;
        }
        Ok(refuses)
    }

    fn links(&self) -> Result<bool> {
        let file = self.open()?;
        let first = tried(self.dir.link(&file, self.free()), self.dir)?;
        if first != Tried::Done {
            return Ok(false);
        }
        let again = tried(self.dir.link(&file, self.free()), self.dir)?;
        let is_the_same = self.dir.stat(self.free())?.id == stat(&file)?.id;
        self.dir.unlink_uncounted(self.free())?;
        Ok(again == Tried::Exists && is_the_same)
    }

    fn keeps_attributes(&self) -> Result<bool> {
        let set = fsetxattr(&self.open()?, "user.tenantfs.trial", b"1", XattrFlags::empty());
        Ok(tried(set, self.dir)? == Tried::Done)
    }

    fn locks_files(&self) -> Result<bool> {
        let [one, other] = [self.open()?, self.open()?];
        let lock = |file| tried(flock(file, FlockOperation::NonBlockingLockExclusive), self.dir);
        Ok(lock(&one)? == Tried::Done && lock(&other)? == Tried::Exists)
    }

    fn times(&self) -> Result<Granularity> {
        let wanted = Timestamp {
            seconds: 1_000_000_001,
            nanos: 123_456_789,
        };
        let times = Times {
            mtime: Some(wanted),
            ..Times::default()
        };
        let file = self.open()?;
        set_times(&file, times)?;
        Ok(match stat(&file)?.mtime.nanos {
            123_456_789 => Granularity::Nanoseconds,
            nanos if nanos / 1_000 == 123_456 => Granularity::Microseconds,
            nanos if nanos / 1_000_000 == 123 => Granularity::Milliseconds,
            _ => Granularity::Seconds,
        })
    }
}

impl Drop for Trial<'_> {
    fn drop(&mut self) {
        for name in &self.names {
            match self.dir.unlink_uncounted(name) {
                Err(error) if error.kind() != Kind::NotFound => {
                    log::warn!("a file that the volume was tried with stays behind ({name}): {error:#}");
                }
                _ => {}
            }
        }
    }
}

const TRYING: &str = "finding out what the volume's file system can do";

/// What became of what was tried.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Tried {
    Done,
    /// The name is taken, or the lock.
    Exists,
    /// There is no such thing here.
    Missing,
}

/// What failed for another reason tells nothing of what there is.
fn tried(result: rustix::io::Result<()>, dir: &Dir) -> Result<Tried> {
    match result {
        Ok(()) => Ok(Tried::Done),
        Err(Errno::EXIST | Errno::WOULDBLOCK) => Ok(Tried::Exists),
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP | Errno::PERM | Errno::MLINK | Errno::NOLCK) => {
            Ok(Tried::Missing)
        }
        Err(errno) => Err(dir.failed(errno, TRYING, ".")),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;
    use crate::volume::{Durability, Rename, Staged, Volume};

    const ALL: Abilities = Abilities {
        renames_without_replacing: true,
        exchanges: true,
        links: true,
        has_unnamed_files: true,
        keeps_attributes: true,
        locks_files: true,
        syncs_directories: true,
        times: Granularity::Nanoseconds,
    };

    /// A volume on this host's disk, as if its file system could do no more than that.
    fn volume(directory: &Path, abilities: Abilities) -> Volume {
        let volume = Volume::open(directory).unwrap();
        volume.root().file_system().found.set(abilities).unwrap();
        volume
    }

    #[test]
    fn a_disk_of_this_host_can_do_everything_and_nothing_stays_of_the_trial() {
        let directory = tempfile::tempdir_in("/var/tmp").unwrap();
        let volume = Volume::open(directory.path()).unwrap();
        assert!(volume.root().file_system().engine().is_local());
        assert_eq!(volume.root().abilities().unwrap(), &ALL);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_taken_name_is_kept_where_no_rename_can_keep_it() {
        let directory = tempfile::tempdir_in("/var/tmp").unwrap();
        let volume = volume(
            directory.path(),
            Abilities {
                renames_without_replacing: false,
                has_unnamed_files: false,
                ..ALL
            },
        );
        let root = volume.root();
        let at = |name: &str| directory.path().join(name);
        let rename = |from, to| root.rename(from, root, to, Rename::NoReplace);
        fs::write(at("one"), "1").unwrap();
        fs::write(at("two"), "2").unwrap();
        assert_eq!(rename("one", "two").unwrap_err().kind(), Kind::Exists);
        rename("one", "three").unwrap();
        assert!(!at("one").exists());
        assert_eq!(fs::read(at("three")).unwrap(), b"1");
        for name in ["full", "moved"] {
            fs::create_dir(at(name)).unwrap();
            fs::write(at(name).join("file"), name).unwrap();
        }
        assert_eq!(rename("moved", "full").unwrap_err().kind(), Kind::Exists);
        rename("moved", "free").unwrap();
        assert_eq!(fs::read(at("free/file")).unwrap(), b"moved");
        let stage = || Staged::new(root, &root.stat_self().unwrap()).unwrap();
        let placed = stage().place_new("two", Durability::Durable);
        assert_eq!(placed.unwrap_err().kind(), Kind::Exists);
        stage().place_new("four", Durability::Durable).unwrap();
        drop(stage());
        let mut names: Vec<_> = fs::read_dir(directory.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(names, ["four", "free", "full", "three", "two"]);
    }

    #[test]
    fn what_is_replaced_is_what_was_expected_also_where_nothing_can_be_exchanged() {
        let directory = tempfile::tempdir_in("/var/tmp").unwrap();
        let volume = volume(
            directory.path(),
            Abilities {
                exchanges: false,
                ..ALL
            },
        );
        let root = volume.root();
        let path = directory.path().join("record");
        fs::write(&path, "old").unwrap();
        let expected = root.stat("record").unwrap();
        let stage = || {
            let mut staged = Staged::new(root, &expected).unwrap();
            staged.write(b"resealed").unwrap();
            staged
        };
        fs::write(&path, "saved").unwrap();
        assert!(!stage().place_over("record", &expected).unwrap());
        assert_eq!(fs::read(&path).unwrap(), b"saved");
        let expected = root.stat("record").unwrap();
        assert!(stage().place_over("record", &expected).unwrap());
        assert_eq!(fs::read(&path).unwrap(), b"resealed");
        fs::write(directory.path().join("other"), "").unwrap();
        let exchanged = root.rename("record", root, "other", Rename::Exchange);
        assert_eq!(exchanged.unwrap_err().kind(), Kind::InvalidArgument);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2);
    }

    #[test]
    fn what_nothing_stands_in_for_is_refused_by_name() {
        ALL.check().unwrap();
        let without = Abilities {
            exchanges: false,
            has_unnamed_files: false,
            keeps_attributes: false,
            times: Granularity::Seconds,
            ..ALL
        };
        without.check().unwrap();
        let without = Abilities {
            renames_without_replacing: false,
            links: false,
            ..ALL
        };
        let refused = without.check().unwrap_err();
        assert_eq!(refused.kind(), Kind::Unsupported);
        assert!(refused.to_string().contains("RENAME_NOREPLACE"), "{refused}");
    }
}
