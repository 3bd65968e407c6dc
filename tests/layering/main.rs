//! Holds the library to the rows that src/lib.rs describes: who may know whom, who may know fuser, who may be unsafe.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod cycles;
mod source;

use std::collections::BTreeSet;
use std::fs;

use cycles::Crate;
use source::{Source, binary, library, source_dir, tokens};

/// The rows, topmost first. A module imports only from rows above its own.
const ROWS: &[&[&str]] = &[
    &["account"],
    &["error", "clock", "escape", "input"],
    &["identity", "keyfile", "name"],
    &["seal", "quota"],
    &["budget", "event", "layout", "record", "volume"],
    &["store", "auth", "audit", "hooks", "hosts", "metrics"],
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
            row(module).unwrap_or_else(|| {
                panic!("src/lib.rs: module {module} has no row: describe it there, and add it to ROWS here")
            })
        })
        .collect();
    for module in &listed {
        let described = lib.contains(&format!("- [`{module}`]: "));
        assert!(
            described,
            "src/lib.rs does not say what the module {module} is for"
        );
    }
    assert!(
        rows.is_sorted(),
        "src/lib.rs lists its modules out of the order of their rows in this test: {listed:?}"
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
            let part = own_parts.join(&window[2]);
            if climbs && !part.is_dir() && !part.with_extension("rs").exists() {
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
fn no_files_of_a_room_import_each_other_in_a_circle() {
    let library = Crate::new("", "lib", library());
    let rooms = library.rooms();
    let mut wrong: Vec<_> = rooms
        .iter()
        .flat_map(|room| library.cycles(std::slice::from_ref(room)))
        .collect();
    wrong.extend(Crate::new("bin/tenantfs", "main", binary()).cycles(&[]));
    assert_none(&wrong);
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
    let path = "x.rs".into();
    let imports = Source {
        path,
        tokens: tokens(text),
    }
    .imports();
    assert_eq!(imports.into_iter().collect::<Vec<_>>(), ["e", "f", "h", "n"]);
}
