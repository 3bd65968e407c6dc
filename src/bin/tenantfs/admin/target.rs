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
use tenantfs::error::{Error, Kind, Result};

/// How archives are called.
const ARCHIVE: &str = ".tar.zst";

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
    pub(super) fn make(to: &Path, (uid, gid): (u32, u32)) -> Result<Self> {
        let shown = to.display();
        let wrong = |why: String| Error::new(Kind::Config, format!("--to {shown}: {why}"));
        if to == Path::new("-") {
            return Ok(Self::Output);
        }
        if to.to_str().is_some_and(|name| name.ends_with(ARCHIVE)) {
            let file = File::options()
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
                .open(to);
            let there = file.and_then(|file| Ok((file.metadata()?, file)));
            let (metadata, file) = there.map_err(|error| wrong(error.to_string()))?;
            if !metadata.is_file() || metadata.len() > 0 {
                return Err(wrong(
                    "there is something already, and nothing is overwritten".to_owned(),
                ));
            }
            return Ok(Self::Archive {
                path: to.to_owned(),
                file,
            });
        }
        let made = std::fs::DirBuilder::new().mode(0o700).create(to);
        match made {
            Ok(()) if rustix::process::geteuid().is_root() => {
                chown(to, Some(uid), Some(gid)).map_err(|error| wrong(error.to_string()))?;
            }
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(wrong(error.to_string()));
            }
            _ => {}
        }
        let mut entries = std::fs::read_dir(to).map_err(|error| wrong(error.to_string()))?;
        if entries.next().is_some() {
            let why =
                format!("the directory is not empty; name an empty one, a new one, a file *{ARCHIVE}, or -");
            return Err(wrong(why));
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let handle = rustix::fs::open(to, flags, Mode::empty())
            .map_err(|errno| wrong(format!("it cannot be opened: {errno}")))?;
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
                let doing = format!("writing {}", path.display());
                let synced = file
                    .try_clone()
                    .map_err(|error| Error::io(&error, doing.clone()))?;
                let encoder = zstd::Encoder::new(file, zstd::DEFAULT_COMPRESSION_LEVEL)
                    .map_err(|error| Error::io(&error, doing.clone()))?;
                Box::new(Archive {
                    tar: Some(tar::Builder::new(encoder)),
                    finish: move |encoder: zstd::Encoder<'static, File>| {
                        encoder.finish()?;
                        synced.sync_all()
                    },
                    doing,
                })
            }
            Self::Output => Box::new(Archive {
                tar: Some(tar::Builder::new(BufWriter::new(io::stdout()))),
                finish: |mut output: BufWriter<Stdout>| output.flush(),
                doing: "writing to standard output".to_owned(),
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
        let doing = |error: io::Error| Error::io(&error, format!("writing {}", path.display()));
        if let Some(parent) = path.parent() {
            std::fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(parent)
                .map_err(doing)?;
        }
        let mut file = File::options()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .map_err(doing)?;
        io::copy(content, &mut file).map_err(doing)?;
        file.set_permissions(Permissions::from_mode(0o600))
            .map_err(doing)?;
        let changed = SystemTime::UNIX_EPOCH + Duration::new(seconds(mtime), mtime.nanos);
        file.set_modified(changed).map_err(doing)?;
        file.sync_data().map_err(doing)
    }

    fn finish(&mut self) -> Result<()> {
        rustix::fs::syncfs(self.handle.as_fd())
            .map_err(|errno| Error::os(errno, format!("writing {}", self.path.display())))
    }
}

struct Archive<W: Write, F> {
    /// None when it is finished.
    tar: Option<tar::Builder<W>>,
    finish: F,
    doing: String,
}

impl<W: Write, F: FnMut(W) -> io::Result<()>> Target for Archive<W, F> {
    fn file(&mut self, path: &str, size: u64, mtime: Timestamp, content: &mut dyn Read) -> Result<()> {
        let mut header = tar::Header::new_gnu();
        header.set_size(size);
        header.set_mode(0o600);
        header.set_mtime(seconds(mtime));
        let Some(tar) = &mut self.tar else { return Ok(()) };
        tar.append_data(&mut header, path, content)
            .map_err(|error| Error::io(&error, self.doing.clone()))
    }

    fn finish(&mut self) -> Result<()> {
        let Some(tar) = self.tar.take() else { return Ok(()) };
        let written = tar.into_inner().and_then(&mut self.finish);
        written.map_err(|error| Error::io(&error, self.doing.clone()))
    }
}

/// Archives know no time before 1970.
fn seconds(time: Timestamp) -> u64 {
    u64::try_from(time.seconds).unwrap_or(0)
}
