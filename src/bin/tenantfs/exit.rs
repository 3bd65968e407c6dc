//! The exit codes of the commands: the only table of them.

use std::process::ExitCode;

use tenantfs::error::Kind;

/// Of a daemon whose configuration is wrong while systemd keeps the keys of sessions for it. The unit does not give up on this one as it
/// does on 2: systemd would throw the keys away.
pub(crate) const SESSIONS_WAIT: u8 = 7;

/// The code for an error. `sessions_wait` is whether systemd keeps sessions for this process to bring back.
pub(crate) fn code(kind: Kind, sessions_wait: bool) -> ExitCode {
    ExitCode::from(match kind {
        Kind::Config if sessions_wait => SESSIONS_WAIT,
        Kind::Config => 2,
        Kind::AuthenticationRefused | Kind::HashCollision => 3,
        Kind::AuthenticationUnreachable => 4,
        Kind::MountFailed => 5,
        Kind::ProblemsFound => 6,
        _ => 1,
    })
}
