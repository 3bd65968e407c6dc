//! What processes that were killed left where nobody else cleans up: in the volume's root, and in the directories in it.

use std::ops::ControlFlow;

use super::Volume;
use super::dir::Dir;
use super::orders;
use super::staged::TEMPORARY_PREFIX;
use crate::clock::{self, Timestamp};
use crate::error::Result;

/// How old a temporary file is that nobody works on any more, in milliseconds: another host's clock may be off.
const KEPT_MILLIS: i64 = 3_600_000;

impl Volume {
    /// Removes temporary files, and orders, of more than an hour ago, from its root and from `outermost` in it.
    ///
    /// # Errors
    /// The operating system's; for whoever cannot remove them, they are no reason not to begin.
    pub fn remove_leftovers(&self, outermost: &[&str]) -> Result<()> {
        let now = clock::now();
        let mut removed = remove_in(self.root(), now)?;
        for name in outermost {
            if let Ok(dir) = self.root().open_dir(name) {
                removed += remove_in(&dir, now)?;
            }
        }
        if removed > 0 {
            log::info!(
                "{removed} files were removed that processes left on the volume when they were killed"
            );
        }
        Ok(())
    }
}

fn remove_in(dir: &Dir, now: Timestamp) -> Result<usize> {
    let mut names = Vec::new();
    dir.entries_until(|entry| {
        let name = std::str::from_utf8(entry).ok();
        names.extend(
            name.filter(|name| name.starts_with(TEMPORARY_PREFIX) || orders::is_order(name))
                .map(str::to_owned),
        );
        ControlFlow::Continue(())
    })?;
    let is_old = |name: &&String| {
        let stat = dir.stat(name);
        stat.is_ok_and(|stat| stat.is_regular() && now.millis_since(stat.ctime) > KEPT_MILLIS)
    };
    Ok(names
        .iter()
        .filter(is_old)
        .filter(|name| dir.unlink(name).is_ok())
        .count())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::volume::Order;

    #[test]
    fn what_a_killed_process_left_is_removed_after_an_hour_and_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let volume = Volume::open(directory.path()).unwrap();
        let left = format!("{TEMPORARY_PREFIX}0123456789abcdef");
        let stay = [
            ".tenantfs-layout",
            ".tenantfs-erasure-abc",
            "tenantfs-tmp-x",
            "schedules",
        ];
        for name in [&*left].iter().chain(&stay) {
            fs::write(directory.path().join(name), "").unwrap();
        }
        Order::give(volume.root(), None).unwrap();
        let count = || fs::read_dir(directory.path()).unwrap().count();
        volume.remove_leftovers(&["schedules", "results"]).unwrap();
        assert_eq!(count(), stay.len() + 2, "somebody may still work on them");
        let mut later = clock::now();
        later.seconds += 3_601;
        assert_eq!(remove_in(volume.root(), later).unwrap(), 2);
        assert_eq!(count(), stay.len());
    }
}
