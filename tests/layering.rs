//! Holds the library to the layers of DESIGN.md section 7: who may know whom, who may know fuser, who may be unsafe.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The rows of section 7, topmost first. A module imports only from rows above its own.
const ROWS: &[&[&str]] = &[
    &["error", "clock"],
    &["identity", "keyfile", "name"],
    &["seal"],
    &["budget", "event", "layout", "record", "volume"],
    &["store", "auth", "audit", "metrics"],
    &["vfs", "admin"],
    &["fuse", "mounter"],
    &["session", "daemon"],
];

/// Imports between neighbours of one row: `(who, whom, why)`.
const NEIGHBOURS: &[(&str, &str, &str)] = &[("daemon", "session", "a daemon is many sessions")];

/// Files with `unsafe` blocks, and what they cannot have otherwise.
const UNSAFE_FILES: &[(&str, &str)] = &[(
    "volume/write_back.rs",
    "sync_file_range(2): a wait for the content without one for the disk's cache",
)];

/// Crates that only the binary may use: the library has no opinion on how it is configured or started.
const BINARY_ONLY: &[&str] = &[
    "clap",
    "toml",
    "env_logger",
    "indicatif",
    "signal_hook",
    "ExitCode",
];

/// One source file of the library, without comments and literals.
struct Source {
    /// Relative to `src/`.
    path: PathBuf,
    tokens: Vec<String>,
}

impl Source {
    /// The top-level module it belongs to; `lib` for the root.
    fn module(&self) -> String {
        let first = self.path.components().next().unwrap();
        Path::new(first.as_os_str())
            .file_stem()
            .unwrap()
            .to_str()
            .unwrap()
            .to_owned()
    }

    fn names(&self, word: &str) -> bool {
        self.tokens.iter().any(|token| token == word)
    }

    /// The top-level modules named in `crate::a::…` and `crate::{a::…, b::…}`.
    fn imports(&self) -> BTreeSet<String> {
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

/// Identifiers, `::` and single punctuation marks; comments, strings and characters are left out.
fn tokens(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let skip = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            block_comment(rest)
        } else if let Some(len) = string_literal(rest) {
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

fn source_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// Every file of the library; the binary is a crate of its own and not held to the rows.
fn library() -> Vec<Source> {
    let mut found = Vec::new();
    let mut pending = vec![source_dir()];
    while let Some(dir) = pending.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let relative = path.strip_prefix(source_dir()).unwrap().to_owned();
            if path.is_dir() {
                if relative != Path::new("bin") {
                    pending.push(path);
                }
            } else if path.extension().is_some_and(|ext| ext == "rs") {
                let tokens = tokens(&fs::read_to_string(&path).unwrap());
                found.push(Source {
                    path: relative,
                    tokens,
                });
            }
        }
    }
    assert!(found.len() > 3, "no sources below {}", source_dir().display());
    found
}

fn row(module: &str) -> Option<usize> {
    ROWS.iter().position(|row| row.contains(&module))
}

fn assert_none(wrong: &[String]) {
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn every_module_has_a_row_and_lib_rs_lists_them_in_that_order() {
    let lib = fs::read_to_string(source_dir().join("lib.rs")).unwrap();
    let tokens = tokens(&lib);
    let listed: Vec<_> = tokens
        .windows(2)
        .filter(|pair| pair[0] == "mod")
        .map(|pair| pair[1].clone())
        .collect();
    let rows: Vec<_> = listed
        .iter()
        .map(|module| {
            row(module)
                .unwrap_or_else(|| panic!("src/lib.rs: module {module} has no row in DESIGN.md section 7"))
        })
        .collect();
    assert!(
        rows.is_sorted(),
        "src/lib.rs lists its modules out of the order of section 7: {listed:?}"
    );
}

#[test]
fn modules_import_only_from_rows_above_their_own() {
    let mut wrong = Vec::new();
    for source in library() {
        let module = source.module();
        let Some(own) = row(&module) else { continue };
        for import in source.imports() {
            let allowed = import == module
                || row(&import).is_some_and(|theirs| theirs < own)
                || NEIGHBOURS
                    .iter()
                    .any(|(who, whom, _)| *who == module && *whom == import);
            if !allowed {
                wrong.push(format!(
                    "src/{}: {module} must not know {import}",
                    source.path.display()
                ));
            }
        }
    }
    assert_none(&wrong);
}

/// `super::` is for a module's own parts: a path that climbs to another module would escape the check above.
#[test]
fn other_modules_are_reached_by_their_full_path() {
    let mut wrong = Vec::new();
    for source in library() {
        let own_parts = source_dir().join(source.module());
        for window in source.tokens.windows(3) {
            let climbs = window[0] == "super" && window[1] == "::" && row(&window[2]).is_some();
            if climbs && !own_parts.join(&window[2]).with_extension("rs").exists() {
                wrong.push(format!(
                    "src/{}: write crate::{}",
                    source.path.display(),
                    window[2]
                ));
            }
        }
    }
    assert_none(&wrong);
}

#[test]
fn only_the_fuse_module_knows_fuser() {
    let wrong: Vec<_> = library()
        .into_iter()
        .filter(|source| source.module() != "fuse" && source.names("fuser"))
        .map(|source| format!("src/{} names fuser", source.path.display()))
        .collect();
    assert_none(&wrong);
}

#[test]
fn the_library_cannot_reach_the_command_line() {
    let mut wrong = Vec::new();
    for source in library() {
        for name in BINARY_ONLY {
            if source.names(name) {
                wrong.push(format!("src/{} names {name}", source.path.display()));
            }
        }
    }
    assert_none(&wrong);
}

#[test]
fn unsafe_is_where_the_list_says_and_nowhere_else() {
    let found: BTreeSet<_> = library()
        .into_iter()
        .filter(|source| source.names("unsafe") || source.names("unsafe_code"))
        .map(|source| source.path.to_str().unwrap().to_owned())
        .collect();
    let listed: BTreeSet<_> = UNSAFE_FILES.iter().map(|(path, _)| (*path).to_owned()).collect();
    assert_eq!(
        found, listed,
        "files with unsafe code (left) differ from the list of this test (right)"
    );
}

#[test]
fn the_tokenizer_sees_code_and_nothing_else() {
    let text = r###"
        // crate::a
        /* crate::b /* crate::c */ crate::d */
        use crate::{e::E, f::{self, g}, h};
        const S: &str = "crate::i \" crate::j";
        const R: &str = r#"crate::k " crate::l"#;
        fn m<'a>(c: char) -> bool { c == '"' || c == '\'' || crate::n::o() }
    "###;
    let path = PathBuf::from("x.rs");
    let imports = Source {
        path,
        tokens: tokens(text),
    }
    .imports();
    assert_eq!(imports.into_iter().collect::<Vec<_>>(), ["e", "f", "h", "n"]);
}
