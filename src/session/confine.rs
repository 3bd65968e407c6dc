//! Landlock: what the serving threads may reach, whatever our own code asks for.

use std::fmt;
use std::os::fd::BorrowedFd;

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset,
    RulesetAttr, RulesetCreatedAttr, RulesetStatus, Scope,
};

use crate::error::{Error, Kind, Result};

/// The newest rules that this program knows; a kernel that knows fewer enforces those.
const NEWEST: ABI = ABI::V6;

/// How far the kernel confines the calling thread and those it starts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Confinement {
    /// By every rule.
    Full,
    /// By those that the kernel knows.
    Partial,
    /// Not at all.
    None,
}

impl fmt::Display for Confinement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => "confined by Landlock to the tenant's directories",
            Self::Partial => "confined by Landlock to the tenant's directories, as far as this kernel can",
            Self::None => "NOT confined: Landlock is not to be had here (see tenantfs doctor); the other layers of isolation hold",
        })
    }
}

/// A directory, and what may be done below it.
#[derive(Clone, Copy, Debug)]
pub struct Reach<'d> {
    /// The directory.
    pub directory: BorrowedFd<'d>,
    /// Whether it is only read; else everything is done there that a store does.
    pub read_only: bool,
}

/// Confines the calling thread, and every thread it starts from now on, to what is below directories. No network, no signals to
/// others, no programs.
///
/// # Errors
/// [`Kind::Io`] when the kernel has Landlock and refuses.
pub fn confine(directories: &[Reach<'_>]) -> Result<Confinement> {
    enforce(directories)
        .map_err(|error| Error::new(Kind::Io, format!("confining the serving threads: {error}")))
}

fn granted(read_only: bool) -> BitFlags<AccessFs> {
    let reading = AccessFs::ReadFile | AccessFs::ReadDir;
    let writing = AccessFs::WriteFile
        | AccessFs::MakeReg
        | AccessFs::MakeDir
        | AccessFs::RemoveFile
        | AccessFs::RemoveDir
        | AccessFs::Refer
        | AccessFs::Truncate;
    match read_only {
        true => reading,
        false => reading | writing,
    }
}

fn enforce(directories: &[Reach<'_>]) -> std::result::Result<Confinement, Box<dyn std::error::Error>> {
    let mut ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(NEWEST))?
        .handle_access(AccessNet::from_all(NEWEST))?
        .scope(Scope::from_all(NEWEST))?
        .create()?;
    for reach in directories {
        ruleset = ruleset.add_rule(PathBeneath::new(reach.directory, granted(reach.read_only)))?;
    }
    // Each further worker opens the device for a queue of its own.
    if let Ok(device) = PathFd::new("/dev/fuse") {
        ruleset = ruleset.add_rule(PathBeneath::new(
            device,
            AccessFs::ReadFile | AccessFs::WriteFile | AccessFs::IoctlDev,
        ))?;
    }
    Ok(match ruleset.restrict_self()?.ruleset {
        RulesetStatus::FullyEnforced => Confinement::Full,
        RulesetStatus::PartiallyEnforced => Confinement::Partial,
        RulesetStatus::NotEnforced => Confinement::None,
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs::{self, File};
    use std::io::ErrorKind;
    use std::os::fd::AsFd;
    use std::thread;

    use super::*;

    #[test]
    fn each_directory_is_written_only_where_that_is_granted() {
        let base = tempfile::tempdir_in("/var/tmp").unwrap();
        let [volume, target, other] = ["volume", "target", "other"].map(|name| base.path().join(name));
        for directory in [&volume, &target, &other] {
            fs::create_dir(directory).unwrap();
            fs::write(directory.join("there"), "x").unwrap();
        }
        let handles = [&volume, &target].map(|directory| File::open(directory).unwrap());
        let confined = thread::spawn(move || {
            let reaches: Vec<_> = handles
                .iter()
                .zip([true, false])
                .map(|(handle, read_only)| Reach {
                    directory: handle.as_fd(),
                    read_only,
                })
                .collect();
            let confinement = confine(&reaches).unwrap();
            if confinement == Confinement::None {
                return;
            }
            let denied =
                |result: std::io::Result<()>| result.unwrap_err().kind() == ErrorKind::PermissionDenied;
            assert_eq!(fs::read(volume.join("there")).unwrap(), b"x");
            assert!(denied(fs::write(volume.join("there"), "y")));
            assert!(denied(fs::write(volume.join("new"), "y")));
            assert!(denied(fs::remove_file(volume.join("there"))));
            assert!(denied(fs::rename(volume.join("there"), target.join("moved"))));
            assert!(denied(fs::read(other.join("there")).map(drop)));
            fs::write(target.join("new"), "y").unwrap();
        });
        confined.join().unwrap();
    }
}
