//! One pass over a volume: every tenant's directories, and every entry in them.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::vec;

use super::share::Share;
use super::trail::Trail;
use super::{Finding, Ground, Problem};
use crate::error::{Error, Kind, Result};
use crate::identity::UserHash;
use crate::layout::Layout;
use crate::name::{Resource, is_record};
use crate::volume::{Descent, Dir, FileType, ReadAhead, Stat};

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
    /// The directories between the resource's and it as they are shown, with a slash behind each.
    pub(super) below: &'a str,
    /// What they are called.
    pub(super) steps: &'a [String],
}

/// What is done at each place.
pub(super) trait Visitor {
    /// How much of the volume was visited, in 0..1.
    fn progress(&mut self, _done: f64) {}

    /// Whether a directory of this name is entered. Of one that is called as records are, a mount shows nothing.
    fn enters(&self, name: &str) -> bool {
        !is_record(name)
    }

    /// Below here, the directories that `long` leads through are shown as `short`.
    fn abbreviated(&mut self, _short: &str, _long: &str) {}

    /// Whether it is shown files. For who only has to know what can be looked at, tenants' directories are opened and nothing else is.
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
        let sizes: Vec<usize> = trees.iter().map(|(name, _)| self.size(root, name)).collect();
        for ((name, resource), share) in trees.iter().zip(Share::by_size(&sizes)) {
            if let Some(homes) = self.directory(root, name, name) {
                self.homes(&homes, name, *resource, share)?;
            }
        }
        self.visitor.progress(1.0);
        Walked::Continue(())
    }

    /// How many directories are to be visited in a tree. One that cannot be opened has none, and is told when it is its turn.
    fn size(&self, root: &Dir, name: &str) -> usize {
        let Ok(tree) = root.open_dir(name) else { return 0 };
        let mut size = 0;
        match self.only {
            Some(only) => size = only.len(),
            None => _ = tree.entries(|_| size += 1),
        }
        size
    }

    /// The hash directories of `dir`; with the resource that they are of, where there is one.
    fn homes(&mut self, dir: &Dir, path: &str, resource: Option<&Resource>, share: Share) -> Walked {
        let names = match self.only {
            Some(only) => wanted(dir, only),
            None => self.names(dir, path),
        };
        let all = names.len();
        for (index, name) in names.into_iter().enumerate() {
            self.go_on()?;
            let share = share.part(index, all);
            self.visitor.progress(share.begin());
            let path = format!("{path}/{name}");
            if !UserHash::is_spelled(&name) {
                let what = "no directory of a user's: its name is not 16 hexadecimal digits";
                self.visitor.stray(Finding::new(Problem::Special, &path, what));
                continue;
            }
            let Some(home) = self.directory(dir, &name, &path) else {
                continue;
            };
            self.visitor.home(&home, &name, &path);
            match resource {
                Some(resource) => {
                    let hash = &name;
                    self.tenant(home, &path, Home { hash, resource }, share)?;
                }
                None => self.home(&home, &path, &name, share)?,
            }
            self.visitor.left(dir, &name, &path);
        }
        Walked::Continue(())
    }

    /// A hash directory that has the resources in it.
    fn home(&mut self, home: &Dir, path: &str, hash: &str, share: Share) -> Walked {
        let names = self.names(home, path);
        let all = names.len();
        for (index, name) in names.into_iter().enumerate() {
            self.go_on()?;
            let share = share.part(index, all);
            let path = format!("{path}/{name}");
            let resource = self
                .ground
                .resources
                .iter()
                .find(|resource| resource.as_str() == name);
            match resource {
                Some(resource) => {
                    if let Some(dir) = self.directory(home, &name, &path) {
                        self.tenant(dir, &path, Home { hash, resource }, share)?;
                        self.visitor.left(home, &name, &path);
                    }
                }
                None => {
                    let place = Place {
                        hash,
                        resource: None,
                        below: "",
                        steps: &[],
                    };
                    self.entry(home, &name, &path, place, home.stat(&name));
                }
            }
        }
        Walked::Continue(())
    }

    /// A directory of a tenant's, and everything below, however deep it is.
    fn tenant(&mut self, top: Dir, path: &str, home: Home<'_>, share: Share) -> Walked {
        let names = self.inner_names(&top, path);
        let all = names.len();
        let mut tree = Tree::new(top, path, names);
        while let Some(level) = tree.levels.last_mut() {
            self.go_on()?;
            let dir = match tree.way.here() {
                Ok(dir) => dir,
                Err(error) => {
                    self.visitor.unreadable(&tree.lost(), &error);
                    continue;
                }
            };
            let due = level.ahead.due(level.names.as_slice());
            due.iter()
                .filter(|name| is_record(name))
                .for_each(|name| dir.read_ahead(name));
            let Some(name) = level.names.next() else {
                self.leave(&mut tree);
                continue;
            };
            if let [top] = tree.levels.as_slice() {
                let visited = all - top.names.len() - 1;
                self.visitor.progress(share.part(visited, all).begin());
            }
            let path = tree.trail.of(&name);
            let stat = dir.stat(&name);
            let is_directory = matches!(&stat, Ok(stat) if stat.file_type == FileType::Directory);
            if !is_directory || !self.visitor.enters(&name) {
                let below = tree.trail.below(&path, &name);
                let dir = tree.way.last();
                let place = home.at(tree.way.names(), below);
                self.entry(dir, &name, &path, place, stat);
                continue;
            }
            if let Some(inner) = self.directory(dir, &name, &path) {
                let names = self.inner_names(&inner, &path);
                if let Some((short, long)) = tree.enter(&name, inner, names) {
                    self.visitor.abbreviated(&short, &long);
                }
            }
        }
        Walked::Continue(())
    }

    /// Leaves a directory after everything in it. The top one is left by whoever has its parent.
    fn leave(&mut self, tree: &mut Tree) {
        let Some(name) = tree.leave() else { return };
        match tree.way.here() {
            Ok(parent) => self.visitor.left(parent, &name, &tree.trail.of(&name)),
            Err(error) => self.visitor.unreadable(&tree.lost(), &error),
        }
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
                steps: place.steps,
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
        let mut names = Vec::new();
        let listed = dir.entries(|name| names.push(name.to_vec()));
        self.in_order(names, listed, path)
    }

    /// The same of a tenant's directory: of what is in it, a visitor may want the directories only.
    fn inner_names(&mut self, dir: &Dir, path: &str) -> Vec<String> {
        if self.visitor.wants_files() {
            return self.names(dir, path);
        }
        match dir.directories() {
            Ok(names) => self.in_order(names, Ok(()), path),
            Err(error) => self.in_order(Vec::new(), Err(error), path),
        }
    }

    fn in_order(&mut self, listed: Vec<Vec<u8>>, outcome: Result<()>, path: &str) -> Vec<String> {
        let mut names = Vec::with_capacity(listed.len());
        for name in listed {
            match String::from_utf8(name) {
                Ok(name) => names.push(name),
                Err(invalid) => {
                    let name = String::from_utf8_lossy(invalid.as_bytes()).into_owned();
                    let what = "the name is not UTF-8: rename it";
                    self.found(Problem::InvalidName, &format!("{path}/{name}"), what);
                }
            }
        }
        if let Err(error) = outcome {
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

/// A tenant's directory of one resource.
#[derive(Clone, Copy)]
struct Home<'a> {
    hash: &'a str,
    resource: &'a Resource,
}

impl<'a> Home<'a> {
    fn at(self, steps: &'a [String], below: &'a str) -> Place<'a> {
        Place {
            hash: self.hash,
            resource: Some(self.resource),
            below,
            steps,
        }
    }
}

/// Where in a tenant's directories something is.
#[derive(Clone, Copy)]
struct Place<'a> {
    hash: &'a str,
    resource: Option<&'a Resource>,
    below: &'a str,
    steps: &'a [String],
}

/// How far the walk through one tenant's directory is.
struct Tree {
    way: Descent,
    trail: Trail,
    /// For each directory on the way, the top one too, what is still to be visited in it.
    levels: Vec<Level>,
}

struct Level {
    names: vec::IntoIter<String>,
    ahead: ReadAhead,
}

impl Level {
    fn new(names: Vec<String>) -> Self {
        Self {
            names: names.into_iter(),
            ahead: ReadAhead::default(),
        }
    }
}

impl Tree {
    fn new(top: Dir, path: &str, names: Vec<String>) -> Self {
        Self {
            way: Descent::new(top),
            trail: Trail::new(path),
            levels: vec![Level::new(names)],
        }
    }

    /// Goes on to a directory. Says what is abbreviated from there on.
    fn enter(&mut self, name: &str, dir: Dir, names: Vec<String>) -> Option<(String, String)> {
        self.way.go_to(name, dir);
        self.levels.push(Level::new(names));
        self.trail.enter(name)
    }

    /// Goes back by one step, and says what the directory is called that was left. None at the top, where the walk ends.
    fn leave(&mut self) -> Option<String> {
        self.levels.pop();
        self.trail.leave();
        self.way.leave()
    }

    /// Goes back to where the way ends, when somebody has moved a directory on it: what was still to be visited there has gone with
    /// it. Says which directory that was.
    fn lost(&mut self) -> String {
        let mut lost = self.trail.path().to_owned();
        while self.levels.len() > self.way.names().len() + 1 {
            self.levels.pop();
            self.trail.path().clone_into(&mut lost);
            self.trail.leave();
        }
        lost
    }
}

/// The names of the hash directories in `dir`, in order.
///
/// # Errors
/// Any error of listing a directory.
pub(super) fn hashes(dir: &Dir) -> Result<Vec<String>> {
    let mut names = Vec::new();
    dir.entries(|name| names.extend(std::str::from_utf8(name).ok().map(str::to_owned)))?;
    names.retain(|name| UserHash::is_spelled(name));
    names.sort_unstable();
    Ok(names)
}
