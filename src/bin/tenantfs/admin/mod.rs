//! The operator's commands on a whole volume.

mod archive;
mod erase;
mod export;
mod list;
mod migrate;
mod progress;
mod target;
mod unfinished;
pub(crate) mod way_back;

use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Once;

use rustix::fs::Mode;
use tenantfs::admin::{self, Ground, Reseal};
use tenantfs::audit::{self, Record};
use tenantfs::error::{Doing, Error, Kind, Result};
use tenantfs::escape;
use tenantfs::identity::UserId;
use tenantfs::name::{EntryName, Resource};
use tenantfs::session::confine::{Confinement, Reach, confine};
use tenantfs::session::privilege;
use tenantfs::store::LayoutMark;
use tenantfs::volume::Volume;

use crate::cli::{ResealArgs, UnsealArgs, VerifyArgs, VolumeArgs};
use crate::config::VolumeSettings;
use crate::{account, say, serving};
pub(crate) use erase::erase;
pub(crate) use export::export;
pub(crate) use list::list;
pub(crate) use migrate::migrate;
use progress::Progress;

pub(crate) fn verify(args: VerifyArgs) -> Result<()> {
    let (settings, uid) = (VolumeSettings::alone(args.on)?, account::caller());
    become_account(&settings)?;
    let seen = if args.repair {
        // Not confined: each repair has its line in the audit log.
        let ground = checked(open(&settings)?)?;
        tell(&settings, &Record::of("verify --repair", uid))?;
        let mut progress = Progress::start("verifying")?.telling(|finding| {
            let record = Record {
                path: &finding.path,
                reason: &finding.detail,
                ..Record::of("repair", uid)
            };
            tell(&settings, &record)
        });
        let seen = admin::verify(&ground, true, &mut progress)?;
        progress.finish()?;
        seen
    } else {
        let ground = confined(checked(open(&settings)?)?, false, None)?;
        let mut progress = Progress::start("verifying")?;
        let seen = admin::verify(&ground, false, &mut progress)?;
        progress.finish()?;
        seen
    };
    let problems: u64 = seen.problems.values().sum();
    if args.json {
        say::json(&serde_json::json!({ "verified": seen }))?;
    } else {
        eprintln!(
            "{} records, {} other files, {} drafts; {} secrets sealed ({} by older keys), {} in plain text",
            seen.records,
            seen.attachments,
            seen.drafts,
            seen.sealed,
            seen.sealed_by_older_keys,
            seen.plain_secrets
        );
        if seen.repaired > 0 {
            eprintln!("{:>9} repaired", seen.repaired);
        }
        for (problem, count) in &seen.problems {
            eprintln!("{:>9} {}", count, problem.as_str());
        }
    }
    interrupted(seen.complete)?;
    found(problems, ["problem was found", "problems were found"])
}

pub(crate) fn reseal(args: ResealArgs) -> Result<()> {
    let what = Reseal {
        adopt_plain: args.adopt_plain,
    };
    let (settings, uid) = (VolumeSettings::alone(args.on)?, account::caller());
    become_account(&settings)?;
    tell(
        &settings,
        &Record {
            op: "reseal",
            user: None,
            uid,
            path: "",
            outcome: Ok(()),
            reason: if what.adopt_plain { "plain text too" } else { "" },
        },
    )?;
    let ground = confined(checked(open(&settings)?)?, true, None)?;
    let mut progress = Progress::start("sealing anew")?;
    let done = admin::reseal(&ground, what, &mut progress)?;
    progress.finish()?;
    if args.json {
        say::json(&serde_json::json!({ "resealed": done }))?;
    } else {
        eprintln!(
            "{} records and drafts, of which {} were sealed anew",
            done.looked_at, done.resealed
        );
    }
    interrupted(done.complete)?;
    found(
        done.left,
        ["file was left as it was", "files were left as they were"],
    )
}

pub(crate) fn unseal(args: UnsealArgs) -> Result<()> {
    let user = UserId::new(args.user)?;
    let resource = Resource::new(&args.resource)?;
    let id = EntryName::parse(format!("{}.json", args.id).as_bytes())?;
    let (settings, uid) = (VolumeSettings::alone(args.on)?, account::caller());
    if settings.keys.is_none() {
        return Err(Error::config(
            "nothing can be opened without sealing keys; use --sealing-keys FILE",
        ));
    }
    become_account(&settings)?;
    let secret = admin::unseal(&checked(open(&settings)?)?, &user, &resource, &id, &args.member);
    // Before it is shown: what cannot be accounted for is not. Its user reads the line, too, and is told no
    // path.
    let reason = secret.as_ref().err().map(Error::to_string);
    tell(
        &settings,
        &Record {
            op: "unseal",
            user: Some(&user.hash()),
            uid,
            path: &format!("{}/{id}", resource.as_str()),
            outcome: secret.as_ref().map(drop).map_err(Error::kind),
            reason: reason.as_deref().unwrap_or_default(),
        },
    )?;
    let secret = secret?;
    // Its user chose it, and may have the operator's terminal in mind.
    if !args.raw && secret.contains(|c| escape::is_active(c) && c != '\n' && c != '\t') {
        return Err(Error::new(
            Kind::InvalidRecord,
            "the secret has control characters, which could act on a terminal; --raw prints it as it is",
        ));
    }
    let mut stdout = std::io::stdout();
    let written = stdout
        .write_all(secret.as_bytes())
        .and_then(|()| stdout.write_all(b"\n"))
        .and_then(|()| stdout.flush());
    written.doing("printing the secret")
}

/// The volume, for who only looks at it.
fn ground(args: VolumeArgs) -> Result<Ground> {
    let settings = VolumeSettings::alone(args)?;
    become_account(&settings)?;
    confined(checked(open(&settings)?)?, false, None)
}

/// Becomes the account that works on the volume: whatever is read of the configuration is root's to read, and
/// what is on the volume is not.
fn become_account(settings: &VolumeSettings) -> Result<()> {
    serving::arrange_resources();
    let (uid, gid) = serving::server_account(settings)?;
    privilege::drop_to(uid, gid)?;
    rustix::process::umask(Mode::empty());
    Ok(())
}

fn open(settings: &VolumeSettings) -> Result<Ground> {
    Ok(Ground {
        volume: Volume::open(&settings.path)?,
        layout: settings.layout,
        resources: settings.resources.clone(),
        max_record: settings.max_record,
        keep_removed: settings.keep_removed,
        secret_fields: settings.secret_fields.clone(),
        keys: settings.keys.clone(),
    })
}

/// A volume that has the layout that it is said to have.
fn checked(ground: Ground) -> Result<Ground> {
    LayoutMark::check(ground.volume.root(), ground.layout, &ground.resources)?;
    Ok(ground)
}

/// Confines this process to the volume, and to the directory that it writes to, whatever is met there. Not
/// even the audit log is written from then on.
fn confined(ground: Ground, writes: bool, target: Option<BorrowedFd<'_>>) -> Result<Ground> {
    let volume = Reach {
        directory: ground.volume.root().as_fd(),
        read_only: !writes,
    };
    let target = target.map(|directory| Reach {
        directory,
        read_only: false,
    });
    let directories: Vec<_> = [Some(volume), target].into_iter().flatten().collect();
    let confinement = confine(&directories)?;
    if confinement == Confinement::None {
        log::warn!("not confined to the volume: Landlock is not to be had here; see tenantfs doctor");
    }
    Ok(ground)
}

/// Has a line written in the audit log, where there is one. What cannot be accounted for must not be done.
fn tell(settings: &VolumeSettings, record: &Record<'_>) -> Result<()> {
    match &settings.audit {
        Some(options) => audit::record(options, serving::server_account(settings)?, record),
        None => {
            // A command tells that it begins, and what came of it.
            static WARNED: Once = Once::new();
            WARNED.call_once(|| log::warn!("no audit log is kept of {}: see --audit-log", record.op));
            Ok(())
        }
    }
}

fn interrupted(complete: bool) -> Result<()> {
    match complete {
        true => Ok(()),
        false => Err(Error::new(
            Kind::Io,
            "interrupted before the end; run it again for the rest",
        )),
    }
}

/// What is said where not everything could be looked at.
pub(crate) const UNREADABLE: [&str; 2] = [
    "part of the volume could not be looked at",
    "parts of the volume could not be looked at",
];

/// What was found, in the words for one and for many: an error where there is something.
pub(crate) fn found(count: u64, [one, many]: [&str; 2]) -> Result<()> {
    match count {
        0 => Ok(()),
        1 => Err(Error::new(Kind::ProblemsFound, format!("1 {one}"))),
        count => Err(Error::new(Kind::ProblemsFound, format!("{count} {many}"))),
    }
}
