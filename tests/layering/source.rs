//! The source files as tokens: code, without comments and literals.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// One source file, without comments and literals.
pub(super) struct Source {
    /// Relative to `src/`.
    pub(super) path: PathBuf,
    pub(super) tokens: Vec<String>,
}

impl Source {
    /// The top-level module it belongs to; `lib` for the root.
    pub(super) fn module(&self) -> String {
        let first = self.path.components().next().unwrap();
        Path::new(first.as_os_str())
            .file_stem()
            .unwrap()
            .to_str()
            .unwrap()
            .to_owned()
    }

    pub(super) fn names(&self, word: &str) -> bool {
        self.tokens.iter().any(|token| token == word)
    }

    /// The top-level modules named in `crate::a::…` and `crate::{a::…, b::…}`.
    pub(super) fn imports(&self) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        for (at, window) in self.tokens.windows(3).enumerate() {
            if window[0] != "crate" || window[1] != "::" {
                continue;
            }
            if window[2] != "{" {
                found.insert(window[2].clone());
                continue;
            }
            let mut depth = 0;
            let mut expecting = false;
            for token in &self.tokens[at + 2..] {
                match token.as_str() {
                    "{" => {
                        depth += 1;
                        expecting = depth == 1;
                    }
                    "}" => {
                        depth -= 1;
                        if depth == 0 {
                            break;
                        }
                    }
                    "," => expecting = depth == 1,
                    name if expecting => {
                        found.insert(name.to_owned());
                        expecting = false;
                    }
                    _ => {}
                }
            }
        }
        found
    }
}

/// Identifiers, `::` and single punctuation marks; comments, strings and characters are left out. Only a string that names
/// code, as in `#[serde(with = "module")]`, is code.
pub(super) fn tokens(text: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let skip = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            block_comment(rest)
        } else if let Some(len) = string_literal(rest) {
            if let [.., name, equals] = &*found
                && name.ends_with("with")
                && equals == "="
            {
                found.extend(tokens(rest[..len].trim_matches('"')));
            }
            len
        } else if first == '\'' {
            char_literal(rest)
        } else if first.is_alphanumeric() || first == '_' {
            let len = rest
                .find(|c: char| !c.is_alphanumeric() && c != '_')
                .unwrap_or(rest.len());
            found.push(rest[..len].to_owned());
            len
        } else if rest.starts_with("::") {
            found.push("::".to_owned());
            2
        } else {
            if !first.is_whitespace() {
                found.push(first.to_string());
            }
            first.len_utf8()
        };
        rest = &rest[skip..];
    }
    found
}

fn block_comment(text: &str) -> usize {
    let mut depth = 0;
    let mut at = 0;
    while at < text.len() {
        if text[at..].starts_with("/*") {
            depth += 1;
            at += 2;
        } else if text[at..].starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                break;
            }
        } else {
            at += text[at..].chars().next().unwrap().len_utf8();
        }
    }
    at
}

/// The length of the string literal that `text` begins with: `"…"`, `b"…"`, `c"…"`, `r#"…"#` and their kin.
fn string_literal(text: &str) -> Option<usize> {
    let prefix = ["br", "cr", "r", "b", "c", ""].into_iter().find(|prefix| {
        text.strip_prefix(prefix)
            .is_some_and(|t| t.starts_with(['"', '#']))
    })?;
    let body = &text[prefix.len()..];
    let hashes = body.len() - body.trim_start_matches('#').len();
    if hashes > 0 && !prefix.ends_with('r') || !body[hashes..].starts_with('"') {
        return None;
    }
    let start = prefix.len() + hashes + 1;
    if prefix.ends_with('r') {
        let end = format!("\"{}", "#".repeat(hashes));
        return Some(start + text[start..].find(&end)? + end.len());
    }
    let mut escaped = false;
    for (at, c) in text[start..].char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return Some(start + at + 1),
            _ => {}
        }
    }
    None
}

/// The length of a character literal, or of the quote alone where it begins a lifetime.
fn char_literal(text: &str) -> usize {
    let mut chars = text.char_indices().skip(1);
    match chars.next() {
        // The escaped character itself may be a quote: look behind it.
        Some((_, '\\')) => text[3..].find('\'').map_or(1, |at| at + 4),
        Some((at, c)) if text[at + c.len_utf8()..].starts_with('\'') => at + c.len_utf8() + 1,
        _ => 1,
    }
}

pub(super) fn source_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// Every file of the library; the binary is a crate of its own and not held to the rows.
pub(super) fn library() -> Vec<Source> {
    files_below(&source_dir(), Some(&source_dir().join("bin")))
}

/// Every file of the binary.
pub(super) fn binary() -> Vec<Source> {
    files_below(&source_dir().join("bin/tenantfs"), None)
}

fn files_below(root: &Path, except: Option<&Path>) -> Vec<Source> {
    let mut found = Vec::new();
    let mut pending = vec![root.to_owned()];
    while let Some(dir) = pending.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                pending.extend((except != Some(&*path)).then_some(path));
            } else if path.extension().is_some_and(|ext| ext == "rs") {
                found.push(Source {
                    tokens: tokens(&fs::read_to_string(&path).unwrap()),
                    path: path.strip_prefix(source_dir()).unwrap().to_owned(),
                });
            }
        }
    }
    assert!(found.len() > 3, "no sources below {}", root.display());
    found
}
