//! Room for more, where a user has all that they may have: what they removed goes for good before anything new is refused.

use std::sync::Arc;

use super::folder::Folder;
use super::places::Roots;
use super::waiting::drop_entry;
use crate::error::{Error, Kind, Result};
use crate::name::EntryName;
use crate::quota::{Account, Amount, Waits};

/// Where a user has what, and how much.
#[derive(Clone)]
pub(super) struct Room {
    account: Arc<Account>,
    roots: Roots,
}

impl Room {
    pub(super) fn new(account: &Arc<Account>, roots: &Roots) -> Self {
        Self {
            account: Arc::clone(account),
            roots: Arc::clone(roots),
        }
    }

    /// Does what may take more than the user may have, ours or that of the volume's file system. As long as it does, what
    /// was removed and has waited longest goes for good, and it is tried again.
    ///
    /// # Errors
    /// [`Kind::QuotaExceeded`] when there is nothing left to go; those of `act`.
    pub(super) fn making<T>(&self, mut act: impl FnMut() -> Result<T>) -> Result<T> {
        loop {
            match act() {
                Err(error) if error.kind() == Kind::QuotaExceeded && self.make(&error) => {}
                done => return done,
            }
        }
    }

    /// Whether anything is gone by it.
    fn make(&self, refusal: &Error) -> bool {
        // What the volume's file system wants, it does not say.
        let short = match (self.account.meter(), refusal.errno()) {
            (Some(meter), None) => meter.short(),
            _ => Amount { bytes: 1, files: 1 },
        };
        let mut gone = Amount::NONE;
        while gone.bytes < short.bytes || gone.files < short.files {
            let Some(oldest) = self.account.take_oldest() else {
                break;
            };
            match self.drop_for_good(&oldest) {
                Ok(amount) => gone += amount,
                // In a directory that was removed too, or renamed; or it came back.
                Err(error) if error.kind() == Kind::NotFound => {}
                Err(error) => log::warn!("making room within the quota: {error:#}"),
            }
        }
        gone != Amount::NONE
    }

    fn drop_for_good(&self, waits: &Waits) -> Result<Amount> {
        let folder = self.folder(&waits.folder)?;
        let look = folder.look();
        let stat = look.dir.stat(&waits.entry)?;
        let used = || self.account.meter().map(|meter| meter.standing().used);
        let before = used();
        drop_entry(look, &waits.entry, &stat)?;
        // Not louder: a user can have it said as often as they like. Secrets that are lost are told by whoever drops them.
        log::debug!(
            "{}: {} in {:?} waits no longer: its user has no room within the quota",
            look.tenant.user,
            waits.entry,
            waits.folder
        );
        // A directory had something in it.
        let more = before.zip(used()).map(|(before, after)| before - after);
        Ok(more
            .filter(|more| more.bytes > stat.amount().bytes)
            .unwrap_or(stat.amount()))
    }

    fn folder(&self, path: &str) -> Result<Folder> {
        let mut steps = path.split('/');
        let resource = steps.next().unwrap_or_default();
        let root = self.roots.iter().find(|root| root.resource.as_str() == resource);
        let root = root.and_then(|root| root.folder.clone()).ok_or_else(gone)?;
        steps.try_fold(root, |folder, step| {
            let name = EntryName::parse(step.as_bytes()).map_err(|_| gone())?;
            folder.open_folder(&name)
        })
    }
}

fn gone() -> Error {
    Error::new(Kind::NotFound, "it is not there any more")
}
