//! Places that root names on a command line, where users of the host may be at work: nobody but root, whoever gives the command and
//! the volume's account may be able to change where the way to such a place leads, nor what is there.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, Stat, fstat, mkdirat, openat, readlinkat, statat};
use rustix::io::Errno;
use tenantfs::error::{At, Doing, Error, Kind, Result};
use tenantfs::escape::quoted;

use crate::account;

/// As the kernel has it.
const MOST_LINKS: u32 = 40;

/// Who may have made what is on the way.
pub(crate) struct Trust {
    /// What is at the end of the way, for messages: "--to".
    what: String,
    uids: Vec<u32>,
}

/// Where something is, or is to be: a name in a directory in which nobody else can give that name to something else.
pub(crate) struct Place {
    pub(crate) directory: OwnedFd,
    pub(crate) name: OsString,
    /// For messages.
    pub(crate) path: PathBuf,
}

impl Trust {
    /// Root, and whoever gives the command, also by sudo.
    pub(crate) fn of_caller(what: &str) -> Self {
        // Of those who give root's commands, nobody but root has the environment.
        let by_sudo = std::env::var("SUDO_UID").ok().and_then(|uid| uid.parse().ok());
        let uids = [Some(0), Some(account::caller()), by_sudo];
        Self {
            what: what.to_owned(),
            uids: uids.into_iter().flatten().collect(),
        }
    }

    /// This account, too.
    pub(crate) fn and(mut self, uid: u32) -> Self {
        self.uids.push(uid);
        self
    }

    /// The place that `path` names. Symbolic links on the way are followed where somebody trusted has made them; one at the end is
    /// what has the name.
    ///
    /// # Errors
    /// [`Kind::Config`] when somebody else could change where it leads, with what to do; when there is no such directory.
    pub(crate) fn place(&self, path: &Path) -> Result<Place> {
        self.walk(path, Missing::Refuse, End::Name)
    }

    /// As [`place`](Self::place), and makes the directories that are missing.
    ///
    /// # Errors
    /// As `place`.
    pub(crate) fn place_and_make(&self, path: &Path) -> Result<Place> {
        self.walk(path, Missing::Make, End::Name)
    }

    /// As [`place`](Self::place), but where the name is a symbolic link that somebody trusted has made, the place that it leads to.
    ///
    /// # Errors
    /// As `place`.
    pub(crate) fn followed(&self, path: &Path) -> Result<Place> {
        self.walk(path, Missing::Refuse, End::Follow)
    }

    /// Refuses the name of a log in a directory of somebody else's, or one that everybody can write. What is above it is the host's: on
    /// some, a group writes /var/log.
    ///
    /// # Errors
    /// [`Kind::Config`], with what to do.
    pub(crate) fn log(&self, path: &Path) -> Result<()> {
        const LOOKING: &str = "looking at the directory of a log";
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let parent = parent.unwrap_or(Path::new("."));
        let stat = match rustix::fs::stat(parent) {
            // Whoever opens the log will tell.
            Err(Errno::NOENT) => return Ok(()),
            stat => stat
                .doing(LOOKING)
                .at(parent)
                .map_err(|error| error.as_kind(Kind::Config))?,
        };
        self.check_owner(&stat, parent)?;
        match stat.st_mode & 0o1002 {
            0o002 => Err(self.writable_by_others(&stat, parent)),
            _ => Ok(()),
        }
    }

    /// Refuses a directory in which somebody else can put or replace something, though it be in a place that is trusted.
    ///
    /// # Errors
    /// [`Kind::Config`], with what to do.
    pub(crate) fn own_directory(&self, directory: &OwnedFd, path: &Path) -> Result<()> {
        let stat = fstat(directory).doing("looking at a directory").at(path)?;
        self.check_owner(&stat, path)?;
        match stat.st_mode & 0o022 {
            0 => Ok(()),
            _ => Err(self.writable_by_others(&stat, path)),
        }
    }

    /// Refuses a file, opened at `path`, that somebody else could have written or put there. What is above its directory's way is looked
    /// at too: one who may rename a directory on it decides what is read the next time.
    ///
    /// # Errors
    /// [`Kind::Config`], with what to do.
    pub(crate) fn file(&self, path: &Path, file: &File) -> Result<()> {
        let stat = fstat(file).doing("looking at a file").at(path)?;
        if !self.uids.contains(&stat.st_uid) {
            return Err(Error::config(format!(
                "{}: {} belongs to uid {}, who could write anything into it; run: chown root {}",
                self.what,
                path.display(),
                stat.st_uid,
                quoted(path)
            )));
        }
        if stat.st_mode & 0o022 != 0 {
            return Err(self.writable_by_others(&stat, path));
        }
        self.followed(path).map(drop)
    }

    fn walk(&self, path: &Path, missing: Missing, end: End) -> Result<Place> {
        let mut way = Way::new(self, path)?;
        let named = way
            .walk(missing, end)
            .map_err(|error| error.as_kind(Kind::Config))?;
        match named {
            Some(name) => Ok(Place {
                path: way.path.join(&name),
                directory: way.directory,
                name,
            }),
            None => Err(Error::config(format!(
                "{} {}: it has to end with a name",
                self.what,
                path.display()
            ))),
        }
    }

    /// Whether only who is trusted can change what is in the directory. In one with the sticky bit, everybody can add names and
    /// only whoever has made something can rename or remove it; whose that is is looked at.
    fn check(&self, stat: &Stat, path: &Path) -> Result<()> {
        self.check_owner(stat, path)?;
        let is_sticky = stat.st_mode & 0o1000 != 0;
        match stat.st_mode & 0o022 {
            0 => Ok(()),
            _ if is_sticky => Ok(()),
            _ => Err(self.writable_by_others(stat, path)),
        }
    }

    fn check_owner(&self, stat: &Stat, path: &Path) -> Result<()> {
        match self.uids.contains(&stat.st_uid) {
            true => Ok(()),
            false => Err(Error::config(format!(
                "{}: {} belongs to uid {}, who could put something else in its place; name another place, such as one below /root",
                self.what,
                path.display(),
                stat.st_uid
            ))),
        }
    }

    fn writable_by_others(&self, stat: &Stat, path: &Path) -> Error {
        Error::config(format!(
            "{}: {} can be written by others (mode {:04o}), who could put something else in its place; run: chmod go-w {}, or name \
             another place",
            self.what,
            path.display(),
            stat.st_mode & 0o7777,
            quoted(path)
        ))
    }
}

/// What becomes of directories that are not there.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Missing {
    Refuse,
    Make,
}

/// What becomes of a symbolic link at the end.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Name,
    Follow,
}

/// How far the way is gone.
struct Way<'t> {
    trust: &'t Trust,
    directory: OwnedFd,
    path: PathBuf,
    ahead: VecDeque<OsString>,
    links: u32,
}

impl<'t> Way<'t> {
    fn new(trust: &'t Trust, path: &Path) -> Result<Self> {
        let from = if path.is_absolute() { "/" } else { "." };
        let directory = open(CWD, OsStr::new(from), OFlags::DIRECTORY)
            .doing("opening a directory")
            .at(from)?;
        let way = Self {
            trust,
            directory,
            path: PathBuf::from(if path.is_absolute() { "/" } else { "" }),
            ahead: steps(path),
            links: 0,
        };
        way.check()?;
        Ok(way)
    }

    fn check(&self) -> Result<()> {
        let stat = fstat(&self.directory)
            .doing("looking at a directory")
            .at(&self.path)?;
        let shown = if self.path.as_os_str().is_empty() {
            Path::new(".")
        } else {
            &self.path
        };
        self.trust.check(&stat, shown)
    }

    /// Goes to the directory that the last name is in.
    fn walk(&mut self, missing: Missing, end: End) -> Result<Option<OsString>> {
        while let Some(step) = self.ahead.pop_front() {
            let is_last = self.ahead.is_empty();
            if is_last && step != ".." && !(end == End::Follow && self.is_link(&step)) {
                return Ok(Some(step));
            }
            match self.is_link(&step) {
                true => self.follow(&step)?,
                false => self.enter(&step, missing)?,
            }
        }
        // What is followed to its end is a directory by now, if anything.
        Ok((end == End::Follow).then(|| OsString::from(".")))
    }

    fn is_link(&self, step: &OsStr) -> bool {
        let stat = statat(&self.directory, step, AtFlags::SYMLINK_NOFOLLOW);
        stat.is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Symlink)
    }

    fn enter(&mut self, step: &OsStr, missing: Missing) -> Result<()> {
        const OPENING: &str = "opening a directory";
        let path = self.path.join(step);
        let opened = match open(&self.directory, step, OFlags::DIRECTORY) {
            Err(Errno::NOENT) if missing == Missing::Make => {
                match mkdirat(&self.directory, step, Mode::from_raw_mode(0o755)) {
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(errno) => return Err(Error::os(errno, "making a directory").at(path)),
                }
                open(&self.directory, step, OFlags::DIRECTORY)
            }
            opened => opened,
        };
        self.directory = opened.doing(OPENING).at(&path)?;
        self.path = path;
        self.check()
    }

    /// What is opened here is what is looked at: whose the link is, and where it leads.
    fn follow(&mut self, step: &OsStr) -> Result<()> {
        const FOLLOWING: &str = "following a symbolic link";
        let path = self.path.join(step);
        self.links += 1;
        if self.links > MOST_LINKS {
            return Err(Error::os(Errno::LOOP, FOLLOWING).at(path));
        }
        let link = open(&self.directory, step, OFlags::empty())
            .doing(FOLLOWING)
            .at(&path)?;
        let stat = fstat(&link).doing(FOLLOWING).at(&path)?;
        self.trust.check_owner(&stat, &path)?;
        let target = readlinkat(&link, "", Vec::new()).doing(FOLLOWING).at(&path)?;
        let target = PathBuf::from(OsString::from_vec(target.into_bytes()));
        if target.is_absolute() {
            self.directory = open(CWD, OsStr::new("/"), OFlags::DIRECTORY)
                .doing(FOLLOWING)
                .at("/")?;
            self.path = PathBuf::from("/");
        }
        for step in steps(&target).into_iter().rev() {
            self.ahead.push_front(step);
        }
        Ok(())
    }
}

fn steps(path: &Path) -> VecDeque<OsString> {
    let step = |component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some(OsString::from("..")),
        Component::CurDir | Component::RootDir | Component::Prefix(_) => None,
    };
    path.components().filter_map(step).collect()
}

/// A handle that only says where something is.
fn open(directory: impl std::os::fd::AsFd, name: &OsStr, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let flags = flags | OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(directory, name, flags, Mode::empty())
}
