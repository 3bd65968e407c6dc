//! What the kernel says of a TCP connection's other end, when that is on this host too: sock_diag(7).
//!
//! Three things make a naive look-up wrong, all measured (Linux 6.18; the first differs before 6.17):
//! - A connection that nobody has accepted yet has no owner: older kernels say uid 0, newer ones the listener's.
//! - A closed one has no owner either, and a look-up then finds the *listener* of the port, whoever that is by now.
//! - With TCP_DEFER_ACCEPT, or a full queue, the other end is not there before it has been sent something.
//!
//! So an owner is one only together with an inode: the socket is in some process's hands.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::netlink::{self, SocketAddrNetlink};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, connect, recv, send, socket_with,
};

use crate::error::{Doing, Error, Kind, Result};

const DOING: &str = "asking the kernel whose the other end of a connection is";

/// From linux/netlink.h, linux/sock_diag.h and linux/inet_diag.h.
const NLMSG_ERROR: u16 = 2;
const NLM_F_REQUEST: u16 = 1;
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const HEADER: usize = 16;
const REQUEST: usize = HEADER + 56;

/// From net/tcp_states.h.
const ESTABLISHED: u8 = 1;
const SYN_RECV: u8 = 3;
const LISTEN: u8 = 10;

/// The other end of a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum FarEnd {
    /// A process of this account has accepted it.
    Held(u32),
    /// It waits to be accepted.
    Waiting,
    /// The listener will be told of it when it has been sent something.
    Deferred,
    /// It is on another host or in another network namespace, or closed.
    Absent,
}

/// Asks the kernel about sockets of this network namespace.
pub(super) struct SockDiag(OwnedFd);

impl SockDiag {
    pub(super) fn open() -> Result<Self> {
        let (family, kind) = (AddressFamily::NETLINK, SocketType::DGRAM);
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(family, kind, flags, Some(netlink::SOCK_DIAG)).map_err(|errno| {
            let error = Error::os(errno, DOING);
            match errno {
                Errno::AFNOSUPPORT => error.because("add AF_NETLINK to RestrictAddressFamilies= of the unit"),
                _ => error,
            }
        })?;
        // From now on nobody but the kernel can answer.
        connect(&socket, &SocketAddrNetlink::new(0, 0)).doing(DOING)?;
        Ok(Self(socket))
    }

    /// The other end of the connection between these two.
    pub(super) fn far_end(&self, near: SocketAddr, far: SocketAddr) -> Result<FarEnd> {
        let found = self.look_up(far, near)?;
        // A listener's peer is nobody: it is no end of this connection.
        let found = found.filter(|found| found.peer_port == near.port());
        Ok(match found {
            Some(Found {
                state: ESTABLISHED,
                inode: 0,
                ..
            }) => FarEnd::Waiting,
            Some(Found {
                state: ESTABLISHED,
                uid,
                ..
            }) => FarEnd::Held(uid),
            Some(Found { state: SYN_RECV, .. }) => FarEnd::Deferred,
            _ => FarEnd::Absent,
        })
    }

    /// The account of whoever listens for connections to `at`.
    pub(super) fn listener(&self, at: SocketAddr) -> Result<Option<u32>> {
        let nobody = match at.ip().to_canonical() {
            IpAddr::V4(_) => SocketAddr::from(([0; 4], 0)),
            IpAddr::V6(_) => SocketAddr::from(([0; 16], 0)),
        };
        let found = self.look_up(at, nobody)?;
        Ok(found.filter(|found| found.state == LISTEN).map(|found| found.uid))
    }

    /// The socket at `own` that is connected to `peer`; else the one that listens at `own`.
    fn look_up(&self, own: SocketAddr, peer: SocketAddr) -> Result<Option<Found>> {
        send(&self.0, &request(own, peer), SendFlags::empty()).doing(DOING)?;
        // The kernel answers while it is asked: there is nothing to wait for.
        let mut answer = [0; 512];
        let (_, length) = recv(&self.0, &mut answer[..], RecvFlags::empty()).doing(DOING)?;
        let answer = answer.get(..length).unwrap_or_default();
        match Answer::read(answer) {
            Some(Answer::Found(found)) => Ok(Some(found)),
            Some(Answer::Failed(Errno::NOENT)) => Ok(None),
            Some(Answer::Failed(errno)) => Err(Error::os(errno, DOING)),
            None => Err(Error::new(Kind::Io, "the kernel's answer is not understood").context(DOING)),
        }
    }
}

/// What is told of a socket.
#[derive(PartialEq, Eq, Debug)]
struct Found {
    state: u8,
    peer_port: u16,
    uid: u32,
    /// Of the socket as a file; none that any process has is 0.
    inode: u32,
}

#[derive(PartialEq, Eq, Debug)]
enum Answer {
    Found(Found),
    Failed(Errno),
}

impl Answer {
    /// A `nlmsghdr`, and then a `nlmsgerr` or an `inet_diag_msg`.
    fn read(bytes: &[u8]) -> Option<Self> {
        let word = |at| Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?));
        let kind = u16::from_ne_bytes(*bytes.get(4..)?.first_chunk()?);
        match kind {
            NLMSG_ERROR => {
                let code = word(HEADER)?.cast_signed();
                Some(Self::Failed(Errno::from_raw_os_error(code.checked_neg()?)))
            }
            SOCK_DIAG_BY_FAMILY => Some(Self::Found(Found {
                state: *bytes.get(HEADER + 1)?,
                peer_port: u16::from_be_bytes(*bytes.get(HEADER + 6..)?.first_chunk()?),
                uid: word(HEADER + 64)?,
                inode: word(HEADER + 68)?,
            })),
            _ => None,
        }
    }
}

/// A `nlmsghdr`, and an `inet_diag_req_v2` for exactly one socket.
fn request(own: SocketAddr, peer: SocketAddr) -> Vec<u8> {
    // A v4 connection of a v6 socket is one of v4 in the kernel's tables.
    let (own_ip, peer_ip) = (own.ip().to_canonical(), peer.ip().to_canonical());
    let family = match own_ip {
        IpAddr::V4(_) => AddressFamily::INET,
        IpAddr::V6(_) => AddressFamily::INET6,
    };
    let family = u8::try_from(family.as_raw()).unwrap_or_default();
    let tcp = rustix::net::ipproto::TCP.as_raw().get().to_ne_bytes()[0];
    let mut bytes = Vec::with_capacity(REQUEST);
    bytes.extend((REQUEST as u32).to_ne_bytes());
    bytes.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    bytes.extend(NLM_F_REQUEST.to_ne_bytes());
    bytes.extend([0; 8]);
    bytes.extend([family, tcp, 0, 0]);
    // In whatever state.
    bytes.extend(u32::MAX.to_ne_bytes());
    bytes.extend(own.port().to_be_bytes());
    bytes.extend(peer.port().to_be_bytes());
    bytes.extend(address(own_ip));
    bytes.extend(address(peer_ip));
    // On whatever interface; and no cookie, which would say which socket of several is meant.
    bytes.extend(0u32.to_ne_bytes());
    bytes.extend([u8::MAX; 8]);
    bytes
}

fn address(ip: IpAddr) -> [u8; 16] {
    match ip {
        IpAddr::V6(ip) => ip.octets(),
        IpAddr::V4(ip) => {
            let [a, b, c, d] = ip.octets();
            let mut bytes = [0; 16];
            bytes[..4].copy_from_slice(&[a, b, c, d]);
            bytes
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    fn ends(stream: &TcpStream) -> (SocketAddr, SocketAddr) {
        (stream.local_addr().unwrap(), stream.peer_addr().unwrap())
    }

    #[test]
    fn an_end_has_an_owner_from_when_it_is_accepted_until_it_is_closed() {
        let own = rustix::process::geteuid().as_raw();
        let diag = SockDiag::open().unwrap();
        for (listen, reach) in [
            ("127.0.0.1:0", "127.0.0.1"),
            ("[::1]:0", "::1"),
            ("[::]:0", "127.0.0.1"),
            ("[::]:0", "::ffff:127.0.0.1"),
        ] {
            let listener = TcpListener::bind(listen).unwrap();
            let at = SocketAddr::new(reach.parse().unwrap(), listener.local_addr().unwrap().port());
            let stream = TcpStream::connect(at).unwrap();
            let (near, far) = ends(&stream);
            assert_eq!(diag.far_end(near, far).unwrap(), FarEnd::Waiting, "{listen}");
            assert_eq!(diag.listener(far).unwrap(), Some(own), "{listen}");
            let (accepted, _) = listener.accept().unwrap();
            assert_eq!(diag.far_end(near, far).unwrap(), FarEnd::Held(own), "{listen}");
            drop(accepted);
            // The listener is still there: it is not taken for the other end.
            assert_eq!(diag.far_end(near, far).unwrap(), FarEnd::Absent, "{listen}");
            drop((stream, listener));
            assert_eq!(diag.far_end(near, far).unwrap(), FarEnd::Absent, "{listen}");
            assert_eq!(diag.listener(far).unwrap(), None, "{listen}");
        }
    }

    #[test]
    fn answers_that_are_cut_off_are_no_answers() {
        let mut found = vec![0; HEADER + 72];
        found[4] = 20;
        assert!(Answer::read(&found).is_some());
        for length in 0..HEADER + 72 {
            assert_eq!(Answer::read(&found[..length]), None, "{length}");
        }
        found[4] = 3;
        assert_eq!(Answer::read(&found), None, "another kind");
    }
}
