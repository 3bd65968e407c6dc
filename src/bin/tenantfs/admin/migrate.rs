//! `tenantfs migrate`.

use std::os::fd::AsFd;

use tenantfs::admin::{self, Ground};
use tenantfs::audit::Record;
use tenantfs::error::{Error, Result};
use tenantfs::escape::plain;
use tenantfs::hosts::hosts;
use tenantfs::volume::Volume;

use super::progress::Progress;
use super::{become_account, checked, confined, found, interrupted, open, tell};
use crate::cli::MigrateArgs;
use crate::config::VolumeSettings;
use crate::{account, say};

/// Says on which hosts users work meanwhile: their sessions go on in the directories that are moved, and no new one begins there
/// until the host knows the new layout.
fn tell_of_hosts(ground: &Ground) {
    match hosts(ground.volume.root()) {
        Ok(hosts) => hosts.iter().for_each(|host| {
            say::note(format!(
                "tenantfs: {} serves {} sessions, which go on; give its daemon the new layout before anybody logs in there again",
                plain(&host.host),
                host.sessions.len()
            ));
        }),
        Err(error) => log::warn!("which hosts serve the volume is not known: {error:#}"),
    }
}

pub(crate) fn migrate(args: MigrateArgs) -> Result<()> {
    if args.from == args.to && args.to_volume.is_none() {
        return Err(Error::config(
            "the volume is to keep the layout that it has; correct --from or --to",
        ));
    }
    let (settings, uid) = (VolumeSettings::alone(args.on)?, account::caller());
    become_account(&settings)?;
    let reason = format!("from {} to {}", args.from, args.to);
    tell(
        &settings,
        &Record {
            reason: &reason,
            ..Record::of("migrate", uid)
        },
    )?;
    let ground = Ground {
        layout: args.from,
        ..open(&settings)?
    };
    tell_of_hosts(&ground);
    let open_target = |path| Volume::open_as(path, "--to-volume");
    let target = args.to_volume.as_deref().map(open_target).transpose()?;
    let handle = target.as_ref().map(|target| target.root().as_fd());
    let ground = confined(ground, true, handle)?;
    let mut progress = Progress::start("migrating")?;
    let done = match &target {
        Some(target) => admin::copy(&checked(ground)?, target, args.to, &mut progress)?,
        None => admin::migrate(&ground, args.to, &mut progress)?,
    };
    progress.finish()?;
    if args.json {
        say::json(&serde_json::json!({ "migrated": done }))?;
    } else {
        eprintln!(
            "{} directories moved as they are, {} files one by one, {} superseded",
            done.directories, done.files, done.superseded
        );
    }
    interrupted(done.complete)?;
    let left = match target {
        Some(_) => ["part was not copied", "parts were not copied"],
        None => [
            "directory was left where it was: until another run has moved it, nobody can log in",
            "directories were left where they were: until another run has moved them, nobody can log in",
        ],
    };
    found(done.left, left)
}
