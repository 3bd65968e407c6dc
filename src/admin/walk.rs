//! One pass over a volume: every tenant's directories, and every entry in them.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use super::{Finding, Ground, Problem};
use crate::error::{Error, Kind, Result};
use crate::layout::Layout;
use crate::name::{Resource, is_record};
use crate::volume::{Dir, FileType, ReadAhead, Stat};

/// Directories deeper than this are not entered.
const MAX_DEPTH: u32 = 32;

/// How many digits the name of a hash directory has.
const HASH_DIGITS: usize = 16;

/// An entry of a tenant's directory.
pub(super) struct Entry<'a> {
    /// The directory it is in.
    pub(super) dir: &'a Dir,
    pub(super) name: &'a str,
    /// From the volume's root on.
    pub(super) path: &'a str,
    pub(super) stat: Stat,
    /// The name of the hash directory that it is below.
    pub(super) hash: &'a str,
    /// None for what lies in a hash directory beside the resources.
    pub(super) resource: Option<&'a Resource>,
    /// The directories between the resource's and it, and a slash behind each.
    pub(super) below: &'a str,
}

/// What is done at each place.
pub(super) trait Visitor {
    /// How much of the volume was visited, in 0..1.
    fn progress(&mut self, _done: f64) {}

    /// Whether it is shown files. For who only has to know what can be looked at, directories are opened and nothing else is.
    fn wants_files(&self) -> bool {
        true
    }

    /// A hash directory, before anything in it. In `resource-first` there is one for each resource.
    fn home(&mut self, _dir: &Dir, _hash: &str, _path: &str) {}

    /// An entry that is no directory to be entered.
    fn entry(&mut self, entry: &Entry<'_>);

    /// A directory, after everything in it: `name` in `parent`. Hash directories too.
    fn left(&mut self, _parent: &Dir, _name: &str, _path: &str) {}

    /// Something that is not as it should be, whatever is looked for. All of them but invalid names conceal
    /// what is below.
    fn found(&mut self, finding: Finding);

    /// What `error` kept from being looked at.
    fn unreadable(&mut self, path: &str, error: &Error) {
        self.found(Finding::unreadable(path, error));
    }

    /// Something beside the hash directories, which is no tenant's.
    fn stray(&mut self, _finding: Finding) {}

    /// Whether to stop here.
    fn stops(&self) -> bool;
}

type Walked = ControlFlow<()>;

/// Visits everything, in the layout in force. Whether it came to the end.
///
/// # Errors
/// Any error of reading the volume's root; everything below it is a finding.
pub(super) fn walk(ground: &Ground, visitor: &mut impl Visitor) -> Result<bool> {
    walk_as(ground, ground.layout, None, visitor)
}

/// As [`walk`], but only below the hash directories of these names.
///
/// # Errors
/// As `walk`.
pub(super) fn walk_homes(ground: &Ground, only: &BTreeSet<&str>, visitor: &mut impl Visitor) -> Result<bool> {
    walk_as(ground, ground.layout, Some(only), visitor)
}

/// As [`walk`], as if this were the layout.
///
/// # Errors
/// As `walk`.
pub(super) fn walk_as(
    ground: &Ground,
    layout: Layout,
    only: Option<&BTreeSet<&str>>,
    visitor: &mut impl Visitor,
) -> Result<bool> {
    let root = ground.volume.root();
    root.stat_self()?;
    let mut walk = Walk {
        ground,
        layout,
        visitor,
        only,
    };
    Ok(walk.trees(root).is_continue())
}

struct Walk<'a, V> {
    ground: &'a Ground,
    layout: Layout,
    visitor: &'a mut V,
    /// The hash directories to be visited, if not all.
    only: Option<&'a BTreeSet<&'a str>>,
}

impl<V: Visitor> Walk<'_, V> {
    fn trees(&mut self, root: &Dir) -> Walked {
        let ground = self.ground;
        let trees: Vec<(&str, Option<&Resource>)> = match self.layout {
            Layout::ResourceFirst => {
                let resources = ground.resources.iter();
                resources
                    .map(|resource| (resource.as_str(), Some(resource)))
                    .collect()
            }
            Layout::UserFirst => vec![("users", None)],
        };
        for (index, (name, resource)) in trees.iter().enumerate() {
            let share = Share {
                begin: index as f64 / trees.len() as f64,
                width: 1.0 / trees.len() as f64,
            };
            if let Some(homes) = self.directory(root, name, name) {
                self.homes(&homes, name, *resource, share)?;
            }
        }
        Walked::Continue(())
    }

    /// The hash directories of `dir`; with the resource that they are of, where there is one.
    fn homes(&mut self, dir: &Dir, path: &str, resource: Option<&Resource>, share: Share) -> Walked {
        let names = match self.only {
            Some(only) => wanted(dir, only),
            None => self.names(dir, path),
        };
        let all = names.len() as f64;
        for (index, name) in names.into_iter().enumerate() {
            self.go_on()?;
            self.visitor
                .progress(share.begin + share.width * index as f64 / all);
            let path = format!("{path}/{name}");
            if !is_hash(&name) {
                let what = "no directory of a user's: its name is not 16 hexadecimal digits";
                self.visitor.stray(Finding::new(Problem::Special, &path, what));
                continue;
            }
            let Some(home) = self.directory(dir, &name, &path) else {
                continue;
            };
            self.visitor.home(&home, &name, &path);
            let place = Place {
                hash: &name,
                resource,
                below: "",
            };
            match resource {
                Some(_) => self.tenant(&home, &path, place, MAX_DEPTH)?,
                None => self.home(&home, &path, &name)?,
            }
            self.visitor.left(dir, &name, &path);
        }
        Walked::Continue(())
    }

    /// A hash directory that has the resources in it.
    fn home(&mut self, home: &Dir, path: &str, hash: &str) -> Walked {
        for name in self.names(home, path) {
            self.go_on()?;
            let path = format!("{path}/{name}");
            let resource = self
                .ground
                .resources
                .iter()
                .find(|resource| resource.as_str() == name);
            let place = Place {
                hash,
                resource,
                below: "",
            };
            match resource {
                Some(_) => {
                    if let Some(dir) = self.directory(home, &name, &path) {
                        self.tenant(&dir, &path, place, MAX_DEPTH)?;
                        self.visitor.left(home, &name, &path);
                    }
                }
                None => self.entry(home, &name, &path, place, home.stat(&name)),
            }
        }
        Walked::Continue(())
    }

    /// A directory of a tenant's, and everything below.
    fn tenant(&mut self, dir: &Dir, path: &str, place: Place<'_>, depth: u32) -> Walked {
        let names = self.names(dir, path);
        let mut ahead = ReadAhead::default();
        for (index, name) in names.iter().enumerate() {
            self.go_on()?;
            let due = ahead.due(names.get(index..).unwrap_or_default());
            due.iter()
                .filter(|name| is_record(name))
                .for_each(|name| dir.read_ahead(name));
            let path = format!("{path}/{name}");
            let stat = dir.stat(name);
            let is_directory = matches!(&stat, Ok(stat) if stat.file_type == FileType::Directory);
            if !is_directory || is_record(name) {
                self.entry(dir, name, &path, place, stat);
                continue;
            }
            if depth == 0 {
                self.found(Problem::Unreadable, &path, "too deep to be looked at");
                continue;
            }
            if let Some(inner) = self.directory(dir, name, &path) {
                let below = format!("{}{name}/", place.below);
                let place = Place {
                    below: &below,
                    ..place
                };
                self.tenant(&inner, &path, place, depth - 1)?;
                self.visitor.left(dir, name, &path);
            }
        }
        Walked::Continue(())
    }

    fn entry(&mut self, dir: &Dir, name: &str, path: &str, place: Place<'_>, stat: Result<Stat>) {
        match stat {
            Ok(stat) => self.visitor.entry(&Entry {
                dir,
                name,
                path,
                stat,
                hash: place.hash,
                resource: place.resource,
                below: place.below,
            }),
            // Gone since it was listed.
            Err(error) if error.kind() == Kind::NotFound => {}
            Err(error) => self.visitor.unreadable(path, &error),
        }
    }

    /// The directory `name`, if it can be opened. That it cannot is told, unless nothing has that name.
    fn directory(&mut self, dir: &Dir, name: &str, path: &str) -> Option<Dir> {
        let error = match dir.open_dir(name) {
            Ok(opened) => return Some(opened),
            Err(error) => error,
        };
        match dir.stat(name) {
            // Absent, or gone since it was listed.
            Err(absent) if absent.kind() == Kind::NotFound => {}
            // What links and files lead to is never entered: it may be anybody's.
            Ok(stat) if stat.file_type != FileType::Directory => self.found(
                Problem::Special,
                path,
                "not a directory, where one belongs: what it leads to is not looked at",
            ),
            _ => self.visitor.unreadable(path, &error),
        }
        None
    }

    /// The names in a directory, in order, so that every run meets them in the same one.
    fn names(&mut self, dir: &Dir, path: &str) -> Vec<String> {
        let (mut names, mut invalid) = (Vec::new(), Vec::new());
        let sort = |name: &[u8]| match std::str::from_utf8(name) {
            Ok(name) => names.push(name.to_owned()),
            Err(_) => invalid.push(String::from_utf8_lossy(name).into_owned()),
        };
        let listed = match self.visitor.wants_files() {
            true => dir.entries(sort),
            false => dir
                .directories()
                .map(|names| names.iter().map(Vec::as_slice).for_each(sort)),
        };
        for name in invalid {
            let what = "the name is not UTF-8: rename it";
            self.found(Problem::InvalidName, &format!("{path}/{name}"), what);
        }
        if let Err(error) = listed {
            self.visitor.unreadable(path, &error);
        }
        names.sort_unstable();
        names
    }

    fn go_on(&self) -> Walked {
        match self.visitor.stops() {
            true => Walked::Break(()),
            false => Walked::Continue(()),
        }
    }

    fn found(&mut self, problem: Problem, path: &str, detail: &str) {
        self.visitor.found(Finding::new(problem, path, detail));
    }
}

/// Those of the names in `only` that may be in `dir`. Its names are read where there are no more of them than
/// are asked for.
fn wanted(dir: &Dir, only: &BTreeSet<&str>) -> Vec<String> {
    let (mut met, mut there) = (0, Vec::new());
    let listed = dir.entries_until(|name| {
        met += 1;
        let name = std::str::from_utf8(name).ok();
        there.extend(name.filter(|name| only.contains(name)).map(str::to_owned));
        match met > only.len() {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    });
    match listed.is_ok() && met <= only.len() {
        true => {
            there.sort_unstable();
            there
        }
        false => only.iter().map(ToString::to_string).collect(),
    }
}

/// Which part of the whole a tree is.
#[derive(Clone, Copy)]
struct Share {
    begin: f64,
    width: f64,
}

/// Where in a tenant's directories something is.
#[derive(Clone, Copy)]
struct Place<'a> {
    hash: &'a str,
    resource: Option<&'a Resource>,
    below: &'a str,
}

fn is_hash(name: &str) -> bool {
    name.len() == HASH_DIGITS && name.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// The names of the hash directories in `dir`, in order.
///
/// # Errors
/// Any error of listing a directory.
pub(super) fn hashes(dir: &Dir) -> Result<Vec<String>> {
    let mut names = Vec::new();
    dir.entries(|name| names.extend(std::str::from_utf8(name).ok().map(str::to_owned)))?;
    names.retain(|name| is_hash(name));
    names.sort_unstable();
    Ok(names)
}
