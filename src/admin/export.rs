//! `export`: everything that a user has, as the user sees it, with a manifest.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::{Cursor, Read, Seek, SeekFrom};

use serde::Serialize;
use sha2::{Digest, Sha256};

use super::walk::{Entry, Visitor, walk_homes};
use super::{Finding, Ground, Monitor, Problem, home, read, text};
use crate::clock::Timestamp;
use crate::error::{Error, Kind, Result};
use crate::escape::plain;
use crate::identity::UserId;
use crate::name::{RESERVED_PREFIX, is_record};
use crate::record::Lens;
use crate::store::{ForeignDraft, Reserved, draft_limit, stored_limit};
use crate::volume::{self, Access, Dir, FileType, Pieces};

/// The manifest's name, which is the last file: who has it, has everything.
pub const MANIFEST: &str = "MANIFEST.sha256";

/// Where what is exported goes.
pub trait Target {
    /// A file, with a path of plain names.
    ///
    /// # Errors
    /// What keeps it from being written.
    fn file(&mut self, path: &str, mtime: Timestamp, content: Content<'_>) -> Result<()>;

    /// There is no more.
    ///
    /// # Errors
    /// What keeps it from being finished.
    fn finish(&mut self) -> Result<()>;
}

/// What is in a file.
pub struct Content<'a> {
    /// Where it has data.
    pub pieces: &'a Pieces,
    /// That data, without the holes, and no more of it.
    pub data: &'a mut dyn Read,
}

/// Holes beyond this, in bytes, are not read for the sum of a file.
const MOST_SUMMED: u64 = 1 << 30;

/// What was exported.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Exported {
    /// Files, without the manifest.
    pub files: u64,
    /// Bytes in them.
    pub bytes: u64,
    /// What is there and was left out, for a reason that was told.
    pub left: u64,
    /// Whether it came to the end.
    pub complete: bool,
}

/// Exports a user's records, kept drafts and attachments, and `profile.json`: without secrets, each whole as
/// it was at one moment. The manifest has a line for each that `sha256sum -c` checks, below a comment with
/// its size and time of change.
///
/// # Errors
/// [`Kind::NotFound`] when the volume has nothing of this user, and all of it could be looked at; what the
/// target says; any error of reading the volume's root. What else cannot be read is left out, and told.
pub fn export(
    ground: &Ground,
    user: &UserId,
    target: &mut dyn Target,
    monitor: &mut dyn Monitor,
) -> Result<Exported> {
    let hash = user.hash();
    let only = BTreeSet::from([hash.as_str()]);
    let mut exporter = Exporter {
        ground,
        user,
        lens: ground.lens(user),
        target,
        monitor,
        manifest: String::new(),
        done: Exported::default(),
        homes: 0,
        whose: home::Whose::Users,
        failed: None,
    };
    exporter.done.complete = walk_homes(ground, &only, &mut exporter)?;
    if let Err(error) = exporter.profile() {
        let path = home::profile_path(user);
        exporter.unreadable(&path, &error);
    }
    if let Some(error) = exporter.failed.take() {
        return Err(error);
    }
    if exporter.homes == 0 && exporter.done.complete && exporter.done.left == 0 {
        return Err(Error::new(
            Kind::NotFound,
            "the volume has nothing of this user: correct the user id, --volume or --layout",
        ));
    }
    exporter.finish()
}

struct Exporter<'a> {
    ground: &'a Ground,
    user: &'a UserId,
    lens: Lens,
    target: &'a mut dyn Target,
    monitor: &'a mut dyn Monitor,
    manifest: String,
    done: Exported,
    /// Directories of this user that were met.
    homes: u64,
    /// Whose that is in the directory at hand which does not say whose it is.
    whose: home::Whose,
    /// Why nothing more can be written.
    failed: Option<Error>,
}

impl Visitor for Exporter<'_> {
    fn progress(&mut self, done: f64) {
        self.monitor.progress(done);
    }

    fn home(&mut self, dir: &Dir, _: &str, path: &str) {
        self.homes += 1;
        self.whose = home::owner(self.ground, dir, self.user).unwrap_or_else(|error| {
            self.unreadable(path, &error);
            home::Whose::Unknown
        });
    }

    fn entry(&mut self, entry: &Entry<'_>) {
        self.monitor.looked_at();
        let result = match (entry.stat.file_type, Reserved::of(entry.name)) {
            (FileType::Regular, _) if entry.resource.is_none() => Ok(()),
            (FileType::Regular, _) if is_record(entry.name) => self.record(entry),
            (FileType::Regular, Reserved::Draft) => self.draft(entry),
            (FileType::Regular, Reserved::Unknown) if !entry.name.starts_with(RESERVED_PREFIX) => {
                self.attachment(entry)
            }
            _ => Ok(()),
        };
        match result {
            // Gone since it was listed.
            Err(error) if error.kind() == Kind::NotFound => {}
            Err(error) if self.failed.is_none() => self.unreadable(entry.path, &error),
            _ => {}
        }
    }

    fn abbreviated(&mut self, short: &str, long: &str) {
        let _ = writeln!(self.manifest, "# {} stands for {}", plain(short), plain(long));
    }

    fn found(&mut self, finding: Finding) {
        if finding.conceals() {
            self.leave(&finding.path, &finding.detail);
        }
    }

    /// The manifest may reach the user, who is not told where the volume is.
    fn unreadable(&mut self, path: &str, error: &Error) {
        self.note_left(path, &error.to_string());
        self.monitor.found(&Finding::unreadable(path, error));
    }

    fn stops(&self) -> bool {
        self.failed.is_some() || self.monitor.stops()
    }
}

impl Exporter<'_> {
    fn record(&mut self, entry: &Entry<'_>) -> Result<()> {
        let Some(read) = read(entry.dir, entry.name, stored_limit(self.ground.max_record))? else {
            self.leave(entry.path, "larger than max_size: nobody sees it");
            return Ok(());
        };
        match self.lens.view(&read.text) {
            Ok(view) => self.write(&as_shown(entry, entry.name), &view.text, read.stat.mtime),
            // Somebody else's, who shares the hash.
            Err(crate::record::Hidden::Foreign) => {}
            Err(why) => self.leave(entry.path, &format!("not shown to its user: {why}")),
        }
        Ok(())
    }

    /// As the user sees it, beside the record.
    fn draft(&mut self, entry: &Entry<'_>) -> Result<()> {
        let Some(read) = read(entry.dir, entry.name, draft_limit(self.ground.max_record))? else {
            self.leave(entry.path, "larger than a draft can be");
            return Ok(());
        };
        let mtime = read.stat.mtime;
        let draft = ForeignDraft::parse(read.text)?;
        if draft.owner() != self.user.full_hash() {
            return Ok(());
        }
        match draft.text(self.lens.sealer()) {
            Ok(text) if self.lens.may_hold_secret(&text) => {
                self.leave(
                    entry.path,
                    "a draft that names a secret, which is no part of an export",
                );
            }
            Ok(text) => self.write(&as_shown(entry, &format!("{}.draft", draft.name())), &text, mtime),
            Err(why) => self.leave(entry.path, &format!("the draft cannot be opened: {why}")),
        }
        Ok(())
    }

    fn attachment(&mut self, entry: &Entry<'_>) -> Result<()> {
        if entry.stat.nlink > 1 {
            self.leave(entry.path, "it has a second name somewhere: nobody sees it");
            return Ok(());
        }
        if self.whose != home::Whose::Users {
            self.leave(entry.path, self.whose.why_left());
            return Ok(());
        }
        let file = entry.dir.open_file(entry.name, Access::Read)?;
        let stat = volume::stat(&file)?;
        let pieces = Pieces::of(&file, stat.size)?;
        let path = as_shown(entry, entry.name);
        self.stream(&path, &pieces, stat.mtime, file);
        Ok(())
    }

    /// What the service keeps of the user beside the resources.
    fn profile(&mut self) -> Result<()> {
        let Some(dir) = home::profile(self.ground, self.user)? else {
            return Ok(());
        };
        self.homes += 1;
        let path = home::profile_path(self.user);
        let read = match read(&dir, home::PROFILE, stored_limit(self.ground.max_record)) {
            Err(error) if error.kind() == Kind::NotFound => return Ok(()),
            read => read?,
        };
        let Some(read) = read else {
            self.leave(&path, "larger than max_size");
            return Ok(());
        };
        let is_users = home::owner(self.ground, &dir, self.user)? == home::Whose::Users;
        match self.lens.without_secrets(&read.text) {
            Ok((owner, text)) if owner.as_ref().map_or(is_users, |owner| owner == self.user) => {
                self.write(home::PROFILE, &text, read.stat.mtime);
            }
            Ok((Some(_), _)) => {}
            Ok((None, _)) => self.leave(
                &path,
                "another user shares the hash, and it says of nobody that it is theirs",
            ),
            Err(why) => self.leave(&path, &why.to_string()),
        }
        Ok(())
    }

    fn write(&mut self, path: &str, content: &[u8], mtime: Timestamp) {
        let pieces = Pieces::whole(content.len() as u64);
        self.stream(path, &pieces, mtime, Cursor::new(content));
    }

    /// A file that gets shorter while it is read is filled up with zeros, as a map of it would be.
    fn stream(&mut self, path: &str, pieces: &Pieces, mtime: Timestamp, source: impl Read + Seek) {
        let mut data = Hashing::new(pieces, source);
        let content = Content {
            pieces,
            data: &mut data,
        };
        match self.target.file(path, mtime, content) {
            Ok(()) => {
                let sum = hex::encode(data.sum());
                self.list(path, pieces, mtime, &sum);
                self.done.files += 1;
                self.done.bytes += pieces.size();
            }
            Err(error) => self.failed = Some(error),
        }
    }

    fn list(&mut self, path: &str, pieces: &Pieces, mtime: Timestamp, sum: &str) {
        let (size, mtime) = (pieces.size(), text::rfc3339(mtime));
        // As sha256sum(1) has it: where something in a name is spelled out, the line begins with a backslash.
        let (mark, name) = match path.contains(['\\', '\n', '\r']) {
            true => {
                let doubled = path.replace('\\', "\\\\");
                ("\\", doubled.replace('\n', "\\n").replace('\r', "\\r"))
            }
            false => ("", path.to_owned()),
        };
        let manifest = &mut self.manifest;
        let _ = match is_summed(pieces) {
            true => writeln!(manifest, "# {size} bytes, changed {mtime}\n{mark}{sum}  {name}"),
            false => writeln!(
                manifest,
                "# {size} bytes, of which {} are data, changed {mtime}; the sum of the data alone is {sum}: {}",
                pieces.data_size(),
                plain(path)
            ),
        };
    }

    fn finish(mut self) -> Result<Exported> {
        if !self.done.complete {
            return Ok(self.done);
        }
        let manifest = std::mem::take(&mut self.manifest);
        let now = crate::clock::now();
        let pieces = Pieces::whole(manifest.len() as u64);
        let content = Content {
            pieces: &pieces,
            data: &mut manifest.as_bytes(),
        };
        self.target.file(MANIFEST, now, content)?;
        self.target.finish()?;
        Ok(self.done)
    }

    fn leave(&mut self, path: &str, detail: &str) {
        self.note_left(path, detail);
        self.monitor
            .found(&Finding::new(Problem::Unreadable, path, detail));
    }

    fn note_left(&mut self, path: &str, detail: &str) {
        self.done.left += 1;
        let (path, detail) = (plain(path), plain(detail));
        let _ = writeln!(self.manifest, "# left out: {path}: {detail}");
    }
}

/// The path in the mount.
fn as_shown(entry: &Entry<'_>, name: &str) -> String {
    let resource = entry.resource.map_or("", |resource| resource.as_str());
    format!("{resource}/{}{name}", entry.below)
}

/// Whether the sum is of the whole file. Of a file that is as good as empty, and of any size, it cannot be.
fn is_summed(pieces: &Pieces) -> bool {
    pieces.holes() <= MOST_SUMMED
}

/// The data of a file, and its sum.
struct Hashing<'a, R> {
    pieces: &'a Pieces,
    source: R,
    hash: Sha256,
    /// Which piece is at hand, and up to where in the file it is read; none before its beginning.
    index: usize,
    at: Option<u64>,
    /// Up to where there is something in the sum.
    summed: u64,
}

impl<'a, R: Read + Seek> Hashing<'a, R> {
    fn new(pieces: &'a Pieces, source: R) -> Self {
        Self {
            pieces,
            source,
            hash: Sha256::new(),
            index: 0,
            at: None,
            summed: 0,
        }
    }

    /// Takes the zeros up to `until` into the sum, where it is of the whole file.
    fn sum_hole(&mut self, until: u64) {
        static ZEROS: [u8; 1 << 16] = [0; 1 << 16];
        while is_summed(self.pieces) && self.summed < until {
            let most = usize::try_from(until - self.summed)
                .unwrap_or(ZEROS.len())
                .min(ZEROS.len());
            self.hash.update(ZEROS.get(..most).unwrap_or_default());
            self.summed += most as u64;
        }
    }

    fn sum(mut self) -> impl AsRef<[u8]> {
        self.sum_hole(self.pieces.size());
        self.hash.finalize()
    }
}

impl<R: Read + Seek> Read for Hashing<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let Some(piece) = self.pieces.data().get(self.index) else {
            return Ok(0);
        };
        let at = match self.at {
            Some(at) => at,
            None => self.source.seek(SeekFrom::Start(piece.start))?,
        };
        let left = usize::try_from(piece.end - at).unwrap_or(usize::MAX);
        if left == 0 {
            self.index += 1;
            self.at = None;
            return self.read(buffer);
        }
        let most = left.min(buffer.len());
        let buffer = buffer.get_mut(..most).unwrap_or_default();
        let read = match self.source.read(buffer)? {
            0 => {
                buffer.fill(0);
                buffer.len()
            }
            read => read,
        };
        self.sum_hole(at);
        self.hash.update(buffer.get(..read).unwrap_or_default());
        self.summed = at + read as u64;
        self.at = Some(self.summed);
        Ok(read)
    }
}
