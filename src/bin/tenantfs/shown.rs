//! What people read: times, accounts, states and tables.

use std::fmt::Write as _;

use anstyle::{AnsiColor, Style};
use jiff::Timestamp;
use tenantfs::escape::plain;
use tenantfs::{account, clock};

/// What is as it should be, what somebody should look at, and what is wrong.
pub(crate) const GOOD: Style = AnsiColor::Green.on_default();
pub(crate) const DOUBTFUL: Style = AnsiColor::Yellow.on_default();
pub(crate) const BAD: Style = AnsiColor::Red.on_default().bold();

/// What is said beside it.
pub(crate) const ASIDE: Style = Style::new().dimmed();

/// What time it is.
pub(crate) fn now() -> Timestamp {
    Timestamp::from_second(clock::now().seconds).unwrap_or_default()
}

/// How long ago a time in RFC 3339 was: in the largest unit that says enough.
pub(crate) fn ago(time: &str, now: Timestamp) -> String {
    match time.parse::<Timestamp>() {
        Ok(time) => {
            let seconds = now.duration_since(time).as_secs().max(0);
            format!("{} ago", lasting(seconds.unsigned_abs()))
        }
        Err(_) => plain(time).to_string(),
    }
}

/// So many seconds, in the largest unit that says enough.
pub(crate) fn lasting(seconds: u64) -> String {
    let (count, unit) = match seconds {
        0..60 => (seconds, "s"),
        60..7200 => (seconds / 60, "min"),
        7200..172_800 => (seconds / 3600, "h"),
        _ => (seconds / 86_400, "days"),
    };
    format!("{count} {unit}")
}

/// A time in RFC 3339, as people write it.
pub(crate) fn moment(time: &str) -> String {
    plain(time).to_string().replace('T', " ").replace('Z', " UTC")
}

/// A user of this host in few words: by name, or else by number.
pub(crate) fn user(uid: u32) -> String {
    account::name(uid).map_or_else(|| uid.to_string(), |name| plain(&name).to_string())
}

/// How the state of a session looks.
pub(crate) fn state_style(state: &str) -> Style {
    match state {
        "active" => GOOD,
        "stale" => DOUBTFUL,
        _ => BAD,
    }
}

/// A cell of a table.
#[derive(Clone)]
pub(crate) struct Cell {
    text: String,
    style: Style,
}

impl Cell {
    pub(crate) fn styled(text: impl Into<String>, style: Style) -> Self {
        Self {
            text: text.into(),
            style,
        }
    }
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self::styled(text, Style::new())
    }
}

/// Columns as wide as they have to be; the last one is not filled up. Where styles are not wanted, `anstream` takes them out.
pub(crate) fn table<const N: usize>(rows: &[[Cell; N]]) -> String {
    let mut widths = [0; N];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.text.chars().count().max(*width);
        }
    }
    let mut table = String::new();
    for row in rows {
        let last = row
            .iter()
            .rposition(|cell| !cell.text.is_empty())
            .unwrap_or_default();
        for (index, (Cell { text, style }, width)) in row.iter().zip(widths).enumerate().take(last + 1) {
            let fill = match index == last {
                true => 0,
                false => width - text.chars().count() + 2,
            };
            // A string takes whatever it is given.
            let _ = write!(table, "{style}{text}{style:#}{:fill$}", "");
        }
        table.push('\n');
    }
    table
}

#[cfg(test)]
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
    fn columns_are_as_wide_as_their_widest_cell_whatever_its_style() {
        let rows = [
            ["A".into(), Cell::styled("BB", BAD), "C".into()],
            ["1000".into(), "x".into(), "".into()],
        ];
        let shown = anstream::adapter::strip_str(&table(&rows)).to_string();
        assert_eq!(shown, "A     BB  C\n1000  x\n");
    }
}
