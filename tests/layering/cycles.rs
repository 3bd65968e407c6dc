//! Which files of one room import each other, and the circles in that.
//!
//! A path is followed to the file that defines what it names: through `use` declarations of others, so that a room's mod.rs
//! that only passes a name on is not part of the way.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::source::Source;

/// A path within the crate: `["mounter", "client", "Mounter"]`.
type Path = Vec<String>;

/// The files of a crate, by the paths of their modules.
pub(super) struct Crate {
    files: BTreeMap<Path, File>,
}

#[derive(Default)]
struct File {
    /// Relative to the crate's root, without the extension: `mounter/client`.
    name: String,
    /// What its `use` declarations call by which name.
    aliases: BTreeMap<String, Path>,
    /// The paths that its code needs.
    needed: Vec<Path>,
}

impl Crate {
    /// The crate whose root is the file `root`, `lib.rs` or `main.rs`, in the folder `folder` of `src/`.
    pub(super) fn new(folder: &str, root: &str, sources: Vec<Source>) -> Self {
        let named: BTreeMap<Path, (String, Vec<String>)> = sources
            .into_iter()
            .map(|source| {
                let relative = source.path.strip_prefix(folder).unwrap().with_extension("");
                let name = relative.to_str().unwrap().to_owned();
                let mut module: Path = name.split('/').map(str::to_owned).collect();
                if name == root || module.last().is_some_and(|last| last == "mod") {
                    module.pop();
                }
                (module, (name, source.tokens))
            })
            .collect();
        let modules: BTreeSet<Path> = named.keys().cloned().collect();
        let files = named
            .into_iter()
            .map(|(module, (name, tokens))| {
                let reader = Reader::new(&modules, module.clone(), without_tests(&tokens));
                (module, reader.read(name))
            })
            .collect();
        Self { files }
    }

    /// The crate's topmost modules.
    pub(super) fn rooms(&self) -> BTreeSet<String> {
        self.files
            .keys()
            .filter_map(|module| module.first().cloned())
            .collect()
    }

    /// The circles among the files below the module `room`: among all files, when that is empty.
    pub(super) fn cycles(&self, room: &[String]) -> Vec<String> {
        let inside = |module: &&Path| module.starts_with(room);
        let imports: BTreeMap<&Path, BTreeSet<&Path>> = self
            .files
            .keys()
            .filter(inside)
            .map(|module| (module, self.imports(module).into_iter().filter(inside).collect()))
            .collect();
        let found: BTreeSet<String> = imports
            .keys()
            .filter_map(|start| shortest_way_back(&imports, start))
            .map(|way| self.shown(way))
            .collect();
        found.into_iter().collect()
    }

    /// The other files that define what the file of `module` needs.
    fn imports(&self, module: &Path) -> BTreeSet<&Path> {
        let needed = self.files[module].needed.iter();
        needed
            .map(|path| self.definer(path, 0))
            .filter(|definer| *definer != module)
            .collect()
    }

    /// The file that defines what `path` names.
    fn definer(&self, path: &[String], followed: usize) -> &Path {
        let length = (0..=path.len())
            .rev()
            .find(|length| self.files.contains_key(&path[..*length]))
            .unwrap();
        let (module, file) = self.files.get_key_value(&path[..length]).unwrap();
        let alias = path.get(length).and_then(|name| file.aliases.get(name));
        match alias {
            // Whoever names things in a circle is not followed for ever.
            Some(target) if followed < 10 => {
                let whole: Path = target.iter().chain(&path[length + 1..]).cloned().collect();
                self.definer(&whole, followed + 1)
            }
            _ => module,
        }
    }

    /// `a -> b -> a`, from the first by name on, so that each is shown once.
    fn shown(&self, way: Vec<&Path>) -> String {
        let mut names: Vec<&str> = way.into_iter().map(|module| &*self.files[module].name).collect();
        let first = (0..names.len()).min_by_key(|at| names[*at]).unwrap();
        names.rotate_left(first);
        names.push(names[0]);
        names.join(" -> ")
    }
}

/// The files on the shortest way from `start` to itself.
fn shortest_way_back<'c>(
    imports: &BTreeMap<&'c Path, BTreeSet<&'c Path>>,
    start: &'c Path,
) -> Option<Vec<&'c Path>> {
    let mut reached_from = BTreeMap::new();
    let mut pending = VecDeque::from([start]);
    while let Some(at) = pending.pop_front() {
        if imports[at].contains(start) {
            let back = |at: &&'c Path| reached_from.get(at).copied();
            let mut way: Vec<_> = std::iter::successors(Some(at), back).collect();
            way.reverse();
            return Some(way);
        }
        for next in &imports[at] {
            if *next != start && !reached_from.contains_key(next) {
                reached_from.insert(*next, at);
                pending.push_back(next);
            }
        }
    }
    None
}

/// What only tests import holds nothing up. The scope of a visibility is no import either.
fn without_tests(tokens: &[String]) -> Vec<String> {
    const TESTS: [&str; 8] = ["#", "[", "cfg", "(", "test", ")", "]", "mod"];
    let mut kept = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let rest = &tokens[at..];
        if rest.iter().take(TESTS.len()).eq(TESTS.iter())
            && rest.get(TESTS.len() + 1).is_some_and(|t| t == "{")
        {
            at += TESTS.len() + 1;
            at += bracketed(&tokens[at..], "{", "}");
        } else if matches!(rest, [public, bracket, ..] if public == "pub" && bracket == "(") {
            kept.push(rest[0].clone());
            at += 1 + bracketed(&rest[1..], "(", ")");
        } else {
            kept.push(rest[0].clone());
            at += 1;
        }
    }
    kept
}

/// How many tokens there are up to the bracket that closes the first one.
fn bracketed(tokens: &[String], open: &str, close: &str) -> usize {
    let mut depth = 0_usize;
    for (at, token) in tokens.iter().enumerate() {
        if token == open {
            depth += 1;
        } else if token == close {
            depth -= 1;
            if depth == 0 {
                return at + 1;
            }
        }
    }
    tokens.len()
}

/// Reads what a file needs from its tokens.
struct Reader<'c> {
    modules: &'c BTreeSet<Path>,
    /// Where the code is that is being read, inline modules included; and at which depth of brackets those end.
    module: Path,
    inline_ends: Vec<usize>,
    tokens: Vec<String>,
    /// `pub use` declarations: they are needed if the file uses their names itself.
    passed_on: Vec<(String, Path)>,
    /// First segments of paths, and names that stand alone.
    named: BTreeSet<String>,
    file: File,
}

impl<'c> Reader<'c> {
    fn new(modules: &'c BTreeSet<Path>, module: Path, tokens: Vec<String>) -> Self {
        Self {
            modules,
            module,
            inline_ends: Vec::new(),
            tokens,
            passed_on: Vec::new(),
            named: BTreeSet::new(),
            file: File::default(),
        }
    }

    fn read(mut self, name: String) -> File {
        let (mut at, mut depth) = (0, 0);
        while at < self.tokens.len() {
            match self.tokens[at].as_str() {
                "mod" if self.token(at + 2) == "{" => {
                    self.module.push(self.tokens[at + 1].clone());
                    self.inline_ends.push(depth);
                    at += 1;
                }
                // Not an import: the parent of a module is no more than its place.
                "mod" => at += 1,
                "{" => depth += 1,
                "}" => {
                    depth -= 1;
                    if self.inline_ends.last() == Some(&depth) {
                        self.inline_ends.pop();
                        self.module.pop();
                    }
                }
                "use" if self.token(at + 1) != "<" => at = self.declaration(at),
                token if is_name(token) && !matches!(self.token(at.wrapping_sub(1)), "::" | ".") => {
                    at = self.path(at);
                }
                _ => {}
            }
            at += 1;
        }
        let used = self
            .passed_on
            .into_iter()
            .filter(|(name, _)| self.named.contains(name));
        self.file.needed.extend(used.map(|(_, path)| path));
        self.file.name = name;
        self.file
    }

    /// Empty where there is none.
    fn token(&self, at: usize) -> &str {
        self.tokens.get(at).map_or("", String::as_str)
    }

    /// A path in an expression or a type. Returns its last token.
    fn path(&mut self, start: usize) -> usize {
        let mut path = vec![self.tokens[start].clone()];
        let mut at = start;
        while self.token(at + 1) == "::" && is_name(self.token(at + 2)) {
            at += 2;
            path.push(self.tokens[at].clone());
        }
        // A variable or field may be called like a function.
        let is_type = path[0].starts_with(char::is_uppercase);
        let is_called = matches!(self.token(at + 1), "(" | "::") && self.token(start.wrapping_sub(1)) != "fn";
        if is_type || is_called || path.len() > 1 {
            self.named.insert(path[0].clone());
        }
        if path.len() > 1 {
            let absolute = self.absolute(&path);
            self.file.needed.extend(absolute);
        }
        at
    }

    /// A `use` declaration. Returns its semicolon.
    fn declaration(&mut self, start: usize) -> usize {
        let public = self.token(start.wrapping_sub(1)) == "pub";
        let length = self.tokens[start..]
            .iter()
            .position(|token| token == ";")
            .unwrap();
        let tree = self.tokens[start + 1..start + length].to_vec();
        for (path, alias) in leaves(&tree) {
            let Some(absolute) = self.absolute(&path) else {
                continue;
            };
            // The names of an inline module are not the file's.
            if self.inline_ends.is_empty() {
                self.file.aliases.insert(alias.clone(), absolute.clone());
            }
            match public {
                true => self.passed_on.push((alias, absolute)),
                false => self.file.needed.push(absolute),
            }
        }
        start + length
    }

    /// The path from the crate's root on; nothing for other crates', and for what the file has under a name of its own.
    fn absolute(&self, path: &[String]) -> Option<Path> {
        let supers = path.iter().take_while(|segment| *segment == "super").count();
        let (base, rest) = match path[0].as_str() {
            "crate" => (&[][..], &path[1..]),
            "self" => (&self.module[..], &path[1..]),
            "super" => (
                &self.module[..self.module.len().checked_sub(supers)?],
                &path[supers..],
            ),
            child => {
                let mut module = self.module.clone();
                module.push(child.to_owned());
                if !self.modules.contains(&module) {
                    return None;
                }
                (&self.module[..], path)
            }
        };
        Some(base.iter().chain(rest).cloned().collect())
    }
}

fn is_name(token: &str) -> bool {
    token.starts_with(|first: char| first.is_alphabetic() || first == '_')
}

/// The paths of a `use` tree, and by what name each is known then.
fn leaves(tree: &[String]) -> Vec<(Path, String)> {
    let group = tree.iter().position(|token| token == "{");
    let prefix: Path = tree[..group.unwrap_or(tree.len())]
        .iter()
        .filter(|token| *token != "::")
        .cloned()
        .collect();
    let Some(group) = group else {
        return Vec::from_iter(leaf(prefix));
    };
    let inner = &tree[group + 1..tree.len() - 1];
    let mut found = Vec::new();
    for branch in branches(inner) {
        for (path, alias) in leaves(branch) {
            let own = path.first().is_some_and(|first| first == "self");
            let whole: Path = prefix.iter().chain(&path[usize::from(own)..]).cloned().collect();
            let renamed = !own || alias != "self";
            let alias = if renamed {
                alias
            } else {
                prefix.last().unwrap().clone()
            };
            found.push((whole, alias));
        }
    }
    found
}

fn leaf(mut path: Path) -> Option<(Path, String)> {
    let renamed = path.iter().position(|token| token == "as");
    let alias = path.last()?.clone();
    path.truncate(renamed.unwrap_or(path.len()));
    Some((path, alias))
}

/// What the commas outside of inner braces separate.
fn branches(tokens: &[String]) -> Vec<&[String]> {
    let mut depth = 0_usize;
    let split = tokens.split(|token| {
        match token.as_str() {
            "{" => depth += 1,
            "}" => depth -= 1,
            _ => {}
        }
        token == "," && depth == 0
    });
    split.filter(|branch| !branch.is_empty()).collect()
}

#[test]
fn circles_are_seen_through_re_exports_and_not_where_there_are_none() {
    let cycles = |files: &[(&str, &str)]| {
        let source = |(path, text): &(&str, &str)| Source {
            path: path.into(),
            tokens: super::source::tokens(text),
        };
        Crate::new("", "lib", files.iter().map(source).collect()).cycles(&["a".to_owned()])
    };
    let root = (
        "a/mod.rs",
        "mod b; mod c; pub use b::B; pub struct A; fn a() { let b = 1; }",
    );
    let found = cycles(&[
        root,
        ("a/b.rs", "use super::A;"),
        ("a/c.rs", "use super::{A, B};"),
    ]);
    assert_eq!(found, [""; 0], "mod.rs only passes B on");
    let found = cycles(&[
        root,
        ("a/b.rs", "use super::c;"),
        ("a/c.rs", "use crate::a::{A, B as D};"),
    ]);
    assert_eq!(found, ["a/b -> a/c -> a/b"]);
    let found = cycles(&[
        root,
        ("a/b.rs", "mod tests { use super::super::c::C; }"),
        ("a/c.rs", "super::B"),
    ]);
    assert_eq!(found, ["a/b -> a/c -> a/b"]);
    let tests = "#[cfg(test)] mod tests { use super::super::c::C; }";
    let found = cycles(&[root, ("a/b.rs", tests), ("a/c.rs", "super::B")]);
    assert_eq!(found, [""; 0], "only a test needs it");
    let root = ("a/mod.rs", "mod b; pub use b::B; pub struct A(B);");
    let found = cycles(&[root, ("a/b.rs", "pub(in super::super) struct B(super::A);")]);
    assert_eq!(found, ["a/b -> a/mod -> a/b"], "mod.rs needs what it passes on");
    let root = ("a/mod.rs", r#"mod b; #[serde(with = "b::f")] struct A;"#);
    assert_eq!(
        cycles(&[root, ("a/b.rs", "use super::*;")]),
        ["a/b -> a/mod -> a/b"]
    );
}
