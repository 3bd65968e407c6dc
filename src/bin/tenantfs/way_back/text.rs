//! What was removed and what could not be committed, as people read it.

use indicatif::HumanBytes;
use jiff::Timestamp;
use tenantfs::daemon::{DraftStatus, RemovedStatus, Reply};
use tenantfs::error::Result;
use tenantfs::escape::plain;

use crate::client::unexpected;
use crate::say;
use crate::shown::{self, Cell, ago, table};

/// Table of what was removed; where there is nothing, that is said on standard error.
pub(super) fn removed(reply: &Reply) -> Result<String> {
    let Reply::Removed { records, more, .. } = reply else {
        return Err(unexpected());
    };
    let missed = tell_of_unreadable(reply);
    if records.is_empty() {
        if !missed {
            eprintln!("nothing that was removed can be restored");
        }
        return Ok(String::new());
    }
    let now = shown::now();
    let mut rows = vec![["REMOVED", "KEPT UNTIL", "SIZE", "SECRET", "PATH"].map(Into::into)];
    rows.extend(records.iter().map(|record| row(record, now)));
    tell_of_more(*more, records.len());
    Ok(table(&rows))
}

fn row(record: &RemovedStatus, now: Timestamp) -> [Cell; 5] {
    let RemovedStatus {
        path,
        removed,
        until,
        size,
        has_secret,
    } = record;
    [
        ago(removed, now).into(),
        shown::moment(until).into(),
        HumanBytes(*size).to_string().into(),
        if *has_secret { "yes" } else { "no" }.into(),
        plain(path).to_string().into(),
    ]
}

/// Table of drafts; where there are none, that is said on standard error.
pub(super) fn drafts(reply: &Reply) -> Result<String> {
    let Reply::Drafts { drafts, more, .. } = reply else {
        return Err(unexpected());
    };
    let missed = tell_of_unreadable(reply);
    if drafts.is_empty() {
        if !missed {
            eprintln!("everything is saved: there is no draft");
        }
        return Ok(String::new());
    }
    let mut rows = vec![["PATH", "NOT SAVED BECAUSE"].map(Into::into)];
    let row = |draft: &DraftStatus| [&draft.path, &draft.reason].map(|text| plain(text).to_string().into());
    rows.extend(drafts.iter().map(row));
    tell_of_more(*more, drafts.len());
    Ok(table(&rows))
}

/// What is back, or shows again as it was.
pub(super) fn done(reply: &Reply) -> Result<String> {
    match reply {
        Reply::Restored { path } | Reply::Discarded { path } => Ok(plain(path).to_string() + "\n"),
        _ => Err(unexpected()),
    }
}

/// Says what could not be looked at. Whether there was something.
fn tell_of_unreadable(reply: &Reply) -> bool {
    let unreadable = reply.unreadable();
    for what in unreadable {
        say::note(format_args!("{:?}: {}", what.path, what.reason));
    }
    !unreadable.is_empty()
}

fn tell_of_more(more: bool, shown: usize) {
    if more {
        eprintln!("there are more than these {shown}");
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_forge_lines_of_a_table() {
        let record = RemovedStatus {
            path: "schedules/a\nb\u{1b}[2J.json".to_owned(),
            removed: "2026-11-28T11:48:00Z".to_owned(),
            until: "2026-11-28T12:48:00Z".to_owned(),
            size: 1234,
            has_secret: true,
        };
        let reply = Reply::Removed {
            records: vec![record],
            more: false,
            unreadable: Vec::new(),
        };
        let text = removed(&reply).unwrap();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 2);
        assert!(
            lines[1].ends_with("  2026-11-28 12:48:00 UTC  1.21 KiB  yes     schedules/a\\nb\\u{1b}[2J.json"),
            "{text}"
        );
    }
}
