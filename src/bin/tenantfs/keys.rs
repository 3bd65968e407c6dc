//! `tenantfs keys`: making and changing the sealing keys file, of which there is never half a one.

use std::fs::{File, Metadata};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use tenantfs::error::{At, Doing, Error, Kind, Result};
use tenantfs::seal::{NewKeys, SealingKeys};

use crate::cli::KeysCommand;
use crate::{config, say};

pub(crate) fn run(command: KeysCommand) -> Result<()> {
    match command {
        KeysCommand::Generate(args) => generate(&config::sealing_keys_file(args)?),
        KeysCommand::Rotate(args) => rotate(&config::sealing_keys_file(args)?),
    }
}

fn generate(path: &Path) -> Result<()> {
    let new = SealingKeys::generate()?;
    let staged = Staged::write(path, &new, None)?;
    // A second name, which replaces nothing; the first one goes with `staged`.
    match std::fs::hard_link(&staged.path, path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            return Err(Error::config(format!(
                "the sealing keys file {} exists, and may have keys that are needed: add one with `tenantfs keys rotate`, \
                 or name another file",
                path.display()
            )));
        }
        linked => named(linked.doing("making the sealing keys file"), path)?,
    }
    drop(staged);
    sync_directory(path)?;
    let shown = path.display();
    announce(
        &new,
        &format!(
            "{shown} is made. Keep a copy, apart from the volume's backups: what it seals, nothing else opens.\n\
             Next: start the servers with --sealing-keys {shown}, or set records.sealing_keys"
        ),
    )
}

fn rotate(path: &Path) -> Result<()> {
    // What is replaced is the file, not a link to it.
    let path = named(
        std::fs::canonicalize(path).doing("reading the sealing keys file"),
        path,
    )?;
    // Read as servers do before anything is locked: that never waits for what is no file.
    SealingKeys::load(&path)?;
    let (_lock, metadata) = named(lock(&path).doing("locking the sealing keys file"), &path)?;
    let new = SealingKeys::load(&path)?.rotate()?;
    let mut staged = Staged::write(&path, &new, Some(&metadata))?;
    let renamed = std::fs::rename(&staged.path, &path);
    named(renamed.doing("replacing the sealing keys file"), &path)?;
    staged.placed = true;
    sync_directory(&path)?;
    announce(
        &new,
        &format!(
            "{} has a new key, which is active; the others still open what they sealed. Keep a copy of it.\n\
             Next: restart the servers, then seal anew what older keys sealed: tenantfs reseal",
            path.display()
        ),
    )
}

/// The file, locked: two who rotate at a time would lose one of the new keys.
fn lock(path: &Path) -> std::io::Result<(File, Metadata)> {
    loop {
        let file = File::open(path)?;
        flock(&file, FlockOperation::LockExclusive)?;
        let (locked, named) = (file.metadata()?, path.metadata()?);
        // Whoever had the lock before may have replaced the file.
        if (locked.dev(), locked.ino()) == (named.dev(), named.ino()) {
            return Ok((file, locked));
        }
    }
}

/// The whole text in a file beside the one that it is to be. Dropped before it is placed, it leaves nothing
/// behind.
struct Staged {
    path: PathBuf,
    placed: bool,
}

impl Staged {
    /// For its owner alone; with the owner and mode of the file that it will replace.
    ///
    /// # Errors
    /// [`Kind::Config`] when it cannot be written.
    fn write(target: &Path, new: &NewKeys, replaced: Option<&Metadata>) -> Result<Self> {
        let written = Self::write_beside(target, new, replaced);
        named(written.doing("writing the sealing keys file"), target)
    }

    fn write_beside(target: &Path, new: &NewKeys, replaced: Option<&Metadata>) -> std::io::Result<Self> {
        let mut path = target.as_os_str().to_owned();
        path.push(format!(".{}", new.kid));
        let mut file = File::options()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)?;
        let staged = Self {
            path: path.into(),
            placed: false,
        };
        if let Some(replaced) = replaced {
            fchown(&file, Some(replaced.uid()), Some(replaced.gid()))?;
            file.set_permissions(PermissionsExt::from_mode(replaced.mode() & 0o777))?;
        }
        file.write_all(new.text.as_bytes())?;
        file.sync_all()?;
        Ok(staged)
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if !self.placed
            && let Err(error) = std::fs::remove_file(&self.path)
        {
            log::warn!("{} has keys, and stays behind: {error}", self.path.display());
        }
    }
}

/// From here on the name survives a power cut.
fn sync_directory(path: &Path) -> Result<()> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let synced = File::open(directory).and_then(|directory| directory.sync_all());
    named(synced.doing("making the sealing keys file durable"), path)
}

/// The key's id on standard output, alone; what to do next for people.
fn announce(new: &NewKeys, next: &str) -> Result<()> {
    writeln!(std::io::stdout(), "{}", new.kid).doing("printing the new key's id")?;
    next.lines().for_each(say::note);
    Ok(())
}

/// The file is what somebody named: whatever is wrong with it is a matter of configuration.
fn named<T>(result: Result<T>, path: &Path) -> Result<T> {
    result.at(path).map_err(|error| error.as_kind(Kind::Config))
}
