//! The errno table of the mount (DESIGN.md section 4): total, and the only one.

use fuser::Errno;

use crate::error::Kind;

/// What a program in the mount sees of an error.
pub(super) fn errno(kind: Kind) -> Errno {
    match kind {
        Kind::NotFound => Errno::ENOENT,
        Kind::Exists => Errno::EEXIST,
        Kind::NameTaken => Errno::EIO,
        Kind::NotADirectory => Errno::ENOTDIR,
        Kind::IsADirectory => Errno::EISDIR,
        Kind::DirectoryNotEmpty => Errno::ENOTEMPTY,
        Kind::NotPermitted => Errno::EPERM,
        Kind::AccessDenied => Errno::EACCES,
        Kind::InvalidName
        | Kind::InvalidArgument
        | Kind::InvalidRecord
        | Kind::IncompleteRecord
        | Kind::PlainSecret => Errno::EINVAL,
        Kind::NameTooLong => Errno::ENAMETOOLONG,
        Kind::TooLarge => Errno::EFBIG,
        Kind::NoSpace => Errno::ENOSPC,
        Kind::QuotaExceeded => Errno::EDQUOT,
        Kind::ReadOnly => Errno::EROFS,
        Kind::CrossDevice => Errno::EXDEV,
        Kind::Busy => Errno::EBUSY,
        Kind::TooManyOpen => Errno::ENFILE,
        Kind::OutOfMemory => Errno::ENOMEM,
        Kind::Unsupported => Errno::EOPNOTSUPP,
        Kind::BadHandle => Errno::EBADF,
        Kind::Stale => Errno::ESTALE,
        Kind::NoData => Errno::ENXIO,
        Kind::NotConnected => Errno::ENOTCONN,
        Kind::Io
        | Kind::HashCollision
        | Kind::AuthenticationRefused
        | Kind::AuthenticationUnreachable
        | Kind::Config
        | Kind::MountFailed => Errno::EIO,
    }
}
