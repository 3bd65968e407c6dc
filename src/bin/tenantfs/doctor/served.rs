//! What the server will find, as the account that it runs as.

use std::fs::File;
use std::os::fd::AsFd;

use rustix::fs::{Mode, OFlags, XattrFlags};
use tenantfs::auth::{ApiKey, Authenticator};
use tenantfs::clock;
use tenantfs::error::Kind;
use tenantfs::escape::quoted;
use tenantfs::volume::{self, Volume};

use super::finding::{Finding, explained, look};
use crate::config::{AuthSource, Serving};
use crate::serving as setup;

/// How far the clock may be behind what the volume has from the future, in milliseconds.
const AHEAD: i64 = 2_000;

pub(super) fn volume(serving: &Serving) -> Finding {
    let shown = serving.on.path.display();
    look(
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
            .and_then(|_| match serving.store.read_only {
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
pub(super) fn clock(serving: &Serving) -> Finding {
    let changed = File::open(&serving.on.path)
        .map_err(|error| error.to_string())
        .and_then(|volume| volume::stat(&volume).map_err(|error| error.to_string()));
    look(
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

/// A file that is not in order is an error of the configuration, which was read before.
pub(super) fn sealing(serving: &Serving) -> Finding {
    let found = match &serving.on.keys {
        Some(keys) => format!("secrets are sealed with the key {}", keys.active()),
        None => {
            "no sealing keys are given here: a record cannot be given a secret through the mount".to_owned()
        }
    };
    look("sealing", Ok(found))
}

pub(super) fn authenticator(source: &AuthSource) -> Finding {
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
        AuthSource::Service { url, .. } => setup::authenticator(source)
            .map_err(|error| explained(&error, "correct auth.url"))
            .and_then(|authenticator| ask(url, authenticator.as_ref())),
    };
    look("auth", found)
}

/// A key that nobody has must be refused: then the service is there, and is one.
fn ask(url: &str, authenticator: &dyn Authenticator) -> Result<String, (String, String)> {
    let nobodys = ApiKey::new("tenantfs-doctor-asks-with-a-key-that-nobody-has")
        .map_err(|error| explained(&error, "this is a bug, please report it"))?;
    match setup::run(authenticator.validate(&nobodys)) {
        Err(error) if error.kind() == Kind::AuthenticationRefused => {
            Ok(format!("{url} answers, and refuses a key that nobody has"))
        }
        Err(error) => Err(explained(&error, "start the service, or correct auth.url")),
        Ok(_) => Err((
            format!("{url} accepts a key that nobody has"),
            "correct auth.url: that is no auth service".to_owned(),
        )),
    }
}
