//! `verify`: looks at everything on a volume, and says what is not as it should be.

use std::collections::BTreeMap;

use serde::Serialize;

use super::walk::{Entry, Visitor, walk};
use super::{Finding, Ground, Monitor, Problem, descend, home, read};
use crate::account;
use crate::clock;
use crate::error::{Error, Kind, Result};
use crate::escape::quoted;
use crate::identity::{UserHash, UserId};
use crate::name::{EntryName, RESERVED_PREFIX, Resource};
use crate::record::{self, Hidden, Lens, SecretState};
use crate::store::{ForeignDraft, OWNER_MARKER, Reserved, draft_limit, stored_limit};
use crate::volume::{Dir, FileType, Rename};

/// What was seen on a volume.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Verified {
    /// Records that their owners see.
    pub records: u64,
    /// Other files of tenants.
    pub attachments: u64,
    /// Drafts that are kept until their owners complete them.
    pub drafts: u64,
    /// Records that were removed or renamed, and wait for the next of their name.
    pub waiting: u64,
    /// Secrets that are sealed, under the active key and under older ones.
    pub sealed: u64,
    /// Secrets that are sealed under older keys: `reseal` seals them anew.
    pub sealed_by_older_keys: u64,
    /// Secrets in plain text: `reseal --adopt-plain` seals them.
    pub plain_secrets: u64,
    /// What was mended.
    pub repaired: u64,
    /// What is wrong, and was not mended, counted by its kind.
    pub problems: BTreeMap<Problem, u64>,
    /// Whether it came to the end.
    pub complete: bool,
}

/// Looks at everything, and tells `monitor` what is wrong. With `repair`, what is mended without losing
/// anything is: records that are in another user's directory are moved home, where nothing has their name,
/// and temporary files that nobody will finish are removed. Else nothing is changed.
///
/// # Errors
/// Any error of reading the volume's root: everything below it is a finding.
pub fn verify(ground: &Ground, repair: bool, monitor: &mut dyn Monitor) -> Result<Verified> {
    let mut verifier = Verifier {
        ground,
        repair,
        monitor,
        seen: Verified::default(),
        home: Home::default(),
        lens: None,
        owner_account: ground.volume.owner(),
    };
    verifier.seen.complete = walk(ground, &mut verifier)?;
    Ok(verifier.seen)
}

struct Verifier<'a> {
    ground: &'a Ground,
    repair: bool,
    monitor: &'a mut dyn Monitor,
    seen: Verified,
    home: Home,
    /// Of the owner of the record before: mostly of the next one, too.
    lens: Option<(UserId, Lens)>,
    owner_account: (u32, u32),
}

/// The hash directory that is being looked at.
#[derive(Default)]
struct Home {
    /// Whose it is, in full: by its marker, else by its first record.
    full_hash: Option<String>,
}

impl Visitor for Verifier<'_> {
    fn home(&mut self, dir: &Dir, hash: &str, path: &str) {
        self.home = Home::default();
        let marker = format!("{path}/{OWNER_MARKER}");
        let full_hash = match home::marker(dir) {
            Ok(Some(full_hash)) => full_hash,
            Ok(None) => return,
            Err(error) => return self.problem(Problem::Marker, &marker, &format!("{error:#}")),
        };
        let is_one = full_hash.len() == 64 && full_hash.bytes().all(|byte| byte.is_ascii_hexdigit());
        match is_one && full_hash.starts_with(hash) {
            true => self.home.full_hash = Some(full_hash),
            false => {
                let what =
                    "not the whole SHA-256 of a user id with this hash: whoever logs in here is refused";
                self.problem(Problem::Marker, &marker, what);
            }
        }
    }

    fn entry(&mut self, entry: &Entry<'_>) {
        self.monitor.looked_at();
        match (entry.stat.file_type, EntryName::parse(entry.name.as_bytes())) {
            (FileType::Special, _) => self.problem(
                Problem::Special,
                entry.path,
                "neither a file nor a directory: no mount shows it",
            ),
            (FileType::Directory, _) => self.problem(
                Problem::Special,
                entry.path,
                "a directory where none belongs: no mount shows it",
            ),
            (FileType::Regular, Ok(name)) => {
                let permitted = self.permissions(entry);
                match name.is_record() && entry.resource.is_some() {
                    true => self.record(entry, permitted),
                    false => self.attachment(entry),
                }
            }
            (FileType::Regular, Err(_)) if entry.name.starts_with(RESERVED_PREFIX) => self.ours(entry),
            (FileType::Regular, Err(_)) => self.problem(
                Problem::InvalidName,
                entry.path,
                "the name has control characters: rename it",
            ),
        }
    }

    fn found(&mut self, finding: Finding) {
        self.tell(finding);
    }

    fn stray(&mut self, finding: Finding) {
        self.tell(finding);
    }

    fn progress(&mut self, done: f64) {
        self.monitor.progress(done);
    }

    fn stops(&self) -> bool {
        self.monitor.stops()
    }
}

impl Verifier<'_> {
    fn record(&mut self, entry: &Entry<'_>, permitted: bool) {
        if entry.stat.nlink > 1 {
            self.problem(Problem::HardLinked, entry.path, "it has a second name somewhere");
        }
        let stored = match read(entry.dir, entry.name, stored_limit(self.ground.max_record)) {
            Ok(Some(read)) => read.text,
            Ok(None) => return self.oversized(entry),
            Err(error) if error.kind() == Kind::NotFound => return,
            // That was told, and why.
            Err(error) if error.kind() == Kind::AccessDenied && !permitted => return,
            Err(error) => return self.unreadable(entry.path, &error),
        };
        match record::owner(&stored) {
            Ok(owner) => self.owned(entry, &owner, &stored),
            Err(Hidden::TwoOwners) => self.problem(
                Problem::TwoOwners,
                entry.path,
                "two members name its owner: keep one",
            ),
            Err(Hidden::Ownerless) => self.problem(
                Problem::Ownerless,
                entry.path,
                "no member user_id names its owner: nobody sees it",
            ),
            Err(_) => self.problem(
                Problem::Malformed,
                entry.path,
                "not one JSON object, or in doubt about its owner: nobody sees it",
            ),
        }
    }

    fn owned(&mut self, entry: &Entry<'_>, owner: &UserId, stored: &[u8]) {
        let hash = owner.hash();
        if hash.as_str() != entry.hash {
            return self.misplaced(entry, owner);
        }
        let full_hash = owner.full_hash();
        if *self.home.full_hash.get_or_insert_with(|| full_hash.clone()) != full_hash {
            let what = "two user ids share this hash, and the directory is the other's: give this one's owner another id";
            return self.problem(Problem::Colliding, entry.path, what);
        }
        let lens = self.lens(owner);
        let (size, secrets) = match (lens.view(stored), lens.secrets(stored)) {
            (Ok(view), Ok(secrets)) => (view.text.len() as u64, secrets),
            // Its owner was found just now.
            _ => return self.problem(Problem::Malformed, entry.path, "not a record to its own user"),
        };
        if size > self.ground.max_record {
            return self.oversized(entry);
        }
        self.seen.records += 1;
        for secret in secrets {
            self.secret(entry, &secret.name, &secret.state);
        }
    }

    fn secret(&mut self, entry: &Entry<'_>, name: &str, state: &SecretState) {
        match state {
            SecretState::Sealed { active } => {
                self.seen.sealed += 1;
                self.seen.sealed_by_older_keys += u64::from(!active);
            }
            SecretState::Plain => {
                self.seen.plain_secrets += 1;
                let what = format!(
                    "{name:?} is in plain text: `tenantfs reseal --adopt-plain` seals what the service wrote so"
                );
                self.problem(Problem::PlainSecret, entry.path, &what);
            }
            SecretState::Unopenable { why } => {
                let what = format!("{name:?} cannot be opened: {why}");
                self.problem(Problem::UnopenableSecret, entry.path, &what);
            }
        }
    }

    fn misplaced(&mut self, entry: &Entry<'_>, owner: &UserId) {
        let Some(resource) = entry.resource else { return };
        let hash = owner.hash();
        let mut home = self.ground.layout.components(resource, &hash).join("/");
        home.extend(["/", entry.below, entry.name]);
        let there = self.ground.directory(owner, resource).and_then(|dir| match dir {
            Some(dir) => exists(&dir, entry),
            None => Ok(false),
        });
        match there {
            Ok(false) if self.repair => match move_home(self.ground, resource, &hash, entry) {
                Ok(()) => {
                    let what = format!("another user's: moved to {home}");
                    self.mended(Problem::Misplaced, entry.path, &what, true);
                }
                Err(error) => {
                    let what = format!("another user's, and could not be moved to {home}: {error:#}");
                    self.problem(Problem::Misplaced, entry.path, &what);
                }
            },
            Ok(false) => {
                let what = format!("another user's: it belongs to {home}");
                self.problem(Problem::Misplaced, entry.path, &what);
            }
            Ok(true) => {
                let what =
                    format!("another user's, who has {home} already: compare the two, and remove this one");
                self.problem(Problem::Foreign, entry.path, &what);
            }
            Err(error) => self.unreadable(&home, &error),
        }
    }

    fn attachment(&mut self, entry: &Entry<'_>) {
        match entry.stat.nlink > 1 {
            true => self.problem(
                Problem::HardLinked,
                entry.path,
                "it has a second name somewhere: no mount shows it",
            ),
            false => self.seen.attachments += 1,
        }
    }

    /// A file under a name of our own.
    fn ours(&mut self, entry: &Entry<'_>) {
        let what = Reserved::of(entry.name);
        let since = entry.dir.waits_since(entry.name, &entry.stat);
        if what.is_outdated(since, clock::now(), self.ground.keep_removed) {
            let removed = self.repair && entry.dir.unlink(entry.name).is_ok();
            let detail = match removed {
                true => "nobody needed it any more: removed",
                false => "nobody needs it any more: it can be removed",
            };
            return self.mended(Problem::Temporary, entry.path, detail, removed);
        }
        match what {
            Reserved::Draft => self.draft(entry),
            Reserved::Unknown => {
                let detail = "nothing that this version knows, though the name is tenantfs' own";
                self.problem(Problem::InvalidName, entry.path, detail);
            }
            Reserved::Removed | Reserved::Away | Reserved::Secrets => self.waiting(entry),
            Reserved::Marker | Reserved::Temporary | Reserved::Moved => {}
        }
    }

    /// A record that waits for the next of its name: its secret must open as any other.
    fn waiting(&mut self, entry: &Entry<'_>) {
        match read(entry.dir, entry.name, stored_limit(self.ground.max_record)) {
            Err(error) if error.kind() == Kind::NotFound => {}
            Err(error) => self.problem(Problem::Unreadable, entry.path, &error.to_string()),
            Ok(None) => self.oversized(entry),
            Ok(Some(read)) => {
                self.seen.waiting += 1;
                let owner = record::owner(&read.text).ok();
                let secrets = owner.and_then(|owner| self.lens(&owner).secrets(&read.text).ok());
                for secret in secrets.unwrap_or_default() {
                    self.secret(entry, &secret.name, &secret.state);
                }
            }
        }
    }

    fn draft(&mut self, entry: &Entry<'_>) {
        let read = match read(entry.dir, entry.name, draft_limit(self.ground.max_record)) {
            Err(error) if error.kind() == Kind::NotFound => return,
            read => read.and_then(|read| {
                read.ok_or_else(|| Error::new(Kind::TooLarge, "larger than a draft can be"))
            }),
        };
        let opened = read.and_then(|read| {
            let draft = ForeignDraft::parse(read.text)?;
            let sealer = draft
                .sealed_by()
                .zip(self.ground.keys.as_ref())
                .map(|(user, keys)| keys.sealer(&user));
            draft
                .text(sealer.as_ref())
                .map(drop)
                .map_err(|why| Error::new(Kind::InvalidRecord, format!("it cannot be opened: {why}")))
        });
        match opened {
            Ok(()) => self.seen.drafts += 1,
            Err(error) => self.problem(Problem::Draft, entry.path, &format!("{error:#}")),
        }
    }

    /// Whether owner and mode are as they should be.
    fn permissions(&mut self, entry: &Entry<'_>) -> bool {
        let (uid, _) = self.owner_account;
        let stat = &entry.stat;
        let path = quoted(entry.path);
        let what = match () {
            () if stat.mode & 0o002 != 0 => format!("others may write it; run: chmod o-w {path}"),
            () if stat.mode & 0o6000 != 0 => format!("it has set-id bits; run: chmod ug-s {path}"),
            () if stat.uid == uid && stat.mode & 0o600 != 0o600 => {
                format!("its owner may not read and write it; run: chmod u+rw {path}")
            }
            () if stat.uid != uid && stat.mode & 0o066 == 0 => format!(
                "it belongs to {}, and the volume to {}; run: chown -h {uid} {path}",
                account::shown(stat.uid),
                account::shown(uid)
            ),
            () => return true,
        };
        self.problem(Problem::Permissions, entry.path, &what);
        false
    }

    fn oversized(&mut self, entry: &Entry<'_>) {
        let most = self.ground.max_record;
        let what = format!("larger than max_size ({most} bytes): nobody sees it");
        self.problem(Problem::Oversized, entry.path, &what);
    }

    fn lens(&mut self, owner: &UserId) -> &Lens {
        let lens = self.lens.take().filter(|(known, _)| known == owner);
        let (_, lens) = self
            .lens
            .insert(lens.unwrap_or_else(|| (owner.clone(), self.ground.lens(owner))));
        lens
    }

    fn problem(&mut self, problem: Problem, path: &str, detail: &str) {
        self.tell(Finding::new(problem, path, detail));
    }

    fn mended(&mut self, problem: Problem, path: &str, detail: &str, repaired: bool) {
        self.tell(Finding {
            repaired,
            ..Finding::new(problem, path, detail)
        });
    }

    fn tell(&mut self, finding: Finding) {
        match finding.repaired {
            true => self.seen.repaired += 1,
            false => *self.seen.problems.entry(finding.problem).or_default() += 1,
        }
        self.monitor.found(&finding);
    }
}

/// Moves a record to its owner's directory, if nothing has its name there.
fn move_home(ground: &Ground, resource: &Resource, hash: &UserHash, entry: &Entry<'_>) -> Result<()> {
    let mut dir = ground.volume.root().reopen()?;
    let home = ground.layout.components(resource, hash);
    for name in home.into_iter().chain(entry.steps.iter().map(String::as_str)) {
        dir = dir.open_or_make_dir(name)?;
    }
    entry
        .dir
        .rename(entry.name, &dir, entry.name, Rename::NoReplace)?;
    dir.sync()?;
    entry.dir.sync()
}

/// Whether the same place below another directory of a resource has something.
fn exists(dir: &Dir, entry: &Entry<'_>) -> Result<bool> {
    let Some(dir) = descend(dir, entry.steps.iter().map(String::as_str))? else {
        return Ok(false);
    };
    match dir.stat(entry.name) {
        Err(error) if error.kind() == Kind::NotFound => Ok(false),
        found => found.map(|_| true),
    }
}
