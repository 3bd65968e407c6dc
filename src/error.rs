//! The one error of the library: a kind that programs act on, and what people need to act on it.
//!
//! An error says what was being done, where, and why: the operating system's errno, or a sentence. It is written in two
//! ways. `{error}` is for users of the service: it names no path of the volume. `{error:#}` is for the operator: it adds the
//! path, the errno's name and what to do.
//!
//! ```
//! use tenantfs::error::{At, Doing, Kind};
//! use tenantfs::identity::UserId;
//!
//! let error = UserId::new("").unwrap_err();
//! assert_eq!(error.kind(), Kind::Config);
//! assert_eq!(error.to_string(), "the user id is empty");
//!
//! let error = std::fs::read("/absent/key").doing("reading the key").at("/absent/key").unwrap_err();
//! assert_eq!(error.kind(), Kind::NotFound);
//! assert_eq!(error.to_string(), "reading the key: No such file or directory");
//! assert_eq!(format!("{error:#}"), "reading the key (/absent/key): No such file or directory (ENOENT)");
//! ```

use std::borrow::Cow;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use rustix::io::Errno;

use crate::account;

/// The result of everything in this library that can fail.
pub type Result<T> = std::result::Result<T, Error>;

/// What went wrong. The errno table of the mount and the exit codes of the commands are total functions of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
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
    pub const ALL: &'static [Self] = &[
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

    /// The errno table of the mount: it has every kind, and there is no other.
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

/// An error: its [`Kind`], what was being done, where, and why.
///
/// Errors are made on hot paths. Nothing is formatted before somebody reads it; an absent name, which is an answer rather
/// than a failure, costs no allocation at all. Errors never contain record content, keys, or the name of another tenant.
#[derive(Debug, Clone)]
pub struct Error {
    kind: Kind,
    /// What was being done. Empty where the reason alone says enough.
    doing: Cow<'static, str>,
    place: Option<Place>,
    reason: Reason,
    source: Option<Arc<Error>>,
}

/// Where it went wrong: for the operator only.
#[derive(Debug, Clone)]
struct Place {
    directory: Arc<Path>,
    entry: Option<Box<str>>,
}

#[derive(Debug, Clone)]
enum Reason {
    /// The operating system's.
    Errno(Errno),
    /// A sentence of ours; with the errno that led to it, if one did.
    Because(Cow<'static, str>, Option<Errno>),
}

impl Error {
    /// An error of `kind`, with the reason in words.
    pub fn new(kind: Kind, why: impl Into<Cow<'static, str>>) -> Self {
        Self {
            kind,
            doing: Cow::Borrowed(""),
            place: None,
            reason: Reason::Because(why.into(), None),
            source: None,
        }
    }

    /// What was given is wrong: a command line, a configuration, or a file that somebody prepared.
    pub fn config(why: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Kind::Config, why)
    }

    /// Something cannot be mounted or unmounted, for a reason that is not the operating system's, or says more than it.
    pub fn mount_failed(why: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Kind::MountFailed, why)
    }

    /// An error of the operating system, met while `doing` something: `Error::os(errno, "reading the key file")`.
    pub fn os(errno: Errno, doing: impl Into<Cow<'static, str>>) -> Self {
        Self {
            kind: kind_of(errno),
            doing: doing.into(),
            place: None,
            reason: Reason::Errno(errno),
            source: None,
        }
    }

    /// As [`Error::os`], from the standard library's error.
    pub fn io(error: &std::io::Error, doing: impl Into<Cow<'static, str>>) -> Self {
        match Errno::from_io_error(error) {
            Some(errno) => Self::os(errno, doing),
            None => Self {
                doing: doing.into(),
                ..Self::new(Kind::Io, error.to_string())
            },
        }
    }

    /// The same error, met at `path`. Users are not told where that is.
    #[must_use]
    pub fn at(self, path: impl AsRef<Path>) -> Self {
        self.placed(Arc::from(path.as_ref()), None)
    }

    /// The same error, met at the entry of a directory. Does not allocate for a name that is absent.
    #[must_use]
    pub(crate) fn at_entry(self, directory: &Arc<Path>, entry: &str) -> Self {
        let entry = (self.kind != Kind::NotFound && entry != ".").then(|| entry.into());
        self.placed(Arc::clone(directory), entry)
    }

    /// The innermost place stays: it says most.
    fn placed(self, directory: Arc<Path>, entry: Option<Box<str>>) -> Self {
        Self {
            place: self.place.or(Some(Place { directory, entry })),
            ..self
        }
    }

    /// What programs act on.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// What the operating system said, if it was the one who refused.
    pub fn errno(&self) -> Option<i32> {
        match self.reason {
            Reason::Errno(errno) | Reason::Because(_, Some(errno)) => Some(errno.raw_os_error()),
            Reason::Because(_, None) => self.source.as_ref()?.errno(),
        }
    }

    /// Another kind, for callers to whom the same reason means something else.
    #[must_use]
    pub fn as_kind(self, kind: Kind) -> Self {
        Self { kind, ..self }
    }

    /// The same reason in other words, for a caller who knows more of what it means.
    #[must_use]
    pub fn because(self, why: impl Into<Cow<'static, str>>) -> Self {
        let errno = match self.reason {
            Reason::Errno(errno) => Some(errno),
            Reason::Because(_, errno) => errno,
        };
        Self {
            reason: Reason::Because(why.into(), errno),
            ..self
        }
    }

    /// The same kind: this is what went wrong while `doing` something larger.
    #[must_use]
    pub fn context(self, doing: impl fmt::Display) -> Self {
        Self {
            kind: self.kind,
            doing: doing.to_string().into(),
            place: None,
            reason: Reason::Because(Cow::Borrowed(""), None),
            source: Some(Arc::new(self)),
        }
    }

    /// What the operator can do about it, where that follows from the errno alone.
    fn remedy(&self) -> Option<String> {
        let Reason::Errno(errno) = self.reason else {
            return None;
        };
        Some(match errno {
            Errno::ACCESS | Errno::PERM => format!(
                "let {} in: correct its owner or mode",
                account::shown(rustix::process::geteuid().as_raw())
            ),
            Errno::ROFS => "mount the volume writable, or work with --read-only".to_owned(),
            Errno::NOSPC => "make room on its file system".to_owned(),
            Errno::DQUOT => "raise the quota, or make room within it".to_owned(),
            Errno::MFILE | Errno::NFILE => "raise the limit of open files".to_owned(),
            Errno::STALE | Errno::NOTCONN | Errno::IO => {
                "look at its file system and the kernel's log".to_owned()
            }
            _ => return None,
        })
    }
}

/// What was being done when a call failed: `file.sync_all().doing("saving the key")?`.
pub trait Doing<T> {
    /// Names it.
    ///
    /// # Errors
    /// Those of `self`.
    fn doing(self, what: impl Into<Cow<'static, str>>) -> Result<T>;
}

impl<T> Doing<T> for std::result::Result<T, Errno> {
    fn doing(self, what: impl Into<Cow<'static, str>>) -> Result<T> {
        self.map_err(|errno| Error::os(errno, what))
    }
}

impl<T> Doing<T> for std::io::Result<T> {
    fn doing(self, what: impl Into<Cow<'static, str>>) -> Result<T> {
        self.map_err(|error| Error::io(&error, what))
    }
}

/// Where a call failed: `.doing("saving the key").at(path)?`.
pub trait At<T> {
    /// Names it.
    ///
    /// # Errors
    /// Those of `self`.
    fn at(self, path: impl AsRef<Path>) -> Result<T>;
}

impl<T> At<T> for Result<T> {
    fn at(self, path: impl AsRef<Path>) -> Result<T> {
        self.map_err(|error| error.at(path))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let for_operator = f.alternate();
        let mut separator = "";
        if !self.doing.is_empty() {
            f.write_str(&self.doing)?;
            separator = ": ";
        }
        if for_operator && let Some(Place { directory, entry }) = &self.place {
            let space = if separator.is_empty() { "" } else { " " };
            match entry {
                Some(entry) => write!(f, "{space}({})", directory.join(&**entry).display())?,
                None => write!(f, "{space}({})", directory.display())?,
            }
            separator = ": ";
        }
        match &self.reason {
            Reason::Because(why, _) if why.is_empty() => {}
            Reason::Because(why, _) => write!(f, "{separator}{why}")?,
            Reason::Errno(errno) => write!(f, "{separator}{}", described(*errno).desc())?,
        }
        if for_operator {
            if let Reason::Errno(errno) | Reason::Because(_, Some(errno)) = self.reason {
                write!(f, " ({:?})", described(errno))?;
            }
            if let Some(remedy) = self.remedy() {
                write!(f, "; {remedy}")?;
            }
        }
        match &self.source {
            Some(source) if for_operator => write!(f, "{separator}{source:#}"),
            Some(source) => write!(f, "{separator}{source}"),
            None => Ok(()),
        }
    }
}

/// The names and sentences of errnos.
fn described(errno: Errno) -> nix::errno::Errno {
    nix::errno::Errno::from_raw(errno.raw_os_error())
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        let source = self.source.as_deref()?;
        Some(source)
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

    #[test]
    fn users_are_not_told_paths_and_operators_are_told_everything() {
        let error =
            Error::os(Errno::ROFS, "creating a file").at_entry(&Arc::from(Path::new("/vol/a")), "x.json");
        assert_eq!(error.to_string(), "creating a file: Read-only file system");
        let told = format!("{:#}", error.clone().context("saving"));
        assert_eq!(
            told,
            "saving: creating a file (/vol/a/x.json): Read-only file system (EROFS); \
             mount the volume writable, or work with --read-only"
        );
        assert_eq!(error.context("saving").errno(), Some(libc::EROFS));
    }

    #[test]
    fn the_innermost_place_and_the_kind_stay() {
        let error = Error::os(Errno::ACCESS, "opening a directory")
            .at("/vol/a")
            .at("/vol");
        assert!(format!("{error:#}").contains("(/vol/a)"));
        assert_eq!(error.context("erasing").kind(), Kind::AccessDenied);
    }
}
