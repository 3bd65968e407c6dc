//! The mounts that the mounter has, and whose they are.

use std::collections::{HashMap, HashSet};
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::rand::GetRandomFlags;

use super::kernel;
use super::mount_id::{Identity, MountEntry};
use super::mountinfo::{Mountinfo, State};
use super::mountpoint;
use super::policy::Policy;
use super::protocol::{Claim, MountRequest};
use crate::error::{Doing, Error, Result};
use crate::escape::quoted;

/// The mounts of all connections, by their numbers, which no two mounts have at the same time: whatever else had the
/// number of a new one is gone.
#[derive(Default)]
pub(super) struct Ledger {
    held: HashMap<u64, Held>,
}

/// A mount, by what identifies it. Not by a descriptor of it: that would keep it busy, and nobody else could unmount it.
struct Held {
    /// The connection that has it.
    owner: u64,
    claim: Claim,
    /// The directory beneath it: from there it can be unmounted even when its path is closed to root. One that was taken
    /// over has none, for nothing leads to what is beneath a mount; it is found by its path.
    beneath: Option<OwnedFd>,
}

impl Held {
    fn end(&self, state: State) -> Result<()> {
        end(&self.claim.entry, self.beneath.as_ref(), self.claim.made, state)
    }
}

/// What the ledger knows of a mount that a server claims.
enum Found<'l> {
    /// A connection has it.
    Held(&'l Held),
    /// It is gone: a connection has one that the kernel gave the same entry.
    Replaced,
    /// No connection has it.
    Unheld,
}

/// What the server is given.
pub(super) struct Mounted {
    pub(super) claim: Claim,
    /// As [`kernel::Mounted`] has it.
    pub(super) connection: OwnedFd,
    pub(super) warnings: Vec<String>,
}

impl Ledger {
    /// Mounts what `owner` asks for.
    pub(super) fn mount(&mut self, owner: u64, policy: &Policy, request: &MountRequest) -> Result<Mounted> {
        let mountpoint = mountpoint::open(policy, &request.mountpoint, request.make)?;
        let serial = random()?;
        let mounted = kernel::mount(request, &mountpoint.directory).inspect_err(|_| {
            if request.make {
                mountpoint::remove(&request.mountpoint);
            }
        })?;
        let entry = MountEntry::of(&mounted.mount, &mountpoint.directory).inspect_err(|_| {
            // Nobody could name it any more.
            let _ = kernel::unmount(&mountpoint.directory);
        })?;
        let claim = Claim {
            entry,
            serial,
            made: request.make,
        };
        let beneath = Some(mountpoint.directory);
        self.insert(owner, claim.clone(), beneath);
        Ok(Mounted {
            claim,
            connection: mounted.connection,
            warnings: mountpoint.warnings,
        })
    }

    /// Ends a mount of `owner`'s. One that is gone is no failure; one that cannot be ended is still `owner`'s.
    pub(super) fn unmount(&mut self, owner: u64, policy: &Policy, claim: &Claim) -> Result<()> {
        match self.find(claim) {
            Found::Held(held) if held.owner == owner => {
                held.end(state(policy, &claim.entry)?)?;
                self.held.remove(&claim.entry.identity.number);
                Ok(())
            }
            Found::Held(_) => Err(Error::mount_failed(others(claim))),
            Found::Replaced => Ok(()),
            Found::Unheld if Mountinfo::read()?.state(&claim.entry) == State::Gone => Ok(()),
            Found::Unheld => Err(Error::mount_failed(format!(
                "the mounter has not taken over the mount on {}",
                claim.entry.mountpoint().display()
            ))),
        }
    }

    /// Takes over the mounts that `owner` has from an earlier mounter; whoever is admitted is believed, as long as it is a
    /// mount of ours, and nobody else's. Returns what could not be.
    pub(super) fn adopt(&mut self, owner: u64, policy: &Policy, claims: Vec<Claim>) -> Result<Vec<String>> {
        let table = Mountinfo::read()?;
        let mut warnings = Vec::new();
        for claim in claims {
            let shown = claim.entry.mountpoint().display();
            let gone = table.state(&claim.entry) == State::Gone;
            match self.find(&claim) {
                Found::Held(held) if held.owner == owner => {}
                Found::Held(_) => warnings.push(others(&claim)),
                Found::Replaced => warnings.push(format!("the mount on {shown} is gone")),
                Found::Unheld if gone => warnings.push(format!("the mount on {shown} is gone")),
                Found::Unheld if !table.is_tenantfs(&claim.entry) => {
                    warnings.push(format!("the mount on {shown} is not one of tenantfs"));
                }
                Found::Unheld if !policy.may_adopt(claim.entry.mountpoint()) => {
                    warnings.push(format!(
                        "the mount on {shown} is where this mounter mounts nothing"
                    ));
                }
                Found::Unheld => self.insert(owner, claim, None),
            }
        }
        Ok(warnings)
    }

    /// Ends the mounts of ours on the entries of `directory` that no connection has: a dead server's. Returns what is
    /// there and is not ours, or cannot be ended.
    pub(super) fn end_leftovers(&self, directory: &Path) -> Result<Vec<String>> {
        let mut failed = HashSet::new();
        let mut warnings = Vec::new();
        loop {
            let table = Mountinfo::read()?;
            let found = table.directly_in(directory);
            let (ours, strangers): (Vec<_>, Vec<_>) =
                found.into_iter().partition(|entry| table.is_tenantfs(entry));
            let leftovers = ours.into_iter().filter(|entry| !self.holds(entry));
            let leftovers: Vec<_> = leftovers
                .filter(|entry| !failed.contains(&entry.identity.number))
                .collect();
            let (on_top, covered): (Vec<_>, Vec<_>) = leftovers
                .into_iter()
                .partition(|entry| table.state(entry) == State::OnTop);
            if on_top.is_empty() {
                let strangers = strangers
                    .iter()
                    .map(|entry| format!("{} has a mount that is not ours", entry.mountpoint().display()));
                warnings.extend(covered.iter().map(covered_by_another));
                warnings.extend(strangers);
                return Ok(warnings);
            }
            for entry in on_top {
                let shown = entry.mountpoint().display();
                match end(&entry, None, true, State::OnTop) {
                    Ok(()) => log::info!("ended the mount on {shown}, which a server left behind"),
                    Err(error) => {
                        failed.insert(entry.identity.number);
                        warnings.push(format!("{shown}: {error}"));
                    }
                }
            }
        }
    }

    /// Ends every mount of `owner`'s.
    pub(super) fn end_all(&mut self, owner: u64) {
        // One look at the list for all of them: it is as long as there are mounts.
        let table = match Mountinfo::read() {
            Ok(table) => table,
            Err(error) => return log::error!("{error}"),
        };
        for (_, held) in self.held.extract_if(|_, held| held.owner == owner) {
            if let Err(error) = held.end(table.state(&held.claim.entry)) {
                log::error!("{error}");
            }
        }
    }

    fn insert(&mut self, owner: u64, claim: Claim, beneath: Option<OwnedFd>) {
        let number = claim.entry.identity.number;
        let held = Held {
            owner,
            claim,
            beneath,
        };
        self.held.insert(number, held);
    }

    fn find(&self, claim: &Claim) -> Found<'_> {
        match self.held.get(&claim.entry.identity.number) {
            Some(held) if held.claim == *claim => Found::Held(held),
            Some(held) if held.claim.entry == claim.entry => Found::Replaced,
            _ => Found::Unheld,
        }
    }

    fn holds(&self, entry: &MountEntry) -> bool {
        let held = self.held.get(&entry.identity.number);
        held.is_some_and(|held| held.claim.entry == *entry)
    }
}

/// Ends a mount, and removes its directory if that was made for it. Unless somebody was first; and unless something else
/// is mounted over it, for that is what the kernel would unmount.
fn end(entry: &MountEntry, beneath: Option<&OwnedFd>, made: bool, state: State) -> Result<()> {
    match state {
        State::Covered => return Err(Error::mount_failed(covered_by_another(entry))),
        State::OnTop => match beneath {
            Some(directory) => kernel::unmount(directory)?,
            None => unmount_by_path(entry)?,
        },
        State::Gone => {}
    }
    if made {
        mountpoint::remove(entry.mountpoint());
    }
    Ok(())
}

/// What became of one mount. The list tells, but it is as long as there are mounts; where that cannot keep us waiting, a
/// look at its place comes first.
fn state(policy: &Policy, entry: &MountEntry) -> Result<State> {
    let on_top = || Identity::at(CWD, entry.mountpoint(), AtFlags::SYMLINK_NOFOLLOW);
    match policy.is_local() && on_top().is_ok_and(|found| found == entry.identity) {
        true => Ok(State::OnTop),
        false => Mountinfo::read().map(|table| table.state(entry)),
    }
}

fn unmount_by_path(entry: &MountEntry) -> Result<()> {
    let path = entry.mountpoint();
    let opening = format!("opening {}", path.display());
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mount = rustix::fs::open(path, flags, Mode::empty()).doing(opening.clone())?;
    let found = Identity::at(&mount, Path::new(""), AtFlags::EMPTY_PATH).doing(opening)?;
    match found == entry.identity {
        true => kernel::unmount(&mount),
        // Something was mounted over it, or it was unmounted, since the list was read.
        false => Err(Error::mount_failed(covered_by_another(entry))),
    }
}

fn covered_by_another(entry: &MountEntry) -> String {
    let (shown, quoted) = (entry.mountpoint().display(), quoted(entry.mountpoint()));
    format!("something else is mounted over {shown}; unmount that, and then run: umount -l {quoted}")
}

fn others(claim: &Claim) -> String {
    let shown = claim.entry.mountpoint().display();
    format!("the mount on {shown} is another server's")
}

fn random() -> Result<u64> {
    let mut bytes = [0; 8];
    rustix::rand::getrandom(&mut bytes, GetRandomFlags::empty()).doing("taking a random number")?;
    Ok(u64::from_ne_bytes(bytes))
}
