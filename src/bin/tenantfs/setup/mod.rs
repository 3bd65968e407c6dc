//! `tenantfs setup`: from an installed package to a host that serves, and back.
//!
//! What the host is like is found out first ([`host`], [`auth`]); that and the command line decide what is to be done
//! ([`plan`]), which is shown before it is done ([`step`]).

mod auth;
mod host;
mod pam;
mod plan;
mod remove;
mod settings;
mod step;
mod units;

use std::os::unix::process::CommandExt as _;
use std::process::Command;

use tenantfs::error::{Doing, Error, Kind, Result};

use crate::cli::SetupArgs;
use crate::say;
use step::Step;

pub(crate) fn run(args: &SetupArgs) -> Result<()> {
    let dry = args.dry_run;
    if !dry && !rustix::process::geteuid().is_root() {
        return Err(Error::config(
            "setup writes below /etc and starts services: run it as root, or see what it would do with --dry-run",
        ));
    }
    host::check_systemd()?;
    if args.remove {
        take(&remove::steps(), dry)?;
        say::note(remove::WHAT_STAYS);
        return Ok(());
    }
    let plan = plan::Plan::of(args)?;
    plan.notes.iter().for_each(say::note);
    take(&plan.steps, dry)?;
    match dry {
        true => Ok(()),
        false => finish(),
    }
}

/// Says and does each of them.
fn take(steps: &[Step], dry: bool) -> Result<()> {
    if steps.is_empty() {
        say::line("Nothing is to be done.")?;
    }
    for step in steps {
        say::line(step)?;
        for detail in step.details() {
            say::line(format_args!("    {detail}"))?;
        }
        if !dry {
            step.take()?;
        }
    }
    match dry {
        true => say::line("Nothing was done (--dry-run)."),
        false => Ok(()),
    }
}

/// Has the doctor look at all of it.
fn finish() -> Result<()> {
    say::line("Looking whether all is well: tenantfs doctor")?;
    let well = Command::new("/proc/self/exe")
        .arg0("tenantfs")
        .arg("doctor")
        .status()
        .doing("running the doctor")?;
    match well.success() {
        true => say::line("Users can log in now: tenantfs login"),
        false => Err(Error::new(
            Kind::Io,
            "everything is set up, and the doctor has found a problem: mend it as it says",
        )),
    }
}
