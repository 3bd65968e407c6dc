//! What a name on the volume leads to, and what was read of it.

use std::sync::Arc;

use zeroize::Zeroizing;

use super::attributes::{Attributes, NodeKind};
use crate::error::{Error, Kind, Result};
use crate::volume::{Shown, Stat};

/// A record as it was at one moment: the bytes that were verified are the bytes that are served.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The record's attributes; their size is the view's.
    pub attributes: Attributes,
    /// The content as the mount shows it.
    pub view: Arc<[u8]>,
}

/// A verified record, with the bytes of the volume for those who write the next one.
pub(super) struct Stored {
    pub(super) stat: Stat,
    pub(super) shown: Shown,
    pub(super) number: u32,
    pub(super) text: Zeroizing<Vec<u8>>,
    pub(super) has_secret: bool,
    pub(super) view: Arc<[u8]>,
}

impl Stored {
    pub(super) fn snapshot(&self) -> Snapshot {
        Snapshot {
            attributes: Attributes::of(&self.stat, NodeKind::Record, self.shown.mode, self.number)
                .with_view(self.view.len() as u64),
            view: Arc::clone(&self.view),
        }
    }
}

/// What an open for reading met.
pub(super) enum Verified {
    Absent,
    /// Not to be shown, and why.
    Unfit(Stat, String),
    /// Not to be shown, for where or when it was read: that is no fact about the file.
    Unread(&'static str),
    Owned(Stored),
}

/// What a name on the volume leads to.
pub(super) enum Found<T> {
    Absent,
    /// Not to be told apart from absent, except by the operator.
    Hidden,
    Visible(T),
}

impl<T> Found<T> {
    pub(super) fn map<U>(self, change: impl FnOnce(T) -> U) -> Found<U> {
        match self {
            Self::Absent => Found::Absent,
            Self::Hidden => Found::Hidden,
            Self::Visible(value) => Found::Visible(change(value)),
        }
    }

    /// For readers: hidden is absent.
    pub(super) fn visible(self) -> Result<T> {
        match self {
            Self::Visible(value) => Ok(value),
            Self::Absent | Self::Hidden => Err(not_found()),
        }
    }
}

/// One error for absent and hidden names.
pub(super) fn not_found() -> Error {
    Error::new(Kind::NotFound, "no such file or directory")
}
