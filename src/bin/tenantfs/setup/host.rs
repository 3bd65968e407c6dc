//! What is found out about the host.

use std::ffi::OsStr;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::unistd::{Gid, Group, Uid, User};
use tenantfs::error::{At, Doing, Error, Kind, Result};
use tenantfs::escape::quoted;

/// Whose the volume is where nobody says anything else: tenantfs.sysusers makes this account.
pub(super) const DEFAULT_ACCOUNT: &str = "tenantfs";

/// An account that serves.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Account {
    pub(super) name: String,
    pub(super) group: String,
    pub(super) uid: u32,
    pub(super) gid: u32,
}

/// What is to become of the volume's directory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Becomes {
    /// It is there, and the account's.
    AsItIs,
    /// It is missing.
    Made,
    /// It is empty, and root's.
    Given,
    /// It is somebody else's, who lets the account work on it.
    AnothersStill,
}

/// The volume's directory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Volume {
    pub(super) path: PathBuf,
    pub(super) account: Account,
    pub(super) becomes: Becomes,
}

/// Refuses a host on which there is nothing to set up.
pub(super) fn check_systemd() -> Result<()> {
    if !Path::new("/run/systemd/system").is_dir() {
        return Err(Error::config(
            "systemd does not run here, and setup is about its units; start `tenantfs daemon` by other means, see tenantfs-daemon(1)",
        ));
    }
    let places = [
        "/etc/systemd/system",
        "/usr/lib/systemd/system",
        "/lib/systemd/system",
    ];
    match places
        .iter()
        .any(|place| Path::new(place).join("tenantfs.service").is_file())
    {
        true => Ok(()),
        false => Err(Error::config(
            "tenantfs.service is not installed; install the package, which scripts/package makes",
        )),
    }
}

/// Which systemd this is; 0 where it does not say.
pub(super) fn systemd_version() -> u32 {
    let said = Command::new("systemctl").arg("--version").output();
    let said = said.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    let second = said
        .ok()
        .and_then(|said| said.split_whitespace().nth(1)?.parse().ok());
    second.unwrap_or(0)
}

/// Whether systemctl says yes.
pub(super) fn systemctl(question: &str, unit: &str) -> bool {
    let status = Command::new("systemctl")
        .args([question, "--quiet", unit])
        .status();
    status.is_ok_and(|status| status.success())
}

/// The views of tenantfs@.service that are served now.
pub(super) fn instances() -> Vec<String> {
    let listed = Command::new("systemctl")
        .args([
            "list-units",
            "--plain",
            "--no-legend",
            "--state=active,activating",
        ])
        .arg("tenantfs@*.service")
        .output();
    let listed = listed.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    let listed = listed.unwrap_or_default();
    let names = listed.lines().filter_map(|line| line.split_whitespace().next());
    names.map(str::to_owned).collect()
}

/// The account called so.
pub(super) fn account(name: &str) -> Result<Account> {
    let user = match name.parse() {
        Ok(uid) => User::from_uid(Uid::from_raw(uid)),
        Err(_) => User::from_name(name),
    };
    let user = user
        .map_err(std::io::Error::from)
        .doing("looking for an account")?;
    let user = user.ok_or_else(|| match name {
        DEFAULT_ACCOUNT => Error::config(
            "there is no account \"tenantfs\", which the package makes; run: systemd-sysusers tenantfs.conf",
        ),
        _ => Error::config(format!(
            "there is no account {name:?} on this host; see --account"
        )),
    })?;
    if user.uid.is_root() {
        return Err(Error::config(
            "root cannot be the account that serves: it would not be kept out of anything; name another one with --account",
        ));
    }
    let gid = user.gid.as_raw();
    Ok(Account {
        name: user.name,
        group: group_name(gid),
        uid: user.uid.as_raw(),
        gid,
    })
}

fn group_name(gid: u32) -> String {
    match Group::from_gid(Gid::from_raw(gid)) {
        Ok(Some(group)) => group.name,
        _ => gid.to_string(),
    }
}

/// The volume at `path`, and who serves it: who is named, else whose it is.
pub(super) fn volume(path: &Path, named: Option<&str>) -> Result<Volume> {
    const LOOKING: &str = "looking at the volume";
    if !path.is_absolute() {
        let path = path.display();
        return Err(Error::config(format!(
            "the volume {path}: write the whole path, from / on; units have no other, and ~ is not expanded here"
        )));
    }
    if path
        .as_os_str()
        .as_encoded_bytes()
        .iter()
        .any(u8::is_ascii_control)
    {
        return Err(Error::config(
            "the volume's path has a control character; rename a directory",
        ));
    }
    let metadata = match std::fs::metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let account = account(named.unwrap_or(DEFAULT_ACCOUNT))?;
            return Ok(Volume {
                path: path.to_owned(),
                account,
                becomes: Becomes::Made,
            });
        }
        metadata => metadata.doing(LOOKING).at(path)?,
    };
    // As the kernel knows it: units name mounts by that.
    let path = std::fs::canonicalize(path).doing(LOOKING).at(path)?;
    if !metadata.is_dir() {
        return Err(Error::config(format!(
            "the volume {} is no directory",
            path.display()
        )));
    }
    let (owner, is_empty) = (metadata.uid(), is_empty(&path)?);
    let is_given = owner == 0 && is_empty;
    if owner == 0 && !is_empty && named.is_none() {
        return Err(Error::config(format!(
            "the volume {shown} belongs to root, and has something in it: the account of the service that writes it is to own it; run: \
             chown -R ACCOUNT: {quoted}, or name an account that may write it with --account",
            shown = path.display(),
            quoted = quoted(&path)
        )));
    }
    let account = match named {
        Some(name) => account(name)?,
        None if is_given => account(DEFAULT_ACCOUNT)?,
        None => account(&owner.to_string()).map_err(|error| error.as_kind(Kind::Config))?,
    };
    let becomes = match owner == account.uid {
        true => Becomes::AsItIs,
        false if is_given => Becomes::Given,
        false => Becomes::AnothersStill,
    };
    Ok(Volume {
        path,
        account,
        becomes,
    })
}

fn is_empty(path: &Path) -> Result<bool> {
    let mut entries = std::fs::read_dir(path).doing("looking at the volume").at(path)?;
    // The root of a file system of its own has this.
    let is_something = |entry: &std::io::Result<std::fs::DirEntry>| {
        entry
            .as_ref()
            .map_or(true, |entry| entry.file_name() != OsStr::new("lost+found"))
    };
    Ok(!entries.any(|entry| is_something(&entry)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_does_not_serve() {
        for root in ["root", "0"] {
            assert!(account(root).unwrap_err().to_string().contains("--account"));
        }
        assert_eq!(account("nobody").unwrap().name, "nobody");
        assert!(
            account("nobody-is-called-so")
                .unwrap_err()
                .to_string()
                .contains("--account")
        );
    }

    #[test]
    fn a_volume_is_made_or_given_or_left_as_it_is() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("records");
        let becomes = |named| volume(&path, named).map(|volume| volume.becomes);
        assert_eq!(becomes(Some("nobody")).unwrap(), Becomes::Made);
        std::fs::create_dir(&path).unwrap();
        let root = rustix::process::geteuid().is_root();
        let expected = if root {
            Becomes::Given
        } else {
            Becomes::AnothersStill
        };
        assert_eq!(becomes(Some("nobody")).unwrap(), expected);
        std::fs::write(path.join("x"), "").unwrap();
        assert_eq!(becomes(Some("nobody")).unwrap(), Becomes::AnothersStill);
        if root {
            assert!(becomes(None).unwrap_err().to_string().contains("chown -R"));
        }
        let file = volume(&path.join("x"), Some("nobody")).unwrap_err();
        assert!(file.to_string().contains("no directory"));
        let home = volume(Path::new("~/records"), None).unwrap_err();
        assert!(home.to_string().contains("whole path"));
    }
}
