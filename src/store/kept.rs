//! What is kept beside the records, under names of our own: drafts that could not be committed, and records that were
//! renamed away and may come back.

use sha2::{Digest, Sha256};

use super::attributes::{Attributes, NodeKind};
use super::draft::Draft;
use super::draft_file::{self, DraftFile, MAX_HEADER};
use super::folder::Folder;
use super::records::{Stored, Verified};
use super::reserved::{AWAY_PREFIX, DRAFT_PREFIX, Reserved};
use crate::clock;
use crate::error::{Error, Kind, Result};
use crate::event::{Event, Op};
use crate::name::EntryName;
use crate::volume::{self, Access, Durability, FileType, Rename, Staged, Stat, Times};

/// A draft on the volume that is verified to be this tenant's.
pub(super) struct Kept {
    stat: Stat,
    file: DraftFile,
}

impl Kept {
    /// Attributes of the record that this draft is shown as; `committed` are those of the record beneath it.
    pub(super) fn attributes(&self, committed: Option<Attributes>) -> Attributes {
        let mode = self.file.header.mode;
        let own = Attributes::of(&self.stat, NodeKind::Record, mode);
        Attributes {
            id: committed.map_or(own.id, |record| record.id),
            mode: mode.or(committed.map(|record| record.mode)).unwrap_or(own.mode),
            kept_draft: true,
            ..own.with_view(self.file.text_size(self.stat.size))
        }
    }
}

impl Folder {
    /// The kept draft of `name`, as far as its attributes need it.
    pub(super) fn kept(&self, name: &EntryName) -> Result<Option<Kept>> {
        self.open_kept(&beside(DRAFT_PREFIX, name), MAX_HEADER)
            .map(|kept| kept.filter(|kept| kept.file.header.name == name.as_str()))
    }

    fn open_kept(&self, entry: &str, limit: u64) -> Result<Option<Kept>> {
        match self.dir().stat(entry) {
            Err(error) if error.kind() == Kind::NotFound => return Ok(None),
            Err(error) => return Err(error),
            Ok(stat) if stat.file_type != FileType::Regular || stat.nlink != 1 => return Ok(None),
            Ok(_) => {}
        }
        let file = match self.dir().open_file(entry, Access::Read) {
            Err(error) if error.kind() == Kind::NotFound => return Ok(None),
            result => result?,
        };
        let stat = volume::stat(&file)?;
        if stat.file_type != FileType::Regular {
            return Ok(None);
        }
        let bytes = volume::read_at_most(&file, stat.size, limit)?;
        let file = DraftFile::parse(bytes).filter(|file| file.header.owner == self.full_hash());
        Ok(file.map(|file| Kept { stat, file }))
    }

    /// The kept draft of `name`, to be written on.
    ///
    /// # Errors
    /// [`Kind::Io`] when it cannot be opened: it stays where it is, and the observer is told why. The volume's.
    pub fn load_draft(&self, name: &EntryName) -> Result<Option<Draft>> {
        let (entry, max) = (beside(DRAFT_PREFIX, name), self.max_record());
        let Some(Kept { stat, file }) = self
            .open_kept(&entry, draft_file::limit(max))?
            .filter(|kept| kept.file.header.name == name.as_str())
        else {
            return Ok(None);
        };
        let text = file.text(self.lens().sealer()).map_err(|why| {
            let what = format!(
                "the kept draft of {:?} ({entry} on the volume) cannot be opened: {why}; to give it up, remove that file",
                self.path_of(name)
            );
            self.observe(&Event::Trouble { what: what.clone() });
            Error::new(Kind::Io, what)
        })?;
        let mut draft = Draft::new(text.to_vec(), max);
        draft.mode = file.header.mode;
        draft.changed = stat.mtime;
        Ok(Some(draft))
    }

    /// Keeps a draft on the volume, where it is shown under the record's name until it is fixed or removed. It may hold a
    /// secret: where anything can be sealed, all of it is.
    ///
    /// # Errors
    /// [`Kind::NameTaken`]; [`Kind::PlainSecret`] when the text names a secret member and nothing can be sealed: it is not
    /// written to the volume in plain. The volume's.
    pub fn keep_draft(&self, name: &EntryName, draft: &Draft, durability: Durability) -> Result<Attributes> {
        self.claim()?;
        self.occupant(Op::Commit, name)?;
        let sealer = self.lens().sealer();
        if sealer.is_none() && self.lens().may_hold_secret(draft.text()) {
            return Err(Error::new(
                Kind::PlainSecret,
                "the draft names a secret member; it is kept in memory only",
            ));
        }
        let file = DraftFile::new(self.user_id(), sealer, name.as_str(), draft.mode, draft.text())?;
        let mut staged = Staged::new(self.dir(), &self.dir().stat_self()?)?;
        staged.write(file.bytes())?;
        let times = Times {
            mtime: Some(draft.mtime()),
            ..draft.times
        };
        volume::set_times(staged.file(), times)?;
        staged.place(&beside(DRAFT_PREFIX, name), durability)?;
        self.lookup(name)
    }

    /// Forgets the kept draft of `name`. Whether there was one.
    ///
    /// # Errors
    /// [`Kind::ReadOnly`]; the volume's.
    pub fn discard_draft(&self, name: &EntryName) -> Result<bool> {
        self.claim()?;
        self.forget(&beside(DRAFT_PREFIX, name))
    }

    /// Puts the record `name` where only its next commit finds it.
    pub(super) fn put_away(&self, name: &EntryName) -> Result<()> {
        self.dir().rename(
            name.as_str(),
            self.dir(),
            &beside(AWAY_PREFIX, name),
            Rename::Replace,
        )
    }

    /// The record `name` as it was when it was put away, within the hour.
    pub(super) fn away(&self, name: &EntryName) -> Result<Option<Stored>> {
        let entry = beside(AWAY_PREFIX, name);
        match self.dir().stat(&entry) {
            Ok(stat) if !Reserved::Away.is_outdated(&stat, clock::now()) => {}
            Err(error) if error.kind() != Kind::NotFound => return Err(error),
            _ => return Ok(None),
        }
        Ok(match self.read_verified(&entry)? {
            Verified::Owned(stored) => Some(stored),
            Verified::Absent | Verified::Unfit(..) | Verified::Unread(_) => None,
        })
    }

    /// Forgets the record that was put away from `name`, if there is one.
    pub(super) fn discard_away(&self, name: &EntryName) -> Result<()> {
        self.forget(&beside(AWAY_PREFIX, name)).map(drop)
    }

    fn forget(&self, entry: &str) -> Result<bool> {
        match self.dir().unlink(entry) {
            Err(error) if error.kind() == Kind::NotFound => Ok(false),
            removed => removed.map(|()| true),
        }
    }

    /// The records that are only a draft yet, among entries of the directory that are ours.
    pub(super) fn draft_name(&self, entry: &str) -> Option<EntryName> {
        if !entry.starts_with(DRAFT_PREFIX) {
            return None;
        }
        let kept = self.open_kept(entry, MAX_HEADER).ok()??;
        let name = EntryName::parse(kept.file.header.name.as_bytes()).ok()?;
        (beside(DRAFT_PREFIX, &name) == entry).then_some(name)
    }

    /// Removes `entry` if it is one of ours that has outlived its use; `all` also removes what is still useful, but
    /// no draft.
    pub(super) fn sweep(&self, entry: &str, all: bool) {
        let what = Reserved::of(entry);
        if !matches!(what, Reserved::Temporary | Reserved::Away) {
            return;
        }
        let stat = self.dir().stat(entry);
        let useless = stat.is_ok_and(|stat| all || what.is_outdated(&stat, clock::now()));
        if useless && let Err(error) = self.forget(entry) {
            log::warn!("removing {entry}, which is no longer needed: {error}");
        }
    }
}

/// The name of ours that belongs to `name`: as long for every name, for names may be as long as can be.
fn beside(prefix: &str, name: &EntryName) -> String {
    let digest = hex::encode(Sha256::digest(name.as_str().as_bytes()));
    let (half, _) = digest.split_at(digest.len() / 2);
    format!("{prefix}{half}")
}
