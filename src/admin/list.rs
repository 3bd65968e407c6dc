//! `list`: the records of one user, of many, or of all.

use std::collections::{BTreeSet, HashMap};

use serde::Serialize;
use serde_json::value::RawValue;

use super::walk::{Entry, Visitor, walk, walk_homes};
use super::{Finding, Ground, Monitor, read, text};
use crate::error::{Error, Kind, Result};
use crate::identity::UserId;
use crate::name::{Resource, record_stem};
use crate::record::{self, Lens};
use crate::store::stored_limit;
use crate::volume::FileType;

/// Whose records are listed.
pub enum Whose {
    /// Everybody's.
    All,
    /// Those of these users.
    Users(Users),
}

impl Whose {
    /// Those who are named.
    pub(super) fn users(&self) -> impl Iterator<Item = &UserId> {
        let users = match self {
            Self::All => None,
            Self::Users(Users(users)) => Some(users.values().flatten()),
        };
        users.into_iter().flatten()
    }
}

impl Whose {
    /// That none of those who are meant has a directory, where all of them were named.
    ///
    /// # Errors
    /// [`Kind::NotFound`].
    pub(super) fn met_nobody(&self) -> Result<()> {
        let why = match self {
            Self::All => return Ok(()),
            Self::Users(Users(users)) => match users.len() {
                0 => return Ok(()),
                1 => "the volume has no directory of this user: correct the user id, --volume or --layout"
                    .to_owned(),
                many => format!(
                    "the volume has no directory of any of these {many} users: correct the users file, --volume or --layout"
                ),
            },
        };
        Err(Error::new(Kind::NotFound, why))
    }
}

/// Some users, by the names of their directories. Memory grows with them, and not with the volume.
#[derive(Default)]
pub struct Users(HashMap<String, Vec<UserId>>);

impl Users {
    /// One more. Whether it is new.
    pub fn add(&mut self, user: UserId) -> bool {
        let same_hash = self.0.entry(user.hash().as_str().to_owned()).or_default();
        let is_new = !same_hash.contains(&user);
        if is_new {
            same_hash.push(user);
        }
        is_new
    }

    /// The names of their directories.
    pub(super) fn hashes(&self) -> BTreeSet<&str> {
        self.0.keys().map(String::as_str).collect()
    }

    fn has(&self, user: &UserId) -> bool {
        self.0
            .get(user.hash().as_str())
            .is_some_and(|users| users.contains(user))
    }
}

/// What is listed of each record.
#[derive(Clone, Copy, Default)]
pub struct Listing<'a> {
    /// Of one resource only.
    pub resource: Option<&'a Resource>,
    /// The record itself, as its user sees it.
    pub contents: bool,
}

/// One record.
#[derive(Serialize)]
pub struct Listed {
    /// Whose it is; none when it says so of nobody, or is not in its owner's directory.
    pub user: Option<String>,
    /// The name of the directory.
    pub hash: String,
    /// The resource.
    pub resource: String,
    /// Its name without the `.json`, with the directories that it is in.
    pub id: String,
    /// In bytes: as its user sees it, where anybody does.
    pub size: u64,
    /// Last change of the content, as in RFC 3339.
    pub mtime: String,
    /// Whether its user sees it.
    pub valid: bool,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Without secrets, and without white space, so that it is one line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub record: Option<Box<RawValue>>,
    /// The record's text, where it can be no part of a line of JSON: it has NaN or Infinity.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
}

/// Hands each record to `each`. Whether it came to the end. Many users are looked for in one pass over the
/// names of all directories where there are no more of these than users; else each user's directories are
/// opened.
///
/// # Errors
/// [`Kind::NotFound`] when the volume has nothing of any of the users that are asked for, and all of it could be
/// looked at; any error of reading the volume's root. Everything below it is told to `monitor`.
pub fn list(
    ground: &Ground,
    whose: &Whose,
    what: Listing<'_>,
    monitor: &mut dyn Monitor,
    each: &mut dyn FnMut(&Listed),
) -> Result<bool> {
    let mut lister = Lister {
        ground,
        whose,
        what,
        monitor,
        each,
        lens: None,
        met: 0,
        concealed: false,
    };
    let complete = match whose {
        Whose::All => walk(ground, &mut lister)?,
        Whose::Users(users) => walk_homes(ground, &users.hashes(), &mut lister)?,
    };
    match lister.met == 0 && complete && !lister.concealed {
        true => whose.met_nobody().map(|()| true),
        false => Ok(complete),
    }
}

struct Lister<'a> {
    ground: &'a Ground,
    whose: &'a Whose,
    what: Listing<'a>,
    monitor: &'a mut dyn Monitor,
    each: &'a mut dyn FnMut(&Listed),
    lens: Option<(UserId, Lens)>,
    /// Directories of users.
    met: u64,
    /// Whether something could not be looked at: there may be more of them.
    concealed: bool,
}

impl Visitor for Lister<'_> {
    fn home(&mut self, _: &crate::volume::Dir, _: &str, _: &str) {
        self.met += 1;
    }

    fn progress(&mut self, done: f64) {
        self.monitor.progress(done);
    }

    fn entry(&mut self, entry: &Entry<'_>) {
        let is_file = entry.stat.file_type == FileType::Regular;
        let Some(resource) = entry.resource.filter(|_| is_file) else {
            return;
        };
        let Some(name) = record_stem(entry.name) else {
            return;
        };
        if self.what.resource.is_some_and(|wanted| wanted != resource) {
            return;
        }
        self.monitor.looked_at();
        let mut listed = Listed {
            user: None,
            hash: entry.hash.to_owned(),
            resource: resource.as_str().to_owned(),
            id: format!("{}{name}", entry.below),
            size: entry.stat.size,
            mtime: text::rfc3339(entry.stat.mtime),
            valid: false,
            reason: None,
            record: None,
            text: None,
        };
        match self.look(entry, &mut listed) {
            Ok(true) => (self.each)(&listed),
            Ok(false) => {}
            Err(error) if error.kind() == Kind::NotFound => {}
            Err(error) => {
                listed.reason = Some(format!("{error:#}"));
                (self.each)(&listed);
                self.unreadable(entry.path, &error);
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

impl Lister<'_> {
    /// Whether the record is one of those that were asked for.
    fn look(&mut self, entry: &Entry<'_>, listed: &mut Listed) -> Result<bool> {
        let Some(read) = read(entry.dir, entry.name, stored_limit(self.ground.max_record))? else {
            listed.reason = Some("larger than max_size".to_owned());
            return Ok(true);
        };
        (listed.size, listed.mtime) = (read.stat.size, text::rfc3339(read.stat.mtime));
        let owner = match record::owner(&read.text) {
            Ok(owner) => owner,
            Err(why) => {
                listed.reason = Some(why.to_string());
                return Ok(true);
            }
        };
        if owner.hash().as_str() != entry.hash {
            listed.reason = Some("another user's".to_owned());
            return Ok(true);
        }
        if matches!(self.whose, Whose::Users(users) if !users.has(&owner)) {
            return Ok(false);
        }
        listed.user = Some(owner.as_str().to_owned());
        let contents = self.what.contents;
        let most = self.ground.max_record;
        match self.lens(&owner).view(&read.text) {
            Ok(view) if view.text.len() as u64 > most => {
                listed.reason = Some("larger than max_size".to_owned())
            }
            Ok(view) => {
                listed.size = view.text.len() as u64;
                listed.valid = true;
                if contents {
                    match text::on_one_line(&view.text) {
                        Ok(record) => listed.record = Some(record),
                        Err(_) => listed.text = String::from_utf8(view.text).ok(),
                    }
                }
            }
            Err(why) => listed.reason = Some(why.to_string()),
        }
        Ok(true)
    }

    fn lens(&mut self, owner: &UserId) -> &Lens {
        let ground = self.ground;
        let lens = self.lens.take().filter(|(known, _)| known == owner);
        let (_, lens) = self
            .lens
            .insert(lens.unwrap_or_else(|| (owner.clone(), ground.lens(owner))));
        lens
    }
}
