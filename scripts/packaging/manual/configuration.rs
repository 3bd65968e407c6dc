//! `tenantfs.toml(5)`, of the commented configuration.

use clap_mangen::roff::{Roff, bold, roman};

/// What stands in a line of the configuration.
enum Line<'t> {
    Section(&'t str),
    /// A setting, and its default.
    Default(&'t str, &'t str),
    /// A setting that has no default, and what it could be.
    Example(&'t str, &'t str),
    Comment(&'t str),
    Blank,
}

/// The page.
pub(super) fn page(configuration: &str) -> Roff {
    let mut page = Roff::new();
    page.control("TH", ["tenantfs.toml", "5"]);
    page.control("SH", ["NAME"]);
    page.text([roman(
        "tenantfs.toml - the configuration of tenantfs, /etc/tenantfs/config.toml",
    )]);
    page.control("SH", ["DESCRIPTION"]);
    let mut comment = Vec::new();
    // What stands before the sections is for who reads the file.
    page.text([roman(
        "Read by tenantfs daemon, and by tenantfs mount as far as it concerns one mount. It is TOML; unknown keys are errors. \
         Every setting is an option and a TENANTFS_* variable too, which go before it.",
    )]);
    for line in configuration.lines().skip_while(|line| !line.starts_with('[')) {
        match understand(line) {
            Line::Comment(text) => comment.push(text),
            Line::Blank => paragraph(&mut page, &mut comment),
            Line::Section(name) => {
                paragraph(&mut page, &mut comment);
                page.control("SH", [name]);
            }
            Line::Default(name, value) => {
                setting(&mut page, name, &format!(" = {value}"), &mut comment);
            }
            Line::Example(name, value) => {
                setting(
                    &mut page,
                    name,
                    &format!(" (no default; for example {value})"),
                    &mut comment,
                );
            }
        }
    }
    page.control("SH", ["SEE ALSO"]);
    page.text([
        bold("tenantfs"),
        roman("(1), "),
        bold("tenantfs-daemon"),
        roman("(1), "),
        bold("tenantfs-setup"),
        roman("(1)"),
    ]);
    page
}

fn understand(line: &str) -> Line<'_> {
    if line.is_empty() || line == "#" {
        return Line::Blank;
    }
    if let Some(text) = line.strip_prefix("# ") {
        return Line::Comment(text);
    }
    if line.starts_with('[') {
        return Line::Section(line);
    }
    match (line.split_once(" = "), line.strip_prefix('#')) {
        (Some((name, value)), None) => Line::Default(name, value),
        (Some((_, value)), Some(setting)) => {
            Line::Example(setting.split(' ').next().unwrap_or(setting), value)
        }
        (None, _) => Line::Comment(line),
    }
}

fn setting(page: &mut Roff, name: &str, value: &str, comment: &mut Vec<&str>) {
    page.control("TP", []);
    page.text([bold(name), roman(value)]);
    page.text([roman(comment.join(" "))]);
    comment.clear();
}

fn paragraph(page: &mut Roff, comment: &mut Vec<&str>) {
    if !comment.is_empty() {
        page.control("PP", []);
        page.text([roman(comment.join(" "))]);
        comment.clear();
    }
}
