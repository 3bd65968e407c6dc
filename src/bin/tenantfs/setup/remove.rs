//! `tenantfs setup --remove`.

use std::path::Path;

use super::step::Step;
use super::{host, pam, plan, units};

/// What is not taken back.
pub(super) const WHAT_STAYS: &str = "The volume, the audit log in /var/log/tenantfs, the sealing keys in /etc/credstore, and the keys and \
    instances in /etc/tenantfs stay.";

/// What takes everything back, as far as it is there.
pub(super) fn steps() -> Vec<Step> {
    let mut steps = Vec::new();
    let is_enabled = plan::ENABLED
        .iter()
        .any(|unit| host::systemctl("is-enabled", unit));
    let is_active = plan::UNITS.iter().any(|unit| host::systemctl("is-active", unit));
    if is_enabled || is_active {
        steps.push(Step::try_run(
            "systemctl",
            &["disable", "--now", "--quiet"],
            &plan::UNITS,
        ));
    }
    steps.extend(pam::disabling());
    let drop_ins = units::CHANGED.iter().map(|unit| units::path(unit));
    let drop_ins: Vec<_> = drop_ins.filter(|path| path.exists()).collect();
    let reload = !drop_ins.is_empty();
    let written = [plan::CONFIG, plan::AUTH_HOST, plan::LOGROTATE].map(|path| Path::new(path).to_owned());
    let written = written.into_iter().filter(|path| path.exists());
    steps.extend(drop_ins.into_iter().chain(written).map(Step::Remove));
    if reload {
        steps.push(Step::run("systemctl", &["daemon-reload"]));
    }
    steps
}
