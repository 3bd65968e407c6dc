//! Why a record is not shown.

use std::fmt;

/// Why a stored record is not shown. The mount makes no difference between these and an absent file; the audit log does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Hidden {
    /// It is not one JSON object, or two readers may disagree on whose it is.
    Malformed,
    /// No member names its owner, or the one that should holds no string.
    Ownerless,
    /// Several members name its owner, so that two readers may disagree.
    TwoOwners,
    /// It belongs to someone else.
    Foreign,
}

impl fmt::Display for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed => "malformed",
            Self::Ownerless => "no owner",
            Self::TwoOwners => "two owners",
            Self::Foreign => "another user's",
        })
    }
}
