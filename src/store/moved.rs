//! Where directories went that were renamed: a note at the name that each had, for the next directory of that name. Its
//! records get the secrets that those of the same names have in the directory that was moved.
//!
//! The note costs the same whatever is in the directory. It is followed only when its name is used again.

use std::collections::{BTreeSet, HashSet};
use std::fmt::Write;

use super::folder::Folder;
use super::found::Found;
use super::reserved::{MOVED_PREFIX, Reserved, forget, former_name, note_name_of, telling};
use super::waiting::Waiting;
use crate::clock::{self, Timestamp};
use crate::error::{Kind, Result};
use crate::name::EntryName;
use crate::volume::{self, Access, Durability, FileId, FileType, Staged, Stat};

/// So many directories that had one name are remembered, the last first: notes at other names may lead over this one.
const MOST_MOVES: usize = 8;

/// The longest note that is read or written, in bytes.
const LONGEST: usize = 256 << 10;

/// The longest way that is followed, in directories, and how many names are tried on it.
const MOST_STEPS: usize = 256;
const MOST_TRIES: usize = 1024;

/// How the way to a directory begins that is below the one where the note is.
const HERE: &str = ".";

/// What a directory is known by again: its inode, and when that came into being.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Identity {
    ino: u64,
    born: Timestamp,
}

impl Identity {
    fn of(stat: &Stat) -> Self {
        Self {
            ino: stat.id.ino,
            born: stat.born,
        }
    }
}

/// One directory that had a name, and lost it.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Move {
    directory: Identity,
    at: Timestamp,
    /// Whether another directory of its name has what this one had for it.
    is_settled: bool,
    /// The way to where it went: from the resource on, or from [`HERE`].
    way: String,
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
        self.add(Identity::of(&stat), &target.path_of(to), before.0.clone())?;
        Ok(before)
    }

    /// The directory was not renamed.
    ///
    /// # Errors
    /// The volume's.
    pub(super) fn undo(&self, before: &Before) -> Result<()> {
        self.write(&before.0)
    }

    /// Puts a move in front of `others`.
    fn add(&self, directory: Identity, path: &str, others: Vec<Move>) -> Result<()> {
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
    fn read(&self) -> Result<Vec<Move>> {
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
    fn unsettled(&self) -> Result<Option<Move>> {
        let last = self.read()?.into_iter().next();
        Ok(last.filter(|last| !last.is_settled))
    }

    fn settle(&self) -> Result<()> {
        let mut moves = self.read()?;
        if let Some(last) = moves.first_mut() {
            last.is_settled = true;
        }
        self.write(&moves)
    }
}

/// What a note said before.
pub(super) struct Before(Vec<Move>);

/// Has what a directory that was moved away from `name` has for the next of that name wait there, as what was in a removed
/// one does. `heir` is the directory that is going to have the name, if that is there already.
///
/// # Errors
/// The volume's. Then, as when the server is killed, the same is done again for the next directory.
pub(super) fn gather(folder: &Folder, name: &EntryName, heir: Option<FileId>) -> Result<()> {
    let moved = Moved::new(folder, name);
    let Some(last) = moved.unsettled()? else {
        return Ok(());
    };
    if let Some(former) = find(folder, &last)?
        && Some(former.id()) != heir
    {
        let waiting = Waiting::new(folder.look(), name).open_or_make_dir()?;
        let waiting = folder.child(waiting, name)?;
        copy(&former, &waiting)?;
        if folder.look().tenant.options.durability == Durability::Durable {
            waiting.sync()?;
        }
    }
    moved.settle()
}

/// Leaves in `waiting` the secrets of the records in `former` and of those that wait there, and where its directories are.
fn copy(former: &Folder, waiting: &Folder) -> Result<()> {
    let mut names = BTreeSet::new();
    let dir = former.look().dir;
    dir.entries(|entry| {
        let Ok(entry) = std::str::from_utf8(entry) else {
            return;
        };
        names.extend(match Reserved::of(entry).waits() {
            true => former_name(dir, entry),
            false => EntryName::parse(entry.as_bytes()).ok(),
        });
    })?;
    for name in names {
        match name.is_record() {
            true => copy_record(former, waiting, &name)?,
            false => copy_directory(former, waiting, &name)?,
        }
    }
    Ok(())
}

fn copy_record(former: &Folder, waiting: &Folder, name: &EntryName) -> Result<()> {
    let record = former.record(name);
    let stored = match former.look().read_record(name)? {
        Found::Visible(stored) => Some(stored).filter(|stored| stored.has_secret),
        Found::Absent => record.left()?,
        Found::Hidden => None,
    };
    match stored {
        Some(stored) => waiting.record(name).leave_secrets(&stored),
        None => Ok(()),
    }
}

fn copy_directory(former: &Folder, waiting: &Folder, name: &EntryName) -> Result<()> {
    let there = match former.look().dir.stat(name.as_str()) {
        Err(error) if error.kind() == Kind::NotFound => Waiting::new(former.look(), name).stat()?,
        stat => Some(stat?),
    };
    let moved = Moved::new(waiting, name);
    match there {
        Some(stat) if stat.file_type == FileType::Directory => {
            moved.add(Identity::of(&stat), &former.path_of(name), Vec::new())
        }
        Some(_) => Ok(()),
        None => match Moved::new(former, name).unsettled()? {
            Some(last) => {
                let mut path = String::new();
                if let Some(below) = last.way.strip_prefix(HERE).filter(|rest| rest.starts_with('/')) {
                    write!(path, "{}{below}", former.look().path).ok();
                } else {
                    path = last.way;
                }
                moved.add(last.directory, &path, Vec::new())
            }
            None => Ok(()),
        },
    }
}

/// One name that is tried on the way to a directory.
struct Try {
    folder: Folder,
    /// The names that are still to be gone through, the next one last.
    steps: Vec<EntryName>,
    way: Way,
}

/// How a name leads on.
#[derive(Clone, Copy)]
enum Way {
    /// To the directory that has it.
    Live,
    /// To the one that was removed.
    Removed,
    /// To where those went that had it.
    Noted,
}

/// The directory that went from a name of `folder` where `last` says, or on from there: it may have been moved again, or
/// removed, and so may the directories on the way. None when it is not found.
fn find(folder: &Folder, last: &Move) -> Result<Option<Folder>> {
    let mut due = Vec::new();
    let mut followed = HashSet::new();
    begin(folder, last, Vec::new(), &mut due);
    for _ in 0..MOST_TRIES {
        let Some(Try {
            folder,
            mut steps,
            way,
        }) = due.pop()
        else {
            break;
        };
        let Some(step) = steps.pop() else { continue };
        let next = match way {
            Way::Live => folder.open_folder(&step).ok(),
            Way::Removed => folder.waiting_folder(&step)?,
            Way::Noted => {
                if followed.insert((folder.id(), step.clone(), steps.clone())) {
                    for noted in Moved::new(&folder, &step).read()?.iter().rev() {
                        if !steps.is_empty() || noted.directory == last.directory {
                            begin(&folder, noted, steps.clone(), &mut due);
                        }
                    }
                }
                None
            }
        };
        match next {
            Some(next) if steps.is_empty() => {
                if Identity::of(&next.look().dir.stat_self()?) == last.directory {
                    return Ok(Some(next));
                }
            }
            Some(next) => push(&next, steps, &mut due),
            None => {}
        }
    }
    Ok(None)
}

/// Goes where `noted`, of a note in `folder`, says, and then through `rest`.
fn begin(folder: &Folder, noted: &Move, mut rest: Vec<EntryName>, due: &mut Vec<Try>) {
    let mut way = noted.way.split('/');
    let base = match way.next() {
        Some(HERE) => Some(folder.clone()),
        Some(resource) => folder.resource(resource),
        None => None,
    };
    let steps: Result<Vec<_>> = way.rev().map(|step| EntryName::parse(step.as_bytes())).collect();
    if let (Some(base), Ok(steps)) = (base, steps) {
        rest.extend(steps);
        push(&base, rest, due);
    }
}

fn push(folder: &Folder, steps: Vec<EntryName>, due: &mut Vec<Try>) {
    if steps.len() <= MOST_STEPS {
        // The last one is tried first.
        due.extend([Way::Noted, Way::Removed, Way::Live].map(|way| Try {
            folder: folder.clone(),
            steps: steps.clone(),
            way,
        }));
    }
}

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
