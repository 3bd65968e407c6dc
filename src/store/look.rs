//! What a name leads to, verified: the one place where bytes of the volume become something to show.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use super::attributes::{Attributes, NodeKind};
use super::draft::{Kept, KnownDrafts};
use super::facts::{Fact, Subject, Verdict};
use super::found::{Found, Snapshot, Stored, Verified};
use super::tenant::Tenant;
use crate::clock;
use crate::error::{Error, Kind, Result};
use crate::event::{Event, Op};
use crate::name::EntryName;
use crate::record::Hidden;
use crate::volume::{self, Access, Dir, FileType, Reading, RemoteRetry, Settled, Shown, Stat};

/// What a stored record may be longer than its view: the owner, a secret, and room to spare. In bytes.
const HIDDEN_PART: u64 = 64 << 10;

/// A writer that rewrites records in place leaves one malformed for as long as its write takes. One that changed this
/// recently, in milliseconds, is looked at again before it is called malformed.
const BEING_WRITTEN_MILLIS: i64 = 1000;

/// How often it is looked at, and how long apart.
const ATTEMPTS: u32 = 6;
const RETRY_AFTER: Duration = Duration::from_millis(2);

const ALWAYS_WRITTEN: &str = "written to whenever it is read";

/// Why what cannot be opened is hidden.
const UNREADABLE: &str = "the server may not read it";

/// Why what is no file is hidden.
const SPECIAL: &str = "neither a file nor a directory of the volume";

/// One directory of a tenant, about to be looked at.
#[derive(Clone, Copy)]
pub(super) struct Look<'a> {
    pub(super) tenant: &'a Tenant,
    pub(super) dir: &'a Dir,
    /// As in the mount, when it was opened.
    pub(super) path: &'a str,
    pub(super) drafts: &'a KnownDrafts,
}

impl Look<'_> {
    /// What `name` is called in the mount.
    pub(super) fn path_of(&self, name: &EntryName) -> String {
        format!("{}/{name}", self.path)
    }

    pub(super) fn denied(&self, op: Op, name: &EntryName, kind: Kind, reason: impl Into<String>) {
        self.tenant.denied(op, self.path_of(name), kind, reason);
    }

    /// Takes note of `entry`, one of ours: it waits from now on, and goes first when its user has no room.
    pub(super) fn waits(&self, entry: &str) {
        self.tenant.account.waits(self.path, entry);
    }

    /// What came of noting, before `name` is renamed, what the next of that name gets. On a full volume files can be renamed
    /// all the same, and then the operator is told.
    ///
    /// # Errors
    /// What was wrong, but for want of room.
    pub(super) fn unless_full(&self, name: &EntryName, noted: Result<()>) -> Result<()> {
        match noted {
            // What waits goes for good first, and it is tried again.
            Err(error) if error.kind() == Kind::QuotaExceeded && self.tenant.account.has_waiting() => {
                Err(error)
            }
            // The user's own limit is nothing for the operator to look at.
            Err(error) if error.kind() == Kind::QuotaExceeded && error.errno().is_none() => {
                let reason =
                    format!("it is renamed, and the next of that name gets no secret from it: {error}");
                self.denied(Op::Rename, name, Kind::QuotaExceeded, reason);
                Ok(())
            }
            Err(error) if matches!(error.kind(), Kind::NoSpace | Kind::QuotaExceeded) => {
                let what = format!(
                    "{:?} is renamed, and the next of that name gets no secret from it: {error}",
                    self.path_of(name)
                );
                self.tenant.observe(&Event::Trouble { what });
                Ok(())
            }
            noted => noted,
        }
    }

    /// The attributes of `name`, verified; those of its kept draft where it has one.
    ///
    /// # Errors
    /// [`Kind::NotFound`] when it is absent or hidden. The volume's.
    pub(super) fn lookup(&self, name: &EntryName) -> Result<Attributes> {
        self.see(name)?.visible()
    }

    /// What is under `name`, kept drafts included.
    fn see(&self, name: &EntryName) -> Result<Found<Attributes>> {
        let committed = self.examine(name)?;
        if !name.is_record() {
            return Ok(committed);
        }
        Ok(match committed {
            Found::Absent => match self.kept(name)? {
                Some(kept) => Found::Visible(kept.attributes(None, &self.tenant.numbers)),
                None => Found::Absent,
            },
            Found::Visible(record) if record.kind == NodeKind::Record => match self.kept(name)? {
                Some(kept) => Found::Visible(kept.attributes(Some(record), &self.tenant.numbers)),
                None => Found::Visible(record),
            },
            Found::Hidden => {
                // To whoever has a clock, hidden is as absent: the same is asked of the volume.
                let _ = self.kept(name);
                Found::Hidden
            }
            other => other,
        })
    }

    fn kept(&self, name: &EntryName) -> Result<Option<Kept>> {
        match self.drafts.may_have(self.dir, name, self.drafts_kept()) {
            true => Kept::peek(self.dir, &self.tenant.full_hash, name),
            false => Ok(None),
        }
    }

    /// How many drafts the session has kept.
    pub(super) fn drafts_kept(&self) -> u64 {
        self.tenant.drafts_kept.load(Ordering::Acquire)
    }

    /// As [`lookup`](Self::lookup), for those who want to create `name`: what is visible there, if anything.
    ///
    /// # Errors
    /// [`Kind::NameTaken`] when it is hidden; the observer is told. The volume's.
    pub(super) fn occupant(&self, op: Op, name: &EntryName) -> Result<Option<Attributes>> {
        match self.see(name)? {
            Found::Absent => Ok(None),
            Found::Visible(attributes) => Ok(Some(attributes)),
            Found::Hidden => Err(self.taken(op, name)),
        }
    }

    /// Tells the observer that `name` cannot be created, and returns what its program is told.
    pub(super) fn taken(&self, op: Op, name: &EntryName) -> Error {
        self.denied(op, name, Kind::NameTaken, "the name is taken by something hidden");
        Error::new(Kind::NameTaken, "the name cannot be used")
    }

    /// # Errors
    /// [`Kind::Exists`] when `name` is visible, [`Kind::NameTaken`] when it is hidden; the volume's.
    pub(super) fn vacant(&self, op: Op, name: &EntryName) -> Result<()> {
        match self.occupant(op, name)? {
            None => Ok(()),
            Some(_) => Err(Error::new(Kind::Exists, "the name exists")),
        }
    }

    /// What the volume has under `name`; kept drafts are not looked at.
    pub(super) fn examine(&self, name: &EntryName) -> Result<Found<Attributes>> {
        let stat = match self.dir.stat(name.as_str()) {
            Err(error) if error.kind() == Kind::NotFound => return Ok(Found::Absent),
            result => result?,
        };
        if let Some(known) = self.recall(name, &stat) {
            return Ok(known);
        }
        match stat.file_type {
            FileType::Special => Ok(self.hide(name, &stat, SPECIAL)),
            FileType::Regular if name.is_record() => {
                Ok(self.read_record(name)?.map(|stored| stored.snapshot().attributes))
            }
            FileType::Regular if stat.nlink > 1 => Ok(self.hide(name, &stat, "a file with several names")),
            FileType::Regular => Ok(self.show(name, &stat, NodeKind::Attachment)),
            FileType::Directory => Ok(self.show(name, &stat, NodeKind::Directory)),
        }
    }

    /// The record `name`, as committed.
    pub(super) fn snapshot(&self, name: &EntryName) -> Result<Found<Snapshot>> {
        if let Ok(stat) = self.dir.stat(name.as_str())
            && let Some(view) = self.recall_view(name, &stat)
            && let Some(Found::Visible(attributes)) = self.known(name, &stat)
        {
            return Ok(Found::Visible(Snapshot { attributes, view }));
        }
        Ok(self.read_record(name)?.map(|stored| stored.snapshot()))
    }

    /// The record `name` with the bytes of the volume, never from memory.
    pub(super) fn read_record(&self, name: &EntryName) -> Result<Found<Stored>> {
        Ok(match self.read_verified(name.as_str())? {
            Verified::Absent => Found::Absent,
            Verified::Unfit(stat, reason) => self.hide(name, &stat, &reason),
            Verified::Unread(why) => {
                self.tell_hidden(name, why);
                Found::Hidden
            }
            Verified::Owned(stored) => {
                self.remember(name, &stored);
                Found::Visible(stored)
            }
        })
    }

    /// Opens, reads once and verifies: nothing is asked of the name after it was opened.
    pub(super) fn read_verified(&self, entry: &str) -> Result<Verified> {
        let limit = stored_limit(self.tenant.options.max_record);
        let too_large = |stat| Verified::Unfit(stat, "larger than max_size".into());
        let (mut attempt, mut retry) = (1, RemoteRetry::of(self.dir, entry));
        loop {
            let file = match self.dir.open_file(entry, Access::Read) {
                Ok(file) => file,
                Err(error) => match self.obstacle(entry, error.kind())? {
                    Some(verdict) => return Ok(verdict),
                    None if attempt < ATTEMPTS => {
                        attempt += 1;
                        continue;
                    }
                    // Moved out of reach together with its directory, and not only for a moment. Of a file system that other hosts
                    // have it may be the client's fault, and is told.
                    None if error.kind() == Kind::Stale && self.dir.file_system().engine().is_local() => {
                        return Ok(Verified::Unread(UNREADABLE));
                    }
                    None => return Err(error),
                },
            };
            retry.forget_pages(&file);
            let (stat, text) = match volume::read_whole(&file, limit) {
                Ok(Reading::Whole(stat, text)) => (stat, text),
                Ok(Reading::TooLarge(stat)) => return Ok(too_large(stat)),
                Ok(Reading::NotRegular(stat)) => {
                    return Ok(Verified::Unfit(stat, "not a regular file".into()));
                }
                Err(error) if retry.outlasts(&error) => continue,
                Err(error) => return Err(error),
                Ok(Reading::Torn) if attempt < ATTEMPTS => {
                    attempt += 1;
                    thread::sleep(RETRY_AFTER);
                    continue;
                }
                Ok(Reading::Torn) => return Ok(Verified::Unread(ALWAYS_WRITTEN)),
            };
            // Another host may have written it in place.
            match retry.settles(&stat) {
                Settled::Already => {}
                Settled::Again => continue,
                Settled::Never => return Ok(Verified::Unread(ALWAYS_WRITTEN)),
            }
            match self.tenant.lens.view(&text) {
                Ok(view) if view.text.len() as u64 > self.tenant.options.max_record => {
                    return Ok(too_large(stat));
                }
                Ok(view) => {
                    let shown = volume::shown(&file);
                    return Ok(Verified::Owned(Stored {
                        number: self.tenant.numbers.of(&stat, NodeKind::Record, shown),
                        shown,
                        stat,
                        text,
                        has_secret: view.has_secret,
                        view: view.text.into(),
                    }));
                }
                Err(Hidden::Malformed)
                    if attempt < ATTEMPTS && clock::now().millis_since(stat.mtime) < BEING_WRITTEN_MILLIS =>
                {
                    attempt += 1;
                    thread::sleep(RETRY_AFTER);
                }
                Err(Hidden::Malformed) if retry.may_be_a_part(&stat) => {}
                Err(reason) => return Ok(Verified::Unfit(stat, reason.to_string())),
            }
        }
    }

    /// Why `entry` cannot be opened as a file; none when it came, went or changed in between, and is worth another look.
    fn obstacle(&self, entry: &str, kind: Kind) -> Result<Option<Verified>> {
        let found = match self.dir.stat(entry) {
            Err(error) if error.kind() == Kind::NotFound => None,
            found => Some(found?),
        };
        Ok(match (kind, found) {
            (Kind::NotFound, None) => Some(Verified::Absent),
            // A symbolic link says NotFound too; a socket or a device without a driver, NoData; a device that the host denies,
            // NotPermitted; a mount point, CrossDevice. The name is taken all the same.
            (_, Some(stat)) if stat.file_type == FileType::Special => {
                Some(Verified::Unfit(stat, SPECIAL.into()))
            }
            (Kind::AccessDenied, Some(_)) => Some(Verified::Unread(UNREADABLE)),
            _ => None,
        })
    }

    /// What was found out before about this version of the file.
    fn recall(&self, name: &EntryName, stat: &Stat) -> Option<Found<Attributes>> {
        let recalled = self.known(name, stat);
        self.tenant.observe(&Event::Verified {
            remembered: recalled.is_some(),
        });
        recalled
    }

    fn known(&self, name: &EntryName, stat: &Stat) -> Option<Found<Attributes>> {
        let mut facts = self.tenant.facts.lock();
        let fact = facts.get(subject(name, stat), &stat.version())?;
        Some(match &fact.verdict {
            Verdict::Hidden => Found::Hidden,
            Verdict::Plain(kind) => Found::Visible(self.tenant.attributes(stat, *kind, fact.shown)),
            Verdict::Record(size, _) => {
                let attributes = self.tenant.attributes(stat, NodeKind::Record, fact.shown);
                Found::Visible(attributes.with_view(*size))
            }
        })
    }

    fn recall_view(&self, name: &EntryName, stat: &Stat) -> Option<Arc<[u8]>> {
        match &self
            .tenant
            .facts
            .lock()
            .get(subject(name, stat), &stat.version())?
            .verdict
        {
            Verdict::Record(_, view) => view.clone(),
            _ => None,
        }
    }

    /// The record of which a lookup found these attributes, if its content is remembered.
    pub(super) fn recall_content(&self, name: &EntryName, attributes: &Attributes) -> Option<Snapshot> {
        let subject = Subject {
            id: attributes.id,
            as_record: name.is_record(),
            as_type: FileType::Regular,
        };
        match &self
            .tenant
            .facts
            .lock()
            .get(subject, &attributes.version)?
            .verdict
        {
            Verdict::Record(_, Some(view)) if !attributes.kept_draft => Some(Snapshot {
                attributes: *attributes,
                view: Arc::clone(view),
            }),
            _ => None,
        }
    }

    fn remember(&self, name: &EntryName, stored: &Stored) {
        let view = Arc::clone(&stored.view);
        let fact = Fact {
            version: stored.stat.version(),
            shown: stored.shown,
            verdict: Verdict::Record(view.len() as u64, Some(view)),
        };
        self.tenant
            .facts
            .lock()
            .remember(subject(name, &stored.stat), fact, clock::now());
    }

    fn show(&self, name: &EntryName, stat: &Stat, kind: NodeKind) -> Found<Attributes> {
        let shown = self.dir.shown(name.as_str());
        let fact = Fact {
            version: stat.version(),
            shown,
            verdict: Verdict::Plain(kind),
        };
        self.tenant
            .facts
            .lock()
            .remember(subject(name, stat), fact, clock::now());
        Found::Visible(self.tenant.attributes(stat, kind, shown))
    }

    /// The operator is told once for each version of the file, and not again as long as that is remembered.
    fn hide<T>(&self, name: &EntryName, stat: &Stat, reason: &str) -> Found<T> {
        self.tell_hidden(name, reason);
        let fact = Fact {
            version: stat.version(),
            shown: Shown::default(),
            verdict: Verdict::Hidden,
        };
        self.tenant
            .facts
            .lock()
            .remember(subject(name, stat), fact, clock::now());
        Found::Hidden
    }

    fn tell_hidden(&self, name: &EntryName, reason: &str) {
        self.denied(Op::Lookup, name, Kind::NotFound, format!("hidden: {reason}"));
    }
}

fn subject(name: &EntryName, stat: &Stat) -> Subject {
    Subject {
        id: stat.id,
        as_record: name.is_record(),
        as_type: stat.file_type,
    }
}

/// The most that a record may have on the volume, in bytes, where its view has at most `max_record`.
pub fn stored_limit(max_record: u64) -> u64 {
    max_record.saturating_add(HIDDEN_PART)
}
