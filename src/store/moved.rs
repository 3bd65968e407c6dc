//! Where directories went that were renamed: a note at the name that each had, for the next directory of that name. Its
//! records get the secrets that those of the same names have in the directory that was moved: see `heritage`.
//!
//! The note costs the same whatever is in the directory. It is followed only when its name is used again.

use super::folder::Folder;
use super::reserved::{MOVED_PREFIX, Reserved, forget, note_name_of, telling};
use crate::clock::{self, Timestamp};
use crate::error::{Kind, Result};
use crate::name::EntryName;
use crate::volume::{self, Access, Durability, FileType, Staged, Stat};

/// So many directories that had one name are remembered, the last first: notes at other names may lead over this one.
const MOST_MOVES: usize = 8;

/// The longest note that is read or written, in bytes.
const LONGEST: usize = 256 << 10;

/// How the way to a directory begins that is below the one where the note is.
pub(super) const HERE: &str = ".";

/// What a directory is known by again: its inode, and when that came into being.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Identity {
    ino: u64,
    born: Timestamp,
}

impl Identity {
    pub(super) fn of(stat: &Stat) -> Self {
        Self {
            ino: stat.id.ino,
            born: stat.born,
        }
    }
}

/// One directory that had a name, and lost it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Move {
    pub(super) directory: Identity,
    at: Timestamp,
    /// Whether another directory of its name has what this one had for it.
    is_settled: bool,
    /// The way to where it went: from the resource on, or from [`HERE`].
    pub(super) way: String,
}

impl Move {
    /// Understands `6e2 1764302400.123456789 1764302460.000000007 + schedules/sub/old`.
    fn parse(line: &str) -> Option<Self> {
        let mut words = line.splitn(5, ' ');
        Some(Self {
            directory: Identity {
                ino: u64::from_str_radix(words.next()?, 16).ok()?,
                born: Timestamp::parse(words.next()?)?,
            },
            at: Timestamp::parse(words.next()?)?,
            is_settled: words.next()? == "-",
            way: words.next()?.to_owned(),
        })
    }

    fn line(&self) -> String {
        let Identity { ino, born } = self.directory;
        let sign = if self.is_settled { '-' } else { '+' };
        format!("{ino:x} {born} {} {sign} {}\n", self.at, self.way)
    }
}

/// The note at one name of a directory.
pub(super) struct Moved<'a> {
    folder: &'a Folder,
    name: &'a EntryName,
    entry: String,
}

impl<'a> Moved<'a> {
    pub(super) fn new(folder: &'a Folder, name: &'a EntryName) -> Self {
        Self {
            folder,
            name,
            entry: telling(MOVED_PREFIX, name),
        }
    }

    /// Notes that `directory`, which has the name, is about to be renamed to `to` in `target`. Returns what is to be given
    /// to [`undo`](Self::undo) if it is not.
    ///
    /// # Errors
    /// The volume's.
    pub(super) fn note(&self, directory: &Folder, target: &Folder, to: &EntryName) -> Result<Before> {
        let before = Before(self.read()?);
        let stat = directory.look().dir.stat_self()?;
        let noted = self.add(Identity::of(&stat), &target.path_of(to), before.0.clone());
        self.folder.look().unless_full(self.name, noted)?;
        Ok(before)
    }

    /// The directory was not renamed.
    ///
    /// # Errors
    /// The volume's.
    pub(super) fn undo(&self, before: &Before) -> Result<()> {
        self.write(&before.0)
    }

    /// Puts a move to `path`, which is as in the mount, in front of `others`.
    ///
    /// # Errors
    /// The volume's.
    pub(super) fn add(&self, directory: Identity, path: &str, others: Vec<Move>) -> Result<()> {
        if self.folder.look().tenant.options.keep_removed.is_zero() {
            return Ok(());
        }
        let here = path
            .strip_prefix(self.folder.look().path)
            .filter(|below| below.starts_with('/'));
        let way = match here {
            Some(below) => format!("{HERE}{below}"),
            None => path.to_owned(),
        };
        let new = Move {
            directory,
            at: clock::now(),
            is_settled: false,
            way,
        };
        let mut moves = vec![new];
        // Of one name, only the last has something for the next.
        moves.extend(others.into_iter().map(|other| Move {
            is_settled: true,
            ..other
        }));
        moves.truncate(MOST_MOVES);
        self.write(&moves)
    }

    /// The moves that are still of use, the last first.
    ///
    /// # Errors
    /// The volume's.
    pub(super) fn read(&self) -> Result<Vec<Move>> {
        let look = self.folder.look();
        let file = match look.dir.open_file(&self.entry, Access::Read) {
            Err(error) if error.kind() == Kind::NotFound => return Ok(Vec::new()),
            file => file?,
        };
        let stat = volume::stat(&file)?;
        if stat.file_type != FileType::Regular {
            return Ok(Vec::new());
        }
        let text = volume::read_at_most(&file, stat.size, LONGEST as u64)?;
        let (now, keep) = (clock::now(), look.tenant.options.keep_removed);
        let lines = std::str::from_utf8(&text).unwrap_or_default().lines();
        let is_of_use = |noted: &Move| !Reserved::Moved.is_outdated(noted.at, now, keep);
        Ok(lines
            .filter_map(Move::parse)
            .filter(is_of_use)
            .take(MOST_MOVES)
            .collect())
    }

    fn write(&self, moves: &[Move]) -> Result<()> {
        let dir = self.folder.look().dir;
        let mut text = String::new();
        for line in moves.iter().map(Move::line) {
            if text.len() + line.len() <= LONGEST {
                text.push_str(&line);
            }
        }
        if text.is_empty() {
            return forget(dir, &self.entry).map(drop);
        }
        let mut staged = Staged::new(dir, &dir.stat_self()?)?;
        staged.write(text.as_bytes())?;
        note_name_of(&staged, self.name, &self.entry);
        // Before the directory's own name changes, whatever that waits for.
        staged.place(&self.entry, Durability::Ordered).map(drop)
    }

    /// The move that has something for the next directory of the name.
    ///
    /// # Errors
    /// The volume's.
    pub(super) fn unsettled(&self) -> Result<Option<Move>> {
        let last = self.read()?.into_iter().next();
        Ok(last.filter(|last| !last.is_settled))
    }

    /// The next directory of the name has what the last one had for it.
    ///
    /// # Errors
    /// The volume's.
    pub(super) fn settle(&self) -> Result<()> {
        let mut moves = self.read()?;
        if let Some(last) = moves.first_mut() {
            last.is_settled = true;
        }
        self.write(&moves)
    }
}

/// What a note said before.
pub(super) struct Before(Vec<Move>);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_move_is_understood_as_it_was_noted() {
        let noted = Move {
            directory: Identity {
                ino: 0x6e2,
                born: Timestamp {
                    seconds: 1_764_302_400,
                    nanos: 5,
                },
            },
            at: Timestamp {
                seconds: 7,
                nanos: 120_000_000,
            },
            is_settled: true,
            way: "schedules/a b/ c".to_owned(),
        };
        let other = Move {
            is_settled: false,
            way: "./d".to_owned(),
            ..noted.clone()
        };
        for noted in [noted, other] {
            let line = noted.line();
            assert_eq!(Move::parse(line.trim_end_matches('\n')), Some(noted));
        }
        for nothing in ["", "6e2", "6e2 1.0 1.0 +", "x 1.0 1.0 + a", "6e2 1 1.0 + a"] {
            assert_eq!(Move::parse(nothing), None, "{nothing}");
        }
    }
}
