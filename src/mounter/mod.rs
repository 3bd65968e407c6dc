//! The privileged half: a process of its own that mounts, and nothing else. It has CAP_SYS_ADMIN, no volume, no keys and
//! no network.
//!
//! It trusts no server. Either it is forked for one, with a socket as its standard input, and is told what it may do before that
//! one begins ([`serve`], [`Mounter::spawn`], [`Grant`]); or it is a service of its own, to which servers connect, and mounts below
//! its own directories ([`listen`], [`Mounter::connect`]). The list of what it takes, and the worst that comes of each message, is
//! in `protocol.rs`.
//!
//!  A connection's mounts end when the
//! connection closes, whatever the server died of. They outlive the mounter: the next one that listens is told by each
//! server which mounts are its own, and takes them over.

mod client;
mod complaints;
mod connection;
mod held;
mod kernel;
mod link;
mod listener;
mod mount_id;
mod mountinfo;
mod mountpoint;
mod own_session;
mod path_bytes;
mod patience;
mod peer;
mod policy;
mod privilege;
mod protocol;
mod reach;
mod rights;
mod root;
mod seqpacket;
mod viewer;

pub use client::{Mount, Mounter};
pub use connection::serve;
pub use listener::{Admission, bind, listen};
pub use own_session::own_session;
pub use protocol::{Grant, MountRequest};
pub use viewer::Viewer;
