//! The exit codes of the commands: the only table of them.

use std::process::ExitCode;

use tenantfs::error::Kind;

/// The code for an error. Usage errors of the command line are 2 already.
pub(crate) fn code(kind: Kind) -> ExitCode {
    ExitCode::from(match kind {
        Kind::Config => 2,
        Kind::AuthenticationRefused | Kind::HashCollision => 3,
        Kind::AuthenticationUnreachable => 4,
        Kind::MountFailed => 5,
        Kind::ProblemsFound => 6,
        _ => 1,
    })
}
