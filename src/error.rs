//! The one error of the library: a closed kind that programs act on, and a sentence that people act on.
//!
//! ```
//! use tenantfs::error::Kind;
//! use tenantfs::identity::UserId;
//!
//! let error = UserId::new("").unwrap_err();
//! assert_eq!(error.kind(), Kind::Config);
//! assert_eq!(error.to_string(), "the user id is empty");
//! ```

use std::borrow::Cow;
use std::fmt;

use rustix::io::Errno;

/// The result of everything in this library that can fail.
pub type Result<T> = std::result::Result<T, Error>;

/// What went wrong, as a closed set: the errno table of the mount and the exit codes of the commands are total
/// functions of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)] // The names are the documentation, but for the ones below.
pub enum Kind {
    /// Absent, or hidden: the two are never told apart outside the audit log.
    NotFound,
    Exists,
    /// A name is taken by something its user may not see.
    NameTaken,
    NotADirectory,
    IsADirectory,
    DirectoryNotEmpty,
    /// The mount refuses this to everybody (symlinks, set-id bits, our own names).
    NotPermitted,
    AccessDenied,
    /// A name with control characters, invalid UTF-8 or a slash.
    InvalidName,
    NameTooLong,
    InvalidArgument,
    /// The text is not one JSON object that may become a record.
    InvalidRecord,
    /// The text is the beginning of a JSON object: more bytes could complete it.
    IncompleteRecord,
    /// The text carries a secret in plain, and there are no sealing keys.
    PlainSecret,
    TooLarge,
    NoSpace,
    QuotaExceeded,
    ReadOnly,
    CrossDevice,
    Busy,
    TooManyOpen,
    OutOfMemory,
    Unsupported,
    BadHandle,
    /// The backing file is not the one that was looked up; somebody replaced it meanwhile.
    Stale,
    NoData,
    /// The session has ended.
    NotConnected,
    /// Two user ids share the 64 bits that name their directory.
    HashCollision,
    AuthenticationRefused,
    AuthenticationUnreachable,
    Config,
    MountFailed,
    /// What was looked at is not as it should be.
    ProblemsFound,
    Io,
}

/// What a program in the mount sees of an error, by number and by name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ErrnoName {
    /// As in `errno.h` of this platform.
    pub number: i32,
    /// `ENOENT` and the like.
    pub name: &'static str,
}

impl Kind {
    /// Every kind, in order.
    pub const ALL: [Self; 34] = [
        Self::NotFound,
        Self::Exists,
        Self::NameTaken,
        Self::NotADirectory,
        Self::IsADirectory,
        Self::DirectoryNotEmpty,
        Self::NotPermitted,
        Self::AccessDenied,
        Self::InvalidName,
        Self::NameTooLong,
        Self::InvalidArgument,
        Self::InvalidRecord,
        Self::IncompleteRecord,
        Self::PlainSecret,
        Self::TooLarge,
        Self::NoSpace,
        Self::QuotaExceeded,
        Self::ReadOnly,
        Self::CrossDevice,
        Self::Busy,
        Self::TooManyOpen,
        Self::OutOfMemory,
        Self::Unsupported,
        Self::BadHandle,
        Self::Stale,
        Self::NoData,
        Self::NotConnected,
        Self::HashCollision,
        Self::AuthenticationRefused,
        Self::AuthenticationUnreachable,
        Self::Config,
        Self::MountFailed,
        Self::ProblemsFound,
        Self::Io,
    ];

    /// The errno table of the mount (DESIGN.md section 4): total, and the only one.
    pub fn errno(self) -> ErrnoName {
        macro_rules! errno {
            ($name:ident) => {
                ErrnoName {
                    number: libc::$name,
                    name: stringify!($name),
                }
            };
        }
        match self {
            Self::NotFound => errno!(ENOENT),
            Self::Exists => errno!(EEXIST),
            Self::NameTaken => errno!(EIO),
            Self::NotADirectory => errno!(ENOTDIR),
            Self::IsADirectory => errno!(EISDIR),
            Self::DirectoryNotEmpty => errno!(ENOTEMPTY),
            Self::NotPermitted => errno!(EPERM),
            Self::AccessDenied | Self::AuthenticationRefused => errno!(EACCES),
            Self::InvalidName
            | Self::InvalidArgument
            | Self::InvalidRecord
            | Self::IncompleteRecord
            | Self::PlainSecret => errno!(EINVAL),
            Self::NameTooLong => errno!(ENAMETOOLONG),
            Self::TooLarge => errno!(EFBIG),
            Self::NoSpace => errno!(ENOSPC),
            Self::QuotaExceeded => errno!(EDQUOT),
            Self::ReadOnly => errno!(EROFS),
            Self::CrossDevice => errno!(EXDEV),
            Self::Busy => errno!(EBUSY),
            Self::TooManyOpen => errno!(ENFILE),
            Self::OutOfMemory => errno!(ENOMEM),
            Self::Unsupported => errno!(EOPNOTSUPP),
            Self::BadHandle => errno!(EBADF),
            Self::Stale => errno!(ESTALE),
            Self::NoData => errno!(ENXIO),
            Self::NotConnected => errno!(ENOTCONN),
            Self::Io
            | Self::HashCollision
            | Self::AuthenticationUnreachable
            | Self::Config
            | Self::MountFailed
            | Self::ProblemsFound => errno!(EIO),
        }
    }
}

/// An error: its [`Kind`], and a message that says what was wrong, where, and what to do.
///
/// Messages never contain record content, keys, or the name of another tenant.
#[derive(Debug, Clone)]
pub struct Error {
    kind: Kind,
    message: Cow<'static, str>,
}

impl Error {
    /// An error of `kind` with a message for people.
    pub fn new(kind: Kind, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            kind,
            message: message.into(),
        }
    }

    /// An error of the operating system, with what was being done: `Error::os(errno, "reading the key file")`.
    pub fn os(errno: impl Into<Errno>, doing: impl fmt::Display) -> Self {
        let errno = errno.into();
        Self::new(kind_of(errno), format!("{doing}: {errno}"))
    }

    /// As [`Error::os`], from the standard library's error.
    pub fn io(error: &std::io::Error, doing: impl fmt::Display) -> Self {
        let kind = Errno::from_io_error(error).map_or(Kind::Io, kind_of);
        Self::new(kind, format!("{doing}: {error}"))
    }

    /// What programs act on.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The same kind, with what was being done in front of the message.
    #[must_use]
    pub fn context(self, doing: impl fmt::Display) -> Self {
        Self::new(self.kind, format!("{doing}: {}", self.message))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

/// On the hot path: the kind without an allocation.
impl From<Errno> for Error {
    fn from(errno: Errno) -> Self {
        let kind = kind_of(errno);
        match kind {
            Kind::Io => Self::os(errno, "volume"),
            _ => Self::new(kind, "volume operation failed"),
        }
    }
}

fn kind_of(errno: Errno) -> Kind {
    match errno {
        Errno::NOENT => Kind::NotFound,
        Errno::EXIST => Kind::Exists,
        Errno::NOTDIR => Kind::NotADirectory,
        Errno::ISDIR => Kind::IsADirectory,
        Errno::NOTEMPTY => Kind::DirectoryNotEmpty,
        Errno::PERM => Kind::NotPermitted,
        Errno::ACCESS => Kind::AccessDenied,
        Errno::NAMETOOLONG => Kind::NameTooLong,
        Errno::INVAL => Kind::InvalidArgument,
        Errno::FBIG => Kind::TooLarge,
        Errno::NOSPC => Kind::NoSpace,
        Errno::DQUOT => Kind::QuotaExceeded,
        Errno::ROFS => Kind::ReadOnly,
        // openat2 says XDEV for a mount point below us; every other resolution it forbids is LOOP.
        Errno::XDEV => Kind::CrossDevice,
        Errno::LOOP => Kind::NotFound,
        Errno::BUSY => Kind::Busy,
        Errno::MFILE | Errno::NFILE => Kind::TooManyOpen,
        Errno::NOMEM => Kind::OutOfMemory,
        Errno::OPNOTSUPP | Errno::NOSYS => Kind::Unsupported,
        Errno::BADF => Kind::BadHandle,
        Errno::STALE => Kind::Stale,
        Errno::NXIO => Kind::NoData,
        _ => Kind::Io,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_listed_at_its_own_place() {
        for (index, kind) in Kind::ALL.iter().enumerate() {
            assert_eq!(*kind as usize, index, "{kind:?}");
        }
        assert_eq!(Kind::ALL.len(), Kind::Io as usize + 1, "Io is the last one");
    }
}
