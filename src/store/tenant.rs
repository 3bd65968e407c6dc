//! What every directory of a tenant shares.

use std::sync::Arc;

use parking_lot::Mutex;

use super::attributes::{Attributes, NodeKind};
use super::facts::Facts;
use super::marker::Marker;
use super::numbers::Numbers;
use super::options::Options;
use crate::error::{Error, Kind, Result};
use crate::event::{Event, Observer, Op};
use crate::identity::{Principal, UserHash, UserId};
use crate::name::Resource;
use crate::record::{Attached, Lens};
use crate::volume::{Dir, Shown, Stat};

/// Whose data it is, how it is treated, and what is known of it.
pub(super) struct Tenant {
    pub(super) user_id: UserId,
    pub(super) user: UserHash,
    pub(super) full_hash: String,
    pub(super) lens: Lens,
    pub(super) options: Options,
    pub(super) observer: Arc<dyn Observer>,
    pub(super) facts: Mutex<Facts>,
    pub(super) markers: Vec<Marker>,
    /// Every resource, with its directory where there is one.
    pub(super) roots: Vec<(Resource, Option<Arc<Dir>>)>,
    pub(super) numbers: Numbers,
    /// The session's own key, for new records of the resources that get it.
    pub(super) attached: Mutex<Option<Arc<Attached>>>,
}

impl Tenant {
    pub(super) fn new(
        principal: &Principal,
        options: Options,
        observer: Arc<dyn Observer>,
        markers: Vec<Marker>,
        roots: Vec<(Resource, Option<Arc<Dir>>)>,
        numbers: Numbers,
    ) -> Self {
        let user_id = principal.user().clone();
        let sealer = options.keys.as_ref().map(|keys| keys.sealer(&user_id));
        Self {
            user: user_id.hash(),
            full_hash: user_id.full_hash(),
            lens: Lens::new(user_id.clone(), options.secret_fields.clone(), sealer),
            user_id,
            facts: Mutex::new(Facts::new(options.remembered)),
            options,
            observer,
            markers,
            roots,
            numbers,
            attached: Mutex::default(),
        }
    }

    /// # Errors
    /// [`Kind::ReadOnly`].
    pub(super) fn writable(&self) -> Result<()> {
        match self.options.read_only {
            true => Err(Error::new(Kind::ReadOnly, "the session is read-only")),
            false => Ok(()),
        }
    }

    /// Before anything is written: the directories say whose they are.
    ///
    /// # Errors
    /// [`Kind::ReadOnly`]; [`Kind::HashCollision`] when another user was first; the volume's.
    pub(super) fn claim(&self) -> Result<()> {
        self.writable()?;
        self.markers
            .iter()
            .try_for_each(|marker| marker.claim(&self.full_hash))
    }

    /// What the mount says of a file or directory.
    pub(super) fn attributes(&self, stat: &Stat, kind: NodeKind, shown: Shown) -> Attributes {
        Attributes::of(stat, kind, shown.mode, self.numbers.of(stat, kind, shown))
    }

    pub(super) fn observe(&self, event: &Event) {
        self.observer.observe(event);
    }

    /// Tells the observer that `op` was refused for `path`, and why.
    pub(super) fn denied(&self, op: Op, path: String, kind: Kind, reason: impl Into<String>) {
        self.observe(&Event::Denied {
            op,
            path,
            kind,
            reason: reason.into(),
        });
    }
}
