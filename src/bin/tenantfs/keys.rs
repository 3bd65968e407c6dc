//! `tenantfs keys`: making and changing the sealing keys file, of which there is never half a one.

use std::fs::{File, Metadata};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use tenantfs::error::{Error, Kind, Result};
use tenantfs::seal::{NewKeys, SealingKeys};

use crate::cli::KeysCommand;
use crate::config;

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
    std::fs::hard_link(&staged.path, path).map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => wrong(
            path,
            "exists, and may have keys that are needed: add one with `tenantfs keys rotate`, or name another file",
        ),
        _ => cannot("making", path, &error),
    })?;
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
    let path = std::fs::canonicalize(path).map_err(|error| cannot("reading", path, &error))?;
    // Read as servers do before anything is locked: that never waits for what is no file.
    SealingKeys::load(&path)?;
    let (_lock, metadata) = lock(&path)?;
    let new = SealingKeys::load(&path)?.rotate()?;
    let mut staged = Staged::write(&path, &new, Some(&metadata))?;
    std::fs::rename(&staged.path, &path).map_err(|error| cannot("replacing", &path, &error))?;
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
fn lock(path: &Path) -> Result<(File, Metadata)> {
    let doing = |error: std::io::Error| cannot("locking", path, &error);
    loop {
        let file = File::open(path).map_err(doing)?;
        flock(&file, FlockOperation::LockExclusive).map_err(|errno| doing(errno.into()))?;
        let (locked, named) = (file.metadata().map_err(doing)?, path.metadata().map_err(doing)?);
        // Whoever had the lock before may have replaced the file.
        if (locked.dev(), locked.ino()) == (named.dev(), named.ino()) {
            return Ok((file, locked));
        }
    }
}

/// The whole text in a file beside the one that it is to be. Dropped before it is placed, it leaves nothing behind.
struct Staged {
    path: PathBuf,
    placed: bool,
}

impl Staged {
    /// For its owner alone; with the owner and mode of the file that it will replace.
    fn write(target: &Path, new: &NewKeys, replaced: Option<&Metadata>) -> Result<Self> {
        let doing = |error: std::io::Error| cannot("writing", target, &error);
        let mut path = target.as_os_str().to_owned();
        path.push(format!(".{}", new.kid));
        let mut file = File::options()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .map_err(doing)?;
        let staged = Self {
            path: path.into(),
            placed: false,
        };
        if let Some(replaced) = replaced {
            fchown(&file, Some(replaced.uid()), Some(replaced.gid())).map_err(doing)?;
            let mode = PermissionsExt::from_mode(replaced.mode() & 0o777);
            file.set_permissions(mode).map_err(doing)?;
        }
        file.write_all(new.text.as_bytes()).map_err(doing)?;
        file.sync_all().map_err(doing)?;
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
    File::open(directory)
        .and_then(|directory| directory.sync_all())
        .map_err(|error| cannot("making durable", path, &error))
}

/// The key's id on standard output, alone; what to do next for people.
fn announce(new: &NewKeys, next: &str) -> Result<()> {
    writeln!(std::io::stdout(), "{}", new.kid)
        .map_err(|error| Error::io(&error, "printing the new key's id"))?;
    eprintln!("{next}");
    Ok(())
}

fn wrong(path: &Path, why: &str) -> Error {
    Error::new(
        Kind::Config,
        format!("the sealing keys file {} {why}", path.display()),
    )
}

fn cannot(doing: &str, path: &Path, error: &std::io::Error) -> Error {
    Error::new(
        Kind::Config,
        format!("{doing} the sealing keys file {}: {error}", path.display()),
    )
}
