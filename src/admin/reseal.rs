//! `reseal`: seals under the active key what older keys sealed, beside live mounts and the live service.

use std::fs::File;

use serde::Serialize;

use super::walk::{Entry, Visitor, walk};
use super::{Finding, Ground, Monitor, Problem, Read, read};
use crate::clock::{self, Timestamp};
use crate::error::{Error, Kind, Result};
use crate::name;
use crate::record::{self, SecretState};
use crate::store::{ForeignDraft, Reserved, draft_limit, stored_limit};
use crate::volume::{self, FileType, Numbered, Shown, Staged, Stat, Times};
use zeroize::Zeroizing;

/// How often a record that others keep changing is tried anew.
const ATTEMPTS: u32 = 8;

/// What is to be sealed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Reseal {
    /// Secrets in plain text too, which the service wrote so.
    pub adopt_plain: bool,
}

/// What was done.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Resealed {
    /// Records and drafts that were looked at.
    pub looked_at: u64,
    /// Those that were written anew.
    pub resealed: u64,
    /// Those that are left as they were, for a reason that was told.
    pub left: u64,
    /// Whether it came to the end.
    pub complete: bool,
}

/// Seals everything under the active key, file by file. Each is replaced at once, and only if nobody else has
/// replaced it meanwhile: then the newer one is looked at. What is sealed so already is not touched, so that
/// an interrupted run is finished by another one.
///
/// # Errors
/// [`Kind::Config`] without sealing keys; any error of reading the volume's root. Everything below it is told
/// to `monitor`.
pub fn reseal(ground: &Ground, what: Reseal, monitor: &mut dyn Monitor) -> Result<Resealed> {
    if ground.keys.is_none() {
        return Err(Error::config(
            "nothing can be sealed without sealing keys; use --sealing-keys FILE",
        ));
    }
    let mut resealer = Resealer {
        ground,
        what,
        monitor,
        done: Resealed::default(),
    };
    resealer.done.complete = walk(ground, &mut resealer)?;
    Ok(resealer.done)
}

struct Resealer<'a> {
    ground: &'a Ground,
    what: Reseal,
    monitor: &'a mut dyn Monitor,
    done: Resealed,
}

/// What became of one file.
enum Outcome {
    /// There is nothing to do.
    Unchanged,
    Resealed,
    /// Others keep changing it.
    Contended,
}

impl Visitor for Resealer<'_> {
    fn progress(&mut self, done: f64) {
        self.monitor.progress(done);
    }

    fn entry(&mut self, entry: &Entry<'_>) {
        self.monitor.looked_at();
        let Some(what) = Sealed::of(entry) else { return };
        self.done.looked_at += 1;
        match self.file(entry, what) {
            Ok(Outcome::Unchanged) => {}
            Ok(Outcome::Resealed) => self.done.resealed += 1,
            Ok(Outcome::Contended) => {
                self.leave(Problem::Unreadable, entry, "it keeps changing: run this again")
            }
            // Gone since it was listed.
            Err(error) if error.kind() == Kind::NotFound => {}
            Err(error) if error.kind() == Kind::InvalidRecord => {
                self.leave(Problem::UnopenableSecret, entry, &format!("{error:#}"));
            }
            Err(error) => self.unreadable(entry.path, &error),
        }
    }

    fn found(&mut self, finding: Finding) {
        // What else is wrong is for `verify` to tell.
        if finding.conceals() || finding.problem == Problem::UnopenableSecret {
            self.done.left += 1;
            self.monitor.found(&finding);
        }
    }

    fn stops(&self) -> bool {
        self.monitor.stops()
    }
}

/// What has sealed values.
#[derive(Clone, Copy)]
enum Sealed {
    Record,
    Draft,
}

impl Sealed {
    /// What an entry is; none when there is nothing sealed in it.
    fn of(entry: &Entry<'_>) -> Option<Self> {
        if entry.stat.file_type != FileType::Regular || entry.resource.is_none() {
            return None;
        }
        match Reserved::of(entry.name) {
            _ if name::is_record(entry.name) => Some(Self::Record),
            what if what.is_record() => Some(Self::Record),
            Reserved::Draft => Some(Self::Draft),
            _ => None,
        }
    }

    fn limit(self, ground: &Ground) -> u64 {
        match self {
            Self::Record => stored_limit(ground.max_record),
            Self::Draft => draft_limit(ground.max_record),
        }
    }
}

impl Resealer<'_> {
    fn file(&mut self, entry: &Entry<'_>, what: Sealed) -> Result<Outcome> {
        for _ in 0..ATTEMPTS {
            let Some(Read { stat, text }) = read(entry.dir, entry.name, what.limit(self.ground))? else {
                return Ok(Outcome::Unchanged);
            };
            let new = match what {
                Sealed::Record => self.record(entry, &text)?,
                Sealed::Draft => self.draft(text)?,
            };
            let Some(new) = new else {
                return Ok(Outcome::Unchanged);
            };
            let mut staged = Staged::new(entry.dir, &stat)?;
            staged.write(&new)?;
            keep_shown(entry, &stat, staged.file())?;
            let since = entry.dir.waits_since(entry.name, &stat);
            keep_former_name(entry, staged.file())?;
            if staged.place_over(entry.name, &stat)? {
                keep_waiting(entry, since);
                return Ok(Outcome::Resealed);
            }
        }
        Ok(Outcome::Contended)
    }

    /// The record to store instead. Of what nobody sees, nothing is touched.
    fn record(&mut self, entry: &Entry<'_>, stored: &[u8]) -> Result<Option<Zeroizing<Vec<u8>>>> {
        let owner = record::owner(stored).ok();
        let Some(owner) = owner.filter(|owner| owner.hash().as_str() == entry.hash) else {
            return Ok(None);
        };
        let lens = self.ground.lens(&owner);
        for secret in lens.secrets(stored).unwrap_or_default() {
            if let SecretState::Unopenable { why } = secret.state {
                let what = format!("{:?} cannot be opened: {why}", secret.name);
                self.leave(Problem::UnopenableSecret, entry, &what);
            }
        }
        let new = lens.reseal(stored, self.what.adopt_plain)?;
        Ok(new.map(Zeroizing::new))
    }

    fn draft(&self, file: Zeroizing<Vec<u8>>) -> Result<Option<Zeroizing<Vec<u8>>>> {
        let draft = ForeignDraft::parse(file)?;
        let user = draft.sealed_by();
        match user.as_ref().zip(self.ground.keys.as_ref()) {
            Some((user, keys)) => draft.reseal(user, &keys.sealer(user)),
            None => Ok(None),
        }
    }

    fn leave(&mut self, problem: Problem, entry: &Entry<'_>, detail: &str) {
        self.found(Finding::new(problem, entry.path, detail));
    }
}

/// What its user sees of it has not changed.
fn keep_shown(entry: &Entry<'_>, stat: &Stat, new: &File) -> Result<()> {
    let times = Times {
        atime: Some(stat.atime),
        mtime: Some(stat.mtime),
    };
    volume::set_times(new, times)?;
    let Shown { mode, number } = entry.dir.shown(entry.name);
    let number = number.filter(|given| given.is_of(stat));
    let written = volume::stat(new)?;
    let number = number.map(|given| Numbered::given_to(&written, given.number));
    match (mode, number) {
        (None, None) => Ok(()),
        _ => volume::set_shown(new, Shown { mode, number }),
    }
}

/// Whose name it waits for, where its own does not tell.
fn keep_former_name(entry: &Entry<'_>, new: &File) -> Result<()> {
    match entry.dir.former_name(entry.name) {
        Some(name) if Reserved::of(entry.name).waits() => volume::set_former_name(new, &name),
        _ => Ok(()),
    }
}

/// What waits goes on doing so for as long as it would have.
fn keep_waiting(entry: &Entry<'_>, since: Timestamp) {
    if Reserved::of(entry.name).waits()
        && let Err(error) = entry.dir.set_waits_since(entry.name, since, clock::now())
    {
        log::warn!("{:?} waits anew from now on: {error:#}", entry.path);
    }
}
