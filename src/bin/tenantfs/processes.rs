//! The processes of a user.

/// Whether a process of `uid` is left on this host, beside this one. Where /proc cannot be read it is taken for granted.
pub(crate) fn of(uid: u32) -> bool {
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return true;
    };
    let own = std::process::id().to_string();
    let names = entries
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok());
    let mut others = names.filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()) && *name != own);
    others.any(|pid| {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"));
        // One that has ended meanwhile.
        status.is_ok_and(|status| is_of(&status, uid))
    })
}

/// Whether /proc/PID/status is that of a living process which is, or can become, `uid`.
fn is_of(status: &str, uid: u32) -> bool {
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name));
    let is_alive = !field("State:").is_some_and(|state| state.trim_start().starts_with(['Z', 'X']));
    let uids = field("Uid:").unwrap_or_default();
    is_alive && uids.split_whitespace().any(|number| number.parse() == Ok(uid))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_whose_it_is_or_can_become_until_it_is_dead() {
        let status =
            |state: &str, uids: &str| format!("Name:\tx\nState:\t{state}\nUid:\t{uids}\nGid:\t7\t7\t7\t7\n");
        assert!(is_of(&status("S (sleeping)", "1000\t1000\t1000\t1000"), 1000));
        assert!(is_of(&status("R (running)", "0\t0\t1000\t0"), 1000));
        assert!(!is_of(&status("S (sleeping)", "10001\t0\t0\t0"), 1000));
        assert!(!is_of(&status("Z (zombie)", "1000\t1000\t1000\t1000"), 1000));
        assert!(!of(4_000_000_001));
    }
}
