//! Inode numbers: the same after every login as long as a file is unchanged, and telling nothing of the volume's own.

use std::hash::{Hash as _, Hasher as _};
use std::io::Read as _;

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use siphasher::sip::SipHasher13;
use zeroize::Zeroizing;

use super::attributes::NodeKind;
use crate::error::{Doing, Error, Kind, Result};
use crate::identity::UserId;
use crate::volume::{Access, Dir, Durability, Shown, Staged, Stat, Volume};

/// The secret of the volume that makes its numbers, in its root.
const SECRET: &str = ".tenantfs-numbers";

/// How long it is, in bytes.
const SECRET_LEN: usize = 32;

/// What makes the numbers of one user on one volume.
pub(super) struct Numbers {
    keyed: SipHasher13,
}

impl Numbers {
    /// Takes the volume's secret, and makes it first where it is missing. Without one, numbers hold for this session only.
    pub(super) fn open(volume: &Volume, user: &UserId, read_only: bool) -> Self {
        let secret = secret(volume.root(), read_only).unwrap_or_else(|error| {
            log::info!(
                "inode numbers change with every session, for the volume has no secret for them: {error:#}"
            );
            fresh().unwrap_or_default()
        });
        Self {
            keyed: SipHasher13::new_with_key(&key(&secret, user)),
        }
    }

    /// The number of a file. That of a record is its content's: the same as long as nobody else changes that. Any other
    /// file keeps its own whatever is written into it.
    pub(super) fn of(&self, stat: &Stat, kind: NodeKind, shown: Shown) -> u32 {
        let given = shown.number;
        match (kind, given) {
            (NodeKind::Record, Some(given)) if given.is_of(stat) => return given.number,
            (NodeKind::Attachment, Some(given)) => return given.number,
            _ => {}
        }
        let mut keyed = self.keyed;
        (stat.id.ino, stat.born.seconds, stat.born.nanos).hash(&mut keyed);
        if kind == NodeKind::Record {
            (stat.size, stat.mtime.seconds, stat.mtime.nanos).hash(&mut keyed);
        }
        // Half of a hash is as good as all of it.
        (keyed.finish() >> 32) as u32
    }
}

type Secret = Zeroizing<[u8; SECRET_LEN]>;

fn key(secret: &Secret, user: &UserId) -> [u8; 16] {
    let mut key = [0; 16];
    // Any length of key will do for HMAC.
    if let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&**secret) {
        mac.update(b"tenantfs inode numbers v1\0");
        mac.update(user.as_str().as_bytes());
        let code = mac.finalize().into_bytes();
        key.iter_mut().zip(code).for_each(|(byte, from)| *byte = from);
    }
    key
}

fn fresh() -> Result<Secret> {
    let mut secret = Secret::default();
    rustix::rand::getrandom(&mut *secret, rustix::rand::GetRandomFlags::empty())
        .doing("getting random bytes")?;
    Ok(secret)
}

fn secret(root: &Dir, read_only: bool) -> Result<Secret> {
    match read(root) {
        Err(error) if error.kind() == Kind::NotFound && !read_only => {}
        read => return read,
    }
    let mut staged = Staged::new(
        root,
        &Stat {
            mode: 0o600,
            ..root.stat_self()?
        },
    )?;
    staged.write(hex::encode(*fresh()?).as_bytes())?;
    match staged.place_new(SECRET, Durability::Durable) {
        Err(error) if error.kind() != Kind::Exists => Err(error),
        // Ours, or that of a session that was faster.
        _ => read(root),
    }
}

fn read(root: &Dir) -> Result<Secret> {
    let mut text = Zeroizing::new(String::new());
    let file = root.open_file(SECRET, Access::Read)?;
    file.take(2 * SECRET_LEN as u64)
        .read_to_string(&mut text)
        .doing("reading the secret of inode numbers")?;
    let mut secret = Secret::default();
    hex::decode_to_slice(text.as_bytes(), &mut *secret).map_err(|error| {
        Error::new(
            Kind::Io,
            format!("{SECRET} in the volume's root: {error}; remove it"),
        )
    })?;
    Ok(secret)
}
