//! `tenantfs keys`: making and changing the sealing keys file, of which there is never half a one.

use std::ffi::OsString;
use std::fs::{File, Metadata};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};
use std::path::Path;

use rustix::fs::{
    AtFlags, FlockOperation, Mode, OFlags, flock, fsync, linkat, openat, renameat, statat, unlinkat,
};
use rustix::io::Errno;
use tenantfs::error::{At, Doing, Error, Kind, Result};
use tenantfs::escape::quoted;
use tenantfs::seal::{NewKeys, SealingKeys};

use crate::cli::KeysCommand;
use crate::config::STORED_KEYS;
use crate::trusted::{Place, Trust};
use crate::{config, say};

pub(crate) fn run(command: KeysCommand) -> Result<()> {
    match command {
        KeysCommand::Generate(args) => generate(&config::sealing_keys_file(args)?),
        KeysCommand::Rotate(args) => rotate(&config::sealing_keys_file(args)?),
    }
}

fn generate(path: &Path) -> Result<()> {
    let new = make(path)?;
    let shown = quoted(path);
    announce(
        &new,
        &format!(
            "{shown} is made. Keep a copy, apart from the volume's backups: what it seals, nothing else opens.\n\
             Next: {}",
            match path == Path::new(STORED_KEYS) {
                true => "systemctl restart tenantfs: the units take it from there, and so do the operator's commands".to_owned(),
                false => format!("start the servers with --sealing-keys {shown}, or set records.sealing_keys"),
            }
        ),
    )
}

/// Makes a new file with one key, and replaces none.
///
/// # Errors
/// [`Kind::Config`] when there is such a file, or it cannot be made.
pub(crate) fn make(path: &Path) -> Result<NewKeys> {
    let new = SealingKeys::generate()?;
    let place = Trust::of_caller("the sealing keys file").place(path)?;
    let staged = Staged::write(&place, &new, None)?;
    // A second name, which replaces nothing; the first one goes with `staged`.
    let linked = linkat(
        &place.directory,
        &staged.name,
        &place.directory,
        &place.name,
        AtFlags::empty(),
    );
    match linked {
        Err(Errno::EXIST) => {
            return Err(Error::config(format!(
                "the sealing keys file {} exists, and may have keys that are needed: add one with `tenantfs keys rotate`, \
                 or name another file",
                path.display()
            )));
        }
        linked => named(linked.doing("making the sealing keys file"), path)?,
    }
    drop(staged);
    sync(&place)?;
    Ok(new)
}

fn rotate(path: &Path) -> Result<()> {
    // What is replaced is the file, not a link to it.
    let place = Trust::of_caller("the sealing keys file").followed(path)?;
    let path = &place.path;
    // Read as servers do before anything is locked: that never waits for what is no file.
    SealingKeys::load(path)?;
    let (_lock, metadata) = named(lock(&place).doing("locking the sealing keys file"), path)?;
    let new = SealingKeys::load(path)?.rotate()?;
    let mut staged = Staged::write(&place, &new, Some(&metadata))?;
    let renamed = renameat(&place.directory, &staged.name, &place.directory, &place.name);
    named(renamed.doing("replacing the sealing keys file"), path)?;
    staged.placed = true;
    sync(&place)?;
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
fn lock(place: &Place) -> std::io::Result<(File, Metadata)> {
    loop {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = File::from(openat(&place.directory, &place.name, flags, Mode::empty())?);
        flock(&file, FlockOperation::LockExclusive)?;
        let locked = file.metadata()?;
        let named = statat(&place.directory, &place.name, AtFlags::SYMLINK_NOFOLLOW)?;
        // Whoever had the lock before may have replaced the file.
        if (locked.dev(), locked.ino()) == (named.st_dev, named.st_ino) {
            return Ok((file, locked));
        }
    }
}

/// The whole text in a file beside the one that it is to be. Dropped before it is placed, it leaves nothing
/// behind.
struct Staged<'p> {
    place: &'p Place,
    name: OsString,
    placed: bool,
}

impl<'p> Staged<'p> {
    /// For its owner alone; with the owner and mode of the file that it will replace.
    ///
    /// # Errors
    /// [`Kind::Config`] when it cannot be written.
    fn write(place: &'p Place, new: &NewKeys, replaced: Option<&Metadata>) -> Result<Self> {
        let written = Self::write_beside(place, new, replaced);
        named(written.doing("writing the sealing keys file"), &place.path)
    }

    fn write_beside(place: &'p Place, new: &NewKeys, replaced: Option<&Metadata>) -> std::io::Result<Self> {
        let mut name = place.name.clone();
        name.push(format!(".{}", new.kid));
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut file = File::from(openat(
            &place.directory,
            &name,
            flags,
            Mode::from_raw_mode(0o600),
        )?);
        let staged = Self {
            place,
            name,
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

impl Drop for Staged<'_> {
    fn drop(&mut self) {
        if !self.placed
            && let Err(error) = unlinkat(&self.place.directory, &self.name, AtFlags::empty())
        {
            log::warn!("{} has keys, and stays behind: {error}", self.name.display());
        }
    }
}

/// From here on the name survives a power cut.
fn sync(place: &Place) -> Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let synced = openat(&place.directory, ".", flags, Mode::empty()).and_then(fsync);
    named(synced.doing("making the sealing keys file durable"), &place.path)
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
