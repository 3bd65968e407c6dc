//! What systemd is told, and what it keeps for us.
//!
//! The keys of the sessions are in memory files, which systemd holds while the daemon is restarted
//! (sd_pid_notify_with_fds(3), FileDescriptorStoreMax=). Without systemd all of this does nothing.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::AsFd;
use std::time::Duration;

use rustix::fs::{MemfdFlags, SealFlags};
use sd_notify::NotifyState;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::wire::{MAX_REQUEST, key_text};
use crate::auth::ApiKey;
use crate::error::{Doing, Error, Kind, Result};

/// How the names of kept descriptors begin; the uid follows.
pub const NAME_PREFIX: &str = "session-";

/// What a memory file has.
#[derive(Serialize)]
pub(super) struct Keeping<'a> {
    pub(super) uid: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) gid: Option<u32>,
    pub(super) key: &'a str,
}

/// The key of a session, kept over a restart.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kept {
    pub(super) uid: u32,
    /// The group that was asked for, if one was.
    pub(super) gid: Option<u32>,
    #[serde(deserialize_with = "key_text::deserialize")]
    pub(super) key: ApiKey,
}

impl Kept {
    /// Reads what systemd kept.
    ///
    /// # Errors
    /// [`Kind::InvalidArgument`] when it is nothing of ours; the kernel's.
    pub fn read(file: &mut File) -> Result<Self> {
        let doing = "reading a session's key that systemd kept";
        let mut text = Zeroizing::new(Vec::with_capacity(MAX_REQUEST));
        file.seek(SeekFrom::Start(0)).doing(doing)?;
        file.take(MAX_REQUEST as u64)
            .read_to_end(&mut text)
            .doing(doing)?;
        // The parser's message may quote what it found.
        let not_ours = |_| Error::new(Kind::InvalidArgument, "there is no key in it").context(doing);
        serde_json::from_slice(&text).map_err(not_ours)
    }
}

fn name(uid: u32) -> String {
    format!("{NAME_PREFIX}{uid}")
}

/// Has the key of a session kept until [`forget`], in place of the one kept before.
///
/// # Errors
/// The kernel's, and systemd's socket's.
pub(super) fn keep(keeping: &Keeping<'_>) -> Result<()> {
    forget(keeping.uid);
    let name = name(keeping.uid);
    let doing = "keeping the key for a restart";
    let mut text = Zeroizing::new(Vec::with_capacity(MAX_REQUEST));
    serde_json::to_writer(&mut *text, keeping)
        .map_err(std::io::Error::from)
        .doing(doing)?;
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING | MemfdFlags::NOEXEC_SEAL;
    let memory = rustix::fs::memfd_create(name.as_str(), flags).doing(doing)?;
    let mut file = File::from(memory);
    file.write_all(&text).doing(doing)?;
    let all = SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL;
    rustix::fs::fcntl_add_seals(&file, all).doing(doing)?;
    let states = [NotifyState::FdStore, NotifyState::FdName(&name)];
    sd_notify::notify_with_fds(&states, &[file.as_fd()]).doing(doing)
}

/// Has the key of a session kept no longer.
pub(super) fn forget(uid: u32) {
    tell(&[NotifyState::FdStoreRemove, NotifyState::FdName(&name(uid))]);
}

pub(super) fn ready() {
    tell(&[NotifyState::Ready]);
}

pub(super) fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// Whether anybody is told.
pub(super) fn is_there() -> bool {
    std::env::var_os("NOTIFY_SOCKET").is_some()
}

/// What `systemctl status` shows, in one line.
pub(super) fn status(text: &str) {
    tell(&[NotifyState::Status(text)]);
}

/// Says that the event loop goes round, as often as systemd wants to hear it.
pub(super) async fn keep_alive() {
    let Some(deadline) = sd_notify::watchdog_enabled() else {
        return std::future::pending().await;
    };
    let mut ticks = tokio::time::interval((deadline / 3).max(Duration::from_millis(10)));
    loop {
        ticks.tick().await;
        tell(&[NotifyState::Watchdog]);
    }
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        log::warn!("telling systemd: {error}");
    }
}
