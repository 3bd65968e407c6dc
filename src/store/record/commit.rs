//! Making a draft the record.

use std::sync::Arc;

use zeroize::Zeroizing;

use super::handle::Record;
use super::left::Remains;
use crate::error::{Error, Kind, Result};
use crate::event::{Event, Op};
use crate::record::{Put, View};
use crate::store::attributes::NodeKind;
use crate::store::draft::Draft;
use crate::store::found::{Found, Snapshot, Stored};
use crate::store::look::stored_limit;
use crate::store::shown::show;
use crate::volume::{self, Durability, Numbered, Shown, Staged, Stat, Times};

/// A record that is ready to be placed.
struct Composed {
    /// What the volume gets.
    stored: Zeroizing<Vec<u8>>,
    /// What the mount shows of it. Not simply what was written: an owner may have been corrected, a secret removed.
    view: Arc<[u8]>,
    owner_overridden: bool,
    /// Whether it has a secret.
    has_secret: bool,
    secret: Inherited,
    /// The permission bits that the mount shows, where they are not to be the volume's.
    mode: Option<u16>,
    /// The inode number that it keeps.
    number: Option<u32>,
    times: Times,
    /// Whose owner, group and permission bits on the volume it gets.
    like: Stat,
    /// Whether there is a record that it replaces.
    replaces: bool,
    /// What earlier records of its name have left, where there is none that it replaces.
    remains: Vec<Remains>,
}

/// What became of the secret of the record before it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Inherited {
    /// There was none, or the record before it is still there and all is as usual.
    AsUsual,
    /// The record before it had been removed, or renamed, and its secret is in this one.
    Restored,
    /// The text says that there is none any more.
    Dropped,
}

impl Composed {
    /// What the mount shows of it, once it is the file with these attributes.
    fn shown(&self, stat: &Stat) -> Shown {
        Shown {
            mode: self.mode,
            number: self.number.map(|number| Numbered::given_to(stat, number)),
        }
    }
}

impl Record<'_> {
    /// Commits `text` as the record; see [`commit`](Self::commit).
    ///
    /// # Errors
    /// As `commit`.
    pub fn save(&self, text: &[u8]) -> Result<Snapshot> {
        let options = &self.look.tenant.options;
        self.commit(&Draft::new(text.to_vec(), options.max_record), options.durability)
    }

    /// Makes a draft the record: owned, with the secrets it had, and in place at once. What was kept beside it is
    /// forgotten.
    ///
    /// # Errors
    /// [`Kind::InvalidRecord`], [`Kind::IncompleteRecord`], [`Kind::PlainSecret`], [`Kind::TooLarge`],
    /// [`Kind::NameTaken`]; [`Kind::NoSpace`] and whatever else the volume says. Then nothing has changed.
    pub fn commit(&self, draft: &Draft, durability: Durability) -> Result<Snapshot> {
        let committed = self.put_in_place(draft, durability)?;
        if self.discard_draft()? && durability == Durability::Durable {
            // A draft that comes back after a power cut would hide what was committed.
            self.dir().sync()?;
        }
        Ok(committed)
    }

    /// As [`commit`](Self::commit), for somebody else than who types in the mount: what is kept there stays, and wins when
    /// it is completed.
    ///
    /// # Errors
    /// As `commit`.
    pub(in crate::store) fn put_in_place(&self, draft: &Draft, durability: Durability) -> Result<Snapshot> {
        self.put(draft, durability, None)
    }

    /// Gives the record the secret of `left`, which another of its name has left, if it has none.
    ///
    /// # Errors
    /// As `commit`.
    pub(in crate::store) fn inherit(&self, left: &Stored) -> Result<()> {
        match self.look.read_record(self.name)? {
            Found::Visible(stored) if !stored.has_secret => {
                let options = &self.look.tenant.options;
                let mut draft = Draft::new(stored.view.to_vec(), options.max_record);
                draft.times.mtime = Some(stored.stat.mtime);
                self.put(&draft, options.durability, Some(left)).map(drop)
            }
            _ => Ok(()),
        }
    }

    fn put(&self, draft: &Draft, durability: Durability, left: Option<&Stored>) -> Result<Snapshot> {
        self.look.tenant.claim()?;
        if !self.name.is_record() {
            return Err(Error::new(Kind::InvalidArgument, "a record's name ends in .json"));
        }
        if draft.text().len() as u64 > self.look.tenant.options.max_record {
            return Err(Error::new(Kind::TooLarge, "the record is larger than max_size"));
        }
        loop {
            let composed = self.compose(draft, left)?;
            match self.place(&composed, durability) {
                // It was absent, and was created by somebody else meanwhile: now it has to be verified.
                Err(error) if error.kind() == Kind::Exists => {}
                placed => return self.placed(composed, &placed?, durability),
            }
        }
    }

    /// The text with its owner, and with the secrets of the record that it takes the place of, or else those of `left`.
    fn compose(&self, draft: &Draft, left: Option<&Stored>) -> Result<Composed> {
        let current = match self.look.read_record(self.name)? {
            Found::Visible(stored) => Some(stored),
            Found::Absent => None,
            Found::Hidden => return Err(self.look.taken(Op::Commit, self.name)),
        };
        let remains = match &current {
            // What was left before it is looked at once it is replaced.
            Some(_) => Vec::new(),
            None => self.remains()?,
        };
        let waiting = self.newest_secret(&remains)?;
        let left = match &current {
            Some(stored) => left.filter(|_| !stored.has_secret),
            None => waiting.as_ref(),
        };
        let base = left.or(current.as_ref());
        let put = self.owned(base, draft.text())?;
        let stored = Zeroizing::new(put.stored);
        let view = self.readable(&stored)?;
        let secret = match base.is_some_and(|base| base.has_secret) {
            true if !view.has_secret => Inherited::Dropped,
            true if left.is_some() && !self.has_own_secret(draft.text())? => Inherited::Restored,
            _ => Inherited::AsUsual,
        };
        Ok(Composed {
            has_secret: view.has_secret,
            secret,
            view: view.text.into(),
            stored,
            owner_overridden: put.owner_overridden,
            mode: draft
                .mode
                .or(current.as_ref().and_then(|stored| stored.shown.mode)),
            number: draft.number.or(current.as_ref().map(|stored| stored.number)),
            times: Times {
                mtime: Some(draft.mtime()),
                ..draft.times
            },
            like: match &current {
                Some(stored) => stored.stat,
                None => self.dir().stat_self()?,
            },
            replaces: current.is_some(),
            remains,
        })
    }

    fn owned(&self, base: Option<&Stored>, text: &[u8]) -> Result<Put> {
        let lens = &self.look.tenant.lens;
        let attached = self.look.tenant.attached.lock().clone();
        match (base, attached.filter(|_| self.attaches)) {
            (None, Some(attached)) => lens.put_attaching(text, &attached),
            (base, _) => lens.put(base.map(|stored| stored.text.as_slice()), text),
        }
    }

    /// What would be shown of `stored`. What could not be read back would be gone for its user, secrets and all.
    fn readable(&self, stored: &[u8]) -> Result<View> {
        let max = self.look.tenant.options.max_record;
        let view = self.look.tenant.lens.view(stored).map_err(|reason| {
            let what = format!("the record could not be shown once it is committed: {reason}");
            Error::new(Kind::Io, what)
        })?;
        match stored.len() as u64 > stored_limit(max) || view.text.len() as u64 > max {
            true => Err(Error::new(
                Kind::TooLarge,
                "the record is larger than max_size with its owner and its sealed secrets",
            )),
            false => Ok(view),
        }
    }

    /// Whether the text itself has a secret, whatever it would get from the record before it.
    fn has_own_secret(&self, text: &[u8]) -> Result<bool> {
        let lens = &self.look.tenant.lens;
        let alone = Zeroizing::new(lens.put(None, text)?.stored);
        Ok(lens.view(&alone).is_ok_and(|view| view.has_secret))
    }

    fn place(&self, composed: &Composed, durability: Durability) -> Result<Stat> {
        // What is left of older ones goes as soon as this is in its place.
        let left = composed.remains.iter().map(|remains| remains.entry.as_str());
        let replaced = composed.replaces.then_some(self.name.as_str());
        let before: Vec<&str> = left.chain(replaced).collect();
        let mut staged = Staged::instead_of(&before, self.dir(), &composed.like)?;
        staged.write(&composed.stored)?;
        volume::set_times(staged.file(), composed.times)?;
        let shown = composed.shown(&volume::stat(staged.file())?);
        let mode = shown.mode.filter(|mode| *mode != staged.mode());
        show(staged.file(), Shown { mode, ..shown })?;
        match composed.replaces {
            true => staged.replace(self.name.as_str(), durability),
            false => staged.place_new(self.name.as_str(), durability),
        }
    }

    fn placed(&self, composed: Composed, stat: &Stat, durability: Durability) -> Result<Snapshot> {
        self.observe(&Event::Committed { path: self.path() });
        if composed.owner_overridden {
            self.observe(&Event::OwnerOverridden { path: self.path() });
        }
        match composed.secret {
            Inherited::AsUsual => {}
            Inherited::Restored => self.observe(&Event::SecretRestored { path: self.path() }),
            Inherited::Dropped => self.tell_dropped(),
        }
        let is_told = composed.secret == Inherited::Dropped;
        match composed.replaces {
            true => self.supersede_left(composed.has_secret || is_told)?,
            false => self.forget_remains(&composed.remains)?,
        }
        if is_told && durability == Durability::Durable {
            // A secret that comes back after a power cut would be given to the next record of this name.
            self.dir().sync()?;
        }
        let shown = composed.shown(stat);
        let attributes = self.look.tenant.attributes(stat, NodeKind::Record, shown);
        Ok(Snapshot {
            attributes: attributes.with_view(composed.view.len() as u64),
            view: composed.view,
        })
    }
}
