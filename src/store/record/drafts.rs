//! The draft of a record that is kept on the volume.

use std::sync::atomic::Ordering;

use super::handle::Record;
use crate::error::{Error, Kind, Result};
use crate::event::{Event, Op};
use crate::store::attributes::Attributes;
use crate::store::draft::{Draft, DraftFile, Kept, draft_limit};
use crate::store::found::not_found;
use crate::store::reserved::forget;
use crate::store::shown::show;
use crate::volume::{self, Durability, Numbered, Shown, Staged, Times};

impl Record<'_> {
    /// The kept draft, to be written on.
    ///
    /// # Errors
    /// [`Kind::Io`] when it cannot be opened: it stays where it is, and the observer is told why. The volume's.
    pub fn load_draft(&self) -> Result<Option<Draft>> {
        let tenant = self.look.tenant;
        let max = tenant.options.max_record;
        let kept = Kept::read(self.dir(), &tenant.full_hash, self.name, draft_limit(max))?;
        let Some(kept) = kept else {
            return Ok(None);
        };
        let number = kept.own_number(&tenant.numbers);
        let Kept { stat, file, .. } = kept;
        let text = file.text(tenant.lens.sealer()).map_err(|why| {
            let what = format!(
                "the kept draft of {:?} ({} on the volume) cannot be opened: {why}; to give it up, remove that file",
                self.path(),
                Kept::entry(self.name)
            );
            self.observe(&Event::Trouble { what: what.clone() });
            Error::new(Kind::Io, what)
        })?;
        let mut draft = Draft::new(text.to_vec(), max);
        draft.mode = file.header.mode;
        draft.number = Some(number);
        draft.changed = stat.mtime;
        Ok(Some(draft))
    }

    /// Keeps a draft on the volume, where it is shown under the record's name until it is fixed or removed. It may hold a
    /// secret: where anything can be sealed, all of it is.
    ///
    /// # Errors
    /// [`Kind::NameTaken`]; [`Kind::PlainSecret`] when the text names a secret member and nothing can be sealed: it is not
    /// written to the volume in plain. The volume's.
    pub fn keep(&self, draft: &Draft, durability: Durability) -> Result<Attributes> {
        let tenant = self.look.tenant;
        tenant.claim()?;
        self.look.occupant(Op::Commit, self.name)?;
        let sealer = tenant.lens.sealer();
        if sealer.is_none() && tenant.lens.may_hold_secret(draft.text()) {
            return Err(Error::new(
                Kind::PlainSecret,
                "the draft names a secret member; it is kept in memory only",
            ));
        }
        let name = self.name.as_str();
        let file = DraftFile::new(&tenant.user_id, sealer, name, draft.mode, draft.text())?;
        let entry = Kept::entry(self.name);
        let mut staged = Staged::instead_of(&[&entry], self.dir(), &self.dir().stat_self()?)?;
        staged.write(file.bytes())?;
        let times = Times {
            mtime: Some(draft.mtime()),
            ..draft.times
        };
        volume::set_times(staged.file(), times)?;
        if let Some(number) = draft.number {
            let number = Some(Numbered::given_to(&volume::stat(staged.file())?, number));
            show(staged.file(), Shown { mode: None, number })?;
        }
        let placed = staged.place(&entry, durability);
        tenant.drafts_kept.fetch_add(1, Ordering::AcqRel);
        placed?;
        self.look.lookup(self.name)
    }

    /// Whether a draft is kept.
    ///
    /// # Errors
    /// The volume's.
    pub fn has_draft(&self) -> Result<bool> {
        Kept::peek(self.dir(), &self.look.tenant.full_hash, self.name).map(|kept| kept.is_some())
    }

    /// Forgets the kept draft: the record shows again as it was last committed. Whether there was one.
    ///
    /// # Errors
    /// [`Kind::ReadOnly`]; the volume's.
    pub fn discard_draft(&self) -> Result<bool> {
        self.look.tenant.claim()?;
        forget(self.dir(), &Kept::entry(self.name))
    }

    pub(super) fn change_draft(&self, change: impl FnOnce(&mut Draft)) -> Result<()> {
        let mut draft = self.load_draft()?.ok_or_else(not_found)?;
        change(&mut draft);
        self.keep(&draft, self.look.tenant.options.durability).map(drop)
    }
}
