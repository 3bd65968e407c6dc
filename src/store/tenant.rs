//! What every directory of a tenant shares.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use parking_lot::Mutex;

use super::attributes::{Attributes, NodeKind};
use super::facts::Facts;
use super::judged::Judged;
use super::marker::Marker;
use super::numbers::Numbers;
use super::options::Options;
use super::reserved::{being_erased, erasure_journal};
use crate::clock::Moment;
use crate::error::{Error, Kind, Result};
use crate::event::{Event, Observer, Op};
use crate::identity::{Principal, UserHash, UserId};
use crate::name::Resource;
use crate::quota::Account;
use crate::record::{Attached, Lens};
use crate::volume::{Dir, EarlierOrders, Marks, Shown, Stat};

/// Whose data it is, how it is treated, and what is known of it.
pub(super) struct Tenant {
    pub(super) user_id: UserId,
    pub(super) user: UserHash,
    pub(super) full_hash: String,
    /// What the journal of an erasure of the tenant is called.
    pub(super) erasure: String,
    pub(super) lens: Lens,
    pub(super) options: Options,
    pub(super) observer: Arc<dyn Observer>,
    pub(super) facts: Mutex<Facts>,
    /// What is wrong with drafts, and what removed records have, where they are the tenant's own: the size of the view, and
    /// whether there is a secret.
    pub(super) drafts: Judged<String>,
    pub(super) removed: Judged<Option<(u64, bool)>>,
    pub(super) markers: Vec<Marker>,
    /// Every resource, with its directory where there is one.
    pub(super) roots: Vec<(Resource, Option<Arc<Dir>>)>,
    pub(super) numbers: Numbers,
    /// What operators have ordered, on whatever host.
    pub(super) marks: Arc<Marks>,
    /// When it was seen that the tenant is not being erased.
    pub(super) opened: Moment,
    /// What operators had ordered by then.
    pub(super) earlier_orders: EarlierOrders,
    /// What the user has, in all sessions.
    pub(super) account: Arc<Account>,
    /// The session's own key, for new records of the resources that get it.
    pub(super) attached: Mutex<Option<Arc<Attached>>>,
    /// How many drafts the session has kept.
    pub(super) drafts_kept: AtomicU64,
}

/// What of a tenant is on the volume: see [`Tenant`].
pub(super) struct Parts {
    pub(super) markers: Vec<Marker>,
    pub(super) roots: Vec<(Resource, Option<Arc<Dir>>)>,
    pub(super) numbers: Numbers,
    pub(super) marks: Arc<Marks>,
    pub(super) opened: Moment,
    pub(super) earlier_orders: EarlierOrders,
}

impl Tenant {
    pub(super) fn new(
        principal: &Principal,
        options: Options,
        observer: Arc<dyn Observer>,
        parts: Parts,
        account: Arc<Account>,
    ) -> Self {
        let user_id = principal.user().clone();
        let sealer = options.keys.as_ref().map(|keys| keys.sealer(&user_id));
        Self {
            user: user_id.hash(),
            full_hash: user_id.full_hash(),
            erasure: erasure_journal(&user_id.full_hash()),
            lens: Lens::new(user_id.clone(), options.secret_fields.clone(), sealer),
            user_id,
            facts: Mutex::new(Facts::new(options.remembered)),
            drafts: Judged::default(),
            removed: Judged::default(),
            options,
            observer,
            markers: parts.markers,
            roots: parts.roots,
            numbers: parts.numbers,
            marks: parts.marks,
            opened: parts.opened,
            earlier_orders: parts.earlier_orders,
            account,
            attached: Mutex::default(),
            drafts_kept: AtomicU64::new(0),
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

    /// Before anything is written: the directories say whose they are, and are not being erased.
    ///
    /// An erasure writes its journal, and then locks the markers out; this holds the markers, and then looks for the journal. So
    /// one of both sees the other, where locks reach. Where they do not, the erasure waits until everybody has looked.
    ///
    /// # Errors
    /// [`Kind::ReadOnly`]; [`Kind::Busy`] while it is being erased; [`Kind::HashCollision`] when another user was first; the
    /// volume's.
    pub(super) fn claim(&self) -> Result<()> {
        self.writable()?;
        let is_erased = match self.markers.iter().all(Marker::is_held) {
            true => self.marks.has(&self.erasure)?,
            false => {
                self.markers
                    .iter()
                    .try_for_each(|marker| marker.claim(&self.full_hash))?;
                self.marks.has_now(&self.erasure)?
            }
        };
        match is_erased {
            true => Err(being_erased()),
            false => Ok(()),
        }
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
