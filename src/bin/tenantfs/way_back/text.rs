//! What was removed and what could not be committed, as people read it.

use indicatif::HumanBytes;
use jiff::Timestamp;
use tenantfs::clock;
use tenantfs::daemon::{DraftStatus, RemovedStatus, Reply};
use tenantfs::error::Result;
use tenantfs::escape::plain;

use crate::client::unexpected;
use crate::say;

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
    let now = Timestamp::from_second(clock::now().seconds).unwrap_or_default();
    let mut rows = vec![["REMOVED", "KEPT UNTIL", "SIZE", "SECRET", "PATH"].map(str::to_owned)];
    rows.extend(records.iter().map(|record| row(record, now)));
    tell_of_more(*more, records.len());
    Ok(table(&rows))
}

fn row(record: &RemovedStatus, now: Timestamp) -> [String; 5] {
    let RemovedStatus {
        path,
        removed,
        until,
        size,
        has_secret,
    } = record;
    [
        ago(removed, now),
        plain(until).to_string().replace('T', " ").replace('Z', " UTC"),
        HumanBytes(*size).to_string(),
        if *has_secret { "yes" } else { "no" }.to_owned(),
        plain(path).to_string(),
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
    let mut rows = vec![["PATH", "NOT SAVED BECAUSE"].map(str::to_owned)];
    let row = |draft: &DraftStatus| [plain(&draft.path).to_string(), plain(&draft.reason).to_string()];
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

/// How long ago a time in RFC 3339 was: in the largest unit that says enough.
fn ago(time: &str, now: Timestamp) -> String {
    let Ok(time) = time.parse::<Timestamp>() else {
        return plain(time).to_string();
    };
    let seconds = now.duration_since(time).as_secs().max(0);
    let (count, unit) = match seconds {
        0..60 => (seconds, "s"),
        60..7200 => (seconds / 60, "min"),
        7200..172_800 => (seconds / 3600, "h"),
        _ => (seconds / 86_400, "days"),
    };
    format!("{count} {unit} ago")
}

/// Columns as wide as they have to be; the last one is not filled up.
fn table<const N: usize>(rows: &[[String; N]]) -> String {
    let mut widths = [0; N];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    let line = |row: &[String; N]| {
        let cells = row
            .iter()
            .zip(widths)
            .map(|(cell, width)| format!("{cell:width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_said_in_the_unit_that_says_enough() {
        let now: Timestamp = "2026-11-28T12:00:00Z".parse().unwrap();
        for (time, said) in [
            ("2026-11-28T12:00:03Z", "0 s ago"),
            ("2026-11-28T11:59:01Z", "59 s ago"),
            ("2026-11-28T11:48:00Z", "12 min ago"),
            ("2026-11-28T10:00:00Z", "2 h ago"),
            ("2026-11-20T12:00:00Z", "8 days ago"),
            ("soon\u{7}", "soon\\u{7}"),
        ] {
            assert_eq!(ago(time, now), said);
        }
    }

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
