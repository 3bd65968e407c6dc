//! Where an export goes: a directory, a compressed archive, or an archive on standard output.

use std::fs::{File, Permissions};
use std::io::{self, BufWriter, Read, Stdout, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::{Mode, OFlags};
use tenantfs::admin::Target;
use tenantfs::clock::Timestamp;
use tenantfs::error::{At, Doing, Error, Kind, Result};

/// How archives are called.
const ARCHIVE: &str = ".tar.zst";

/// How files are called that nothing here writes: a directory of such a name is no archive, which its name promises.
const OTHER_ARCHIVES: &[&str] = &[
    ".tar", ".tgz", ".tar.gz", ".tzst", ".txz", ".tar.xz", ".tbz2", ".tar.bz2", ".tar.lz4", ".zip", ".7z",
    ".cpio", ".gz", ".zst",
];

const WRITING: &str = "writing the export";

/// A target that is there, and that nobody else can read.
pub(super) enum Place {
    Directory { path: PathBuf, handle: OwnedFd },
    Archive { path: PathBuf, file: File },
    Output,
}

impl Place {
    /// Makes what `to` names, for the account `uid`, which need not be this one yet.
    ///
    /// # Errors
    /// [`Kind::Config`] when there is something already; that it cannot be made.
    pub(super) fn make(to: &Path, owner: (u32, u32)) -> Result<Self> {
        if to == Path::new("-") {
            return Ok(Self::Output);
        }
        // Not by the path's last component: who writes `x.tar/` means a directory.
        let name = to.to_string_lossy().to_ascii_lowercase();
        let is_called = |ending: &&&str| name.ends_with(**ending);
        let made = if to.to_str().is_some_and(|name| name.ends_with(ARCHIVE)) {
            Self::archive(to)
        } else if let Some(ending) = OTHER_ARCHIVES.iter().find(is_called) {
            Err(Error::config(format!(
                "--to {}: no archive of the kind {ending} is written; name a file *{ARCHIVE}, or a directory, or write - for a tar on \
                 standard output",
                to.display()
            )))
        } else {
            Self::directory_at(to, owner)
        };
        made.map_err(|error| error.as_kind(Kind::Config))
    }

    fn archive(to: &Path) -> Result<Self> {
        let file = File::options()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
            .open(to)
            .doing("making the archive")
            .at(to)?;
        let metadata = file.metadata().doing("looking at the archive").at(to)?;
        if !metadata.is_file() || metadata.len() > 0 {
            return Err(Error::config(format!(
                "--to {}: there is something already, and nothing is overwritten; name another file",
                to.display()
            )));
        }
        Ok(Self::Archive {
            path: to.to_owned(),
            file,
        })
    }

    fn directory_at(to: &Path, (uid, gid): (u32, u32)) -> Result<Self> {
        match std::fs::DirBuilder::new().mode(0o700).create(to) {
            Ok(()) if rustix::process::geteuid().is_root() => {
                chown(to, Some(uid), Some(gid))
                    .doing("giving the directory to the volume's account")
                    .at(to)?;
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            made => made.doing("making the directory").at(to)?,
        }
        let mut entries = std::fs::read_dir(to).doing("looking at the directory").at(to)?;
        if entries.next().is_some() {
            return Err(Error::config(format!(
                "--to {}: the directory is not empty; name an empty one, a new one, a file *{ARCHIVE}, or -",
                to.display()
            )));
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let handle = rustix::fs::open(to, flags, Mode::empty())
            .doing("opening the directory")
            .at(to)?;
        Ok(Self::Directory {
            path: to.to_owned(),
            handle,
        })
    }

    /// The directory that is written to, for a sandbox to leave open.
    pub(super) fn directory(&self) -> Option<&OwnedFd> {
        match self {
            Self::Directory { handle, .. } => Some(handle),
            Self::Archive { .. } | Self::Output => None,
        }
    }

    /// What writes there.
    ///
    /// # Errors
    /// [`Kind::Io`] when the archive cannot be begun.
    pub(super) fn open(self) -> Result<Box<dyn Target>> {
        Ok(match self {
            Self::Directory { path, handle } => Box::new(Directory { path, handle }),
            Self::Archive { path, file } => {
                let synced = file.try_clone().doing(WRITING).at(&path)?;
                let encoder = zstd::Encoder::new(file, zstd::DEFAULT_COMPRESSION_LEVEL);
                Box::new(Archive {
                    tar: Some(tar::Builder::new(encoder.doing(WRITING).at(&path)?)),
                    finish: move |encoder: zstd::Encoder<'static, File>| {
                        encoder.finish()?;
                        synced.sync_all()
                    },
                    path,
                })
            }
            Self::Output => Box::new(Archive {
                tar: Some(tar::Builder::new(BufWriter::new(io::stdout()))),
                finish: |mut output: BufWriter<Stdout>| output.flush(),
                path: "standard output".into(),
            }),
        })
    }
}

struct Directory {
    path: PathBuf,
    handle: OwnedFd,
}

impl Target for Directory {
    fn file(&mut self, path: &str, _: u64, mtime: Timestamp, content: &mut dyn Read) -> Result<()> {
        let path = self.path.join(path);
        write_file(&path, mtime, content).doing(WRITING).at(path)
    }

    fn finish(&mut self) -> Result<()> {
        rustix::fs::syncfs(self.handle.as_fd())
            .doing(WRITING)
            .at(&self.path)
    }
}

/// Makes a file that only its owner can read, and the directories that it is in.
fn write_file(path: &Path, mtime: Timestamp, content: &mut dyn Read) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(parent)?;
    }
    let mut file = File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    io::copy(content, &mut file)?;
    file.set_permissions(Permissions::from_mode(0o600))?;
    file.set_modified(SystemTime::UNIX_EPOCH + Duration::new(seconds(mtime), mtime.nanos))?;
    file.sync_data()
}

struct Archive<W: Write, F> {
    /// None when it is finished.
    tar: Option<tar::Builder<W>>,
    finish: F,
    /// Where it is, for messages.
    path: PathBuf,
}

impl<W: Write, F: FnMut(W) -> io::Result<()>> Target for Archive<W, F> {
    fn file(&mut self, path: &str, size: u64, mtime: Timestamp, content: &mut dyn Read) -> Result<()> {
        let mut header = tar::Header::new_gnu();
        header.set_size(size);
        header.set_mode(0o600);
        header.set_mtime(seconds(mtime));
        let Some(tar) = &mut self.tar else { return Ok(()) };
        tar.append_data(&mut header, path, content)
            .doing(WRITING)
            .at(&self.path)
    }

    fn finish(&mut self) -> Result<()> {
        let Some(tar) = self.tar.take() else { return Ok(()) };
        tar.into_inner()
            .and_then(&mut self.finish)
            .doing(WRITING)
            .at(&self.path)
    }
}

/// Archives know no time before 1970.
fn seconds(time: Timestamp) -> u64 {
    u64::try_from(time.seconds).unwrap_or(0)
}
