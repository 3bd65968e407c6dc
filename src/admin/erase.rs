//! `erase`: everything of one user, for good.
//!
//! What says that it is the user's is removed, wherever on the volume it lies; what says so of somebody else
//! is not, whatever directory they share. Files are emptied before they are removed, so that no descriptor
//! keeps what was in them.

use std::collections::{BTreeMap, BTreeSet};
use std::thread;
use std::time::Duration;

use serde::Serialize;

use super::journal::{Journal, What};
use super::sweep::{Look, Remove, Sweep, Swept, Tell, remove, remove_marker};
use super::walk::{Entry, walk_as};
use super::{Finding, Ground, Monitor, Problem, existing, home, read, text};
use crate::clock::{self, Stopwatch};
use crate::error::{Error, Kind, Result};
use crate::hosts::hosts;
use crate::identity::UserId;
use crate::layout::Layout;
use crate::record;
use crate::store::{Lockout, lock_out_sessions, stored_limit};
use crate::volume::{Dir, LOOK_EVERY};

const LAYOUTS: [Layout; 2] = [Layout::ResourceFirst, Layout::UserFirst];

/// How long the user's sessions may take to end, once they were told to.
const SESSIONS_END: Duration = Duration::from_secs(20);
const LOOK: Duration = Duration::from_millis(100);

/// How often it is searched again when something was found: somebody goes on writing then.
const SEARCHES: u32 = 5;

/// What was erased: counts and times, and no content.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Receipt {
    /// SHA-256 of the user id.
    pub user: String,
    /// When it was begun, and when it was finished, as in RFC 3339.
    pub begun: String,
    /// None when it is not, because it was interrupted or something was left: another run finishes it.
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

/// An erasure that was begun: its journal is written, and no session has the user's directories, nor gets
/// them. As long as it is not finished, its user cannot log in.
pub struct Erasure<'a> {
    ground: &'a Ground,
    user: &'a UserId,
    journal: Journal,
    /// Held as long as the markers are there.
    locked: Vec<Lockout>,
}

/// What would be erased: paths from the volume's root on, handed to `each`. Whether it came to the end.
///
/// # Errors
/// Any error of reading the volume's root. Everything below it is told to `monitor`.
pub fn would_erase(
    ground: &Ground,
    user: &UserId,
    monitor: &mut dyn Monitor,
    each: &mut dyn FnMut(&str),
) -> Result<bool> {
    let begun = BTreeMap::new();
    let mut monitor = Once::new(monitor);
    let mut tell = Tell(each);
    let mut sweep = Sweep::new(ground, user, &begun, &mut monitor, &mut tell);
    let mut complete = true;
    for layout in LAYOUTS {
        complete &= walk_as(ground, layout, None, &mut sweep)?;
    }
    Ok(complete)
}

impl Receipt {
    /// Whether something was erased and not everything: then the user stays out.
    pub fn keeps_out(&self) -> bool {
        let erased = self.records + self.attachments + self.drafts + self.other > 0 || self.profile;
        self.finished.is_none() && erased
    }
}

impl<'a> Erasure<'a> {
    /// Begins, or goes on where a run before has ended: nobody can log in as the user any more,
    /// `end_sessions` ends who has, and this waits until they are gone.
    ///
    /// One that cannot begin leaves nothing behind that would keep the user out.
    ///
    /// # Errors
    /// [`Kind::ProblemsFound`] when a directory of the volume cannot be opened, so that it is not known what is in it; which one
    /// is told to `monitor`. [`Kind::Busy`] when a session does not end, or another run is at work; those of `end_sessions`; any
    /// error of writing the journal.
    pub fn begin(
        ground: &'a Ground,
        user: &'a UserId,
        monitor: &mut dyn Monitor,
        end_sessions: impl FnOnce() -> Result<()>,
    ) -> Result<Self> {
        // Before anybody is kept out. What is closed meanwhile keeps the erasure from being finished.
        look(ground, user, monitor).map_err(|error| error.context("nothing was erased"))?;
        let mut erasure = Self {
            ground,
            user,
            journal: Journal::open(ground, user)?,
            locked: Vec::new(),
        };
        let begun = end_sessions()
            .and_then(|()| erasure.wait_for_other_hosts(monitor))
            .and_then(|()| erasure.wait_for_sessions_elsewhere(monitor))
            .and_then(|()| erasure.lock_homes(monitor));
        match begun {
            Ok(()) => Ok(erasure),
            Err(error) => Err(erasure.given_up(error)),
        }
    }

    /// Erases, and searches the whole volume until there is nothing left.
    ///
    /// # Errors
    /// [`Kind::Busy`] when somebody goes on writing; any error of reading the volume's root, or of removing
    /// the journal. If something was erased by then, the user stays out until another run has finished it.
    pub fn run(mut self, monitor: &mut dyn Monitor) -> Result<Receipt> {
        match self.erase(&mut Once::new(monitor)) {
            Ok(done) => self.finish(done),
            Err(error) => Err(self.given_up(error)),
        }
    }

    fn erase(&mut self, monitor: &mut dyn Monitor) -> Result<Done> {
        let hash = self.user.hash();
        let only = BTreeSet::from([hash.as_str()]);
        let mut done = self.sweep(Some(&only), monitor)?;
        if !self.ground.volume.root().file_system().engine().is_local() {
            // A client of a file system over a network keeps what is removed while it is open, under another name (.nfs…,
            // .fuse_hidden…) beside it: it would be found again and again. The journal keeps sessions out.
            self.locked.clear();
        }
        let path = home::profile_path(self.user);
        let left = self.profile(&path, monitor).unwrap_or_else(|error| {
            monitor.found(&Finding::unreadable(&path, &error));
            true
        });
        let mut searches = 0;
        let mut found = true;
        while found && done.complete {
            if searches == SEARCHES {
                let why = "somebody goes on writing this user's records: stop the service's writer, and run this again";
                return Err(Error::new(Kind::Busy, why));
            }
            searches += 1;
            self.wait_for_other_hosts(monitor)?;
            done = self.sweep(None, monitor)?;
            found = done.swept.removed > 0;
        }
        done.swept.left += u64::from(left);
        Ok(done)
    }

    fn finish(self, Done { swept, complete }: Done) -> Result<Receipt> {
        let is_finished = complete && swept.left == 0;
        let count = |what| self.journal.count(what);
        let receipt = Receipt {
            user: self.user.full_hash(),
            begun: self.journal.begun().to_owned(),
            finished: is_finished.then(|| text::rfc3339(clock::now())),
            records: count(What::Record),
            attachments: count(What::Attachment),
            drafts: count(What::Draft),
            profile: count(What::Profile) > 0,
            other: count(What::Other),
            names_sha256: self.journal.digest(),
            searched: if complete { swept.searched } else { 0 },
            left: swept.left,
        };
        if is_finished || self.journal.removed().is_empty() {
            self.journal.remove(self.ground)?;
        }
        Ok(receipt)
    }

    /// What to say of an erasure that `error` has ended early. One that has removed nothing is as if it had
    /// never begun.
    fn given_up(self, error: Error) -> Error {
        if !self.journal.removed().is_empty() {
            return error.context(
                "the erasure is not finished, and keeps the user out until another run finishes it",
            );
        }
        match self.journal.remove(self.ground) {
            Ok(()) => error.context("nothing was erased"),
            Err(stays) => error.context(format_args!(
                "nothing was erased, but the journal stays and keeps the user out ({stays:#}): run this again"
            )),
        }
    }

    /// Waits until whoever serves the volume on another host has seen the journal, and what they saved before is seen here.
    fn wait_for_other_hosts(&self, monitor: &dyn Monitor) -> Result<()> {
        let engine = self.ground.volume.root().file_system().engine();
        if engine.is_local() {
            return Ok(());
        }
        let (waiting, long_enough) = (Stopwatch::start(), LOOK_EVERY + engine.others_see_within());
        while waiting.elapsed() < long_enough {
            if monitor.stops() {
                return Err(Error::new(
                    Kind::Busy,
                    "interrupted while other hosts were waited for",
                ));
            }
            thread::sleep(LOOK);
        }
        Ok(())
    }

    /// Waits until no host says that it serves the user: where locks do not reach, nothing else tells.
    fn wait_for_sessions_elsewhere(&self, monitor: &dyn Monitor) -> Result<()> {
        let (user, waiting) = (self.user.full_hash(), Stopwatch::start());
        loop {
            let hosts = hosts(self.ground.volume.root())?;
            let Some(host) = hosts.iter().find(|host| host.sessions_of(&user).next().is_some()) else {
                return Ok(());
            };
            let why = match waiting.elapsed() > SESSIONS_END {
                true => format!(
                    "a session of this user goes on on {}: end it there; if that host is gone, run this again in a minute",
                    host.host
                ),
                false if monitor.stops() => "interrupted while the user's sessions ended".to_owned(),
                false => {
                    thread::sleep(LOOK);
                    continue;
                }
            };
            return Err(Error::new(Kind::Busy, why));
        }
    }

    /// Waits until no session has the user's directories, and sees to it that none gets them.
    fn lock_homes(&mut self, monitor: &dyn Monitor) -> Result<()> {
        for dir in homes(self.ground, self.user)? {
            let waiting = Stopwatch::start();
            let locked = loop {
                if let Some(locked) = lock_out_sessions(&dir)? {
                    break locked;
                }
                let why = match waiting.elapsed() > SESSIONS_END {
                    true => {
                        "a session of this user, or of one with the same hash, goes on: end it (tenantfs status; a \
                         tenantfs mount by SIGTERM), and run this again"
                    }
                    false if monitor.stops() => "interrupted while the user's sessions ended",
                    false => {
                        thread::sleep(LOOK);
                        continue;
                    }
                };
                return Err(Error::new(Kind::Busy, why));
            };
            self.locked.push(locked);
        }
        Ok(())
    }

    /// One pass in each layout, over everything or `only` over the directories of these names.
    fn sweep(&mut self, only: Option<&BTreeSet<&str>>, monitor: &mut dyn Monitor) -> Result<Done> {
        let begun = self.journal.removed().clone();
        let mut act = Remove(&mut self.journal);
        let mut sweep = Sweep::new(self.ground, self.user, &begun, monitor, &mut act);
        let mut complete = true;
        for layout in LAYOUTS {
            complete &= walk_as(self.ground, layout, only, &mut sweep)?;
        }
        Ok(Done {
            swept: sweep.swept(),
            complete,
        })
    }

    /// Removes the user's profile, and the directory that it alone was in. Whether it was left, which was
    /// told.
    fn profile(&mut self, path: &str, monitor: &mut dyn Monitor) -> Result<bool> {
        let Some(dir) = home::profile(self.ground, self.user)? else {
            return Ok(false);
        };
        let hash = self.user.hash();
        let stat = match dir.stat(home::PROFILE) {
            Err(error) if error.kind() == Kind::NotFound => None,
            stat => Some(stat?),
        };
        if let Some(stat) = stat {
            let entry = Entry {
                dir: &dir,
                name: home::PROFILE,
                path,
                stat,
                hash: hash.as_str(),
                resource: None,
                below: "",
                steps: &[],
            };
            match self.whose_profile(&entry)? {
                Some(home::Whose::Users) => remove(&mut self.journal, What::Profile, &entry)?,
                Some(unclear) => {
                    monitor.found(&Finding::new(Problem::Colliding, path, unclear.why_left()));
                    return Ok(true);
                }
                None => {}
            }
        }
        // With its marker, if nothing else is there.
        if home::owner(self.ground, &dir, self.user)? == home::Whose::Users && remove_marker(&dir).is_ok() {
            let users = self.ground.volume.root().open_dir("users")?;
            let _ = users.remove_dir(hash.as_str());
            users.sync()?;
        }
        Ok(false)
    }

    /// Whose the profile is; none when it says that it is another user's, who shares the hash.
    fn whose_profile(&self, entry: &Entry<'_>) -> Result<Option<home::Whose>> {
        let said = read(entry.dir, entry.name, stored_limit(self.ground.max_record))?
            .and_then(|read| record::owner(&read.text).ok());
        Ok(match said {
            Some(owner) => (owner == *self.user).then_some(home::Whose::Users),
            // A run that was killed had emptied it.
            None if entry.stat.size == 0 && self.journal.removed().contains_key(entry.path) => {
                Some(home::Whose::Users)
            }
            None => Some(home::owner(self.ground, entry.dir, self.user)?),
        })
    }
}

/// What one pass, or all of them, have done.
struct Done {
    swept: Swept,
    /// Whether it came to the end.
    complete: bool,
}

/// Opens every directory of the volume, in both layouts.
///
/// # Errors
/// [`Kind::ProblemsFound`] when one of them cannot be opened; any error of reading the volume's root.
fn look(ground: &Ground, user: &UserId, monitor: &mut dyn Monitor) -> Result<()> {
    let mut once = Once::new(monitor);
    let mut look = Look::new(user, &mut once);
    for layout in LAYOUTS {
        if !walk_as(ground, layout, None, &mut look)? {
            return Err(Error::new(
                Kind::Io,
                "interrupted before the first file was looked at",
            ));
        }
    }
    let places = match look.closed {
        0 => return Ok(()),
        1 => "1 place".to_owned(),
        several => format!("{several} places"),
    };
    let why = "cannot be looked into, and may have something of this user's: mend what is said of it, and run this again";
    Err(Error::new(Kind::ProblemsFound, format!("{places} {why}")))
}

/// The user's directories, in both layouts: what a session of the user's has locked.
///
/// # Errors
/// [`Kind::ProblemsFound`] when one of them cannot be opened.
fn homes(ground: &Ground, user: &UserId) -> Result<Vec<Dir>> {
    let (hash, root) = (user.hash(), ground.volume.root());
    let resources = ground.resources.iter().map(|resource| resource.as_str());
    let mut homes = Vec::new();
    for tree in resources.chain(["users"]) {
        let home = existing(root, tree).and_then(|tree| match tree {
            Some(tree) => existing(&tree, hash.as_str()),
            None => Ok(None),
        });
        match home {
            // No session gets into what is no directory. The passes over the volume tell of it.
            Err(error) if error.kind() == Kind::NotADirectory => {}
            opened => homes.extend(opened.map_err(|error| error.as_kind(Kind::ProblemsFound))?),
        }
    }
    Ok(homes)
}

/// Passes on what is found, once: each place is met by several passes.
struct Once<'m> {
    monitor: &'m mut dyn Monitor,
    told: BTreeSet<String>,
}

impl<'m> Once<'m> {
    fn new(monitor: &'m mut dyn Monitor) -> Self {
        Self {
            monitor,
            told: BTreeSet::new(),
        }
    }
}

impl Monitor for Once<'_> {
    fn looked_at(&mut self) {
        self.monitor.looked_at();
    }

    fn progress(&mut self, done: f64) {
        self.monitor.progress(done);
    }

    fn found(&mut self, finding: &Finding) {
        if self.told.insert(finding.path.clone()) {
            self.monitor.found(finding);
        }
    }

    fn stops(&self) -> bool {
        self.monitor.stops()
    }
}
