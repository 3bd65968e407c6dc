//! What can be wrong with a file of the volume.

use serde::Serialize;

use crate::error::Error;

/// Something on the volume that the operator should look at.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Finding {
    /// What is wrong.
    pub problem: Problem,
    /// Where, from the volume's root on. What is not UTF-8 in it is shown as `�`.
    pub path: String,
    /// In words: what was met, and what to do. Never content, nor a secret.
    pub detail: String,
    /// It is mended.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub repaired: bool,
}

impl Finding {
    /// Something that nobody has mended.
    pub(super) fn new(problem: Problem, path: &str, detail: impl Into<String>) -> Self {
        Self {
            problem,
            path: path.to_owned(),
            detail: detail.into(),
            repaired: false,
        }
    }

    /// What `error` kept from being looked at. Findings are for the operator, who is told everything.
    pub(super) fn unreadable(path: &str, error: &Error) -> Self {
        Self::new(Problem::Unreadable, path, format!("{error:#}"))
    }

    /// Whether there may be more here than was seen: whoever answers for everything has to count it.
    pub(super) fn conceals(&self) -> bool {
        matches!(self.problem, Problem::Unreadable | Problem::Special)
    }
}

/// What is wrong, as a closed set.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Problem {
    /// Not one strict JSON object.
    Malformed,
    /// It says of nobody that it is theirs.
    Ownerless,
    /// It says so of several.
    TwoOwners,
    /// Another user's, who has a file of that name at home: a copy, perhaps a newer one.
    Foreign,
    /// Another user's, whose home has no file of that name.
    Misplaced,
    /// Its owner's hash is this directory's, and the directory is another user's.
    Colliding,
    /// Larger than a record can be.
    Oversized,
    /// A symbolic link, FIFO, socket or device, a mount point, or a directory where none belongs.
    Special,
    /// It has a second name.
    HardLinked,
    /// A name that no mount shows.
    InvalidName,
    /// A temporary file that nobody will finish.
    Temporary,
    /// A kept draft that nobody can open.
    Draft,
    /// The owner marker is not one, or not of a user with this hash.
    Marker,
    /// A secret in plain text.
    PlainSecret,
    /// A sealed secret that no key opens.
    UnopenableSecret,
    /// The account that owns the volume cannot read and write it, or others can write it.
    Permissions,
    /// It could not be looked at.
    Unreadable,
}

impl Problem {
    /// In one word, as in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Ownerless => "ownerless",
            Self::TwoOwners => "two_owners",
            Self::Foreign => "foreign",
            Self::Misplaced => "misplaced",
            Self::Colliding => "colliding",
            Self::Oversized => "oversized",
            Self::Special => "special",
            Self::HardLinked => "hard_linked",
            Self::InvalidName => "invalid_name",
            Self::Temporary => "temporary",
            Self::Draft => "draft",
            Self::Marker => "marker",
            Self::PlainSecret => "plain_secret",
            Self::UnopenableSecret => "unopenable_secret",
            Self::Permissions => "permissions",
            Self::Unreadable => "unreadable",
        }
    }
}
