//! `list --usage`: how much each user has, of what they may have.

use std::collections::HashMap;

use serde::Serialize;

use super::list::Whose;
use super::walk::{Entry, Visitor, walk, walk_homes};
use super::{Finding, Ground, Monitor, read};
use crate::error::Result;
use crate::identity::UserId;
use crate::layout::Layout;
use crate::name::record_stem;
use crate::quota::{Amount, Limits, Users};
use crate::record;
use crate::store::{Reserved, stored_limit};
use crate::volume::{Dir, FileType};

/// What one user has.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Used {
    /// Whose it is; none where no record tells.
    pub user: Option<String>,
    /// The name of the directory.
    pub hash: String,
    /// In bytes, as quotas count.
    pub bytes: u64,
    /// Files and directories.
    pub files: u64,
    /// Of these, what was removed or renamed and waits: it goes by itself.
    pub waiting_bytes: u64,
    /// Of these, what waits.
    pub waiting_files: u64,
    /// What may be had; none where there is no limit.
    pub quota_bytes: Option<u64>,
    /// What may be had; none where there is no limit.
    pub quota_files: Option<u64>,
}

/// What everybody has who is meant, who has most first. Memory grows with the number of users.
///
/// # Errors
/// [`Kind::NotFound`](crate::error::Kind::NotFound) as for a list; any error of reading the volume's root. Everything below it is told to `monitor`.
pub fn usage(
    ground: &Ground,
    whose: &Whose,
    quotas: &Users,
    monitor: &mut dyn Monitor,
) -> Result<(Vec<Used>, bool)> {
    let mut counter = Counter {
        ground,
        homes: HashMap::new(),
        monitor,
        concealed: false,
    };
    let complete = match whose {
        Whose::All => walk(ground, &mut counter)?,
        Whose::Users(users) => walk_homes(ground, &users.hashes(), &mut counter)?,
    };
    if counter.homes.is_empty() && complete && !counter.concealed {
        whose.met_nobody()?;
    }
    let mut known: HashMap<String, UserId> = HashMap::new();
    let named = quotas.named().map(|(user, _)| user.clone());
    for user in named.chain(whose.users().cloned()) {
        known.insert(user.hash().as_str().to_owned(), user);
    }
    let of = |(hash, home): (String, Home)| {
        let user = home.owner.as_ref().or(known.get(&hash));
        let limits = user.map_or(quotas.others(), |user| quotas.limits(user));
        home.used(&hash, user, limits)
    };
    let mut all: Vec<Used> = counter.homes.into_iter().map(of).collect();
    all.sort_by(|one, other| (other.bytes, &one.hash).cmp(&(one.bytes, &other.hash)));
    Ok((all, complete))
}

struct Counter<'a> {
    ground: &'a Ground,
    /// By the names of their directories.
    homes: HashMap<String, Home>,
    monitor: &'a mut dyn Monitor,
    /// Whether something could not be looked at.
    concealed: bool,
}

#[derive(Default)]
struct Home {
    all: Amount,
    waiting: Amount,
    owner: Option<UserId>,
}

impl Home {
    fn used(&self, hash: &str, user: Option<&UserId>, limits: Limits) -> Used {
        Used {
            user: user.map(|user| user.as_str().to_owned()),
            hash: hash.to_owned(),
            bytes: self.all.bytes(),
            files: self.all.files(),
            waiting_bytes: self.waiting.bytes(),
            waiting_files: self.waiting.files(),
            quota_bytes: limits.bytes,
            quota_files: limits.files,
        }
    }
}

impl Counter<'_> {
    /// Whose a record is, if it tells and is where it belongs.
    fn owner(&self, entry: &Entry<'_>) -> Option<UserId> {
        let is_record = entry.stat.file_type == FileType::Regular && record_stem(entry.name).is_some();
        let limit = stored_limit(self.ground.max_record);
        let read = is_record.then(|| read(entry.dir, entry.name, limit).ok().flatten());
        let owner = record::owner(&read.flatten()?.text).ok()?;
        (owner.hash().as_str() == entry.hash).then_some(owner)
    }
}

impl Visitor for Counter<'_> {
    fn progress(&mut self, done: f64) {
        self.monitor.progress(done);
    }

    fn home(&mut self, _: &Dir, hash: &str, _: &str) {
        self.homes.entry(hash.to_owned()).or_default();
    }

    fn entry(&mut self, entry: &Entry<'_>) {
        let what = Reserved::of(entry.name);
        if entry.resource.is_none() || what == Reserved::Marker {
            return;
        }
        self.monitor.looked_at();
        let is_known = self
            .homes
            .get(entry.hash)
            .is_some_and(|home| home.owner.is_some());
        let owner = if is_known { None } else { self.owner(entry) };
        let home = self.homes.entry(entry.hash.to_owned()).or_default();
        home.owner = home.owner.take().or(owner);
        home.all += entry.stat.amount();
        if what.waits() {
            home.waiting += entry.stat.amount();
        }
    }

    fn left(&mut self, _: &Dir, name: &str, path: &str) {
        let depth = match self.ground.layout {
            Layout::ResourceFirst => 2,
            Layout::UserFirst => 3,
        };
        let mut steps = path.split('/');
        let Some(hash) = steps.nth(1) else { return };
        if path.split('/').count() > depth
            && let Some(home) = self.homes.get_mut(hash)
        {
            home.all += Amount::directory();
            if Reserved::of(name).waits() {
                home.waiting += Amount::directory();
            }
        }
    }

    fn found(&mut self, finding: Finding) {
        if finding.conceals() {
            self.concealed = true;
            self.monitor.found(&finding);
        }
    }

    fn stops(&self) -> bool {
        self.monitor.stops()
    }
}
