//! The archives of an export.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::PathBuf;

use tenantfs::admin::{Content, Target};
use tenantfs::clock::Timestamp;
use tenantfs::error::{At, Doing, Result};
use tenantfs::volume::Pieces;

pub(super) const WRITING: &str = "writing the export";

/// The size of a block of an archive, in bytes.
const BLOCK: usize = 512;

/// An archive that is written to something, and what is done with that at its end.
pub(super) struct Archive<W: Write, F> {
    /// None when it is finished.
    tar: Option<tar::Builder<W>>,
    finish: F,
    /// Where it is, for messages.
    path: PathBuf,
}

impl<W: Write, F: FnMut(W) -> io::Result<()>> Archive<W, F> {
    pub(super) fn new(output: W, finish: F, path: PathBuf) -> Self {
        Self {
            tar: Some(tar::Builder::new(output)),
            finish,
            path,
        }
    }
}

impl<W: Write, F: FnMut(W) -> io::Result<()>> Target for Archive<W, F> {
    fn file(&mut self, path: &str, mtime: Timestamp, content: Content<'_>) -> Result<()> {
        let Some(tar) = &mut self.tar else { return Ok(()) };
        let written = match content.pieces.holes() {
            0 => {
                let mut header = header(tar::Header::new_gnu(), content.pieces.size(), mtime);
                tar.append_data(&mut header, path, content.data)
            }
            _ => sparse(tar, path, mtime, content),
        };
        written.doing(WRITING).at(&self.path)
    }

    fn finish(&mut self) -> Result<()> {
        let Some(tar) = self.tar.take() else { return Ok(()) };
        tar.into_inner()
            .and_then(&mut self.finish)
            .doing(WRITING)
            .at(&self.path)
    }
}

fn header(mut header: tar::Header, size: u64, mtime: Timestamp) -> tar::Header {
    header.set_entry_type(tar::EntryType::Regular);
    header.set_size(size);
    header.set_mode(0o600);
    header.set_mtime(seconds(mtime));
    header
}

/// Writes a file with holes as GNU tar does (its format 1.0): first where the data belongs, then the data.
fn sparse<W: Write>(
    tar: &mut tar::Builder<W>,
    path: &str,
    mtime: Timestamp,
    content: Content<'_>,
) -> io::Result<()> {
    let Content { pieces, data } = content;
    let mut map = place_of(pieces).into_bytes();
    map.resize(map.len().next_multiple_of(BLOCK), 0);
    let size = pieces.size().to_string();
    tar.append_pax_extensions([
        ("GNU.sparse.major", b"1".as_slice()),
        ("GNU.sparse.minor", b"0"),
        ("GNU.sparse.name", path.as_bytes()),
        ("GNU.sparse.realsize", size.as_bytes()),
    ])?;
    // Of the format of 2001, which the lines above belong to.
    let size = map.len() as u64 + pieces.data_size();
    let mut header = header(tar::Header::new_ustar(), size, mtime);
    // For those who know nothing of such files.
    header.set_path("GNUSparseFile.0/file")?;
    header.set_cksum();
    tar.append(&header, map.as_slice().chain(data))
}

/// How many pieces there are, and of each the offset and the size.
fn place_of(pieces: &Pieces) -> String {
    // One of no size at the end says how large the file is.
    let end = pieces.size()..pieces.size();
    let all = pieces.data().iter().chain([&end]);
    let mut text = format!("{}\n", pieces.data().len() + 1);
    for piece in all {
        text.push_str(&format!("{}\n{}\n", piece.start, piece.end - piece.start));
    }
    text
}

/// Begins a compressed archive in an empty file.
///
/// # Errors
/// [`Kind::Io`](tenantfs::error::Kind::Io) when it cannot be begun.
pub(super) fn in_file(file: File, path: PathBuf) -> Result<impl Target> {
    let synced = file.try_clone().doing(WRITING).at(&path)?;
    let encoder = zstd::Encoder::new(file, zstd::DEFAULT_COMPRESSION_LEVEL)
        .doing(WRITING)
        .at(&path)?;
    let finish = move |encoder: zstd::Encoder<'static, File>| {
        encoder.finish()?;
        synced.sync_all()
    };
    Ok(Archive::new(encoder, finish, path))
}

/// Archives know no time before 1970.
fn seconds(time: Timestamp) -> u64 {
    u64::try_from(time.seconds).unwrap_or(0)
}
