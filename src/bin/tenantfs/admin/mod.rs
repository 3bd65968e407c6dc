//! The operator's commands on a whole volume: `verify`, `reseal`, `unseal`.

mod progress;

use std::io::Write;
use std::os::fd::AsFd;

use rustix::fs::Mode;
use tenantfs::admin::{self, Ground, Reseal};
use tenantfs::error::{Error, Kind, Result};
use tenantfs::identity::UserId;
use tenantfs::name::{EntryName, Resource};
use tenantfs::session::confine::{Confinement, confine};
use tenantfs::session::privilege;
use tenantfs::volume::Volume;

use crate::cli::{ResealArgs, UnsealArgs, VerifyArgs, VolumeArgs};
use crate::config::VolumeSettings;
use crate::serving;
use progress::Progress;

pub(crate) fn verify(args: VerifyArgs) -> Result<()> {
    let ground = ground(args.on, false)?;
    let mut progress = Progress::start("verifying")?;
    let seen = admin::verify(&ground, &mut progress)?;
    progress.finish()?;
    let problems: u64 = seen.problems.values().sum();
    if args.json {
        print_json(&serde_json::json!({ "verified": seen }))?;
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
        for (problem, count) in &seen.problems {
            eprintln!("{:>9} {}", count, problem.as_str());
        }
    }
    interrupted(seen.complete)?;
    found(problems, "problems were found")
}

pub(crate) fn reseal(args: ResealArgs) -> Result<()> {
    let ground = ground(args.on, true)?;
    let mut progress = Progress::start("sealing anew")?;
    let what = Reseal {
        adopt_plain: args.adopt_plain,
    };
    let done = admin::reseal(&ground, what, &mut progress)?;
    progress.finish()?;
    if args.json {
        print_json(&serde_json::json!({ "resealed": done }))?;
    } else {
        eprintln!(
            "{} records and drafts, of which {} were sealed anew",
            done.looked_at, done.resealed
        );
    }
    interrupted(done.complete)?;
    found(done.left, "were left as they were")
}

pub(crate) fn unseal(args: UnsealArgs) -> Result<()> {
    let user = UserId::new(args.user)?;
    let resource = Resource::new(&args.resource)?;
    let id = EntryName::parse(format!("{}.json", args.id).as_bytes())?;
    let ground = ground(args.on, false)?;
    if ground.keys.is_none() {
        return Err(Error::new(
            Kind::Config,
            "nothing can be opened without sealing keys; use --sealing-keys FILE",
        ));
    }
    let secret = admin::unseal(&ground, &user, &resource, &id, &args.member)?;
    let mut stdout = std::io::stdout();
    let written = stdout
        .write_all(secret.as_bytes())
        .and_then(|()| stdout.write_all(b"\n"))
        .and_then(|()| stdout.flush());
    written.map_err(|error| Error::io(&error, "printing the secret"))
}

/// The volume, opened by the account that works on it: whatever is read of the configuration is root's to read, and what
/// is on the volume is not.
fn ground(args: VolumeArgs, writes: bool) -> Result<Ground> {
    let settings = VolumeSettings::alone(args)?;
    serving::arrange_resources();
    let (uid, gid) = serving::server_account(&settings)?;
    privilege::drop_to(uid, gid)?;
    rustix::process::umask(Mode::empty());
    let volume = Volume::open(&settings.path)?;
    // No further than the volume, whatever is met there.
    let confinement = confine(&[volume.root().as_fd()], !writes)?;
    if confinement == Confinement::None {
        log::warn!("not confined to the volume: this kernel has no Landlock");
    }
    Ok(Ground {
        volume,
        layout: settings.layout,
        resources: settings.resources,
        max_record: settings.max_record,
        secret_fields: settings.secret_fields,
        keys: settings.keys,
    })
}

fn print_json(value: &serde_json::Value) -> Result<()> {
    let mut stdout = std::io::stdout();
    writeln!(stdout, "{value}").map_err(|error| Error::io(&error, "printing"))
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

fn found(count: u64, what: &str) -> Result<()> {
    match count {
        0 => Ok(()),
        count => Err(Error::new(Kind::ProblemsFound, format!("{count} {what}"))),
    }
}
