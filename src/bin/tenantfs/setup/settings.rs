//! The configuration as text: single settings are changed, and everything else stays as somebody has written it.

use std::path::Path;

use tenantfs::error::{Error, Result};

/// The commented configuration, where there is none yet.
pub(super) const COMMENTED: &str = include_str!("../../../../systemd/config.toml");

/// One setting and what it is to be; none for its default.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Setting {
    pub(super) section: &'static str,
    pub(super) name: &'static str,
    pub(super) value: Option<String>,
}

impl Setting {
    /// A setting that is a string.
    ///
    /// # Errors
    /// [`Kind::Config`](tenantfs::error::Kind::Config) for what is no text of one line.
    pub(super) fn text(section: &'static str, name: &'static str, value: &str) -> Result<Self> {
        if value.chars().any(char::is_control) {
            return Err(Error::config(format!(
                "{section}.{name} cannot be {value:?}: it has a control character"
            )));
        }
        let escaped = value.replace('\\', "\\\\").replace('"', "\\\"");
        let value = Some(format!("\"{escaped}\""));
        Ok(Self { section, name, value })
    }

    /// A setting that is a path.
    ///
    /// # Errors
    /// As [`text`](Self::text), and for what is not UTF-8.
    pub(super) fn path(section: &'static str, name: &'static str, path: &Path) -> Result<Self> {
        let text = path
            .to_str()
            .ok_or_else(|| Error::config(format!("{} is not UTF-8", path.display())))?;
        Self::text(section, name, text)
    }

    pub(super) fn none(section: &'static str, name: &'static str) -> Self {
        Self {
            section,
            name,
            value: None,
        }
    }

    /// As a person reads it.
    fn shown(&self) -> String {
        let Self { section, name, value } = self;
        match value {
            Some(value) => format!("{section}.{name} = {value}"),
            None => format!("{section}.{name} is not set"),
        }
    }
}

/// The configuration with these settings, and what changes.
pub(super) fn apply(text: &str, settings: &[Setting]) -> (String, Vec<String>) {
    let (mut text, mut changes) = (text.to_owned(), Vec::new());
    for setting in settings {
        let changed = set(&text, setting);
        if changed != text {
            changes.push(setting.shown());
            text = changed;
        }
    }
    (text, changes)
}

fn set(text: &str, setting: &Setting) -> String {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let header = format!("[{}]", setting.section);
    let begin = lines.iter().position(|line| line.trim() == header);
    let Some(begin) = begin else {
        if let Some(value) = &setting.value {
            lines.extend([String::new(), header, format!("{} = {value}", setting.name)]);
        }
        return joined(&lines);
    };
    let length = lines
        .iter()
        .skip(begin + 1)
        .take_while(|line| !line.starts_with('['))
        .count();
    let section = begin + 1..begin + 1 + length;
    let find = |is_it: fn(&str, &str) -> bool| {
        let mut within = section.clone();
        within.find(|index| lines.get(*index).is_some_and(|line| is_it(line, setting.name)))
    };
    let (active, commented) = (find(is_setting), find(is_commented));
    match (&setting.value, active.or(commented)) {
        (Some(value), Some(at)) => replace(&mut lines, at, format!("{} = {value}", setting.name)),
        (Some(value), None) => lines.insert(begin + 1, format!("{} = {value}", setting.name)),
        (None, _) => {
            if let Some(at) = active {
                let line = lines.get(at).cloned().unwrap_or_default();
                replace(&mut lines, at, format!("#{line}"));
            }
        }
    }
    joined(&lines)
}

fn replace(lines: &mut [String], at: usize, with: String) {
    if let Some(line) = lines.get_mut(at) {
        *line = with;
    }
}

fn joined(lines: &[String]) -> String {
    lines.join("\n") + "\n"
}

fn is_setting(line: &str, name: &str) -> bool {
    let rest = line.trim_start().strip_prefix(name);
    rest.is_some_and(|rest| rest.trim_start().starts_with('='))
}

fn is_commented(line: &str, name: &str) -> bool {
    line.strip_prefix('#').is_some_and(|line| is_setting(line, name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    fn url(value: &str) -> Setting {
        Setting::text("auth", "url", value).unwrap()
    }

    #[test]
    fn a_setting_takes_the_place_of_its_comment_and_everything_else_stays() {
        let (text, changes) = apply(
            COMMENTED,
            &[url("https://x.example/v"), Setting::none("auth", "socket")],
        );
        assert_eq!(changes, ["auth.url = \"https://x.example/v\""]);
        let differ: Vec<_> = text
            .lines()
            .zip(COMMENTED.lines())
            .filter(|(new, old)| new != old)
            .collect();
        assert_eq!(
            differ,
            [(
                "url = \"https://x.example/v\"",
                "#url = \"https://auth.example.org/validate\""
            )]
        );
        assert_eq!(
            apply(&text, &[url("https://x.example/v")]),
            (text.clone(), vec![])
        );
        config::check(&text).unwrap();
    }

    #[test]
    fn a_setting_that_goes_is_commented_out_and_comes_back_in_its_place() {
        let (set, _) = apply(COMMENTED, &[url("https://x.example/v")]);
        let (gone, changes) = apply(&set, &[Setting::none("auth", "url")]);
        assert!(gone.contains("\n#url = \"https://x.example/v\"\n"));
        assert_eq!(changes, ["auth.url is not set"]);
        assert_eq!(apply(&gone, &[url("https://x.example/v")]).0, set);
    }

    #[test]
    fn what_an_operator_wrote_stays() {
        let mine = "# mine\n[auth]\nlease = \"5s\" # short\n\n[volume]\nlayout = \"user-first\"\n";
        let path = Setting::path("volume", "path", Path::new("/a \"b\"")).unwrap();
        let (text, _) = apply(mine, &[path, url("https://x/y")]);
        let expected = "# mine\n[auth]\nurl = \"https://x/y\"\nlease = \"5s\" # short\n\n[volume]\npath = \"/a \\\"b\\\"\"\nlayout = \"user-first\"\n";
        assert_eq!(text, expected);
        config::check(&text).unwrap();
        let (text, _) = apply("", &[url("https://x/y")]);
        assert_eq!(text, "\n[auth]\nurl = \"https://x/y\"\n");
    }

    #[test]
    fn a_section_is_not_mistaken_for_another() {
        let mine = "[quota]\nusers = \"/q\"\n[server]\n";
        let (text, _) = apply(mine, &[Setting::text("server", "user", "web").unwrap()]);
        assert_eq!(text, "[quota]\nusers = \"/q\"\n[server]\nuser = \"web\"\n");
    }

    #[test]
    fn no_line_can_be_smuggled_in() {
        assert!(Setting::text("auth", "url", "https://x\nlease = \"1s\"").is_err());
    }
}
