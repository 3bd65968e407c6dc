//! Where an export goes: a directory, a compressed archive, or an archive on standard output.
//!
//! Root makes it where users of the host may be at work, and then another account writes it: from the first look on, everything
//! goes by handles.

use std::io::{self, BufWriter, Stdout, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Gid, Mode, OFlags, Uid, fchown, mkdirat, openat};
use rustix::io::Errno;
use tenantfs::admin::{Content, Target};
use tenantfs::clock::Timestamp;
use tenantfs::error::{At, Doing, Error, Kind, Result};
use tenantfs::volume::{self, Descent, Dir, Durability, Staged, Times};

use super::archive::{self, Archive, WRITING};
use super::unfinished::Unfinished;
use crate::trusted::{self, Trust};

/// How archives are called.
pub(super) const ARCHIVE: &str = ".tar.zst";

/// How files are called that nothing here writes: a directory of such a name is no archive, which its name promises.
const OTHER_ARCHIVES: &[&str] = &[
    ".tar", ".tgz", ".tar.gz", ".tzst", ".txz", ".tar.xz", ".tbz2", ".tar.bz2", ".tar.lz4", ".zip", ".7z",
    ".cpio", ".gz", ".zst",
];

/// A target that is there, and that nobody else can read.
pub(super) enum Place {
    Directory { path: PathBuf, handle: OwnedFd },
    Archive(Unfinished),
    Output,
}

impl Place {
    /// Makes what `to` names, for the account `owner`, which need not be this one yet.
    ///
    /// # Errors
    /// [`Kind::Config`] when there is something already; that it cannot be made; that others could change it.
    pub(super) fn make(to: &Path, owner: (u32, u32)) -> Result<Self> {
        if to == Path::new("-") {
            return Ok(Self::Output);
        }
        let trust = Trust::of_caller("--to").and(owner.0);
        // Not by the path's last component: who writes `x.tar/` means a directory.
        let name = to.to_string_lossy().to_ascii_lowercase();
        let is_called = |ending: &&&str| name.ends_with(**ending);
        let made = if to.to_str().is_some_and(|name| name.ends_with(ARCHIVE)) {
            trust.place(to).and_then(Unfinished::make).map(Self::Archive)
        } else if let Some(ending) = OTHER_ARCHIVES.iter().find(is_called) {
            Err(Error::config(format!(
                "--to {}: no archive of the kind {ending} is written; name a file *{ARCHIVE}, or a directory, or write - for a tar on \
                 standard output",
                to.display()
            )))
        } else {
            directory_at(&trust, to, owner)
        };
        made.map_err(|error| error.as_kind(Kind::Config))
    }

    /// The directory that is written to, for a sandbox to leave open.
    pub(super) fn directory(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Self::Directory { handle, .. } => Some(handle.as_fd()),
            Self::Archive(_) | Self::Output => None,
        }
    }

    /// What writes there.
    ///
    /// # Errors
    /// That it cannot be begun.
    pub(super) fn open(&self) -> Result<Box<dyn Target>> {
        Ok(match self {
            Self::Directory { path, handle } => {
                let top = handle.try_clone().doing(WRITING).at(path)?;
                Box::new(Directory {
                    way: Descent::private(Dir::opened(top, path)),
                    path: path.clone(),
                })
            }
            Self::Archive(unfinished) => {
                let file = unfinished.file()?;
                Box::new(archive::in_file(file, unfinished.path().to_owned())?)
            }
            Self::Output => Box::new(Archive::new(
                BufWriter::new(io::stdout()),
                |mut output: BufWriter<Stdout>| output.flush(),
                "standard output".into(),
            )),
        })
    }

    /// The export is whole.
    ///
    /// # Errors
    /// [`Kind::Config`] when something has the archive's name meanwhile; that it cannot be named.
    pub(super) fn finish(self) -> Result<()> {
        match self {
            Self::Archive(unfinished) => unfinished.name(),
            Self::Directory { .. } | Self::Output => Ok(()),
        }
    }
}

/// An empty directory, made if there is none.
fn directory_at(trust: &Trust, to: &Path, (uid, gid): (u32, u32)) -> Result<Place> {
    const OPENING: &str = "opening the directory";
    let trusted::Place {
        directory,
        name,
        path,
    } = trust.followed(to)?;
    let is_new = match mkdirat(&directory, &name, Mode::from_raw_mode(0o700)) {
        Ok(()) => true,
        Err(Errno::EXIST) => false,
        Err(errno) => return Err(Error::os(errno, "making the directory").at(path)),
    };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let handle = openat(&directory, &name, flags, Mode::empty())
        .doing(OPENING)
        .at(&path)?;
    // Whose it is, and who can write it: before anything is changed.
    trust.own_directory(&handle, &path)?;
    let mut is_empty = true;
    let entries = rustix::fs::Dir::read_from(&handle).doing(OPENING).at(&path)?;
    for entry in entries {
        let entry = entry.doing(OPENING).at(&path)?;
        is_empty &= matches!(entry.file_name().to_bytes(), b"." | b"..");
    }
    if !is_empty {
        return Err(Error::config(format!(
            "--to {}: the directory is not empty; name an empty one, a new one, a file *{ARCHIVE}, or -",
            to.display()
        )));
    }
    if is_new && rustix::process::geteuid().is_root() {
        fchown(&handle, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))
            .doing("giving the directory to the volume's account")
            .at(&path)?;
    }
    Ok(Place::Directory { path, handle })
}

struct Directory {
    path: PathBuf,
    /// To where the last file was put.
    way: Descent,
}

impl Target for Directory {
    /// Makes a file that only its owner can read, and the directories that it is in.
    fn file(&mut self, path: &str, mtime: Timestamp, content: Content<'_>) -> Result<()> {
        let mut names: Vec<&str> = path.split('/').collect();
        let name = names.pop().unwrap_or_default();
        let dir = self.way.lead_to(&names)?;
        let staged = Staged::private(dir)?;
        let written = content.pieces.write(content.data, staged.file());
        written.doing(WRITING).at(self.path.join(path))?;
        let times = Times {
            mtime: Some(mtime),
            ..Times::default()
        };
        volume::set_times(staged.file(), times)?;
        staged.place_new(name, Durability::Ordered).map(drop)
    }

    fn finish(&mut self) -> Result<()> {
        rustix::fs::syncfs(self.way.top().as_fd())
            .doing(WRITING)
            .at(&self.path)
    }
}
