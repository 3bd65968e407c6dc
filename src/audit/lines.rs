//! The lines of a log that somebody has, in a file, compressed, or from the journal.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};

use flate2::bufread::MultiGzDecoder;
use sha2::{Digest, Sha256};

use super::line::{Digest256, MAX_LINE};

/// How a file begins that gzip has made.
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// How others begin, and what makes and reads them.
const OTHERS: [(&[u8], &str); 3] = [
    (&[0x28, 0xb5, 0x2f, 0xfd], "zstd"),
    (&[0xfd, b'7', b'z', b'X', b'Z'], "xz"),
    (b"BZh", "bzip2"),
];

/// A line as it stands in a file, however long it is.
pub(super) struct Raw {
    pub(super) bytes: Vec<u8>,
    pub(super) digest: Digest256,
    pub(super) number: u64,
    pub(super) offset: u64,
    pub(super) too_long: bool,
    /// It has its newline.
    pub(super) complete: bool,
}

impl Raw {
    /// Without `Nov 28 10:00:00 host tenantfs-audit[7]: `.
    fn unprefixed(mut self) -> Self {
        const BEFORE: &[u8] = b"]: {";
        let found = self.bytes.windows(BEFORE.len()).position(|part| part == BEFORE);
        if let Some(at) = found {
            self.bytes.drain(..at + BEFORE.len() - 1);
            self.digest = Sha256::digest(&self.bytes).into();
        }
        self
    }
}

/// Reads lines, and holds at most [`MAX_LINE`] bytes of one.
pub(super) struct LineReader {
    from: BufReader<Box<dyn Read>>,
    number: u64,
    offset: u64,
    is_whole: bool,
}

impl LineReader {
    /// Of what the file has: also where it is compressed, by gzip.
    ///
    /// # Errors
    /// The operating system's; and of what is compressed in another way, with what to do.
    pub(super) fn new(file: File) -> io::Result<Self> {
        let is_regular = file.metadata()?.is_file();
        let mut file = BufReader::new(file);
        let begin = file.fill_buf()?;
        if let Some((_, name)) = OTHERS.iter().find(|(magic, _)| begin.starts_with(magic)) {
            return Err(io::Error::other(format!(
                "it is compressed by {name}: verify <({name} -dc FILE) instead"
            )));
        }
        let is_gzip = begin.starts_with(&GZIP);
        let from: Box<dyn Read> = match is_gzip {
            true => Box::new(MultiGzDecoder::new(file)),
            false => Box::new(file),
        };
        Ok(Self {
            from: BufReader::new(from),
            number: 0,
            offset: 0,
            is_whole: is_regular && !is_gzip,
        })
    }

    /// Whether it is the log itself: not what somebody made of it, as `journalctl` and `gzip` do.
    pub(super) fn is_log(&self) -> bool {
        self.is_whole
    }

    /// The next line; of what the journal has, without what `journalctl` puts before it.
    pub(super) fn next(&mut self) -> io::Result<Option<Raw>> {
        loop {
            let Some(raw) = self.next_raw()? else {
                return Ok(None);
            };
            if self.is_whole || raw.bytes.starts_with(b"{") || raw.too_long {
                return Ok(Some(raw));
            }
            // `-- Boot 0123… --`
            if !raw.bytes.starts_with(b"-- ") {
                return Ok(Some(raw.unprefixed()));
            }
        }
    }

    fn next_raw(&mut self) -> io::Result<Option<Raw>> {
        let (mut bytes, mut hash) = (Vec::new(), Sha256::new());
        let (mut length, mut complete) = (0u64, false);
        while !complete {
            let buffer = self.from.fill_buf()?;
            if buffer.is_empty() {
                break;
            }
            let newline = buffer.iter().position(|byte| *byte == b'\n');
            complete = newline.is_some();
            let part = buffer.get(..newline.unwrap_or(buffer.len())).unwrap_or_default();
            hash.update(part);
            let room = MAX_LINE.saturating_sub(bytes.len());
            bytes.extend_from_slice(part.get(..room.min(part.len())).unwrap_or_default());
            length += part.len() as u64;
            let consumed = part.len() + usize::from(complete);
            self.from.consume(consumed);
        }
        if length == 0 && !complete {
            return Ok(None);
        }
        self.number += 1;
        let offset = self.offset;
        self.offset += length + u64::from(complete);
        Ok(Some(Raw {
            too_long: length > MAX_LINE as u64,
            bytes,
            digest: hash.finalize().into(),
            number: self.number,
            offset,
            complete,
        }))
    }
}
