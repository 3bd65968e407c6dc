//! How much one user may hold at a time, in all sessions together.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use crate::budget::{Charge, Pool, Share};
use crate::error::{Error, Kind, Result};
use crate::identity::UserId;

/// The most files and directories that one user may have open.
const MAX_HANDLES: u64 = 1 << 15;

/// What a user's drafts, open records and listings may take together, in bytes: sixteen of the largest records.
const MAX_MEMORY: u64 = 256 << 20;

/// How many inodes the kernel may know of one user's views: each takes up to 1.3 KiB here.
const MAX_INODES: u64 = 1 << 18;

/// How many it may know of all that users share, and of everybody's whatever it knows of others'.
const INODES: u64 = 1 << 20;
const FLOOR_INODES: u64 = 1 << 13;

/// How many files every user may have open, whatever others have.
const FLOOR_HANDLES: u64 = 64;

/// What a listing takes that every user may have, whatever others have, in bytes: of some 40,000 entries.
const FLOOR_LISTING: u64 = 4 << 20;

/// How many descriptors a session takes for itself, at most: the connection and what its threads have of it, the directories
/// that it is confined to, notification, and what it keeps for its end.
const SESSION_DESCRIPTORS: u64 = 32;

/// The shares of one user.
#[derive(Debug)]
struct UserShares {
    handles: Arc<Share>,
    memory: Arc<Share>,
    inodes: Arc<Share>,
    sessions: Mutex<usize>,
}

/// One session's part in its user's shares.
#[derive(Clone, Debug)]
pub struct Limits {
    user: Arc<UserShares>,
    _seat: Arc<Seat>,
}

/// One of the sessions that a user may have at a time.
#[derive(Debug)]
struct Seat(Arc<UserShares>);

impl Drop for Seat {
    fn drop(&mut self) {
        *self.0.sessions.lock() -= 1;
    }
}

/// How much there is for the sessions of one process.
#[derive(Clone, Debug)]
pub struct Capacity {
    /// Open files and directories that users share.
    pub handles: u64,
    /// Bytes that users share for drafts, open records and listings.
    pub memory: u64,
    /// Inodes that the kernel may know, beyond what it may know of every user's.
    pub inodes: u64,
    /// Of open files that much more for every user, whatever others have.
    pub floor_handles: u64,
    /// The same, of inodes.
    pub floor_inodes: u64,
    /// The same, in bytes.
    pub floor_memory: u64,
    /// How many users there may be at a time.
    pub users: u64,
    /// How many sessions one user may have at a time.
    pub sessions_per_user: usize,
}

impl Capacity {
    /// Of a process that may have so many descriptors, and is to hold so many bytes of memory beyond what every user may hold
    /// in any case: two records of `max_record` bytes, and a listing.
    ///
    /// Users share half of the descriptors. A quarter is for what every session needs, and every user may have open in any
    /// case. The last quarter is the process's own.
    pub fn of_process(descriptors: u64, memory: u64, max_record: u64, sessions_per_user: usize) -> Self {
        Self {
            handles: descriptors / 2,
            memory,
            inodes: INODES,
            floor_handles: FLOOR_HANDLES,
            floor_inodes: FLOOR_INODES,
            floor_memory: max_record.saturating_mul(2).saturating_add(FLOOR_LISTING),
            users: descriptors / 4 / (FLOOR_HANDLES + SESSION_DESCRIPTORS),
            sessions_per_user,
        }
    }

    /// Only what is shared, by as many as come.
    pub fn shared(handles: u64, memory: u64) -> Self {
        Self {
            handles,
            memory,
            inodes: INODES,
            floor_handles: 0,
            floor_inodes: 0,
            floor_memory: 0,
            users: u64::MAX,
            sessions_per_user: usize::MAX,
        }
    }
}

/// What the sessions of one process share.
#[derive(Clone, Debug)]
pub struct Pools {
    handles: Arc<Pool>,
    memory: Arc<Pool>,
    inodes: Arc<Pool>,
    capacity: Capacity,
    users: Arc<Mutex<HashMap<UserId, Weak<UserShares>>>>,
}

impl Pools {
    /// Nothing is taken of it.
    pub fn new(capacity: Capacity) -> Self {
        Self {
            handles: Pool::new(capacity.handles),
            memory: Pool::new(capacity.memory),
            inodes: Pool::new(capacity.inodes),
            capacity,
            users: Arc::default(),
        }
    }

    /// For the only session of a process: there is nobody to share with.
    pub fn alone() -> Self {
        let twice = |most: u64| most.saturating_mul(2);
        Self::new(Capacity::shared(twice(MAX_HANDLES), twice(MAX_MEMORY)))
    }

    /// How many files and directories are open.
    pub fn open(&self) -> u64 {
        self.handles.used()
    }

    /// How much memory drafts, open records and listings take, in bytes.
    pub fn held(&self) -> u64 {
        self.memory.used()
    }

    /// Another session of `user`.
    ///
    /// # Errors
    /// [`Kind::Busy`] when the user has as many sessions as one may, or the process as many users as its descriptors are
    /// enough for.
    pub fn limits(&self, user: &UserId) -> Result<Limits> {
        let mut users = self.users.lock();
        users.retain(|_, shares| shares.strong_count() > 0);
        let shares = match users.get(user).and_then(Weak::upgrade) {
            Some(shares) => shares,
            None if users.len() as u64 >= self.capacity.users => {
                return Err(Error::new(
                    Kind::Busy,
                    "as many users are logged in on this host as the server's descriptors are enough for: see LimitNOFILE=",
                ));
            }
            None => {
                let shares = Arc::new(self.shares());
                users.insert(user.clone(), Arc::downgrade(&shares));
                shares
            }
        };
        let mut sessions = shares.sessions.lock();
        if *sessions >= self.capacity.sessions_per_user {
            let why = format!(
                "you have {sessions} sessions on this host, under other accounts, and may have no more: log out of one"
            );
            return Err(Error::new(Kind::Busy, why));
        }
        *sessions += 1;
        drop(sessions);
        Ok(Limits {
            _seat: Arc::new(Seat(Arc::clone(&shares))),
            user: shares,
        })
    }

    fn shares(&self) -> UserShares {
        UserShares {
            handles: self
                .handles
                .share_with_floor(MAX_HANDLES, self.capacity.floor_handles),
            memory: self
                .memory
                .share_with_floor(MAX_MEMORY, self.capacity.floor_memory),
            inodes: self
                .inodes
                .share_with_floor(MAX_INODES, self.capacity.floor_inodes),
            sessions: Mutex::new(0),
        }
    }
}

impl Limits {
    /// The right to have one more file or directory open.
    ///
    /// # Errors
    /// [`Kind::TooManyOpen`].
    pub(super) fn handle(&self) -> Result<Charge> {
        let slot = self.user.handles.take(1);
        slot.ok_or_else(|| Error::new(Kind::TooManyOpen, "you have too many files open"))
    }

    /// Memory for what is read.
    ///
    /// # Errors
    /// [`Kind::OutOfMemory`].
    pub(super) fn hold(&self, bytes: u64) -> Result<Charge> {
        let memory = self.user.memory.take(bytes);
        memory.ok_or_else(|| {
            Error::new(
                Kind::OutOfMemory,
                "your open records take all the memory they may",
            )
        })
    }

    /// Memory for what is there already, counted even where that is more than may be had.
    pub(super) fn hold_counted(&self, bytes: u64) -> Charge {
        self.user.memory.count(bytes)
    }

    /// What the inodes are charged to that the kernel knows.
    pub(super) fn inodes(&self) -> Charge {
        self.user.inodes.count(0)
    }

    /// Where drafts take their memory.
    pub(super) fn memory(&self) -> &Arc<Share> {
        &self.user.memory
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(name: &str) -> UserId {
        UserId::new(name).unwrap()
    }

    fn take_all(limits: &Limits) -> Vec<Charge> {
        std::iter::from_fn(|| limits.handle().ok()).collect()
    }

    #[test]
    fn one_who_comes_with_many_sessions_has_one_share_and_everybody_a_floor() {
        let pools = Pools::new(Capacity::of_process(2000, 1 << 30, 1 << 20, 4));
        let alices: Vec<_> = (0..4).map(|_| pools.limits(&user("alice")).unwrap()).collect();
        let taken: Vec<_> = alices.iter().map(take_all).collect();
        assert_eq!(
            taken.iter().map(Vec::len).sum::<usize>(),
            500 + FLOOR_HANDLES as usize
        );
        let one_more = pools.limits(&user("alice")).unwrap_err();
        assert_eq!(one_more.kind(), Kind::Busy);
        let others = ["bob", "carol", "dave"].map(|name| pools.limits(&user(name)).unwrap());
        let flood: Vec<_> = others.iter().map(take_all).collect();
        assert!(flood.iter().all(|taken| taken.len() >= FLOOR_HANDLES as usize));
        drop(alices);
        assert!(pools.limits(&user("alice")).is_ok(), "once she has logged out");
    }

    #[test]
    fn there_are_no_more_users_than_there_are_descriptors_for() {
        let pools = Pools::new(Capacity::of_process(1000, 1 << 30, 1 << 20, 4));
        let first = [
            pools.limits(&user("a")).unwrap(),
            pools.limits(&user("b")).unwrap(),
        ];
        assert_eq!(pools.limits(&user("c")).unwrap_err().kind(), Kind::Busy);
        assert!(
            pools.limits(&user("a")).is_ok(),
            "who is there may have another session"
        );
        drop(first);
        assert!(pools.limits(&user("c")).is_ok());
    }
}
