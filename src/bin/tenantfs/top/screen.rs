//! What `tenantfs top` shows: all of it fits on 80 columns and 24 lines.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::time::Duration;

use ratatui::Frame;
use ratatui::layout::{Alignment, Constraint, Layout};
use ratatui::style::{Color, Style, Stylize};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Cell, Paragraph, Row as Drawn, Table};
use tenantfs::daemon::QuotaStatus;

use super::sample::{Lately, Row};

/// From this width on, what is read and written is shown of each session, too.
const WIDE: u16 = 100;

/// By which column sessions are sorted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum Sort {
    #[default]
    Operations,
    Latency,
    Hidden,
    Open,
    Quota,
    User,
}

impl Sort {
    pub(super) fn next(self) -> Self {
        match self {
            Self::Operations => Self::Latency,
            Self::Latency => Self::Hidden,
            Self::Hidden => Self::Open,
            Self::Open => Self::Quota,
            Self::Quota => Self::User,
            Self::User => Self::Operations,
        }
    }

    /// The heading of its column.
    fn heading(self) -> &'static str {
        match self {
            Self::Operations => "OPS/S",
            Self::Latency => "P99",
            Self::Hidden => "HIDDEN",
            Self::Open => "OPEN",
            Self::Quota => "QUOTA",
            Self::User => "USER",
        }
    }

    /// The most first; of the same, by name, so that rows stay where they are.
    fn compare(self, one: &Row, other: &Row) -> Ordering {
        let most = match self {
            Self::Operations => other.lately.operations().total_cmp(&one.lately.operations()),
            Self::Latency => other.lately.quantile(0.99).cmp(&one.lately.quantile(0.99)),
            Self::Hidden => other.hidden.cmp(&one.hidden),
            Self::Open => other.open_files.cmp(&one.open_files),
            Self::Quota => filled(other).total_cmp(&filled(one)),
            Self::User => Ordering::Equal,
        };
        most.then_with(|| one.user.cmp(&other.user))
    }
}

/// What there is to show.
#[derive(Default)]
pub(super) struct Screen {
    rows: Vec<Row>,
    /// Why there is nothing newer.
    pub(super) trouble: Option<String>,
    pub(super) sort: Sort,
    /// How many rows are above the first one that is shown.
    scrolled: usize,
    pub(super) is_held: bool,
    /// When the rows were so.
    time: String,
}

impl Screen {
    /// There is something new.
    pub(super) fn show(&mut self, rows: Vec<Row>, time: String) {
        self.rows = rows;
        self.time = time;
        self.trouble = None;
    }

    pub(super) fn scroll(&mut self, by: isize) {
        self.scrolled = self
            .scrolled
            .saturating_add_signed(by)
            .min(self.rows.len().saturating_sub(1));
    }

    pub(super) fn draw(&mut self, frame: &mut Frame<'_>) {
        self.rows.sort_by(|one, other| self.sort.compare(one, other));
        self.scroll(0);
        let [title, summary, _, table, help] = Layout::vertical([
            Constraint::Length(1),
            Constraint::Length(1),
            Constraint::Length(1),
            Constraint::Min(2),
            Constraint::Length(1),
        ])
        .areas(frame.area());
        frame.render_widget(Paragraph::new(self.title()), title);
        let time = Paragraph::new(self.time.as_str())
            .alignment(Alignment::Right)
            .dim();
        frame.render_widget(time, title);
        frame.render_widget(Paragraph::new(self.summary()), summary);
        frame.render_widget(self.table(table.width >= WIDE), table);
        frame.render_widget(Paragraph::new(self.help()), help);
    }

    fn title(&self) -> Line<'_> {
        let mut by_state = BTreeMap::<&str, usize>::new();
        for row in &self.rows {
            *by_state.entry(&row.state).or_default() += 1;
        }
        let sessions = match self.rows.len() {
            1 => " 1 session".to_owned(),
            several => format!(" {several} sessions"),
        };
        let mut spans = vec!["tenantfs top".bold(), Span::raw(sessions)];
        for (index, (state, count)) in by_state.into_iter().enumerate() {
            spans.push(Span::raw(if index == 0 { ": " } else { ", " }));
            spans.push(Span::styled(format!("{count} {state}"), color_of(state)));
        }
        Line::from(spans)
    }

    /// All sessions together.
    fn summary(&self) -> Line<'_> {
        let all = Lately::sum(self.rows.iter().map(|row| &row.lately));
        Line::from(format!(
            "{} ops/s   p50 {}   p99 {}   read {}/s   write {}/s   cache {}",
            count(all.operations()),
            time(all.quantile(0.5)),
            time(all.quantile(0.99)),
            bytes(all.read() as u64),
            bytes(all.written() as u64),
            percent(all.hits())
        ))
    }

    fn table(&self, wide: bool) -> Table<'_> {
        let columns = columns(wide);
        let headings = columns.iter().map(|column| {
            let sorted = match column.heading == self.sort.heading() {
                true => Style::new().reversed(),
                false => Style::new(),
            };
            let text = Line::from(Span::styled(column.heading, sorted));
            Cell::from(text.alignment(column.alignment))
        });
        let header = Drawn::new(headings.collect::<Vec<_>>()).bold();
        let rows = self.rows.iter().skip(self.scrolled).map(|row| {
            let cells = columns.iter().map(|column| {
                let (text, style) = (column.cell)(row);
                Cell::from(Line::from(Span::styled(text, style)).alignment(column.alignment))
            });
            Drawn::new(cells.collect::<Vec<_>>())
        });
        let widths = columns.iter().map(|column| column.width);
        Table::new(rows, widths).header(header).column_spacing(1)
    }

    fn help(&self) -> Line<'_> {
        if let Some(trouble) = &self.trouble {
            return Line::from(trouble.as_str()).red();
        }
        let held = if self.is_held {
            "space go on (held)"
        } else {
            "space hold"
        };
        Line::from(format!("q quit   s sort by the next column   ↑↓ scroll   {held}")).dim()
    }
}

/// A column of the table.
struct Column {
    heading: &'static str,
    width: Constraint,
    alignment: Alignment,
    cell: Shown,
}

/// What a cell says, and how it looks.
type Shown = fn(&Row) -> (String, Style);

fn text(heading: &'static str, least: u16, cell: Shown) -> Column {
    Column {
        heading,
        width: Constraint::Min(least),
        alignment: Alignment::Left,
        cell,
    }
}

fn number(heading: &'static str, width: u16, cell: Shown) -> Column {
    Column {
        heading,
        width: Constraint::Length(width),
        alignment: Alignment::Right,
        cell,
    }
}

fn columns(wide: bool) -> Vec<Column> {
    let mut columns = vec![
        text("USER", 9, |row| (row.user.clone(), Style::new())),
        text("USER ID", 10, |row| (row.user_id.clone(), Style::new())),
        Column {
            width: Constraint::Length(9),
            ..text("STATE", 9, |row| (row.state.clone(), color_of(&row.state)))
        },
        number("LEASE", 5, |row| (lease(row.good_for), Style::new())),
        number("OPS/S", 7, |row| (count(row.lately.operations()), Style::new())),
        number("P99", 6, |row| (time(row.lately.quantile(0.99)), Style::new())),
        number("CACHE", 5, |row| (percent(row.lately.hits()), Style::new())),
        number("HIDDEN", 6, |row| {
            let style = if row.lately.hidden > 0 {
                Color::Yellow.into()
            } else {
                Style::new()
            };
            (row.hidden.to_string(), style)
        }),
        number("OPEN", 5, |row| (row.open_files.to_string(), Style::new())),
    ];
    if wide {
        columns.push(number("READ/S", 7, |row| {
            (bytes(row.lately.read() as u64), Style::new())
        }));
        columns.push(number("WRITE/S", 7, |row| {
            (bytes(row.lately.written() as u64), Style::new())
        }));
    }
    columns.push(number("QUOTA", 9, |row| {
        let style = if filled(row) >= 0.95 {
            Color::Red.into()
        } else {
            Style::new()
        };
        (quota(row.quota.as_ref()), style)
    }));
    columns
}

fn color_of(state: &str) -> Style {
    match state {
        "active" => Color::Green.into(),
        "stale" => Color::Yellow.into(),
        _ => Color::Red.into(),
    }
}

/// Which part of the quota is used, of bytes or of files, whichever is more; 0 where there is none.
fn filled(row: &Row) -> f64 {
    let Some(quota) = &row.quota else { return 0.0 };
    let part = |used: u64, most: Option<u64>| most.map_or(0.0, |most| used as f64 / most.max(1) as f64);
    part(quota.used_bytes, quota.bytes).max(part(quota.used_files, quota.files))
}

fn quota(quota: Option<&QuotaStatus>) -> String {
    match quota {
        None => "-".to_owned(),
        Some(QuotaStatus {
            used_bytes,
            bytes: Some(most),
            ..
        }) => format!("{}/{}", bytes(*used_bytes), bytes(*most)),
        Some(QuotaStatus {
            used_files,
            files: Some(most),
            ..
        }) => format!("{used_files}/{most}f"),
        Some(quota) => bytes(quota.used_bytes),
    }
}

fn lease(seconds: u64) -> String {
    match seconds {
        0 => "-".to_owned(),
        1..600 => format!("{seconds}s"),
        600..36_000 => format!("{}min", seconds / 60),
        _ => format!("{}h", seconds / 3600),
    }
}

fn count(per_second: f64) -> String {
    match per_second {
        0.0 => "0".to_owned(),
        ..10.0 => format!("{per_second:.1}"),
        ..100_000.0 => format!("{per_second:.0}"),
        _ => format!("{:.0}k", per_second / 1000.0),
    }
}

fn percent(part: Option<f64>) -> String {
    part.map_or_else(|| "-".to_owned(), |part| format!("{:.0}%", part * 100.0))
}

/// In at most six characters.
fn time(duration: Option<Duration>) -> String {
    let Some(duration) = duration else {
        return "-".to_owned();
    };
    match duration.as_micros() {
        micros @ ..1000 => format!("{micros}µs"),
        micros @ 1000..1_000_000 => format!("{}ms", micros / 1000),
        micros => format!("{}s", micros / 1_000_000),
    }
}

/// In at most four characters, or a little more for petabytes.
fn bytes(count: u64) -> String {
    const UNITS: [&str; 6] = ["B", "K", "M", "G", "T", "P"];
    let (mut value, mut unit) = (count as f64, 0);
    while value >= 999.5 && unit < UNITS.len() - 1 {
        (value, unit) = (value / 1024.0, unit + 1);
    }
    let name = UNITS.get(unit).copied().unwrap_or_default();
    match value < 9.95 && unit > 0 {
        true => format!("{value:.1}{name}"),
        false => format!("{value:.0}{name}"),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::*;

    #[test]
    fn numbers_fit_into_their_columns() {
        for (number, said) in [
            (0, "0B"),
            (999, "999B"),
            (1000, "1.0K"),
            (10_000, "9.8K"),
            (10_240, "10K"),
            (1_040_000, "1.0M"),
            (5 << 30, "5.0G"),
            (u64::MAX, "16384P"),
        ] {
            assert_eq!(bytes(number), said);
        }
        assert_eq!(
            [count(0.0), count(0.5), count(1234.4), count(2e6)],
            ["0", "0.5", "1234", "2000k"]
        );
        assert_eq!(time(Some(Duration::from_micros(512))), "512µs");
        assert_eq!(time(Some(Duration::from_micros(131_072))), "131ms");
        assert_eq!(
            [lease(0), lease(52), lease(3000), lease(86_400)],
            ["-", "52s", "50min", "24h"]
        );
    }

    #[test]
    fn of_many_sessions_those_are_shown_that_do_most_and_one_can_scroll() {
        let mut screen = Screen::default();
        let row = |number: usize| Row {
            user: format!("user{number:03}"),
            open_files: number,
            state: "active".to_owned(),
            ..Row::default()
        };
        screen.show((0..100).map(row).collect(), "12:00:00".to_owned());
        screen.sort = Sort::Open;
        let mut terminal = Terminal::new(TestBackend::new(80, 24)).unwrap();
        let mut drawn = |screen: &mut Screen| {
            terminal.draw(|frame| screen.draw(frame)).unwrap();
            let buffer = terminal.backend().buffer().clone();
            let lines = buffer.content.chunks(80);
            let line =
                |cells: &[ratatui::buffer::Cell]| cells.iter().map(|cell| cell.symbol()).collect::<String>();
            lines.map(line).collect::<Vec<_>>()
        };
        let lines = drawn(&mut screen);
        assert!(
            lines.first().unwrap().contains("100 sessions: 100 active"),
            "{lines:#?}"
        );
        assert!(lines.get(4).unwrap().starts_with("user099"), "{lines:#?}");
        screen.scroll(10);
        assert!(drawn(&mut screen).get(4).unwrap().starts_with("user089"));
        screen.scroll(1000);
        assert!(drawn(&mut screen).get(4).unwrap().starts_with("user000"));
        screen.scroll(-1000);
        assert!(drawn(&mut screen).get(4).unwrap().starts_with("user099"));
    }
}
