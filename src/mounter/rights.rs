//! Descriptors that a server passes, which nobody wants.
//!
//! Even one that is not taken is closed by this process, as the last that has it: a socket that lingers, or one with such a socket in
//! it, keeps the thread that does so waiting for as long as whoever made it likes. So the kernel is told not to let any through.

use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::SetBool;

/// `SO_PASSRIGHTS` of `asm-generic/socket.h`, since Linux 6.16.
const SO_PASSRIGHTS: libc::c_int = 83;

/// Whether a socket takes descriptors; whoever sends some to one that does not, gets EPERM.
#[derive(Clone, Copy, Debug)]
struct PassRights;

nix::setsockopt_impl!(PassRights, libc::SOL_SOCKET, SO_PASSRIGHTS, bool, SetBool);

/// Has `socket` take no descriptors, nor those that connect to it if it listens. An older kernel does not know how: what lingers then
/// delays its own connection.
pub(super) fn refuse(socket: &impl AsFd) {
    match setsockopt(socket, PassRights, &false) {
        Ok(()) => {}
        Err(Errno::ENOPROTOOPT) => log::debug!("this kernel cannot refuse descriptors on a socket"),
        Err(errno) => log::warn!("refusing descriptors on a socket: {errno}"),
    }
}
