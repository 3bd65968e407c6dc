//! What has users logged in by whatever they begin.

use std::path::Path;

use tenantfs::error::{Error, Result};

use super::step::Step;

/// What the package has for Debian's pam-auth-update.
const PROFILE: &str = "/usr/share/pam-configs/tenantfs";
const UPDATE: &str = "/usr/sbin/pam-auth-update";

/// Whether PAM asks us.
pub(super) fn is_enabled() -> bool {
    let session = std::fs::read_to_string("/etc/pam.d/common-session");
    session.is_ok_and(|text| {
        text.lines()
            .any(|line| !line.starts_with('#') && line.contains("tenantfs pam-session"))
    })
}

/// What has PAM ask us.
///
/// # Errors
/// [`Kind::Config`](tenantfs::error::Kind::Config) where PAM is not Debian's, with what to write.
pub(super) fn enabling() -> Result<Option<Step>> {
    if is_enabled() {
        return Ok(None);
    }
    match [PROFILE, UPDATE].iter().all(|path| Path::new(path).exists()) {
        true => Ok(Some(Step::run(UPDATE, &["--package", "--enable", "tenantfs"]))),
        false => Err(Error::config(format!(
            "--pam: this host has no {UPDATE}, or no {PROFILE}; instead, write into the files of /etc/pam.d that are to log in, and leave \
             --pam out: session optional pam_exec.so seteuid quiet /usr/bin/tenantfs pam-session"
        ))),
    }
}

/// What has PAM ask us no longer.
pub(super) fn disabling() -> Option<Step> {
    is_enabled().then(|| Step::run(UPDATE, &["--package", "--remove", "tenantfs"]))
}
