//! The journal of an erasure: what is about to be removed is written there first, so that a run that was
//! killed is finished by another one, and the receipt counts everything.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Seek, SeekFrom, Write};
use std::path::PathBuf;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{Ground, text};
use crate::clock;
use crate::error::{At, Doing, Error, Kind, Result};
use crate::identity::UserId;
use crate::store::erasure_journal;
use crate::volume::{self, Access, Dir, Durability, Staged};

const WRITING: &str = "writing the journal of an erasure";

/// What is removed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum What {
    Record,
    Attachment,
    Draft,
    /// Temporary files, markers, what nobody sees.
    Other,
    Profile,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    Begun(String),
    Removes { what: What, path: String },
}

/// An open journal, locked: two runs would write over each other's lines.
pub(super) struct Journal {
    file: File,
    /// Its name in the volume's root.
    name: String,
    /// For messages.
    path: PathBuf,
    begun: String,
    /// What was ever removed.
    removed: BTreeMap<String, What>,
    /// What is written and not yet durable.
    pending: bool,
}

impl Journal {
    /// Begins a journal, or goes on with the one that a run before has left.
    ///
    /// # Errors
    /// [`Kind::Busy`] while another run has it; [`Kind::Io`] when what is there is not a journal; any error
    /// of making, opening or reading a file.
    pub(super) fn open(ground: &Ground, user: &UserId) -> Result<Self> {
        let root = ground.volume.root();
        let name = erasure_journal(&user.full_hash());
        loop {
            make(root, &name)?;
            let file = match root.open_file(&name, Access::ReadWrite) {
                // Another run has finished just now.
                Err(error) if error.kind() == Kind::NotFound => continue,
                opened => opened?,
            };
            // Where a file system knows no locks, nothing but the operator keeps two runs apart.
            if let Err(Errno::WOULDBLOCK) = flock(&file, FlockOperation::NonBlockingLockExclusive) {
                let why = "another `tenantfs erase` of this user is at work: wait for its end";
                return Err(Error::new(Kind::Busy, why));
            }
            match root.stat(&name) {
                Ok(named) if named.id == volume::stat(&file)?.id => {
                    let path = root.path().join(&name);
                    return Self::read(file, name, path.clone()).at(path);
                }
                // The run that had the lock has finished, and removed it.
                Ok(_) => {}
                Err(error) if error.kind() == Kind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn read(mut file: File, name: String, path: PathBuf) -> Result<Self> {
        const READING: &str = "reading the journal of an erasure";
        let broken = || Error::new(Kind::Io, "it is not one: look at it, and remove it").context(READING);
        let (mut begun, mut removed, mut whole) = (None, BTreeMap::new(), 0);
        let mut reader = BufReader::new(&file);
        let mut text = Vec::new();
        loop {
            text.clear();
            let read = reader.read_until(b'\n', &mut text).doing(READING)?;
            // A line that was cut off by a crash: what it was about has not been done.
            if read == 0 || !text.ends_with(b"\n") {
                break;
            }
            whole += read as u64;
            match serde_json::from_slice(&text).map_err(|_| broken())? {
                Line::Begun(time) => begun = Some(time),
                Line::Removes { what, path } => _ = removed.insert(path, what),
            }
        }
        file.set_len(whole)
            .and_then(|()| file.seek(SeekFrom::End(0)))
            .doing(READING)?;
        let begun = match (begun, whole) {
            (Some(begun), _) => begun,
            // It was emptied by a run that had finished, and was killed before it was removed.
            (None, 0) => String::new(),
            (None, _) => return Err(broken()),
        };
        let mut journal = Self {
            file,
            name,
            path,
            begun,
            removed,
            pending: false,
        };
        if journal.begun.is_empty() {
            journal.begin()?;
        }
        Ok(journal)
    }

    fn begin(&mut self) -> Result<()> {
        self.begun = text::rfc3339(clock::now());
        self.write(&Line::Begun(self.begun.clone()))
    }

    /// Notes what is about to be removed.
    ///
    /// # Errors
    /// Any error of writing a file: then it must not be removed.
    pub(super) fn note(&mut self, what: What, path: &str) -> Result<()> {
        if self.removed.contains_key(path) {
            return Ok(());
        }
        self.write(&Line::Removes {
            what,
            path: path.to_owned(),
        })?;
        self.removed.insert(path.to_owned(), what);
        Ok(())
    }

    fn write(&mut self, what: &Line) -> Result<()> {
        self.pending = true;
        self.file.write_all(&line(what)?).doing(WRITING).at(&self.path)
    }

    /// Makes durable what was noted. Before this, nothing of it may be removed.
    ///
    /// # Errors
    /// Any error of writing a file.
    pub(super) fn sync(&mut self) -> Result<()> {
        if std::mem::take(&mut self.pending) {
            self.file.sync_data().doing(WRITING).at(&self.path)?;
        }
        Ok(())
    }

    /// What was ever noted.
    pub(super) fn removed(&self) -> &BTreeMap<String, What> {
        &self.removed
    }

    pub(super) fn begun(&self) -> &str {
        &self.begun
    }

    /// How many of a kind were removed, in all runs.
    pub(super) fn count(&self, what: What) -> u64 {
        self.removed.values().filter(|known| **known == what).count() as u64
    }

    /// SHA-256 of the removed names, sorted, each with the end of a line.
    pub(super) fn digest(&self) -> String {
        let mut hash = Sha256::new();
        for path in self.removed.keys() {
            hash.update(path.as_bytes());
            hash.update(b"\n");
        }
        hex::encode(hash.finalize())
    }

    /// Removes the journal, which has names: it is cut first.
    ///
    /// # Errors
    /// Any error of writing and removing a file.
    pub(super) fn remove(self, ground: &Ground) -> Result<()> {
        let cut = self.file.set_len(0).and_then(|()| self.file.sync_all());
        cut.doing("removing the journal of an erasure").at(&self.path)?;
        let root = ground.volume.root();
        root.unlink(&self.name)?;
        root.sync()
    }
}

/// Makes a journal, if there is none.
fn make(root: &Dir, name: &str) -> Result<()> {
    match root.stat(name) {
        Err(error) if error.kind() == Kind::NotFound => {}
        found => return found.map(drop),
    }
    let mut staged = Staged::new(root, &root.stat_self()?)?;
    staged.write(&line(&Line::Begun(text::rfc3339(clock::now())))?)?;
    match staged.place_new(name, Durability::Durable) {
        // By another run, meanwhile.
        Err(error) if error.kind() != Kind::Exists => Err(error),
        _ => Ok(()),
    }
}

fn line(line: &Line) -> Result<Vec<u8>> {
    let mut bytes = serde_json::to_vec(line).map_err(|error| Error::new(Kind::Io, error.to_string()))?;
    bytes.push(b'\n');
    Ok(bytes)
}
