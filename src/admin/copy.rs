//! `migrate` to another volume: every file is copied, read back and compared. The old volume stays as it is.

use std::fs::File;

use sha2::{Digest, Sha256};

use super::migrate::Migrated;
use super::walk::{Entry, Visitor, walk};
use super::{Finding, Ground, Monitor, Problem, home};
use crate::error::{Error, Kind, Result};
use crate::identity::UserHash;
use crate::layout::Layout;
use crate::store::{LayoutMark, Reserved};
use crate::volume::{self, Access, Descent, Dir, Durability, FileType, Pieces, Staged, Times, Volume};

/// Copies everything to the volume `target`, in the layout `to`. What is there already, and has the same size
/// and time of change, is not copied again: so an interrupted run is finished by another one, and what has
/// changed since is copied anew.
///
/// # Errors
/// [`Kind::Config`] when the target has another layout; [`Kind::NoSpace`] and the like, with which no more
/// can be copied; any error of reading a volume's root. What else cannot be read is told to `monitor`, and
/// left.
pub fn copy(ground: &Ground, target: &Volume, to: Layout, monitor: &mut dyn Monitor) -> Result<Migrated> {
    match LayoutMark::read(target.root())? {
        Some(mark) if mark.layout != to => {
            return Err(Error::config(format!(
                "the other volume is {}; correct --to or --to-volume",
                mark.layout
            )));
        }
        _ => {}
    }
    let mut copier = Copier {
        target,
        way: Descent::new(target.root().reopen()?),
        to,
        monitor,
        marker: None,
        done: Migrated::default(),
        failed: None,
    };
    let complete = walk(ground, &mut copier)?;
    if let Some(error) = copier.failed {
        return Err(error);
    }
    let mut done = copier.done;
    done.complete = complete;
    if done.complete && done.left == 0 {
        LayoutMark {
            layout: to,
            from: None,
        }
        .write(target.root())?;
    }
    Ok(done)
}

struct Copier<'a> {
    target: &'a Volume,
    /// To where the last file was copied.
    way: Descent,
    to: Layout,
    monitor: &'a mut dyn Monitor,
    /// What the marker of the directory at hand says.
    marker: Option<String>,
    done: Migrated,
    /// Why no more can be copied.
    failed: Option<Error>,
}

impl Visitor for Copier<'_> {
    fn progress(&mut self, done: f64) {
        self.monitor.progress(done);
    }

    fn home(&mut self, dir: &Dir, _: &str, path: &str) {
        self.marker = home::marker(dir).unwrap_or_else(|error| {
            self.unreadable(path, &error);
            None
        });
    }

    fn entry(&mut self, entry: &Entry<'_>) {
        self.monitor.looked_at();
        // The directories that notes lead to are others there.
        let what = Reserved::of(entry.name);
        if matches!(what, Reserved::Marker | Reserved::Temporary | Reserved::Moved) {
            return;
        }
        if entry.stat.file_type != FileType::Regular {
            return self.leave(entry.path, "neither a file nor a directory: not copied");
        }
        match self.file(entry) {
            // Gone since it was listed.
            Err(error) if error.kind() == Kind::NotFound => {}
            Err(error) if matches!(error.kind(), Kind::NoSpace | Kind::QuotaExceeded | Kind::ReadOnly) => {
                self.failed = Some(error.context(format_args!("copying {:?}", entry.path)));
            }
            Err(error) => self.unreadable(entry.path, &error),
            Ok(true) => self.done.files += 1,
            Ok(false) => {}
        }
    }

    fn found(&mut self, finding: Finding) {
        self.done.left += 1;
        self.monitor.found(&finding);
    }

    /// Whatever is not copied is missing on the other volume.
    fn stray(&mut self, finding: Finding) {
        self.found(finding);
    }

    fn stops(&self) -> bool {
        self.failed.is_some() || self.monitor.stops()
    }
}

impl Copier<'_> {
    /// Whether it had to be copied.
    fn file(&mut self, entry: &Entry<'_>) -> Result<bool> {
        self.lead_to_place(entry)?;
        let dir = self.way.last();
        let mut source = entry.dir.open_file(entry.name, Access::Read)?;
        let stat = volume::stat(&source)?;
        let there = match dir.stat(entry.name) {
            Err(error) if error.kind() == Kind::NotFound => None,
            there => Some(there?),
        };
        if let Some(there) = there {
            if (there.size, there.mtime) == (stat.size, stat.mtime) {
                return Ok(false);
            }
            if there.mtime > stat.mtime {
                let why = "the other volume has a newer file of this name: not copied";
                return Err(Error::new(Kind::Exists, why));
            }
            self.done.superseded += 1;
        }
        let staged = Staged::new(dir, &stat)?;
        let pieces = Pieces::of(&source, stat.size)?;
        let sum = pour(&mut source, &pieces, |offset, bytes| {
            staged.write_at(offset, bytes)
        })?;
        staged.set_size(stat.size)?;
        let shown = volume::shown(&source);
        if shown != volume::Shown::default() {
            volume::set_shown(staged.file(), shown)?;
        }
        let times = Times {
            atime: Some(stat.atime),
            mtime: Some(stat.mtime),
        };
        volume::set_times(staged.file(), times)?;
        let placed = staged.place(entry.name, Durability::Durable)?;
        let mut copied = dir.open_file(entry.name, Access::Read)?;
        if placed.size != stat.size || pour(&mut copied, &pieces, |_, _| Ok(()))? != sum {
            return Err(Error::new(
                Kind::Io,
                "the copy reads back otherwise than it was written",
            ));
        }
        Ok(true)
    }

    /// Goes to the directory of the target that a file belongs in, which gets its marker.
    fn lead_to_place(&mut self, entry: &Entry<'_>) -> Result<()> {
        let hash = UserHash::of_directory(entry.hash);
        let home = match entry.resource {
            Some(resource) => self.to.components(resource, &hash),
            // What the service keeps beside the resources has one place in both layouts.
            None => vec!["users", entry.hash],
        };
        if !self.way.names().iter().take(home.len()).eq(&home) {
            self.way = Descent::new(self.target.root().reopen()?);
            for (depth, name) in home.iter().enumerate() {
                self.way.enter_or_make(name)?;
                if depth + 1 == self.to.marker_depth() {
                    self.marker
                        .as_ref()
                        .map_or(Ok(()), |full_hash| home::mark(self.way.last(), full_hash))?;
                }
            }
        }
        let names: Vec<&str> = home
            .into_iter()
            .chain(entry.steps.iter().map(String::as_str))
            .collect();
        self.way.lead_to(&names).map(drop)
    }

    fn leave(&mut self, path: &str, detail: &str) {
        self.found(Finding::new(Problem::Unreadable, path, detail));
    }
}

/// Hands the data of a file to `each`, and returns its hash.
fn pour(
    source: &mut File,
    pieces: &Pieces,
    mut each: impl FnMut(u64, &[u8]) -> Result<()>,
) -> Result<[u8; 32]> {
    let mut hash = Sha256::new();
    let is_short = pieces.read(source, |offset, bytes| {
        hash.update(bytes);
        each(offset, bytes)
    })?;
    match is_short {
        true => Err(Error::new(
            Kind::Stale,
            "it became shorter while it was read; run this again",
        )),
        false => Ok(hash.finalize().into()),
    }
}
