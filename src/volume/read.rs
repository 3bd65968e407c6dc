//! Reading a file that others may be writing.

use std::fs::File;
use std::io::Read as _;

use rustix::fs::SeekFrom;
use rustix::io::Errno;
use zeroize::Zeroizing;

use super::stat::{FileType, Stat, stat};
use crate::clock;
use crate::error::{Error, Result};

/// What reading a whole file came to.
pub enum Reading {
    /// All of these bytes were in it at one moment, of which the attributes are.
    Whole(Stat, Zeroizing<Vec<u8>>),
    /// It has more bytes than were asked for.
    TooLarge(Stat),
    /// It was written to meanwhile: what was read may begin in one content and end in another.
    Torn,
    /// There is no file of bytes to be read.
    NotRegular(Stat),
}

/// Reads all of `file`, if it has at most `limit` bytes.
///
/// A read is no snapshot: while a file is written in place, one call can return the head of what comes and the tail of
/// what was. So no write may be under way when it begins, and none may begin until it has ended. The file's version tells
/// of those that begin, for each leaves another once somebody has asked for it; where the clock of the file system is too
/// coarse for that, so do two reads that differ. Writing through a shared mapping leaves no trace that would tell of it.
///
/// # Errors
/// The operating system's.
pub fn read_whole(file: &File, limit: u64) -> Result<Reading> {
    let begun = clock::now();
    let before = stat(file)?;
    if before.file_type != FileType::Regular {
        return Ok(Reading::NotRegular(before));
    }
    if before.size > limit {
        return Ok(Reading::TooLarge(before));
    }
    wait_for_writes_under_way(file);
    let text = read_beginning(file, before.size)?;
    let unequivocal = before.version().is_settled(begun) || read_beginning(file, before.size)? == text;
    let after = stat(file)?;
    let has_all = text.len() as u64 == before.size;
    Ok(match has_all && unequivocal && is_same_content(&before, &after) {
        true => Reading::Whole(before, text),
        false => Reading::Torn,
    })
}

/// Linux's file systems lock the inode for a write, and for looking for data, but not all of them for a read: when this
/// has been looked for, every write that had begun has ended. What is found, if anything, does not matter.
fn wait_for_writes_under_way(file: &File) {
    let _ = rustix::fs::seek(file, SeekFrom::Data(0));
}

/// Reads the first `size` bytes, or up to the end where that comes before them.
fn read_beginning(file: &File, size: u64) -> Result<Zeroizing<Vec<u8>>> {
    let mut text = with_room(size);
    while (text.len() as u64) < size {
        let offset = text.len() as u64;
        match rustix::io::pread(file, rustix::buffer::spare_capacity(&mut text), offset) {
            Ok(0) => break,
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(Error::os(errno, "reading from the volume")),
        }
    }
    Ok(text)
}

/// With room for all of it from the start, no reallocation leaves a secret behind in freed memory.
fn with_room(size: u64) -> Zeroizing<Vec<u8>> {
    let room = usize::try_from(size).unwrap_or(usize::MAX).saturating_add(1);
    Zeroizing::new(Vec::with_capacity(room))
}

/// A file that is replaced or linked meanwhile has another ctime, and the content that it had.
fn is_same_content(before: &Stat, after: &Stat) -> bool {
    let [old, new] = [before.version(), after.version()];
    (old.size, old.mtime) == (new.size, new.mtime) && (old.ctime == new.ctime || before.nlink != after.nlink)
}

/// Reads on to the end, or one byte further than `limit` and no more, however the file grows meanwhile.
///
/// # Errors
/// The operating system's.
pub fn read_at_most(file: &File, expected: u64, limit: u64) -> Result<Zeroizing<Vec<u8>>> {
    let mut text = with_room(expected.min(limit));
    file.take(limit.saturating_add(1))
        .read_to_end(&mut text)
        .map_err(|error| Error::io(&error, "reading from the volume"))?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::FileExt;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread;
    use std::time::Duration;

    use super::*;

    /// Enough for a writer to come in between.
    const LENGTH: usize = 1 << 20;

    fn whole(reading: Reading) -> Option<Zeroizing<Vec<u8>>> {
        match reading {
            Reading::Whole(_, text) => Some(text),
            _ => None,
        }
    }

    #[test]
    fn what_is_rewritten_in_place_is_never_read_as_a_mixture() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("rewritten");
        fs::write(&path, vec![b'a'; LENGTH]).unwrap();
        let over = AtomicBool::new(false);
        let (mut mixed, mut read, mut torn) = (false, 0, 0);
        thread::scope(|scope| {
            scope.spawn(|| {
                let file = File::options().write(true).open(&path).unwrap();
                for letter in (b'a'..=b'z').cycle() {
                    file.write_all_at(&vec![letter; LENGTH], 0).unwrap();
                    if over.load(Ordering::Relaxed) {
                        break;
                    }
                    thread::sleep(Duration::from_micros(300));
                }
            });
            while !mixed && (read < 500 || torn < 100) {
                match read_whole(&File::open(&path).unwrap(), LENGTH as u64).unwrap() {
                    Reading::Whole(_, text) => {
                        mixed = text.iter().any(|byte| Some(byte) != text.first());
                        read += 1;
                    }
                    Reading::Torn => torn += 1,
                    Reading::TooLarge(_) | Reading::NotRegular(_) => unreachable!(),
                }
            }
            over.store(true, Ordering::Relaxed);
        });
        assert!(!mixed, "after {read} reads");
    }

    #[test]
    fn what_is_replaced_meanwhile_was_read_whole() {
        let dir = tempfile::tempdir().unwrap();
        let [path, other] = ["file", "other"].map(|name| dir.path().join(name));
        fs::write(&path, "old").unwrap();
        fs::write(&other, "new").unwrap();
        let file = File::open(&path).unwrap();
        let before = stat(&file).unwrap();
        fs::rename(&other, &path).unwrap();
        assert!(is_same_content(&before, &stat(&file).unwrap()));
        assert_eq!(whole(read_whole(&file, 3).unwrap()).unwrap().as_slice(), b"old");
    }

    #[test]
    fn no_more_is_read_than_was_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        fs::write(&path, "1234").unwrap();
        let file = File::open(&path).unwrap();
        assert!(matches!(read_whole(&file, 3).unwrap(), Reading::TooLarge(_)));
        assert_eq!(whole(read_whole(&file, 4).unwrap()).unwrap().as_slice(), b"1234");
        let directory = File::open(dir.path()).unwrap();
        assert!(matches!(
            read_whole(&directory, 4).unwrap(),
            Reading::NotRegular(_)
        ));
    }
}
