//! The journal of an erasure: what is about to be removed is written there first, so that whoever is killed is finished by
//! another run, and the receipt counts everything.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Seek, SeekFrom, Write};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::Ground;
use super::text;
use crate::clock;
use crate::error::{Error, Kind, Result};
use crate::identity::UserId;
use crate::store::erasure_journal;
use crate::volume::{Access, Durability, Staged};

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

/// An open journal.
pub(super) struct Journal {
    file: File,
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
    /// The volume's; [`Kind::Io`] when what is there is no journal.
    pub(super) fn open(ground: &Ground, user: &UserId) -> Result<Self> {
        let root = ground.volume.root();
        let name = erasure_journal(&user.full_hash());
        match root.stat(&name) {
            Err(error) if error.kind() == Kind::NotFound => {
                let mut staged = Staged::new(root, &root.stat_self()?)?;
                staged.write(&line(&Line::Begun(text::rfc3339(clock::now())))?)?;
                match staged.place_new(&name, Durability::Durable) {
                    Err(error) if error.kind() != Kind::Exists => return Err(error),
                    _ => {}
                }
            }
            found => drop(found?),
        }
        let file = root.open_file(&name, Access::ReadWrite)?;
        Self::read(file)
    }

    fn read(mut file: File) -> Result<Self> {
        let doing = |error: std::io::Error| Error::io(&error, "reading the journal of an erasure");
        let broken = || {
            Error::new(
                Kind::Io,
                "the journal of an erasure is none: look at it, and remove it",
            )
        };
        let (mut begun, mut removed, mut whole) = (None, BTreeMap::new(), 0);
        let mut reader = BufReader::new(&file);
        let mut text = Vec::new();
        loop {
            text.clear();
            let read = reader.read_until(b'\n', &mut text).map_err(doing)?;
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
            .map_err(doing)?;
        let mut journal = Self {
            file,
            begun: begun.unwrap_or_default(),
            removed,
            pending: false,
        };
        match (journal.begun.is_empty(), whole) {
            // It was emptied by a run that had finished, and was killed before it was removed.
            (true, 0) => journal.begin()?,
            (true, _) => return Err(broken()),
            (false, _) => {}
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
    /// The volume's: then it must not be.
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
        self.file
            .write_all(&line(what)?)
            .map_err(|error| Error::io(&error, "writing the journal of an erasure"))
    }

    /// Makes durable what was noted. Before this, nothing of it may be removed.
    ///
    /// # Errors
    /// The volume's.
    pub(super) fn sync(&mut self) -> Result<()> {
        if std::mem::take(&mut self.pending) {
            self.file
                .sync_data()
                .map_err(|error| Error::io(&error, "writing the journal of an erasure"))?;
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
    /// The volume's.
    pub(super) fn finish(self, ground: &Ground, user: &UserId) -> Result<()> {
        self.file
            .set_len(0)
            .and_then(|()| self.file.sync_all())
            .map_err(|error| Error::io(&error, "removing the journal of an erasure"))?;
        let root = ground.volume.root();
        root.unlink(&erasure_journal(&user.full_hash()))?;
        root.sync()
    }
}

fn line(line: &Line) -> Result<Vec<u8>> {
    let mut bytes = serde_json::to_vec(line).map_err(|error| Error::new(Kind::Io, error.to_string()))?;
    bytes.push(b'\n');
    Ok(bytes)
}
