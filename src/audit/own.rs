//! What the log has of one user, for that user to read.
//!
//! The log is read once, as it grows, and where each user's latest lines are is remembered. So asking costs no more than one's
//! own lines, however much others write, and nobody's lines make another's be forgotten.

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::line::{Line, MAX_LINE};
use crate::error::{At, Doing, Error, Result};

/// The most lines of one user that are remembered, and given.
const MOST: usize = 1000;

/// How far it is looked back at first, in bytes, in all files together.
const FAR: u64 = 64 << 20;

/// How much is read at a time.
const CHUNK: usize = 256 << 10;

/// How much of one user's lines is kept in memory once their file is gone, in bytes.
const KEPT: usize = 64 << 10;

const READING: &str = "reading the audit log";

/// A line of the log, without what would tell how much others do: its number and its place in the chain.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[allow(missing_docs)] // The members of a line, as the README explains them.
pub struct OwnEvent {
    pub ts: String,
    pub session: String,
    pub user: String,
    pub uid: u32,
    pub pid: u32,
    pub op: String,
    pub path: String,
    pub outcome: String,
    pub reason: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub how: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path_sha256: Option<String>,
}

/// Where each user's latest lines are.
pub struct OwnEvents {
    path: PathBuf,
    /// The file that the log is in, and the one that it was in before.
    current: Option<Indexed>,
    previous: Option<Indexed>,
    by_uid: HashMap<u32, VecDeque<Place>>,
}

/// A file that was read so far.
struct Indexed {
    file: File,
    number: u64,
    until: u64,
}

/// Where a line is.
enum Place {
    /// In the file with that number.
    File { number: u64, offset: u64, length: u32 },
    /// Here: its file is gone.
    Memory(Box<[u8]>),
}

impl OwnEvents {
    /// Of the log at `path`, and of the file before it, if that was rotated to `PATH.1`.
    pub fn of(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            current: None,
            previous: None,
            by_uid: HashMap::new(),
        }
    }

    /// The latest events of `uid`: at most so many, and at most 1000; the latest is the last.
    ///
    /// # Errors
    /// [`Kind::Io`](crate::error::Kind::Io) and the like when the log cannot be read.
    pub fn latest(&mut self, uid: u32, lines: u32) -> Result<Vec<OwnEvent>> {
        self.read_on()?;
        let most = usize::try_from(lines).unwrap_or(MOST);
        let places = self.by_uid.get(&uid).into_iter().flatten();
        let mut events = Vec::new();
        for place in places.rev().take(most) {
            events.extend(self.line(place).and_then(|line| own(&line, uid)));
        }
        events.reverse();
        Ok(events)
    }

    /// Reads what was written since the last time. The longer that is not done, the longer it takes.
    ///
    /// # Errors
    /// As [`latest`](Self::latest).
    pub fn read_on(&mut self) -> Result<()> {
        let now = open(&self.path)?;
        if self.current.is_none() {
            self.begin(now.as_ref())?;
        }
        let is_same = match (&self.current, &now) {
            (Some(current), Some(now)) => same(&current.file, now),
            (_, None) => true,
            (None, Some(_)) => false,
        };
        // What was written to the last file until it was rotated away, too.
        self.read_current()?;
        if let Some(now) = now
            && !is_same
        {
            self.go_on_in(now, 0);
            self.read_current()?;
        }
        Ok(())
    }

    /// Begins some way back.
    fn begin(&mut self, now: Option<&File>) -> Result<()> {
        let size = |file: &File| file.metadata().map(|metadata| metadata.len()).doing(READING);
        let left = FAR.saturating_sub(now.map_or(Ok(0), size)?);
        let mut rotated = self.path.clone().into_os_string();
        rotated.push(".1");
        if let Ok(Some(before)) = open(Path::new(&rotated)) {
            let skipped = size(&before)?.saturating_sub(left);
            self.go_on_in(before, skipped);
            self.read_current()?;
        }
        if let Some(now) = now {
            let skipped = size(now)?.saturating_sub(FAR);
            self.go_on_in(now.try_clone().doing(READING)?, skipped);
        }
        Ok(())
    }

    /// Begins with another file, some way into it; the one before the last is forgotten.
    fn go_on_in(&mut self, file: File, until: u64) {
        let number = self.current.as_ref().map_or(0, |current| current.number + 1);
        if let Some(gone) = self.previous.take() {
            let keep = |places: &mut VecDeque<Place>| keep(places, &gone);
            self.by_uid.values_mut().for_each(keep);
            self.by_uid.retain(|_, places| !places.is_empty());
        }
        self.previous = self.current.replace(Indexed { file, number, until });
    }

    fn read_current(&mut self) -> Result<()> {
        let Some(current) = &mut self.current else {
            return Ok(());
        };
        let by_uid = &mut self.by_uid;
        let read = current.read_on(|line, number, offset| {
            let length = u32::try_from(line.len()).unwrap_or_default();
            if let Some(uid) = uid_of(line) {
                let places = by_uid.entry(uid).or_default();
                if places.len() >= MOST {
                    places.pop_front();
                }
                places.push_back(Place::File {
                    number,
                    offset,
                    length,
                });
            }
        });
        read.doing(READING).at(&self.path)
    }

    fn line(&self, place: &Place) -> Option<Vec<u8>> {
        match place {
            Place::Memory(line) => Some(line.to_vec()),
            Place::File {
                number,
                offset,
                length,
            } => {
                let files = [&self.current, &self.previous];
                let mut files = files.into_iter().flatten();
                files.find(|file| file.number == *number)?.line(*offset, *length)
            }
        }
    }
}

impl Indexed {
    /// Gives each whole line that was not read yet, with the file's number and where it is.
    fn read_on(&mut self, mut each: impl FnMut(&[u8], u64, u64)) -> std::io::Result<()> {
        let mut chunk = vec![0; CHUNK];
        // It was cut: its lines are others now.
        if self.file.metadata()?.len() < self.until {
            self.until = 0;
        }
        loop {
            let count = self.file.read_at(&mut chunk, self.until)?;
            let read = chunk.get(..count).unwrap_or_default();
            let Some(end) = read.iter().rposition(|byte| *byte == b'\n') else {
                // No line of ours is that long.
                if count > MAX_LINE {
                    self.until += count as u64;
                    continue;
                }
                return Ok(());
            };
            let mut offset = self.until;
            for line in read
                .get(..=end)
                .unwrap_or_default()
                .split_inclusive(|byte| *byte == b'\n')
            {
                each(line.strip_suffix(b"\n").unwrap_or(line), self.number, offset);
                offset += line.len() as u64;
            }
            self.until = offset;
        }
    }

    fn line(&self, offset: u64, length: u32) -> Option<Vec<u8>> {
        let mut line = vec![0; length as usize];
        self.file.read_exact_at(&mut line, offset).ok()?;
        Some(line)
    }
}

/// Takes the latest of a user's lines that are in a file which is about to be forgotten into memory, and forgets the others.
fn keep(places: &mut VecDeque<Place>, gone: &Indexed) {
    let mut room = KEPT;
    let mut kept = VecDeque::with_capacity(places.len());
    for place in places.drain(..).rev() {
        let place = match place {
            Place::File {
                number,
                offset,
                length,
            } if number == gone.number => gone
                .line(offset, length)
                .filter(|line| is_users(line))
                .map(|line| Place::Memory(line.into_boxed_slice())),
            other => Some(other),
        };
        let Some(place) = place else { continue };
        if let Place::Memory(line) = &place {
            let Some(less) = room.checked_sub(line.len()) else {
                break;
            };
            room = less;
        }
        kept.push_front(place);
    }
    *places = kept;
}

/// Whose line it is, without parsing it: a quotation mark that is part of a value has a backslash before it.
fn uid_of(line: &[u8]) -> Option<u32> {
    const MEMBER: &[u8] = b",\"uid\":";
    let at = line.windows(MEMBER.len()).position(|part| part == MEMBER)?;
    let digits = line.get(at + MEMBER.len()..)?;
    let end = digits.iter().position(|byte| !byte.is_ascii_digit())?;
    str::from_utf8(digits.get(..end)?).ok()?.parse().ok()
}

/// Whether it is of somebody who was authenticated: of those there are not as many as of uids.
fn is_users(line: &[u8]) -> bool {
    const NOBODY: &[u8] = b",\"user\":\"\",";
    !line.windows(NOBODY.len()).any(|part| part == NOBODY)
}

/// Opens a file of the log's, if there is one: a log may just have been rotated away.
fn open(path: &Path) -> Result<Option<File>> {
    let opened = File::options()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path);
    match opened {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::io(&error, "opening the audit log").at(path)),
    }
}

fn same(one: &File, other: &File) -> bool {
    let id = |file: &File| {
        file.metadata()
            .map(|metadata| (metadata.dev(), metadata.ino()))
            .ok()
    };
    id(one) == id(other)
}

fn own(line: &[u8], uid: u32) -> Option<OwnEvent> {
    let line = Line::parse(line).filter(|line| line.uid == uid)?;
    Some(OwnEvent {
        ts: line.ts.into_owned(),
        session: line.session.into_owned(),
        user: line.user.into_owned(),
        uid: line.uid,
        pid: line.pid,
        op: line.op.into_owned(),
        path: line.path.into_owned(),
        outcome: line.outcome.into_owned(),
        reason: line.reason.into_owned(),
        how: line.how.map(Into::into),
        count: line.count.map(Into::into),
        path_sha256: line.path_sha256.map(Into::into),
    })
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use tempfile::TempDir;

    use super::*;
    use crate::audit::line::{Entry, Who};

    /// A log that others write.
    struct Written {
        directory: TempDir,
        seq: u64,
    }

    impl Written {
        fn new() -> Self {
            Self {
                directory: TempDir::new().unwrap(),
                seq: 0,
            }
        }

        fn path(&self) -> PathBuf {
            self.directory.path().join("log")
        }

        fn rotate(&self) {
            std::fs::rename(self.path(), self.directory.path().join("log.1")).unwrap();
        }

        /// Lines of these users, with their numbers as paths. Those of uid 0 nobody has authenticated.
        fn write(&mut self, uids: impl IntoIterator<Item = u32>) {
            let mut lines = Vec::new();
            for uid in uids {
                let who = Who {
                    session: "s".to_owned(),
                    user: if uid == 0 { "" } else { "u" }.to_owned(),
                    uid,
                };
                self.seq += 1;
                let path = format!("{} \",\"uid\":1,", self.seq);
                Entry::now("open", path, "ok", "").write(&who, self.seq, &[0; 32], &mut lines);
            }
            let mut options = File::options();
            let mut file = options.create(true).append(true).open(self.path()).unwrap();
            file.write_all(&lines).unwrap();
        }
    }

    /// The numbers of a user's lines.
    fn numbers(events: &mut OwnEvents, uid: u32, lines: u32) -> Vec<u64> {
        let events = events.latest(uid, lines).unwrap();
        assert!(events.iter().all(|event| event.uid == uid));
        let number = |event: &OwnEvent| event.path.split(' ').next().unwrap().parse().unwrap();
        events.iter().map(number).collect()
    }

    #[test]
    fn the_latest_of_ones_own_are_given_over_both_files_and_nobody_elses() {
        let mut log = Written::new();
        log.write((0..5000).map(|number| number % 3));
        log.rotate();
        let mut events = OwnEvents::of(&log.path());
        log.write((0..2000).map(|number| number % 3));
        let all: Vec<u64> = (1..=7000)
            .filter(|seq| (if *seq > 5000 { seq - 5001 } else { seq - 1 }) % 3 == 1)
            .collect();
        assert_eq!(numbers(&mut events, 1, 1_000_000), all[all.len() - 1000..]);
        assert_eq!(numbers(&mut events, 1, 5), all[all.len() - 5..]);
        assert!(numbers(&mut events, 7, 5).is_empty());
        assert_eq!(
            numbers(&mut OwnEvents::of(&log.path()), 1, 1000),
            all[all.len() - 1000..]
        );
        log.write([7]);
        assert_eq!(numbers(&mut events, 7, 5), [7001], "what was written since");
    }

    #[test]
    fn nobodys_flood_makes_another_ones_lines_be_forgotten_however_often_the_log_is_rotated() {
        let mut log = Written::new();
        let mut events = OwnEvents::of(&log.path());
        log.write([7, 7, 7, 0]);
        for round in 0..5 {
            log.write(std::iter::repeat_n(1, 5000));
            assert_eq!(numbers(&mut events, 7, 10), [1, 2, 3], "{round}");
            log.rotate();
            assert_eq!(numbers(&mut events, 7, 10), [1, 2, 3], "no file at all");
        }
        log.write([1, 7]);
        assert_eq!(numbers(&mut events, 7, 10), [1, 2, 3, 25_006]);
        assert_eq!(numbers(&mut events, 1, 2000).len(), 1000);
        assert!(
            numbers(&mut events, 0, 10).is_empty(),
            "a stranger's are not kept for ever"
        );
        let memory = |place: &Place| match place {
            Place::Memory(line) => line.len(),
            Place::File { .. } => 0,
        };
        for places in events.by_uid.values() {
            assert!(places.len() <= MOST && places.iter().map(memory).sum::<usize>() <= KEPT);
        }
    }

    #[test]
    fn a_line_that_is_not_whole_yet_is_read_when_it_is() {
        let mut log = Written::new();
        log.write([7, 7]);
        let text = std::fs::read(log.path()).unwrap();
        std::fs::write(log.path(), &text[..text.len() - 10]).unwrap();
        let mut events = OwnEvents::of(&log.path());
        assert_eq!(numbers(&mut events, 7, 10), [1]);
        std::fs::write(log.path(), &text).unwrap();
        assert_eq!(numbers(&mut events, 7, 10), [1, 2]);
    }
}
