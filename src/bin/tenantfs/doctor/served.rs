//! What the server will find, as the account that it runs as.

use std::fs::File;
use std::os::fd::AsFd;

use rustix::fs::{Mode, OFlags, XattrFlags};
use tenantfs::auth::{ApiKey, Authenticator};
use tenantfs::clock;
use tenantfs::daemon::Check;
use tenantfs::error::Kind;
use tenantfs::escape::quoted;
use tenantfs::seal::SealingKeys;
use tenantfs::store::LayoutMark;
use tenantfs::volume::{self, Volume};

use super::finding::explained;
use crate::config::{AuthSource, KeysFrom, STORED_KEYS, Serving};
use crate::serving as setup;

/// How far the clock may be behind what the volume has from the future, in milliseconds.
const AHEAD: i64 = 2_000;

pub(super) fn volume(serving: &Serving) -> Check {
    let shown = serving.on.path.display();
    Check::of(
        "volume",
        Volume::open(&serving.on.path)
            .map_err(|error| {
                explained(
                    &error,
                    "see the README, \"How the service and the mount share the volume\"",
                )
            })
            .and_then(|_| {
                setup::volume(serving).map_err(|error| {
                    explained(&error, "let the server's account write to it, or use --read-only")
                })
            })
            .and_then(|volume| {
                LayoutMark::check(volume.root(), serving.on.layout, &serving.on.resources)
                    .map_err(|error| explained(&error, "correct volume.layout"))
            })
            .and_then(|()| match serving.store.read_only {
                true => Ok(format!("{shown} can be read")),
                false => keeps_attributes(serving)
                    .map(|()| format!("{shown} can be read and written, and keeps attributes")),
            }),
    )
}

/// Writes a file that never has a name.
fn keeps_attributes(serving: &Serving) -> Result<(), (String, String)> {
    let shown = serving.on.path.display();
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    let file = rustix::fs::open(&serving.on.path, flags, Mode::from_raw_mode(0o600))
        .map(File::from)
        .map_err(|errno| {
            (
                format!("{shown} cannot be written: {errno}"),
                format!("let the server's account write to it, or use --read-only; unnamed files (O_TMPFILE) must be supported: {shown}"),
            )
        })?;
    rustix::fs::fsetxattr(file.as_fd(), "user.tenantfs.mode", b"600", XattrFlags::empty()).map_err(|errno| {
        (
            format!("{shown} keeps no extended attributes: {errno}"),
            "without them chmod in the mount is refused; mount the volume with user_xattr".to_owned(),
        )
    })
}

/// The volume's clock and ours decide together what was remembered too early.
pub(super) fn clock(serving: &Serving) -> Check {
    let changed = File::open(&serving.on.path)
        .map_err(|error| error.to_string())
        .and_then(|volume| volume::stat(&volume).map_err(|error| error.to_string()));
    Check::of(
        "clock",
        match changed {
            Ok(stat) if stat.ctime.millis_since(clock::now()) > AHEAD => Err((
                format!(
                    "the volume was changed {} s in the future",
                    stat.ctime.millis_since(clock::now()) / 1000
                ),
                "set the clocks of this host and of the volume's: timedatectl set-ntp true".to_owned(),
            )),
            Ok(_) => Ok("agrees with the volume's".to_owned()),
            Err(error) => Err((error, "see the line above".to_owned())),
        },
    )
}

/// A file that is not in order is an error of the configuration, which was read before: perhaps by root. Whether a unit could
/// read it, `by_unit` asks.
pub(super) fn sealing(serving: &Serving, by_unit: bool) -> Check {
    let Some(keys) = &serving.on.keys else {
        return Check::of(
            "sealing",
            Ok("there are no sealing keys: a record cannot be given a secret through the mount".to_owned()),
        );
    };
    let named = match &serving.on.keys_from {
        KeysFrom::Named(path) if by_unit => SealingKeys::load(path).err().map(|error| (path, error)),
        _ => None,
    };
    let found = match named {
        Some((path, error)) => Err((
            format!("tenantfs.service reads the sealing keys as its own account, and cannot: {error:#}"),
            format!(
                "mv {} {STORED_KEYS}, chown root, chmod 600: systemd passes them to the units; and take records.sealing_keys out of \
                 the config file",
                quoted(path)
            ),
        )),
        None => Ok(format!(
            "secrets are sealed with the key {}{}",
            keys.active(),
            match &serving.on.keys_from {
                KeysFrom::Named(path) | KeysFrom::Stored(path) => format!(", of {}", path.display()),
                KeysFrom::Credential => ", which systemd passed".to_owned(),
                KeysFrom::Nowhere => String::new(),
            }
        )),
    };
    Check::of("sealing", found)
}

pub(super) fn quota(serving: &Serving) -> Check {
    let found = match (serving.quota.quotas(), serving.quota.file()) {
        (Ok(None), _) => {
            Ok("no user has a quota: one of them can fill the volume; see --quota-bytes".to_owned())
        }
        (Ok(Some(_)), None) => Ok("the same for every user".to_owned()),
        (Ok(Some(_)), Some(path)) => Ok(format!("{} is understood", path.display())),
        (Err(error), _) => Err(explained(
            &error,
            "let the server's account read it: chgrp, chmod 640",
        )),
    };
    Check::of("quota", found)
}

pub(super) fn authenticator(source: &AuthSource) -> Check {
    let found = match source {
        AuthSource::StaticKeys(path) => setup::authenticator(source)
            .map(|_| format!("{} is understood", path.display()))
            .map_err(|error| {
                let mend = format!(
                    "let the server's account read it: chgrp, chmod 640 {}",
                    quoted(path)
                );
                explained(&error, &mend)
            }),
        AuthSource::Service { url, socket, .. } => setup::authenticator(source)
            .map_err(|error| explained(&error, "correct auth.url or auth.service_user"))
            .and_then(|authenticator| ask(url, authenticator.as_ref()))
            .map(|found| match socket {
                // Whose the socket is was checked, and there it ends.
                Some(socket) if url.starts_with("http:") => format!(
                    "{found}; whoever listens at {} is given keys in plain text: where that passes them on, use https",
                    socket.display()
                ),
                _ => found,
            }),
    };
    Check::of("auth", found)
}

/// A key that nobody has must be refused: then the service is there, and is one.
fn ask(url: &str, authenticator: &dyn Authenticator) -> Result<String, (String, String)> {
    let nobodys = ApiKey::new("tenantfs-doctor-asks-with-a-key-that-nobody-has")
        .map_err(|error| explained(&error, "this is a bug, please report it"))?;
    match setup::run(authenticator.validate(&nobodys)) {
        Err(error) if error.kind() == Kind::AuthenticationRefused => {
            Ok(format!("{url} answers, and refuses a key that nobody has"))
        }
        Err(error) => Err(explained(
            &error,
            "start the service, or correct auth.url, auth.socket or auth.service_user",
        )),
        Ok(_) => Err((
            format!("{url} accepts a key that nobody has"),
            "correct auth.url: that is no auth service".to_owned(),
        )),
    }
}
