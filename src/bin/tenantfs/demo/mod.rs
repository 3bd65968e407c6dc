//! `tenantfs demo`: two tenants on a temporary volume, and proof that each sees only what is theirs.
//!
//! What it prints is either checked before it is printed, and marked so, or the output of a program run as a tenant.

mod actor;
mod report;
mod scenes;
mod stage;

use std::fmt;
use std::path::Path;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use tenantfs::error::{Doing, Error, Kind, Result};

use crate::cli::DemoArgs;
use report::Report;
use stage::{SERVICE_UID, Stage};

pub(crate) fn run(args: &DemoArgs) -> Result<()> {
    check_requirements()?;
    let mut signals = Signals::new([SIGHUP, SIGINT, SIGTERM]).doing("waiting for signals")?;
    let mut report = Report::new();
    let stage = Stage::set(args.layout)?;
    introduce(&stage, &mut report);
    for scene in scenes::ALL {
        if signals.pending().next().is_some() {
            stage.clear()?;
            return Err(Error::new(
                Kind::Io,
                "interrupted; the mounts and the volume are gone",
            ));
        }
        scene(&stage, &mut report)?;
    }
    if args.keep {
        invite(&stage, &mut report);
        signals.forever().next();
    }
    let mountpoints = stage.mountpoints();
    let base = stage.clear()?;
    report.heading("Afterwards");
    let left = mountpoints
        .iter()
        .find(|path| stage::mount_options(path).is_some());
    report.claim(
        "both mounts are gone, and the temporary volume too",
        match (left, base.exists()) {
            (None, false) => Ok(()),
            (Some(path), _) => Err(format!("{} is still mounted", path.display())),
            (None, true) => Err(format!("{} is still there", base.display())),
        },
    );
    report.conclude()
}

fn check_requirements() -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        return Err(Error::new(
            Kind::MountFailed,
            "the demo mounts file systems and acts as three users: run it as root, for example with sudo",
        ));
    }
    if !Path::new("/dev/fuse").exists() {
        return Err(Error::new(
            Kind::MountFailed,
            "the demo needs /dev/fuse: load the module (modprobe fuse), or pass the device to the container",
        ));
    }
    Ok(())
}

fn introduce(stage: &Stage, report: &mut Report) {
    report.heading("One volume, two tenants, a mount for each");
    report.line(format_args!(
        "volume   {}, {}, of the web service's account, uid {SERVICE_UID}",
        stage.volume().display(),
        stage.layout
    ));
    for tenant in [&stage.alice, &stage.bob] {
        report.line(format_args!(
            "{:<8} uid {}, user id {:?}, mounted at {}",
            tenant.name,
            tenant.actor.uid,
            tenant.name,
            tenant.mountpoint.display()
        ));
    }
}

fn invite(stage: &Stage, report: &mut Report) {
    report.heading("The mounts stay until Ctrl-C. From another terminal");
    let as_tenant = |tenant: &stage::Tenant, what: fmt::Arguments<'_>| {
        let (uid, gid) = (tenant.actor.uid, tenant.actor.gid);
        format!("sudo setpriv --reuid={uid} --regid={gid} --clear-groups {what}")
    };
    let schedules = stage.alice.mountpoint.join("schedules");
    for command in [
        as_tenant(&stage.alice, format_args!("ls -l {}", schedules.display())),
        as_tenant(
            &stage.alice,
            format_args!("cat {}/nightly.json", schedules.display()),
        ),
        as_tenant(&stage.bob, format_args!("ls {}   # refused", schedules.display())),
        format!("sudo ls {}   # refused", schedules.display()),
        format!(
            "sudo find {}   # as the service sees it",
            stage.volume().display()
        ),
    ] {
        report.line(format_args!("{command}"));
    }
}
