//! Whether the host has threads for many sessions, and keeps some for itself.

use std::path::Path;

use tenantfs::daemon::Check;
use tenantfs::session::{IDLE_THREADS, MOST_THREADS};

/// What the host has of threads in all, by what sets it.
const OF_THE_HOST: [&str; 2] = ["kernel/threads-max", "kernel/pid_max"];

/// What systemd lets the server have (`TasksMax=`), while that runs.
const OF_THE_UNIT: &str = "/sys/fs/cgroup/system.slice/tenantfs.service/pids.max";

/// How many sessions at work a host should have threads for, at least.
const FEW: usize = 64;

/// A limit, and what sets it.
struct Limit {
    threads: usize,
    set_by: String,
}

pub(super) fn enough() -> Check {
    let of_host = OF_THE_HOST.iter().filter_map(|name| {
        let threads = number(&Path::new("/proc/sys").join(name))?;
        let set_by = name.replace('/', ".");
        Some(Limit { threads, set_by })
    });
    let of_host = of_host.min_by_key(|limit| limit.threads);
    Check::of("threads", judge(of_host, number(Path::new(OF_THE_UNIT))))
}

/// A number alone in a file; nothing, for `max` and what is not there.
fn number(path: &Path) -> Option<usize> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// What there is to say of the host's limit and the unit's.
fn judge(of_host: Option<Limit>, of_unit: Option<usize>) -> Result<String, (String, String)> {
    let each = format!("a session has {IDLE_THREADS} threads, {MOST_THREADS} at most");
    let Some(of_host) = of_host else {
        return Ok(format!("{each}; the host does not say how many it has"));
    };
    let Limit { threads, set_by } = &of_host;
    if let Some(of_unit) = of_unit.filter(|of_unit| of_unit >= threads) {
        return Err((
            format!(
                "the server may take all threads of the host: {of_unit} (TasksMax=) of {threads} ({set_by})"
            ),
            "systemctl edit tenantfs.service: [Service] TasksMax=75%".to_owned(),
        ));
    }
    let (least, set_by) = match of_unit {
        Some(of_unit) => (of_unit, "TasksMax="),
        None => (*threads, set_by.as_str()),
    };
    let (idle, busy) = (least / IDLE_THREADS, least / MOST_THREADS);
    match busy >= FEW {
        true => Ok(format!(
            "{each}: {least} ({set_by}) are enough for {idle} sessions, or {busy} that are all at work"
        )),
        false => Err((
            format!("{each}: {least} ({set_by}) are enough for {busy} sessions at work"),
            match of_unit {
                Some(_) => "systemctl edit tenantfs.service: [Service] TasksMax=75%".to_owned(),
                None => format!("sysctl -w {set_by}={}", FEW * MOST_THREADS * 4),
            },
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_that_may_take_everything_and_a_host_that_has_too_little_are_problems() {
        let host = |threads| {
            Some(Limit {
                threads,
                set_by: "kernel.threads-max".to_owned(),
            })
        };
        let said = judge(host(15_000), Some(11_250)).unwrap();
        assert!(
            said.contains("11250 (TasksMax=) are enough for 2250 sessions, or 1250"),
            "{said}"
        );
        assert!(
            judge(host(15_000), None)
                .unwrap()
                .contains("15000 (kernel.threads-max)")
        );
        let (why, mend) = judge(host(15_000), Some(15_000)).unwrap_err();
        assert!(
            why.contains("all threads of the host") && mend.contains("TasksMax=75%"),
            "{why}"
        );
        let (why, mend) = judge(host(400), None).unwrap_err();
        assert!(
            why.contains("44 sessions") && mend.contains("kernel.threads-max=2304"),
            "{why} {mend}"
        );
        assert!(judge(host(15_000), Some(100)).is_err());
        assert!(judge(None, None).is_ok());
    }
}
