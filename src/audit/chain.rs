//! The chain: numbers the lines, hashes them, and puts them where they belong.

use super::file::{LogFile, Owner};
use super::head::{HEAD, HEAD_EVERY, Head, HeadKey};
use super::journal::{self, Journal};
use super::line::{Digest256, Entry, OK, Who};
use super::options::{Destination, Options};
use crate::error::Result;

/// The `op` of the line that follows where the log was not as it was left.
pub(super) const RECOVERED: &str = "recovered";

/// A log that can be appended to.
pub(super) struct Chain {
    to: To,
    key: Option<HeadKey>,
    end: End,
    /// How many files it has gone on in.
    files: u64,
    /// The lines that are about the log itself.
    own: Who,
}

enum To {
    File {
        file: LogFile,
        /// A file that was rotated has its last line: the signed one.
        closed: bool,
    },
    Journal(Journal),
}

/// Where the chain has come to.
#[derive(Clone, Copy, PartialEq, Eq)]
struct End {
    seq: u64,
    digest: Digest256,
}

impl Chain {
    /// Opens the log, for `owner` where it is made anew.
    ///
    /// # Errors
    /// What is wrong with it, as [`LogFile::open`] and [`Journal::connect`] say.
    pub(super) fn open(options: &Options, owner: Owner, own: Who) -> Result<Self> {
        let to = match &options.destination {
            Destination::File(path) => To::File {
                file: LogFile::open(path, owner)?,
                closed: false,
            },
            Destination::Journal => To::Journal(Journal::connect(journal::SOCKET.as_ref())?),
        };
        Ok(Self {
            to,
            key: options.key.clone(),
            end: End {
                seq: 0,
                digest: [0; 32],
            },
            files: 0,
            own,
        })
    }

    /// Appends lines, perhaps none, in the file that the path leads to by now. All of them are there, or none is and it can
    /// be tried again: but for the journal, which takes one by one, and tells how many of them it has.
    ///
    /// # Errors
    /// The file's or the journal's; `taken` says how many were.
    pub(super) fn append<'a>(
        &mut self,
        entries: impl ExactSizeIterator<Item = (&'a Who, &'a Entry)>,
        taken: &mut usize,
    ) -> Result<()> {
        *taken = 0;
        let (to, mut scribe) = (
            &mut self.to,
            Scribe {
                key: self.key.as_ref(),
                own: &self.own,
                end: self.end,
                lines: Vec::new(),
            },
        );
        let (file, closed) = match to {
            To::Journal(journal) => {
                for (who, entry) in entries {
                    scribe.lines.clear();
                    scribe.write(who, entry);
                    let line = scribe.lines.strip_suffix(b"\n").unwrap_or_default();
                    journal.send(line, who, entry)?;
                    self.end = scribe.end;
                    *taken += 1;
                }
                return Ok(());
            }
            To::File { file, closed } => (file, closed),
        };
        let _lock = file.lock()?;
        if file.is_rotated() {
            scribe.close(file, closed)?;
            file.reopen()?;
            self.files += 1;
            *closed = false;
        }
        scribe.resume(file)?;
        let count = entries.len();
        for (who, entry) in entries {
            scribe.write(who, entry);
            if scribe.key.is_some() && scribe.end.seq.saturating_add(1).is_multiple_of(HEAD_EVERY) {
                scribe.sign();
            }
        }
        scribe.put(file)?;
        *closed &= count == 0;
        self.end = scribe.end;
        *taken = count;
        Ok(())
    }

    /// Signs the last line of a file that was rotated, if that has yet to be done: nothing may happen for long, and whoever copies the
    /// file away finds it whole. The next file begins with the next line.
    ///
    /// # Errors
    /// The file's.
    pub(super) fn close_rotated(&mut self) -> Result<()> {
        let To::File { file, closed } = &mut self.to else {
            return Ok(());
        };
        if *closed || self.key.is_none() || !file.is_rotated() {
            return Ok(());
        }
        let mut scribe = Scribe {
            key: self.key.as_ref(),
            own: &self.own,
            end: self.end,
            lines: Vec::new(),
        };
        let _lock = file.lock()?;
        scribe.close(file, closed)?;
        self.end = scribe.end;
        Ok(())
    }

    /// How many files it has gone on in: whether it is another one than before.
    pub(super) fn files(&self) -> u64 {
        self.files
    }

    /// How much there is left for it, while that is little; none where there is plenty, or nobody knows.
    pub(super) fn left(&self) -> Option<u64> {
        match &self.to {
            To::File { file, .. } => file.left(),
            To::Journal(_) => None,
        }
    }

    /// Sees to it that there is space for what waits to be written.
    ///
    /// # Errors
    /// That there is none.
    pub(super) fn reserve(&mut self) -> Result<()> {
        match &mut self.to {
            To::File { file, .. } => file.reserve(),
            To::Journal(_) => Ok(()),
        }
    }
}

/// Writes lines one after the other.
struct Scribe<'a> {
    key: Option<&'a HeadKey>,
    own: &'a Who,
    end: End,
    lines: Vec<u8>,
}

impl Scribe<'_> {
    fn write(&mut self, who: &Who, entry: &Entry) {
        // Of a log that somebody has tampered with, it may be any number.
        let seq = self.end.seq.saturating_add(1);
        let digest = entry.write(who, seq, &self.end.digest, &mut self.lines);
        self.end = End { seq, digest };
    }

    /// A line about the log itself.
    fn note(&mut self, op: &'static str, reason: String) {
        let entry = Entry::now(op, "", OK, reason);
        self.write(self.own, &entry);
    }

    fn sign(&mut self) {
        if let Some(key) = self.key {
            self.note(HEAD, key.reason(self.end.seq.saturating_add(1), &self.end.digest));
        }
    }

    /// The last line of a file that was rotated.
    fn close(&mut self, file: &mut LogFile, closed: &mut bool) -> Result<()> {
        if !*closed && self.key.is_some() && self.ends_in(file)? {
            self.sign();
            self.put(file)?;
            *closed = true;
        }
        Ok(())
    }

    /// Puts the lines into the file, and says beside it where it ends.
    fn put(&mut self, file: &mut LogFile) -> Result<()> {
        if self.lines.is_empty() {
            return Ok(());
        }
        file.append(&self.lines)?;
        self.lines.clear();
        let (size, ino) = file.position()?;
        let head = Head::new(self.end.seq, &self.end.digest, ino, size, self.key);
        match file.write_head(&head) {
            // The lines are there, and must not be written again. The next one says where they end.
            Err(error) => {
                log::error!("the audit log: {error:#}");
                Ok(())
            }
            written => written,
        }
    }

    /// Whether the chain ends in this very file, and nobody has gone on elsewhere.
    fn ends_in(&mut self, file: &LogFile) -> Result<bool> {
        let (size, ino) = file.position()?;
        let beside = file.read_head();
        let head = beside.as_deref().and_then(Head::parse);
        let here = head.filter(|head| head.ino == ino && head.size == size && head.seq >= self.end.seq);
        if let Some(head) = &here {
            self.end = End {
                seq: head.seq,
                digest: head.digest(),
            };
        }
        Ok(here.is_some())
    }

    /// Finds out where the chain goes on: another process may have written, or somebody who should not have.
    ///
    /// What was once written counts, whether or not it is still there: so what was cut off is missed for ever.
    fn resume(&mut self, file: &mut LogFile) -> Result<()> {
        let (size, ino) = file.position()?;
        let beside = file.read_head();
        let mut known = self.end;
        let head = beside.as_deref().and_then(Head::parse);
        if let Some(head) = &head
            && head.seq >= known.seq
        {
            known = End {
                seq: head.seq,
                digest: head.digest(),
            };
            if head.ino == ino && head.size == size {
                self.end = known;
                return Ok(());
            }
        }
        let Some(tail) = file.tail()? else {
            self.end = known;
            return Ok(());
        };
        if tail.torn {
            file.append(b"\n")?;
        }
        // A line that was written, when the file beside it could not be any more.
        self.end = match tail.seq > known.seq {
            true => End {
                seq: tail.seq,
                digest: tail.digest,
            },
            false => known,
        };
        if tail.torn {
            self.note(
                RECOVERED,
                "the line before is unfinished: its writer was stopped".to_owned(),
            );
        } else if tail.seq < known.seq {
            let reason = format!(
                "the log went to line {}, and the file ends at line {}: it was cut, or replaced",
                known.seq, tail.seq
            );
            self.note(RECOVERED, reason);
        }
        Ok(())
    }
}

/// Appends one line, at once.
///
/// # Errors
/// It is not written.
pub(super) fn append_one(chain: &mut Chain, who: &Who, entry: &Entry) -> Result<()> {
    chain
        .reserve()
        .and_then(|()| chain.append([(who, entry)].into_iter(), &mut 0))
        .map_err(|error| error.context("the audit log cannot be written, so this is not done"))
}
