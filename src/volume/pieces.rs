//! Where a file has data, and where it has holes.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::ops::Range;

use rustix::fs::SeekFrom as At;
use rustix::io::Errno;

use crate::error::{Doing, Error, Kind, Result};

/// Files in more pieces are not copied: whoever keeps a list of the pieces has memory for so many.
const MOST: usize = 1 << 20;

/// Smaller holes, in all, are not worth to be kept: they are read as the zeros that they are.
const WORTHWHILE: u64 = 1 << 20;

/// How much is copied at a time, in bytes.
const CHUNK: usize = 1 << 20;

/// Where a file has data. What is copied costs what its data costs, however large the file says that it is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pieces {
    size: u64,
    /// In order, and apart from each other.
    data: Vec<Range<u64>>,
}

impl Pieces {
    /// Of a file without holes.
    pub fn whole(size: u64) -> Self {
        Self {
            size,
            data: std::iter::once(0..size).collect(),
        }
    }

    /// Of the first `size` bytes of a file. Where the file system cannot say, all of it is data.
    ///
    /// # Errors
    /// [`Kind::TooLarge`] for a file in too many pieces; the operating system's.
    pub fn of(file: &File, size: u64) -> Result<Self> {
        let mut data: Vec<Range<u64>> = Vec::new();
        let mut at = 0;
        while at < size {
            let (from, until) = match next(file, at) {
                Ok(Some(piece)) => piece,
                Ok(None) => break,
                Err(Errno::INVAL | Errno::OPNOTSUPP | Errno::NOSYS) => return Ok(Self::whole(size)),
                Err(errno) => return Err(Error::os(errno, "looking for data in a file")),
            };
            if data.len() == MOST {
                let why = format!("a sparse file in more than {MOST} pieces: copy it with a tool for that");
                return Err(Error::new(Kind::TooLarge, why));
            }
            if from < size {
                data.push(from..until.min(size));
            }
            at = until;
        }
        let pieces = Self { size, data };
        match pieces.holes() < WORTHWHILE {
            true => Ok(Self::whole(size)),
            false => Ok(pieces),
        }
    }

    /// How large the file is.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The pieces, as offsets.
    pub fn data(&self) -> &[Range<u64>] {
        &self.data
    }

    /// How many bytes of data there are.
    pub fn data_size(&self) -> u64 {
        self.data.iter().map(|piece| piece.end - piece.start).sum()
    }

    /// How many bytes there are that nobody has written.
    pub fn holes(&self) -> u64 {
        self.size - self.data_size()
    }

    /// Writes a file that has this data, which `source` has without the holes, and holes where there were some.
    ///
    /// # Errors
    /// Those of reading and writing; [`io::ErrorKind::UnexpectedEof`] when `source` has less.
    pub fn write(&self, source: &mut dyn Read, mut file: &File) -> io::Result<()> {
        let mut chunk = vec![0; CHUNK];
        for piece in &self.data {
            file.seek(SeekFrom::Start(piece.start))?;
            let mut left = piece.end - piece.start;
            while left > 0 {
                let most = usize::try_from(left).unwrap_or(CHUNK).min(CHUNK);
                let bytes = chunk.get_mut(..most).unwrap_or_default();
                source.read_exact(bytes)?;
                file.write_all(bytes)?;
                left -= most as u64;
            }
        }
        file.set_len(self.size)
    }

    /// Hands every piece of `source` to `each`, in order and in chunks, with where it was. Whether
    /// it has become shorter meanwhile.
    ///
    /// # Errors
    /// Those of reading, and of `each`.
    pub fn read(&self, source: &mut File, mut each: impl FnMut(u64, &[u8]) -> Result<()>) -> Result<bool> {
        const READING: &str = "reading from the volume";
        let mut chunk = vec![0; CHUNK];
        let mut is_short = false;
        for piece in &self.data {
            source.seek(SeekFrom::Start(piece.start)).doing(READING)?;
            let mut left = piece.end - piece.start;
            while left > 0 {
                let most = usize::try_from(left).unwrap_or(CHUNK).min(CHUNK);
                let read = source
                    .read(chunk.get_mut(..most).unwrap_or_default())
                    .doing(READING)?;
                if read == 0 {
                    is_short = true;
                    break;
                }
                each(piece.end - left, chunk.get(..read).unwrap_or_default())?;
                left -= read as u64;
            }
        }
        Ok(is_short)
    }
}

/// The next piece of data from `at` on; none when there is none.
fn next(file: &File, at: u64) -> rustix::io::Result<Option<(u64, u64)>> {
    let from = match rustix::fs::seek(file, At::Data(at)) {
        Err(Errno::NXIO) => return Ok(None),
        from => from?,
    };
    rustix::fs::seek(file, At::Hole(from)).map(|until| Some((from, until)))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_sparse_file_is_copied_as_its_data_and_has_its_holes_again() {
        let directory = tempfile::tempdir_in("/var/tmp").unwrap();
        let make = |name: &str| {
            let mut options = File::options();
            options.read(true).write(true).create_new(true);
            options.open(directory.path().join(name)).unwrap()
        };
        let mut sparse = make("sparse");
        let size = 15 << 40;
        sparse.set_len(size).unwrap();
        for (at, text) in [(0, "begin"), (7 << 40, "middle"), (size - 3, "end")] {
            sparse.seek(SeekFrom::Start(at)).unwrap();
            sparse.write_all(text.as_bytes()).unwrap();
        }
        let pieces = Pieces::of(&sparse, size).unwrap();
        assert_eq!(pieces.data().len(), 3);
        assert!(pieces.data_size() < 1 << 20);
        let mut data = Vec::new();
        let is_short = pieces.read(&mut sparse, |_, bytes| {
            data.extend_from_slice(bytes);
            Ok(())
        });
        assert!(!is_short.unwrap());
        let copy = make("copy");
        pieces.write(&mut &*data, &copy).unwrap();
        assert_eq!(Pieces::of(&copy, size).unwrap(), pieces);
        assert_eq!(copy.metadata().unwrap().len(), size);

        sparse.set_len(0).unwrap();
        assert_eq!(Pieces::of(&sparse, 0).unwrap(), Pieces::whole(0));
        sparse.set_len(100).unwrap();
        assert_eq!(
            Pieces::of(&sparse, 100).unwrap(),
            Pieces::whole(100),
            "a small hole is data"
        );
    }
}
