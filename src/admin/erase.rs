//! `erase`: everything of one user, for good.
//!
//! What says that it is the user's is removed, wherever on the volume it lies; what says so of somebody else is not, whatever
//! directory they share. Files are emptied before they are removed, so that no descriptor keeps what was in them.

use std::collections::{BTreeMap, BTreeSet};
use std::thread;
use std::time::Duration;

use serde::Serialize;

use super::journal::{Journal, What};
use super::walk::{Entry, Visitor, walk_as};
use super::{Finding, Ground, Monitor, Problem, home, read, text};
use crate::clock::{self, Stopwatch};
use crate::error::{Error, Kind, Result};
use crate::identity::UserId;
use crate::layout::Layout;
use crate::name;
use crate::record;
use crate::store::{ForeignDraft, OWNER_MARKER, Reserved, draft_limit, stored_limit};
use crate::volume::{Access, Dir, FileType, Lock};

const LAYOUTS: [Layout; 2] = [Layout::ResourceFirst, Layout::UserFirst];

/// How long the user's sessions may take to end, once they were told to.
const SESSIONS_END: Duration = Duration::from_secs(20);
const LOOK: Duration = Duration::from_millis(100);

/// How often it is searched again when something was found: somebody goes on writing then.
const SEARCHES: u32 = 5;

/// The largest record in a user's own directories that is read to know whose it is, in bytes.
const LARGEST: u64 = 512 << 20;

const PROFILE: &str = "profile.json";

/// What was erased: counts and times, and no content.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Receipt {
    /// SHA-256 of the user id.
    pub user: String,
    /// When it was begun, and when it was finished, as in RFC 3339.
    pub begun: String,
    /// None when it is not: another run finishes it.
    pub finished: Option<String>,
    /// Records.
    pub records: u64,
    /// Other files.
    pub attachments: u64,
    /// Kept drafts.
    pub drafts: u64,
    /// Whether there was a `profile.json`.
    pub profile: bool,
    /// Temporary files, markers, and what nobody saw.
    pub other: u64,
    /// SHA-256 of the names, sorted, each with the end of a line.
    pub names_sha256: String,
    /// How many files of the whole volume were searched at last, without finding anything of the user's.
    pub searched: u64,
    /// What may be the user's and was left, for a reason that was told.
    pub left: u64,
}

/// An erasure that was begun. As long as it is not finished, its user cannot log in.
pub struct Erasure<'a> {
    ground: &'a Ground,
    user: &'a UserId,
    journal: Journal,
}

/// What would be erased: paths from the volume's root on, handed to `each`.
///
/// # Errors
/// The volume's.
pub fn would_erase(
    ground: &Ground,
    user: &UserId,
    monitor: &mut dyn Monitor,
    each: &mut dyn FnMut(&str),
) -> Result<()> {
    let begun = BTreeMap::new();
    let mut tell = Tell(each);
    let mut sweep = Sweep::new(ground, user, &begun, monitor, &mut tell);
    for layout in LAYOUTS {
        walk_as(ground, layout, None, &mut sweep)?;
    }
    Ok(())
}

impl<'a> Erasure<'a> {
    /// Begins, or goes on where a run before has ended. End the user's sessions then.
    ///
    /// # Errors
    /// The volume's.
    pub fn begin(ground: &'a Ground, user: &'a UserId) -> Result<Self> {
        let journal = Journal::open(ground, user)?;
        Ok(Self {
            ground,
            user,
            journal,
        })
    }

    /// Erases, and searches the whole volume until there is nothing left.
    ///
    /// # Errors
    /// [`Kind::Busy`] when a session of the user's does not end, or somebody goes on writing; the volume's. Then another run
    /// goes on.
    pub fn run(mut self, monitor: &mut dyn Monitor) -> Result<Receipt> {
        let _locks = self.lock_homes()?;
        let hash = self.user.hash();
        let only = BTreeSet::from([hash.as_str()]);
        let (mut complete, mut searched, mut left) = (true, 0, 0);
        for layout in LAYOUTS {
            complete &= self.sweep(layout, Some(&only), monitor)?.complete;
        }
        self.profile(monitor)?;
        let mut found = true;
        let mut attempt = 0;
        while found && complete {
            if attempt == SEARCHES {
                let why = "somebody goes on writing this user's records: stop the service's writer, and run this again";
                return Err(Error::new(Kind::Busy, why));
            }
            attempt += 1;
            (found, searched, left) = (false, 0, 0);
            for layout in LAYOUTS {
                let swept = self.sweep(layout, None, monitor)?;
                complete &= swept.complete;
                found |= swept.removed > 0;
                searched += swept.searched;
                left += swept.left;
            }
        }
        let count = |what| self.journal.count(what);
        let receipt = Receipt {
            user: self.user.full_hash(),
            begun: self.journal.begun().to_owned(),
            finished: complete.then(|| text::rfc3339(clock::now())),
            records: count(What::Record),
            attachments: count(What::Attachment),
            drafts: count(What::Draft),
            profile: count(What::Profile) > 0,
            other: count(What::Other),
            names_sha256: self.journal.digest(),
            searched,
            left,
        };
        if complete {
            self.journal.finish(self.ground, self.user)?;
        }
        Ok(receipt)
    }

    /// Waits until no session has the user's directories, and sees to it that none gets them.
    fn lock_homes(&self) -> Result<Vec<Dir>> {
        let hash = self.user.hash();
        let root = self.ground.volume.root();
        let mut trees: Vec<&str> = self
            .ground
            .resources
            .iter()
            .map(|resource| resource.as_str())
            .collect();
        trees.push("users");
        let mut locked = Vec::new();
        for tree in trees {
            let home = root.open_dir(tree).and_then(|tree| tree.open_dir(hash.as_str()));
            let dir = match home {
                Err(error) if matches!(error.kind(), Kind::NotFound | Kind::NotADirectory) => continue,
                opened => opened?,
            };
            let watch = Stopwatch::start();
            while !dir.lock(Lock::Exclusive).unwrap_or(true) {
                if watch.elapsed() > SESSIONS_END {
                    let why = "a session of this user, or of one with the same hash, goes on: end it (tenantfs status; a \
                               tenantfs mount by SIGTERM), and run this again";
                    return Err(Error::new(Kind::Busy, why));
                }
                thread::sleep(LOOK);
            }
            locked.push(dir);
        }
        Ok(locked)
    }

    fn sweep(
        &mut self,
        layout: Layout,
        only: Option<&BTreeSet<&str>>,
        monitor: &mut dyn Monitor,
    ) -> Result<Swept> {
        let begun = self.journal.removed().clone();
        let mut remove = Remove(&mut self.journal);
        let mut sweep = Sweep::new(self.ground, self.user, &begun, monitor, &mut remove);
        let complete = walk_as(self.ground, layout, only, &mut sweep)?;
        Ok(Swept {
            complete,
            ..sweep.swept
        })
    }

    fn profile(&mut self, monitor: &mut dyn Monitor) -> Result<()> {
        let Some(dir) = home::profile(self.ground, self.user)? else {
            return Ok(());
        };
        let hash = self.user.hash();
        let path = format!("users/{hash}/{PROFILE}");
        let stat = match dir.stat(PROFILE) {
            Err(error) if error.kind() == Kind::NotFound => None,
            stat => Some(stat?),
        };
        if let Some(stat) = stat {
            let said = read(&dir, PROFILE, stored_limit(self.ground.max_record))?
                .and_then(|read| record::owner(&read.text).ok());
            let is_users = match said {
                Some(owner) => owner == *self.user,
                None if stat.size == 0 && self.journal.removed().contains_key(&path) => true,
                None => home::owner(self.ground, &dir, self.user)? == home::Whose::Users,
            };
            if is_users {
                let entry = Entry {
                    dir: &dir,
                    name: PROFILE,
                    path: &path,
                    stat,
                    hash: hash.as_str(),
                    resource: None,
                    below: "",
                };
                remove(&mut self.journal, What::Profile, &entry)?;
            } else {
                monitor.found(&Finding {
                    problem: Problem::Colliding,
                    path,
                    detail: "left: it cannot be known that it is this user's".to_owned(),
                    repaired: false,
                });
            }
        }
        // With its marker, if nothing else is there.
        if home::owner(self.ground, &dir, self.user)? == home::Whose::Users && remove_marker(&dir).is_ok() {
            let users = self.ground.volume.root().open_dir("users")?;
            let _ = users.remove_dir(hash.as_str());
            users.sync()?;
        }
        Ok(())
    }
}

/// What is done with what is the user's.
trait Act {
    fn file(&mut self, what: What, entry: &Entry<'_>) -> Result<()>;

    /// A directory that may be empty by now.
    fn directory(&mut self, parent: &Dir, name: &str);
}

/// It is told, and nothing is changed.
struct Tell<'e>(&'e mut dyn FnMut(&str));

impl Act for Tell<'_> {
    fn file(&mut self, _: What, entry: &Entry<'_>) -> Result<()> {
        (self.0)(entry.path);
        Ok(())
    }

    fn directory(&mut self, _: &Dir, _: &str) {}
}

/// It is removed.
struct Remove<'j>(&'j mut Journal);

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
#[derive(Default)]
struct Swept {
    removed: u64,
    searched: u64,
    left: u64,
    complete: bool,
}

/// Looks for what is the user's.
struct Sweep<'a, 'r> {
    ground: &'a Ground,
    user: &'a UserId,
    full_hash: String,
    /// What runs before were about to remove: they may have emptied it.
    begun: &'a BTreeMap<String, What>,
    monitor: &'a mut dyn Monitor,
    act: &'r mut dyn Act,
    swept: Swept,
    /// Whether what says nothing of its owner in the directory at hand is the user's.
    is_users: bool,
    /// Whether the directory at hand has the user's hash.
    is_home: bool,
}

impl<'a, 'r> Sweep<'a, 'r> {
    fn new(
        ground: &'a Ground,
        user: &'a UserId,
        begun: &'a BTreeMap<String, What>,
        monitor: &'a mut dyn Monitor,
        act: &'r mut dyn Act,
    ) -> Self {
        Self {
            ground,
            user,
            full_hash: user.full_hash(),
            begun,
            monitor,
            act,
            swept: Swept::default(),
            is_users: false,
            is_home: false,
        }
    }

    /// What an entry is to the erasure; none when it is somebody else's.
    fn judge(&mut self, entry: &Entry<'_>) -> Result<Option<What>> {
        if let Some(what) = self.begun.get(entry.path).filter(|_| entry.stat.size == 0) {
            return Ok(Some(*what));
        }
        let ours = Reserved::of(entry.name);
        let is_record = name::is_record(entry.name) || matches!(ours, Reserved::Away | Reserved::Removed);
        match entry.stat.file_type {
            FileType::Regular if is_record && entry.resource.is_some() => self.judge_record(entry),
            FileType::Regular if ours == Reserved::Draft => {
                let draft = read(entry.dir, entry.name, draft_limit(self.ground.max_record))?
                    .and_then(|read| ForeignDraft::parse(read.text).ok());
                match draft {
                    Some(draft) => Ok((draft.owner() == self.full_hash).then_some(What::Draft)),
                    None => Ok(self.is_users.then_some(What::Other)),
                }
            }
            // With their directory.
            FileType::Regular if ours == Reserved::Marker => Ok(None),
            FileType::Regular if ours == Reserved::Temporary => Ok(self.is_users.then_some(What::Other)),
            // What the service keeps beside the resources, the profile among it.
            _ if entry.resource.is_none() => Ok(None),
            FileType::Regular if self.is_users => Ok(Some(What::Attachment)),
            _ if self.is_users => Ok(Some(What::Other)),
            _ => {
                if self.is_home {
                    self.leave(
                        entry,
                        "another user shares the hash, and it cannot be known whose this is",
                    );
                }
                Ok(None)
            }
        }
    }

    fn judge_record(&mut self, entry: &Entry<'_>) -> Result<Option<What>> {
        // Of what is the user's, a mount with another max_size may have written more.
        let limit = match self.is_home {
            true => stored_limit(self.ground.max_record).max(LARGEST),
            false => stored_limit(self.ground.max_record),
        };
        let Some(read) = read(entry.dir, entry.name, limit)? else {
            if self.is_home {
                self.leave(entry, "larger than max_size: look whose it is, and remove it");
            }
            return Ok(None);
        };
        match record::owner(&read.text) {
            Ok(owner) => Ok((owner == *self.user).then_some(What::Record)),
            Err(why) => {
                if self.is_home {
                    let why = format!("it cannot be known whose it is ({why}): look, and remove it");
                    self.leave(entry, &why);
                }
                Ok(None)
            }
        }
    }

    fn leave(&mut self, entry: &Entry<'_>, detail: &str) {
        self.found(Finding {
            problem: Problem::Unreadable,
            path: entry.path.to_owned(),
            detail: detail.to_owned(),
            repaired: false,
        });
    }
}

impl Visitor for Sweep<'_, '_> {
    fn progress(&mut self, done: f64) {
        self.monitor.progress(done);
    }

    fn home(&mut self, dir: &Dir, hash: &str, path: &str) {
        self.is_home = hash == self.user.hash().as_str();
        self.is_users = self.is_home
            && match home::owner(self.ground, dir, self.user) {
                Ok(whose) => whose == home::Whose::Users,
                Err(error) => {
                    self.found(Finding {
                        problem: Problem::Unreadable,
                        path: path.to_owned(),
                        detail: error.to_string(),
                        repaired: false,
                    });
                    false
                }
            };
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
            Err(error) => self.leave(entry, &error.to_string()),
        }
    }

    fn left(&mut self, parent: &Dir, name: &str, _: &str) {
        if self.is_users {
            self.act.directory(parent, name);
        }
    }

    fn found(&mut self, finding: Finding) {
        if finding.problem == Problem::Unreadable {
            self.swept.left += 1;
            self.monitor.found(&finding);
        }
    }

    fn stops(&self) -> bool {
        self.monitor.stops()
    }
}

/// Empties a file and removes it, durably; whatever else it is, removes it.
fn remove(journal: &mut Journal, what: What, entry: &Entry<'_>) -> Result<()> {
    journal.note(what, entry.path)?;
    journal.sync()?;
    if entry.stat.file_type == FileType::Regular {
        let file = entry.dir.open_file(entry.name, Access::ReadWrite)?;
        let emptied = file.set_len(0).and_then(|()| file.sync_all());
        emptied.map_err(|error| Error::io(&error, "emptying a file"))?;
    }
    match entry.stat.file_type {
        FileType::Directory => entry.dir.remove_dir(entry.name)?,
        FileType::Regular | FileType::Special => entry.dir.unlink(entry.name)?,
    }
    entry.dir.sync()
}

/// Removes the owner marker of a directory that has nothing else.
fn remove_marker(dir: &Dir) -> Result<()> {
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
