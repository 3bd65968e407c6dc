//! One pass of an erasure: what on the volume is the user's, and what is done with it.

use std::collections::BTreeMap;

use super::journal::{Journal, What};
use super::walk::{Entry, Visitor};
use super::{Finding, Ground, Monitor, Problem, home, read};
use crate::error::{Doing, Error, Kind, Result};
use crate::identity::UserId;
use crate::name;
use crate::record;
use crate::store::{ForeignDraft, OWNER_MARKER, Reserved, draft_limit, stored_limit};
use crate::volume::{Access, Dir, FileType};

/// The largest record in a user's own directories that is read to know whose it is, in bytes.
const LARGEST: u64 = 512 << 20;

/// What is done with what is the user's.
pub(super) trait Act {
    fn file(&mut self, what: What, entry: &Entry<'_>) -> Result<()>;

    /// A directory that may be empty by now.
    fn directory(&mut self, parent: &Dir, name: &str);
}

/// It is told, and nothing is changed.
pub(super) struct Tell<'e>(pub(super) &'e mut dyn FnMut(&str));

impl Act for Tell<'_> {
    fn file(&mut self, _: What, entry: &Entry<'_>) -> Result<()> {
        (self.0)(entry.path);
        Ok(())
    }

    fn directory(&mut self, _: &Dir, _: &str) {}
}

/// It is removed.
pub(super) struct Remove<'j>(pub(super) &'j mut Journal);

impl Act for Remove<'_> {
    fn file(&mut self, what: What, entry: &Entry<'_>) -> Result<()> {
        remove(self.0, what, entry)
    }

    fn directory(&mut self, parent: &Dir, name: &str) {
        let emptied = parent.open_dir(name).and_then(|dir| remove_marker(&dir));
        if emptied.is_ok() {
            // Not empty: what is in it was told of.
            let _ = parent.remove_dir(name);
        }
    }
}

/// What one pass has done.
#[derive(Clone, Copy, Default)]
pub(super) struct Swept {
    pub(super) removed: u64,
    pub(super) searched: u64,
    /// What may be the user's and was left, for a reason that was told.
    pub(super) left: u64,
}

/// Looks for what is the user's.
pub(super) struct Sweep<'a, 'r> {
    ground: &'a Ground,
    user: &'a UserId,
    hash: String,
    full_hash: String,
    /// What runs before were about to remove: they may have emptied it.
    begun: &'a BTreeMap<String, What>,
    monitor: &'a mut dyn Monitor,
    act: &'r mut dyn Act,
    swept: Swept,
    /// Whose that is in the directory at hand which does not say whose it is; none where the directory has
    /// another hash.
    whose: Option<home::Whose>,
}

impl<'a, 'r> Sweep<'a, 'r> {
    pub(super) fn new(
        ground: &'a Ground,
        user: &'a UserId,
        begun: &'a BTreeMap<String, What>,
        monitor: &'a mut dyn Monitor,
        act: &'r mut dyn Act,
    ) -> Self {
        Self {
            ground,
            user,
            hash: user.hash().as_str().to_owned(),
            full_hash: user.full_hash(),
            begun,
            monitor,
            act,
            swept: Swept::default(),
            whose: None,
        }
    }

    /// What the pass has done so far.
    pub(super) fn swept(&self) -> Swept {
        self.swept
    }

    /// Whether what says nothing of its owner in the directory at hand is the user's.
    fn is_users(&self) -> bool {
        self.whose == Some(home::Whose::Users)
    }

    /// What an entry is to the erasure; none when it is somebody else's.
    fn judge(&mut self, entry: &Entry<'_>) -> Result<Option<What>> {
        if let Some(what) = self.begun.get(entry.path).filter(|_| entry.stat.size == 0) {
            return Ok(Some(*what));
        }
        let ours = Reserved::of(entry.name);
        let is_record = name::is_record(entry.name) || ours.is_record();
        match entry.stat.file_type {
            FileType::Regular if is_record && entry.resource.is_some() => self.judge_record(entry),
            FileType::Regular if ours == Reserved::Draft => {
                let draft = read(entry.dir, entry.name, draft_limit(self.ground.max_record))?
                    .and_then(|read| ForeignDraft::parse(read.text).ok());
                match draft {
                    Some(draft) => Ok((draft.owner() == self.full_hash).then_some(What::Draft)),
                    None => Ok(self.is_users().then_some(What::Other)),
                }
            }
            // With their directory.
            FileType::Regular if ours == Reserved::Marker => Ok(None),
            FileType::Regular if matches!(ours, Reserved::Temporary | Reserved::Moved) => {
                Ok(self.is_users().then_some(What::Other))
            }
            // What the service keeps beside the resources, the profile among it.
            _ if entry.resource.is_none() => Ok(None),
            FileType::Regular if self.is_users() => Ok(Some(What::Attachment)),
            _ if self.is_users() => Ok(Some(What::Other)),
            _ => {
                if let Some(whose) = self.whose {
                    self.leave(entry, whose.why_left());
                }
                Ok(None)
            }
        }
    }

    fn judge_record(&mut self, entry: &Entry<'_>) -> Result<Option<What>> {
        // Of what is the user's, a mount with another max_size may have written more.
        let limit = match self.whose {
            Some(_) => stored_limit(self.ground.max_record).max(LARGEST),
            None => stored_limit(self.ground.max_record),
        };
        let Some(read) = read(entry.dir, entry.name, limit)? else {
            if self.whose.is_some() {
                self.leave(entry, "larger than max_size: look whose it is, and remove it");
            }
            return Ok(None);
        };
        match record::owner(&read.text) {
            Ok(owner) => Ok((owner == *self.user).then_some(What::Record)),
            Err(why) => {
                if self.whose.is_some() {
                    let why = format!("it cannot be known whose it is ({why}): look, and remove it");
                    self.leave(entry, &why);
                }
                Ok(None)
            }
        }
    }

    fn leave(&mut self, entry: &Entry<'_>, detail: &str) {
        self.found(Finding::new(Problem::Unreadable, entry.path, detail));
    }
}

impl Visitor for Sweep<'_, '_> {
    fn progress(&mut self, done: f64) {
        self.monitor.progress(done);
    }

    /// Whatever it is called.
    fn enters(&self, _: &str) -> bool {
        true
    }

    fn home(&mut self, dir: &Dir, hash: &str, path: &str) {
        self.whose = (hash == self.hash).then(|| {
            home::owner(self.ground, dir, self.user).unwrap_or_else(|error| {
                self.unreadable(path, &error);
                home::Whose::Unknown
            })
        });
    }

    fn entry(&mut self, entry: &Entry<'_>) {
        self.monitor.looked_at();
        self.swept.searched += 1;
        let removed = self.judge(entry).and_then(|what| match what {
            Some(what) => self.act.file(what, entry).map(|()| true),
            None => Ok(false),
        });
        match removed {
            Ok(removed) => self.swept.removed += u64::from(removed),
            // Gone since it was listed.
            Err(error) if error.kind() == Kind::NotFound => {}
            Err(error) => self.unreadable(entry.path, &error),
        }
    }

    fn left(&mut self, parent: &Dir, name: &str, _: &str) {
        if self.is_users() {
            self.act.directory(parent, name);
        }
    }

    fn found(&mut self, finding: Finding) {
        if may_hide(&finding, &self.hash) {
            self.swept.left += 1;
            self.monitor.found(&finding);
        }
    }

    fn stops(&self) -> bool {
        self.monitor.stops()
    }
}

/// Whether there may be something of the user with this hash where `finding` was met. A name that is not UTF-8 is nobody's to
/// see, and stays; in the user's own directory it may be of the user's data.
fn may_hide(finding: &Finding, hash: &str) -> bool {
    let in_home = || finding.path.split('/').any(|part| part == hash);
    finding.conceals() || (finding.problem == Problem::InvalidName && in_home())
}

/// Opens every directory of the volume that may have something of a user's, and tells which cannot be.
pub(super) struct Look<'m> {
    hash: String,
    monitor: &'m mut dyn Monitor,
    /// How many could not be looked into.
    pub(super) closed: u64,
}

impl<'m> Look<'m> {
    pub(super) fn new(user: &UserId, monitor: &'m mut dyn Monitor) -> Self {
        Self {
            hash: user.hash().as_str().to_owned(),
            monitor,
            closed: 0,
        }
    }
}

impl Visitor for Look<'_> {
    fn wants_files(&self) -> bool {
        false
    }

    fn enters(&self, _: &str) -> bool {
        true
    }

    fn entry(&mut self, _: &Entry<'_>) {}

    fn found(&mut self, finding: Finding) {
        if may_hide(&finding, &self.hash) {
            self.closed += 1;
            self.monitor.found(&finding);
        }
    }

    fn stops(&self) -> bool {
        self.monitor.stops()
    }
}

/// Empties a file and removes it, durably; whatever else it is, removes it.
///
/// # Errors
/// Any error of writing the journal, with which nothing is removed, or of removing a file.
pub(super) fn remove(journal: &mut Journal, what: What, entry: &Entry<'_>) -> Result<()> {
    journal.note(what, entry.path)?;
    journal.sync()?;
    if entry.stat.file_type == FileType::Regular {
        let file = entry.dir.open_file(entry.name, Access::ReadWrite)?;
        let emptied = file.set_len(0).and_then(|()| file.sync_all());
        emptied
            .doing("emptying a file")
            .map_err(|error| error.at(entry.dir.path().join(entry.name)))?;
    }
    match entry.stat.file_type {
        FileType::Directory => entry.dir.remove_dir(entry.name)?,
        FileType::Regular | FileType::Special => entry.dir.unlink(entry.name)?,
    }
    entry.dir.sync()
}

/// Removes the owner marker of a directory that has nothing else.
///
/// # Errors
/// [`Kind::DirectoryNotEmpty`] when it has; any error of listing a directory or removing a file.
pub(super) fn remove_marker(dir: &Dir) -> Result<()> {
    let mut others = false;
    dir.entries(|name| others |= name != OWNER_MARKER.as_bytes())?;
    if others {
        return Err(Error::new(
            Kind::DirectoryNotEmpty,
            "the directory has more than a marker",
        ));
    }
    match dir.unlink(OWNER_MARKER) {
        Err(error) if error.kind() != Kind::NotFound => Err(error),
        _ => dir.sync(),
    }
}
