//! The mounts that the mounter has, and whose they are.

use std::collections::{HashMap, HashSet};
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::AtFlags;
use rustix::process::Resource;
use rustix::rand::GetRandomFlags;

use super::kernel;
use super::mount_id::{self, Identity, MountEntry};
use super::mountinfo::{Mountinfo, State};
use super::policy::Policy;
use super::protocol::{Claim, MountRequest};
use crate::error::{Doing, Error, Result};
use crate::escape::quoted;

/// How many mounts there may be for everybody, and how many more only for root: a host may have 100,000 in all
/// (fs.mount-max), and each needs a descriptor here.
const MAX_MOUNTS: usize = 16_384;
const RESERVED_MOUNTS: usize = 256;

/// Descriptors that are not for mounts: connections, and what a request opens for a moment.
const OTHER_DESCRIPTORS: usize = 256;

/// A connection, as the one that has a mount.
#[derive(Clone, Copy)]
pub(super) struct Owner {
    /// No other connection has or had it.
    pub(super) number: u64,
    /// Whether a process of root's connected.
    pub(super) is_root: bool,
}

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
    /// As the kernel has it now: a directory on the way to it may have another name.
    fn entry(&self) -> MountEntry {
        let entry = &self.claim.entry;
        let moved = self
            .beneath
            .as_ref()
            .and_then(|directory| mount_id::path_of(directory).ok())
            .map(|path| MountEntry::new(entry.identity, path));
        moved.unwrap_or_else(|| entry.clone())
    }

    fn end(&self, policy: &Policy, entry: &MountEntry, state: State) -> Result<()> {
        end(policy, entry, self.beneath.as_ref(), self.claim.made, state)
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
    pub(super) fn mount(&mut self, owner: Owner, policy: &Policy, request: &MountRequest) -> Result<Mounted> {
        self.has_room(owner)?;
        let mountpoint = policy.spot(request)?.prepare(request.make)?;
        let serial = random()?;
        let mounted = kernel::mount(request, &mountpoint.directory).inspect_err(|_| {
            if request.make {
                remove(policy, &request.mountpoint);
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
        let beneath = (!mountpoint.is_automount).then_some(mountpoint.directory);
        self.insert(owner, claim.clone(), beneath);
        Ok(Mounted {
            claim,
            connection: mounted.connection,
            warnings: mountpoint.warnings,
        })
    }

    fn has_room(&self, owner: Owner) -> Result<()> {
        let descriptors = rustix::process::getrlimit(Resource::Nofile).current;
        let descriptors = descriptors.map_or(usize::MAX, |all| usize::try_from(all).unwrap_or(usize::MAX));
        let all = (MAX_MOUNTS + RESERVED_MOUNTS).min(descriptors.saturating_sub(OTHER_DESCRIPTORS));
        let own = match owner.is_root {
            true => all,
            false => all.saturating_sub(RESERVED_MOUNTS),
        };
        match self.held.len() < own {
            true => Ok(()),
            false => Err(Error::mount_failed(format!(
                "the mounter has {own} mounts, and no more may be made for this account"
            ))),
        }
    }

    /// Ends a mount of `owner`'s. One that is gone is no failure; one that cannot be ended is still `owner`'s.
    pub(super) fn unmount(&mut self, owner: Owner, policy: &Policy, claim: &Claim) -> Result<()> {
        match self.find(claim) {
            Found::Held(held) if held.owner == owner.number => {
                let entry = held.entry();
                held.end(policy, &entry, state(policy, &entry)?)?;
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
    pub(super) fn adopt(&mut self, owner: Owner, policy: &Policy, claims: Vec<Claim>) -> Result<Vec<String>> {
        let table = Mountinfo::read()?;
        let mut warnings = Vec::new();
        for claim in claims {
            let shown = claim.entry.mountpoint().display();
            let gone = table.state(&claim.entry) == State::Gone;
            match self.find(&claim) {
                Found::Held(held) if held.owner == owner.number => {}
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
    pub(super) fn end_leftovers(&self, policy: &Policy, directory: &Path) -> Result<Vec<String>> {
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
                match end(policy, &entry, None, true, State::OnTop) {
                    Ok(()) => log::info!("ended the mount on {shown}, which a server left behind"),
                    Err(error) => {
                        failed.insert(entry.identity.number);
                        warnings.push(format!("{shown}: {error}"));
                    }
                }
            }
        }
    }

    /// The mounts of `owner`'s.
    pub(super) fn of(&self, owner: Owner) -> Vec<u64> {
        let held = self.held.iter();
        let own = held.filter(|(_, held)| held.owner == owner.number);
        own.map(|(number, _)| *number).collect()
    }

    /// Ends a mount of `owner`'s, who is gone.
    pub(super) fn end(&mut self, owner: Owner, policy: &Policy, number: u64) {
        let own = |held: &Held| held.owner == owner.number;
        if !self.held.get(&number).is_some_and(own) {
            return;
        }
        let Some(held) = self.held.remove(&number) else {
            return;
        };
        let entry = held.entry();
        if let Err(error) = state(policy, &entry).and_then(|state| held.end(policy, &entry, state)) {
            log::error!("{error}");
        }
    }

    fn insert(&mut self, owner: Owner, claim: Claim, beneath: Option<OwnedFd>) {
        let number = claim.entry.identity.number;
        let held = Held {
            owner: owner.number,
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
fn end(
    policy: &Policy,
    entry: &MountEntry,
    beneath: Option<&OwnedFd>,
    made: bool,
    state: State,
) -> Result<()> {
    match state {
        State::Covered => return Err(Error::mount_failed(covered_by_another(entry))),
        State::OnTop => match beneath {
            Some(directory) => kernel::unmount(directory)?,
            None => unmount_by_name(policy, entry)?,
        },
        State::Gone => {}
    }
    if made {
        remove(policy, entry.mountpoint());
    }
    Ok(())
}

/// Removes a directory that was made for a mount, where this mounter makes any.
fn remove(policy: &Policy, mountpoint: &Path) {
    match policy.place(mountpoint) {
        Ok(place) => place.remove(),
        Err(error) => log::debug!("the directory {} stays: {error}", mountpoint.display()),
    }
}

/// What became of one mount. The list tells, but it is as long as there are mounts; where the way there is root's alone, and
/// cannot keep us waiting, a look at its place comes first.
fn state(policy: &Policy, entry: &MountEntry) -> Result<State> {
    let on_top = policy
        .place(entry.mountpoint())
        .ok()
        .and_then(|place| place.on_top().ok());
    match on_top == Some(entry.identity) {
        true => Ok(State::OnTop),
        false => Mountinfo::read().map(|table| table.state(entry)),
    }
}

fn unmount_by_name(policy: &Policy, entry: &MountEntry) -> Result<()> {
    let opening = format!("opening {}", entry.mountpoint().display());
    let place = policy.place(entry.mountpoint())?;
    let mount = place.open_on_top().doing(opening.clone())?;
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
