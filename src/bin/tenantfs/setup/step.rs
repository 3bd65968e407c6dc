//! One thing that setup does, which says what it is before it is done.

use std::fmt;
use std::fs::{File, Permissions};
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::{Gid, Mode, OFlags, Uid, fchmod, fchown, mkdirat, openat};
use tenantfs::error::{At, Doing, Error, Kind, Result};

use super::host::Account;
use crate::keys;
use crate::trusted::{Place, Trust};

/// What is done.
pub(super) enum Step {
    /// A directory for the account's records.
    MakeVolume(PathBuf, Account),
    /// An empty directory of root's becomes the account's.
    GiveVolume(PathBuf, Account),
    /// A file of root's that everybody may read.
    Write {
        path: PathBuf,
        text: String,
        /// What of it is shown; all of it where nothing is said.
        changes: Option<Vec<String>>,
    },
    Remove(PathBuf),
    /// The group of the account reads a file of root's.
    LetRead(PathBuf, Account),
    /// Sealing keys, which nothing replaces.
    MakeKeys(PathBuf),
    Run {
        program: &'static str,
        arguments: Vec<String>,
        /// Whether it may fail.
        may_fail: bool,
    },
}

impl fmt::Display for Step {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MakeVolume(path, account) => {
                write!(
                    formatter,
                    "make the volume {}, of {}, mode 0750",
                    path.display(),
                    account.name
                )
            }
            Self::GiveVolume(path, account) => {
                write!(
                    formatter,
                    "give the empty volume {} to {}",
                    path.display(),
                    account.name
                )
            }
            Self::Write { path, .. } => write!(formatter, "write {}", path.display()),
            Self::Remove(path) => write!(formatter, "remove {}", path.display()),
            Self::LetRead(path, account) => write!(
                formatter,
                "let group {} read {} (mode 0640)",
                account.group,
                path.display()
            ),
            Self::MakeKeys(path) => write!(formatter, "make the keys that seal secrets, {}", path.display()),
            Self::Run {
                program, arguments, ..
            } => write!(formatter, "run {program} {}", arguments.join(" ")),
        }
    }
}

impl Step {
    pub(super) fn run(program: &'static str, arguments: &[&str]) -> Self {
        Self::Run {
            program,
            arguments: arguments.iter().map(ToString::to_string).collect(),
            may_fail: false,
        }
    }

    /// What may fail, for something may not be there.
    pub(super) fn try_run(program: &'static str, arguments: &[&str], more: &[&str]) -> Self {
        Self::Run {
            program,
            arguments: arguments.iter().chain(more).map(ToString::to_string).collect(),
            may_fail: true,
        }
    }

    /// What there is to say beyond that, line by line.
    pub(super) fn details(&self) -> Vec<String> {
        match self {
            Self::Write {
                changes: Some(changes),
                ..
            } => changes.clone(),
            Self::Write { text, .. } => {
                let lines = text.lines().filter(|line| !line.starts_with('#'));
                lines.map(str::to_owned).collect()
            }
            Self::MakeKeys(_) => vec![
                "keep a copy apart from the volume's backups: what they seal, nothing else opens".to_owned(),
            ],
            _ => Vec::new(),
        }
    }

    /// Does it.
    ///
    /// # Errors
    /// What went wrong, with where to look.
    pub(super) fn take(&self) -> Result<()> {
        match self {
            Self::MakeVolume(path, account) => make_volume(path, account),
            Self::GiveVolume(path, account) => give_volume(path, account),
            Self::Write { path, text, .. } => write(path, text),
            Self::Remove(path) => {
                std::fs::remove_file(path)
                    .doing("removing what setup wrote")
                    .at(path)?;
                // The directory of a drop-in, if there is no other in it.
                _ = path.parent().map(std::fs::remove_dir);
                Ok(())
            }
            Self::LetRead(path, account) => let_read(path, account),
            Self::MakeKeys(path) => make_keys(path),
            Self::Run {
                program,
                arguments,
                may_fail,
            } => run(program, arguments, *may_fail),
        }
    }
}

/// Through the directory that was looked at: nobody else can have put something in the volume's place.
fn make_volume(path: &Path, account: &Account) -> Result<()> {
    const MAKING: &str = "making the volume";
    let place = Trust::of_caller("--volume")
        .and(account.uid)
        .place_and_make(path)?;
    mkdirat(
        &place.directory,
        &place.name,
        Mode::RWXU | Mode::RGRP | Mode::XGRP,
    )
    .doing(MAKING)
    .at(path)?;
    give(&place, account, OFlags::DIRECTORY, None)
        .doing(MAKING)
        .at(path)
}

fn give_volume(path: &Path, account: &Account) -> Result<()> {
    let place = Trust::of_caller("--volume").and(account.uid).place(path)?;
    let given = give(&place, account, OFlags::DIRECTORY, None);
    given.doing("giving the volume to its account").at(path)
}

fn let_read(path: &Path, account: &Account) -> Result<()> {
    let place = Trust::of_caller("--static-keys").place(path)?;
    let given = give(
        &place,
        account,
        OFlags::NONBLOCK,
        Some(Mode::RUSR | Mode::WUSR | Mode::RGRP),
    );
    given.doing("letting the server read a file").at(path)
}

/// What is at the place becomes the account's; where a mode is given, only for its group to read.
fn give(place: &Place, account: &Account, flags: OFlags, mode: Option<Mode>) -> rustix::io::Result<()> {
    let flags = flags | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let there = openat(&place.directory, &place.name, flags, Mode::empty())?;
    let owner = mode.is_none().then(|| Uid::from_raw(account.uid));
    fchown(&there, owner, Some(Gid::from_raw(account.gid)))?;
    mode.map_or(Ok(()), |mode| fchmod(&there, mode))
}

/// There is the old file or the new one, and never half a one.
fn write(path: &Path, text: &str) -> Result<()> {
    const WRITING: &str = "writing a file of the host's configuration";
    let directory = path.parent().unwrap_or(Path::new("/"));
    std::fs::create_dir_all(directory).doing(WRITING).at(directory)?;
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let beside = PathBuf::from(beside);
    let mode = std::fs::metadata(path).map_or(0o644, |old| old.mode() & 0o777);
    let written = File::create(&beside).and_then(|mut file| {
        file.set_permissions(Permissions::from_mode(mode))?;
        file.write_all(text.as_bytes())?;
        file.sync_all()
    });
    written.doing(WRITING).at(&beside)?;
    std::fs::rename(&beside, path).doing(WRITING).at(path)
}

fn make_keys(path: &Path) -> Result<()> {
    const MAKING: &str = "making the directory of credentials";
    if let Some(directory) = path.parent().filter(|directory| !directory.exists()) {
        std::fs::create_dir_all(directory).doing(MAKING).at(directory)?;
        std::fs::set_permissions(directory, Permissions::from_mode(0o700))
            .doing(MAKING)
            .at(directory)?;
    }
    keys::make(path).map(drop)
}

fn run(program: &'static str, arguments: &[String], may_fail: bool) -> Result<()> {
    let status = Command::new(program).args(arguments).status();
    let status = status.doing(format!("running {program}"))?;
    if status.success() || may_fail {
        return Ok(());
    }
    let said = format!("{program} {}: {status}", arguments.join(" "));
    let unit = arguments.last().filter(|unit| unit.starts_with("tenantfs"));
    Err(match unit {
        Some(unit) => Error::new(
            Kind::Io,
            format!("{said}; it says why: journalctl -n 20 -u {unit}"),
        ),
        None => Error::new(Kind::Io, said),
    })
}
