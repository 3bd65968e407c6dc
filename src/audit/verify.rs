//! Whether a log is as it was written: every line follows from the one before it, over all its files, and the last one is
//! where the log ends.

use std::fmt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::beside::{Beside, head_path};
use super::chain::RECOVERED;
use super::head::{HEAD, Head, HeadKey, Signed};
use super::line::{Digest256, Line, MAX_LINE};
use super::lines::LineReader;
use crate::error::{At, Doing, Error, Kind, Result};
use crate::input;

/// The most problems that are told one by one.
const MOST: usize = 100;

/// Something that is not as it was written.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Problem {
    /// In which file.
    pub file: PathBuf,
    /// In which line of it, from 1 on.
    pub line: u64,
    /// Where that line begins in the file, in bytes.
    pub offset: u64,
    /// What is wrong.
    pub what: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            file,
            line,
            offset,
            what,
        } = self;
        write!(f, "{}:{line} (byte {offset}): {what}", file.display())
    }
}

/// What was found.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Findings {
    /// How many lines there are.
    pub lines: u64,
    /// The numbers of the first and of the last one.
    pub first: Option<u64>,
    /// See there.
    pub last: Option<u64>,
    /// The last line up to which everything is signed with a key that was given.
    pub authenticated: Option<u64>,
    /// What is wrong, in order: the first hundred.
    pub problems: Vec<Problem>,
    /// How many problems there are.
    pub problem_count: u64,
    /// What is worth knowing, and not wrong.
    pub notes: Vec<String>,
}

/// Verifies the files of one log, the oldest first, in memory that does not grow with them.
///
/// # Errors
/// The error of opening or reading a file. What is wrong with its content is a finding.
pub fn verify(files: &[PathBuf], keys: &[HeadKey]) -> Result<Findings> {
    let mut verifier = Verifier {
        keys,
        findings: Findings::default(),
        file: PathBuf::new(),
        last: None,
        before: None,
        doubt: None,
        is_log: true,
    };
    for (index, path) in files.iter().enumerate() {
        let is_last = index + 1 == files.len();
        verifier
            .file(path, is_last)
            .doing("reading the audit log")
            .at(path)?;
    }
    Ok(verifier.findings)
}

/// Where a line stands.
#[derive(Clone, Debug)]
struct Place {
    file: PathBuf,
    line: u64,
    offset: u64,
}

/// A line that was read.
#[derive(Clone, Debug)]
struct Seen {
    place: Place,
    seq: u64,
    digest: Digest256,
}

/// A line's `prev` is not the hash of the line before it: one of the two was changed.
struct Doubt {
    former: Place,
    latter: Seen,
}

struct Verifier<'a> {
    keys: &'a [HeadKey],
    findings: Findings,
    file: PathBuf,
    last: Option<Seen>,
    /// The one before that: the last one may be one too many.
    before: Option<Seen>,
    doubt: Option<Doubt>,
    /// Whether what is read is the log itself, and not what the journal has of it.
    is_log: bool,
}

impl Verifier<'_> {
    /// Takes every line of a file, and for the last one what is said of the log's end.
    fn file(&mut self, path: &Path, is_last: bool) -> std::io::Result<()> {
        path.clone_into(&mut self.file);
        let mut reader = LineReader::new(input::open(path)?)?;
        self.is_log = reader.is_log();
        while self.read(&mut reader)? {}
        match is_last {
            true => self.end(path, &mut reader),
            false => Ok(()),
        }
    }

    /// Takes the next line; whether there was one.
    fn read(&mut self, reader: &mut LineReader) -> std::io::Result<bool> {
        let Some(raw) = reader.next()? else {
            return Ok(false);
        };
        self.findings.lines += 1;
        let place = Place {
            file: self.file.clone(),
            line: raw.number,
            offset: raw.offset,
        };
        if raw.too_long {
            self.problem(
                &place,
                format!("it is longer than {MAX_LINE} bytes, which no line of the log is"),
            );
        } else if !raw.complete {
            self.problem(&place, "it is unfinished: its writer was stopped, or it was cut");
        }
        match Line::parse(&raw.bytes).filter(|_| !raw.too_long) {
            Some(line) => self.take(place, raw.digest, &line),
            None => self.take_garbage(place, raw.digest, raw.complete && !raw.too_long),
        }
        Ok(true)
    }

    /// A line that is none of the log's; what follows may say that it was written by it all the same.
    fn take_garbage(&mut self, place: Place, digest: Digest256, is_news: bool) {
        if is_news {
            self.problem(&place, "it is no line of this log: changed, or inserted");
        }
        let seq = self.last.as_ref().map_or(0, |last| last.seq.saturating_add(1));
        self.follow(Seen { place, seq, digest });
    }

    fn take(&mut self, place: Place, digest: Digest256, line: &Line<'_>) {
        let seen = Seen {
            place,
            seq: line.seq,
            digest,
        };
        let previous = line.previous();
        self.findings.first.get_or_insert(line.seq);
        self.findings.last = Some(line.seq);
        match (&self.last, previous) {
            (_, None) => {
                self.settle(false);
                self.problem(&seen.place, "it was changed: its `prev` is no hash");
            }
            (None, Some(previous)) => self.begins(&seen, previous),
            (Some(last), Some(previous)) if !self.is_log && seen.seq == 1 && previous == [0; 32] => {
                let note = format!(
                    "the log begins anew after line {}: its writer was started again",
                    last.seq
                );
                self.settle(true);
                self.note(note);
                // What begins anew says nothing of what was before.
                self.last = None;
            }
            (Some(last), Some(previous)) => {
                let last = last.clone();
                self.compare(&last, &seen, previous);
            }
        }
        if line.op == HEAD && self.last.is_some() {
            self.check_head(&seen, line, previous.unwrap_or_default());
        }
        if line.op == RECOVERED && self.findings.notes.len() < MOST {
            let note = format!(
                "{}:{}: {}",
                seen.place.file.display(),
                seen.place.line,
                line.reason
            );
            self.findings.notes.push(note);
        }
        self.follow(seen);
    }

    /// The first line of all.
    fn begins(&mut self, seen: &Seen, previous: Digest256) {
        let is_start = previous == [0; 32];
        if (seen.seq == 1) != is_start {
            self.problem(&seen.place, "it was changed: only line 1 has no line before it");
        } else if !is_start {
            let note = format!(
                "the log begins at line {}: the ones before it are in files that were not given",
                seen.seq
            );
            self.findings.notes.push(note);
        }
    }

    fn compare(&mut self, last: &Seen, seen: &Seen, previous: Digest256) {
        let follows = seen.seq == last.seq.saturating_add(1);
        let linked = previous == last.digest;
        if follows && linked {
            return self.settle(true);
        }
        let was_doubtful = self.doubt.is_some();
        self.settle(linked);
        let skips = self
            .before
            .as_ref()
            .is_some_and(|before| previous == before.digest && seen.seq == before.seq.saturating_add(1));
        let (what, at) = if skips {
            (
                "it does not belong here: inserted, or out of order".to_owned(),
                &last.place,
            )
        } else if linked {
            let what = format!(
                "it was changed: it is called line {}, after line {}",
                seen.seq, last.seq
            );
            (what, &seen.place)
        } else if follows && was_doubtful {
            // Explained by the line before it, which is told.
            return;
        } else if follows {
            self.doubt = Some(Doubt {
                former: last.place.clone(),
                latter: seen.clone(),
            });
            return;
        } else if seen.seq > last.seq {
            let missing = match seen.seq - last.seq {
                2 => format!("line {} is missing before it", seen.seq - 1),
                _ => format!(
                    "lines {} to {} are missing before it",
                    last.seq.saturating_add(1),
                    seen.seq - 1
                ),
            };
            (missing, &seen.place)
        } else {
            let what = format!(
                "line {} comes after line {}: inserted, out of order, or another log's",
                seen.seq, last.seq
            );
            (what, &seen.place)
        };
        self.problem(at, what);
    }

    /// Says which of two lines was changed: the former, if the latter is as the line after it says.
    fn settle(&mut self, latter_is_good: bool) {
        if let Some(Doubt { former, latter }) = self.doubt.take() {
            match latter_is_good {
                true => self.problem(
                    &former,
                    "it was changed: the line after it has another hash of it",
                ),
                false => self.problem(
                    &latter.place,
                    "it was changed, and perhaps the line before it too",
                ),
            }
        }
    }

    fn check_head(&mut self, seen: &Seen, line: &Line<'_>, previous: Digest256) {
        let (kid, signature) = line.reason.split_once(':').unwrap_or((&line.reason, ""));
        if self.keys.is_empty() {
            return;
        }
        match self.keys.iter().find(|key| key.kid() == kid) {
            None => {
                let what =
                    format!("it is signed with the key {kid:?}, which is not among those that were given");
                self.problem(&seen.place, what);
            }
            Some(key) if key.verify(Signed::Line, seen.seq, &previous, signature) => {
                self.findings.authenticated = Some(seen.seq);
            }
            Some(_) => self.problem(&seen.place, "its signature is wrong: somebody else wrote it"),
        }
    }

    fn follow(&mut self, seen: Seen) {
        self.before = self.last.replace(seen);
    }

    /// At the end of the newest file: compares with what the file beside it says, while nobody writes.
    fn end(&mut self, path: &Path, reader: &mut LineReader) -> std::io::Result<()> {
        let beside = Beside::of(path);
        let mut content = None;
        if let Some(beside) = &beside {
            beside.lock();
            // What was written since is read too.
            while self.read(reader)? {}
            content = beside.content()?;
        }
        let shown = beside.map_or_else(|| head_path(path), |beside| beside.path);
        let shown = shown.display();
        let head = content.as_deref().and_then(Head::parse);
        let at = self.last.as_ref().map_or_else(
            || Place {
                file: path.to_owned(),
                line: 1,
                offset: 0,
            },
            |last| last.place.clone(),
        );
        let last = self.last.as_ref().map(|last| (last.seq, last.digest));
        let Some(head) = head else {
            self.settle(false);
            match content {
                Some(_) => self.problem(&at, format!("{shown} says nothing that makes sense")),
                None if !reader.is_log() => {}
                None => self.findings.notes.push(format!(
                    "there is no {shown}, which would say where the log ends: lines may be missing after the last one"
                )),
            }
            return self.end_signed(&at, reader.is_log());
        };
        let is_this_file = std::fs::metadata(path).is_ok_and(|metadata| metadata.ino() == head.ino);
        if last.is_none() && !is_this_file {
            let note = format!(
                "the log is new: line {} is the last of the file before it",
                head.seq
            );
            self.findings.notes.push(note);
            return Ok(());
        }
        let (seq, digest) = last.unwrap_or((0, [0; 32]));
        let same = (head.seq, head.digest()) == (seq, digest);
        let doubtful = self.doubt.is_some();
        self.settle(same);
        if head.seq > seq {
            let what = match last {
                Some(_) => format!(
                    "the log was cut after it: lines {} to {} are missing",
                    seq + 1,
                    head.seq
                ),
                None => format!("the log is empty, and had {} lines", head.seq),
            };
            self.problem(&at, what);
        } else if head.seq < seq {
            let what = format!(
                "the log should end at line {}, and this is line {seq}: added by somebody else, or its writer was \
                 stopped just then",
                head.seq
            );
            self.problem(&at, what);
        } else if !same && !doubtful {
            self.problem(&at, "it was changed: it is not the last line that was written");
        }
        if !self.keys.is_empty() && same && head.is_signed(self.keys) {
            self.findings.authenticated = Some(seq);
        } else if !self.keys.is_empty() && !head.is_signed(self.keys) {
            self.problem(&at, format!("{shown} is not signed with a key that was given"));
        }
        self.end_signed(&at, reader.is_log())
    }

    fn end_signed(&mut self, at: &Place, is_log: bool) -> std::io::Result<()> {
        let (last, authenticated) = (self.findings.last, self.findings.authenticated);
        if self.keys.is_empty() {
            let note = "no keys were given: who could write the log could have written all of it anew";
            self.findings.notes.push(note.to_owned());
        } else if last > authenticated {
            let from = authenticated.map_or(self.findings.first, |seq| Some(seq.saturating_add(1)));
            let what = format!(
                "lines {} to {} are not signed",
                from.unwrap_or_default(),
                last.unwrap_or_default()
            );
            match is_log {
                true => self.problem(at, what),
                // Where the log ends is signed beside it, and the journal has no signatures.
                false => self.findings.notes.push(format!(
                    "{what}: signatures are in the log's own files; the journal has none, and what it has is proven by what \
                     journald does"
                )),
            }
        }
        Ok(())
    }

    fn note(&mut self, note: String) {
        if self.findings.notes.len() < MOST {
            self.findings.notes.push(note);
        }
    }

    fn problem(&mut self, at: &Place, what: impl Into<String>) {
        self.findings.problem_count += 1;
        if self.findings.problems.len() < MOST {
            self.findings.problems.push(Problem {
                file: at.file.clone(),
                line: at.line,
                offset: at.offset,
                what: what.into(),
            });
        }
    }
}

impl Findings {
    /// # Errors
    /// [`Kind::ProblemsFound`] when there are problems.
    pub fn check(&self) -> Result<()> {
        match self.problem_count {
            0 => Ok(()),
            1 => Err(Error::new(Kind::ProblemsFound, "the audit log has a problem")),
            count => Err(Error::new(
                Kind::ProblemsFound,
                format!("the audit log has {count} problems"),
            )),
        }
    }
}
