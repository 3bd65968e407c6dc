//! What is kept beside the records, under names of our own: drafts that could not be committed, and records that were
//! renamed away and may come back.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::attributes::{Attributes, NodeKind};
use super::draft::Draft;
use super::folder::Folder;
use super::records::{Stored, Verified, read_at_most};
use crate::clock;
use crate::error::{Error, Kind, Result};
use crate::event::Op;
use crate::name::EntryName;
use crate::volume::{self, Access, Durability, FileType, Rename, Staged, Stat, TEMPORARY_PREFIX, Times};

/// How names of kept drafts begin (DESIGN.md section 3: they never end in `.json`).
const DRAFT_PREFIX: &str = ".tenantfs-draft-";

/// How names of records begin that were renamed to an attachment's name. An editor that makes its backup so writes the
/// record anew a moment later; from here the new one gets its secrets.
const AWAY_PREFIX: &str = ".tenantfs-away-";

/// How long a record that was renamed away, or a temporary file of a server that was killed, is kept, in milliseconds.
const KEPT_MILLIS: i64 = 3_600_000;

/// The longest first line of a kept draft, in bytes: a name of 255 bytes, each escaped, and the rest.
const MAX_HEADER: u64 = 4096;

/// The first line of a kept draft; the text follows it as it is.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    /// The version of this format.
    tenantfs_draft: u32,
    /// The full hash of the user who wrote it.
    owner: String,
    /// The record it would become.
    name: String,
    /// The permission bits its user gave it.
    mode: Option<u16>,
}

const FORMAT: u32 = 1;

/// A draft on the volume that is verified to be this tenant's.
pub(super) struct Kept {
    stat: Stat,
    header: Header,
    text_at: usize,
    /// What was read of the file.
    bytes: zeroize::Zeroizing<Vec<u8>>,
}

impl Kept {
    /// Attributes of the record that this draft is shown as; `committed` are those of the record beneath it.
    pub(super) fn attributes(&self, committed: Option<Attributes>) -> Attributes {
        let own = Attributes::of(&self.stat, NodeKind::Record, self.header.mode);
        let size = self.stat.size.saturating_sub(self.text_at as u64);
        Attributes {
            id: committed.map_or(own.id, |record| record.id),
            mode: self
                .header
                .mode
                .or(committed.map(|record| record.mode))
                .unwrap_or(own.mode),
            kept_draft: true,
            ..own.with_view(size)
        }
    }

    fn into_draft(self, max: u64) -> Draft {
        let text = self.bytes.get(self.text_at..).unwrap_or_default().to_vec();
        let mut draft = Draft::new(text, max);
        draft.mode = self.header.mode;
        draft.changed = self.stat.mtime;
        draft
    }
}

impl Folder {
    /// The kept draft of `name`, as far as its attributes need it.
    pub(super) fn kept(&self, name: &EntryName) -> Result<Option<Kept>> {
        self.open_kept(&beside(DRAFT_PREFIX, name), MAX_HEADER)
            .map(|kept| kept.filter(|kept| kept.header.name == name.as_str()))
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
        let bytes = read_at_most(&file, stat.size, limit)?;
        let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else {
            return Ok(None);
        };
        let header: Option<Header> = bytes
            .get(..end)
            .and_then(|line| serde_json::from_slice(line).ok());
        Ok(header
            .filter(|header| header.tenantfs_draft == FORMAT && header.owner == self.full_hash())
            .map(|header| Kept {
                stat,
                header,
                text_at: end + 1,
                bytes,
            }))
    }

    /// The kept draft of `name`, to be written on.
    ///
    /// # Errors
    /// The volume's.
    pub fn load_draft(&self, name: &EntryName) -> Result<Option<Draft>> {
        let limit = self.max_record().saturating_add(MAX_HEADER);
        Ok(self
            .open_kept(&beside(DRAFT_PREFIX, name), limit)?
            .filter(|kept| kept.header.name == name.as_str())
            .map(|kept| kept.into_draft(self.max_record())))
    }

    /// Keeps a draft on the volume, where it is shown under the record's name until it is fixed or removed.
    ///
    /// # Errors
    /// [`Kind::NameTaken`]; [`Kind::PlainSecret`] when the text names a secret member: it is not written to the volume in plain. The
    /// volume's.
    pub fn keep_draft(&self, name: &EntryName, draft: &Draft, durability: Durability) -> Result<Attributes> {
        self.claim()?;
        self.occupant(Op::Commit, name)?;
        if self.lens().may_hold_secret(draft.text()) {
            return Err(Error::new(
                Kind::PlainSecret,
                "the draft names a secret member; it is kept in memory only",
            ));
        }
        let header = serde_json::to_string(&Header {
            tenantfs_draft: FORMAT,
            owner: self.full_hash().to_owned(),
            name: name.to_string(),
            mode: draft.mode,
        })
        .map_err(|error| Error::new(Kind::Io, format!("writing the header of a draft: {error}")))?;
        let like = self.dir().stat_self()?;
        let mut staged = Staged::new(self.dir(), &like)?;
        staged.write(header.as_bytes())?;
        staged.write(b"\n")?;
        staged.write(draft.text())?;
        let times = Times {
            mtime: Some(draft.mtime()),
            ..draft.times
        };
        volume::set_times(staged.file(), times)?;
        staged.place(&beside(DRAFT_PREFIX, name), durability)?;
        self.lookup(name)
    }

    /// Forgets the kept draft of `name`, if there is one.
    ///
    /// # Errors
    /// [`Kind::ReadOnly`]; the volume's.
    pub fn discard_draft(&self, name: &EntryName) -> Result<()> {
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
            Ok(stat) if !outdated(&stat) => {}
            Err(error) if error.kind() != Kind::NotFound => return Err(error),
            _ => return Ok(None),
        }
        Ok(match self.read_verified(&entry)? {
            Verified::Owned(stored) => Some(stored),
            Verified::Absent | Verified::Unfit(..) => None,
        })
    }

    /// Forgets the record that was put away from `name`, if there is one.
    pub(super) fn discard_away(&self, name: &EntryName) -> Result<()> {
        self.forget(&beside(AWAY_PREFIX, name))
    }

    fn forget(&self, entry: &str) -> Result<()> {
        match self.dir().unlink(entry) {
            Err(error) if error.kind() != Kind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// The records that are only a draft yet, among entries of the directory that are ours.
    pub(super) fn draft_name(&self, entry: &str) -> Option<EntryName> {
        if !entry.starts_with(DRAFT_PREFIX) {
            return None;
        }
        let kept = self.open_kept(entry, MAX_HEADER).ok()??;
        let name = EntryName::parse(kept.header.name.as_bytes()).ok()?;
        (beside(DRAFT_PREFIX, &name) == entry).then_some(name)
    }

    /// Removes `entry` if it is one of ours that has outlived its use; `all` also removes what is still useful, but
    /// no draft.
    pub(super) fn sweep(&self, entry: &str, all: bool) {
        if !entry.starts_with(TEMPORARY_PREFIX) && !entry.starts_with(AWAY_PREFIX) {
            return;
        }
        let useless = self.dir().stat(entry).is_ok_and(|stat| all || outdated(&stat));
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

/// By the change of the inode, which renaming is too.
fn outdated(stat: &Stat) -> bool {
    clock::now().millis_since(stat.ctime) > KEPT_MILLIS
}
