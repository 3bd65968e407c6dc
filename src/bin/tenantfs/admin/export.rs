//! `tenantfs export`.

use std::thread;

use tenantfs::admin::{self, Exported, Ground};
use tenantfs::error::{Error, Kind, Result};
use tenantfs::identity::UserId;
use tenantfs::session::privilege;

use super::progress::Progress;
use super::target::Place;
use super::{become_account, checked, confined, found, interrupted, open};
use crate::cli::ExportArgs;
use crate::config::VolumeSettings;
use crate::{say, serving};

pub(crate) fn export(args: ExportArgs) -> Result<()> {
    let user = UserId::new(args.user_id)?;
    let settings = VolumeSettings::alone(args.on)?;
    let place = Place::make(&args.to, serving::server_account(&settings)?)?;
    let is_output = matches!(place, Place::Output);
    let done = match place {
        Place::Archive(_) => apart(&settings, &user, &place)?,
        Place::Directory { .. } | Place::Output => {
            become_account(&settings)?;
            write(
                confined(checked(open(&settings)?)?, false, place.directory())?,
                &user,
                &place,
            )?
        }
    };
    // An archive gets its name when it is whole: half a one is none.
    if done.complete {
        place.finish()?;
    }
    let summary = serde_json::json!({ "exported": done });
    match args.json {
        true if is_output => say::note(say::json_text(&summary)?),
        true => say::json(&summary)?,
        false => say::note(format_args!("{} files, {} bytes", done.files, done.bytes)),
    }
    interrupted(done.complete)?;
    found(
        done.left,
        [
            "part was left out; the manifest says why",
            "parts were left out; the manifest says why",
        ],
    )
}

/// Writes an archive on a thread that has become the volume's account and reaches nothing but the volume, to read: the directory that
/// the archive gets its name in may be root's, and whoever gives it one has to be root still, and does nothing else.
fn apart(settings: &VolumeSettings, user: &UserId, place: &Place) -> Result<Exported> {
    serving::arrange_resources();
    let (uid, gid) = serving::server_account(settings)?;
    thread::scope(|scope| {
        let working = scope.spawn(|| {
            privilege::drop_thread_to(uid, gid)?;
            write(confined(checked(open(settings)?)?, false, None)?, user, place)
        });
        let bug = |_| Error::new(Kind::Io, "a panic; this is a bug, please report it");
        working.join().map_err(bug)?
    })
}

fn write(ground: Ground, user: &UserId, place: &Place) -> Result<Exported> {
    let mut target = place.open()?;
    let mut progress = Progress::start("exporting")?.quiet();
    let done = admin::export(&ground, user, &mut *target, &mut progress)?;
    progress.finish()?;
    Ok(done)
}
