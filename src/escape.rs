//! How what others wrote is shown to somebody: so that it cannot act on a terminal, nor look like something else, nor be run.
//!
//! Users choose the names of files, and the text of records; a service chooses user ids. All of it reaches operators, in lists,
//! errors, logs and in what they are told to run. There is one set of characters that never does as it is, and a spelling of them
//! for each place.
//!
//! ```
//! use tenantfs::escape::{json, plain, quoted};
//!
//! assert_eq!(plain("a\u{1b}[2Jb\u{202e}c").to_string(), "a\\u{1b}[2Jb\\u{202e}c");
//! assert_eq!(quoted("it's $(here)"), r"'it'\''s $(here)'");
//! assert_eq!(json("\"\u{9b}\"".to_owned()), "\"\\u009b\"");
//! ```

use std::fmt;

/// Whether a character can do something other than be seen: it is a control character (C0, DEL, C1), ends a line, or changes the
/// direction of what comes after it.
pub fn is_active(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// A text on one line, in which every active character is spelled out: `\n`, `\u{1b}`.
pub fn plain(text: &str) -> Plain<'_> {
    Plain(text)
}

/// See [`plain`].
#[derive(Clone, Copy, Debug)]
pub struct Plain<'a>(&'a str);

impl fmt::Display for Plain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0;
        while let Some((at, active)) = rest.char_indices().find(|(_, c)| is_active(*c)) {
            let (before, from) = rest.split_at(at);
            write!(f, "{before}{}", active.escape_default())?;
            rest = from.get(active.len_utf8()..).unwrap_or_default();
        }
        f.write_str(rest)
    }
}

/// One word for a shell, which it takes as nothing but that, whatever is in it. A word with active characters does no harm either, and
/// is not the name that it shows.
pub fn quoted(word: impl AsRef<std::ffi::OsStr>) -> String {
    let word = word.as_ref().to_string_lossy();
    // No option either.
    let dash = if word.starts_with('-') { "./" } else { "" };
    format!("'{dash}{}'", plain(&word.replace('\'', r"'\''")))
}

/// A text of JSON in which every active character is spelled out, too: JSON itself asks for that of the first 32 only. It means the
/// same, for such characters are in its strings and nowhere else.
pub fn json(text: String) -> String {
    // Where a pretty text has ends of lines, they are no part of a string.
    let is_special = |c: char| is_active(c) && !matches!(c, '\n' | '\r' | '\t');
    if !text.contains(is_special) {
        return text;
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match is_special(c) {
            true => escaped.push_str(&format!("\\u{:04x}", u32::from(c))),
            false => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    fn active() -> Vec<char> {
        (0..=0x10_ffff)
            .filter_map(char::from_u32)
            .filter(|c| is_active(*c))
            .collect()
    }

    #[test]
    fn control_characters_ends_of_lines_and_changes_of_direction_are_active_and_nothing_else_is() {
        let active = active();
        assert_eq!(active.len(), 32 + 1 + 32 + 1 + 2 + 7 + 4);
        assert!(
            !active
                .iter()
                .any(|c| "aä…– 漢\u{200d}\u{a0}\u{feff}".contains(*c))
        );
    }

    #[test]
    fn nothing_active_is_left_however_it_is_spelled() {
        let text: String = active().into_iter().flat_map(|c| ['ä', c, '\'']).collect();
        for spelled in [plain(&text).to_string(), quoted(&text)] {
            assert!(!spelled.contains(is_active), "{spelled}");
        }
        let spelled = json(serde_json::to_string(&text).unwrap_or_default());
        assert!(!spelled.contains(is_active), "{spelled}");
        assert_eq!(serde_json::from_str::<String>(&spelled).ok(), Some(text));
    }

    #[test]
    fn a_shell_takes_a_quoted_word_for_one_word() {
        for word in [
            "",
            "a b",
            "$(touch x)",
            "`x`",
            "it's",
            "\"",
            "\\",
            "-rf",
            "*",
            "~",
            "a;b",
            "''",
        ] {
            let script = format!("printf %s {}", quoted(word));
            let output = std::process::Command::new("sh").args(["-c", &script]).output();
            let said = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
            assert_eq!(
                said.ok(),
                Some(if word == "-rf" {
                    "./-rf".to_owned()
                } else {
                    word.to_owned()
                })
            );
        }
    }
}
