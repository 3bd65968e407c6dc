//! Finding out what the volume's file system can do, by trying it with files of our own.

use std::fs::File;

use rustix::fs::{FlockOperation, RenameFlags, XattrFlags, flock, fsetxattr, renameat_with};
use rustix::io::Errno;

use super::abilities::{Abilities, Granularity};
use super::dir::{Access, Dir};
use super::metadata::{Times, set_times};
use super::staged::temporary_name;
use super::stat::stat;
use crate::clock::Timestamp;
use crate::error::{Kind, Result};

impl Dir {
    /// What its file system can do: found out here the first time.
    ///
    /// # Errors
    /// That nothing can be made here: the operating system's.
    pub fn abilities(&self) -> Result<Abilities> {
        let file_system = self.file_system();
        match file_system.found() {
            Some(found) => Ok(*found),
            None if file_system.engine().is_local() => Ok(match self.create_unnamed(0o600) {
                // Nothing stays of an unnamed file, also where this process is killed.
                Ok(file) => {
                    let keeps_attributes = keeps_attributes(&file, self)?;
                    *file_system.keep(Abilities::of_this_host(keeps_attributes))
                }
                // Full, or closed: that does not change what it can do.
                Err(_) => Abilities::of_this_host(true),
            }),
            None => {
                // JuiceFS 1.4 takes O_TMPFILE, gives the file a name, and loses it: no other engine is trusted with that.
                let found = Trial::begin(self)?.find_out(false)?;
                Ok(*file_system.keep(found))
            }
        }
    }
}

/// Two files of our own in a directory, to try things with. Dropped, they are removed.
struct Trial<'dir> {
    dir: &'dir Dir,
    names: [String; 3],
}

impl<'dir> Trial<'dir> {
    fn find_out(&self, may_have_unnamed_files: bool) -> Result<Abilities> {
        Ok(Abilities {
            exchanges: self.exchanges()?,
            renames_without_replacing: self.renames_without_replacing()?,
            links: self.links()?,
            has_unnamed_files: may_have_unnamed_files && self.dir.create_unnamed(0o600).is_ok(),
            keeps_attributes: keeps_attributes(&self.open()?, self.dir)?,
            locks_files: self.locks_files()?,
            syncs_directories: self.dir.sync().is_ok(),
            times: self.times()?,
        })
    }

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

fn keeps_attributes(file: &File, dir: &Dir) -> Result<bool> {
    let set = fsetxattr(file, "user.tenantfs.trial", b"1", XattrFlags::empty());
    Ok(tried(set, dir)? == Tried::Done)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;
    use crate::volume::{Durability, Rename, Staged, Volume};

    const ALL: Abilities = Abilities::of_this_host(true);

    /// A volume on this host's disk, as if its file system could do no more than that.
    fn volume(directory: &Path, abilities: Abilities) -> Volume {
        let volume = Volume::open(directory).unwrap();
        assert_eq!(volume.root().file_system().keep(abilities), &abilities);
        volume
    }

    #[test]
    fn a_disk_of_this_host_can_do_everything_and_nothing_stays_of_the_trial() {
        let directory = tempfile::tempdir_in("/var/tmp").unwrap();
        let volume = Volume::open(directory.path()).unwrap();
        assert!(volume.root().file_system().engine().is_local());
        assert_eq!(volume.root().abilities().unwrap(), ALL);
        // What is known of the kernel's own is what trying says.
        assert_eq!(Trial::begin(volume.root()).unwrap().find_out(true).unwrap(), ALL);
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
