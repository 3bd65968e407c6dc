//! `migrate`: from one layout to the other, beside live mounts and a service that knows of it.
//!
//! Directories are renamed as they are: whoever has one open goes on having it, and a mount has its
//! directories open. The file `.tenantfs-layout` in the volume's root says from the first moment on which
//! layout is in force, and which one it was before: who writes, writes to the new place, and who reads, looks
//! there and then in the old one.

use serde::Serialize;

use super::share::Share;
use super::walk::hashes;
use super::{Finding, Ground, Monitor, existing, home, movable};
use crate::clock::Timestamp;
use crate::error::{Error, Kind, Result};
use crate::layout::Layout;
use crate::name::Resource;
use crate::store::{LayoutMark, OWNER_MARKER};
use crate::volume::{Descent, Dir, FileType, Rename};

/// What was done.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Migrated {
    /// Directories of users that were moved as they are.
    pub directories: u64,
    /// Files that were moved one by one, where somebody had written to the new place already.
    pub files: u64,
    /// Files that somebody has saved anew in the new place, and that were dropped in the old one.
    pub superseded: u64,
    /// What is left where it was, for a reason that was told.
    pub left: u64,
    /// Whether it came to the end: then the new layout alone is in force.
    pub complete: bool,
}

/// Moves everything from the layout `ground` has to the other one. What is interrupted is finished by another
/// run.
///
/// While it is not finished, nobody can log in: it begins only when every directory that is to be moved can
/// be.
///
/// # Errors
/// [`Kind::Config`] when another layout is in force; [`Kind::ProblemsFound`] when a directory cannot be
/// moved, which was told, and nothing has been; any error with which no more can be moved.
pub fn migrate(ground: &Ground, to: Layout, monitor: &mut dyn Monitor) -> Result<Migrated> {
    let from = ground.layout;
    let root = ground.volume.root();
    let mark = LayoutMark::read(root)?;
    match &mark {
        Some(mark) if mark.layout == to && mark.from.is_none() => {
            return Ok(Migrated {
                complete: true,
                ..Migrated::default()
            });
        }
        Some(mark) if mark.layout != from && mark.from != Some(from) => {
            return Err(Error::config(format!(
                "the volume is {}, by its .tenantfs-layout; correct --from",
                mark.layout
            )));
        }
        _ => {}
    }
    // What was begun goes on, whatever has become of the directories that are left.
    let is_begun = mark.is_some_and(|mark| mark.from.is_some());
    if !is_begun && !movable::check(ground, monitor)? {
        return Ok(Migrated::default());
    }
    LayoutMark {
        layout: to,
        from: Some(from),
    }
    .write(root)?;
    let mut mover = Mover {
        ground,
        from,
        monitor,
        done: Migrated::default(),
    };
    mover.trees().map_err(|error| {
        error.context("the migration is not finished, and keeps everybody out until another run finishes it")
    })?;
    let done = mover.done;
    if done.complete && done.left == 0 {
        LayoutMark {
            layout: to,
            from: None,
        }
        .write(root)?;
    }
    Ok(done)
}

struct Mover<'a> {
    ground: &'a Ground,
    from: Layout,
    monitor: &'a mut dyn Monitor,
    done: Migrated,
}

impl Mover<'_> {
    fn trees(&mut self) -> Result<()> {
        let ground = self.ground;
        self.done.complete = true;
        match self.from {
            Layout::ResourceFirst => {
                let sizes = ground
                    .resources
                    .iter()
                    .map(|resource| self.size(resource.as_str()));
                let shares = Share::by_size(&sizes.collect::<Vec<_>>());
                for (resource, share) in ground.resources.iter().zip(shares) {
                    let moved = self.tree(resource.as_str(), share, |mover, tree, hash| {
                        mover.make_user_first(tree, resource, hash)
                    });
                    self.took(moved, resource.as_str())?;
                }
            }
            Layout::UserFirst => {
                let moved = self.tree("users", Share::WHOLE, Self::make_resource_first);
                self.took(moved, "users")?;
            }
        }
        if self.done.complete {
            self.monitor.progress(1.0);
        }
        ground.volume.root().sync()
    }

    /// How many directories are to be moved out of the directory `name` of the volume's root.
    fn size(&self, name: &str) -> usize {
        let tree = existing(self.ground.volume.root(), name).ok().flatten();
        tree.and_then(|tree| hashes(&tree).ok())
            .map_or(0, |hashes| hashes.len())
    }

    /// Moves every user's directory out of the directory `name` of the volume's root.
    fn tree(
        &mut self,
        name: &str,
        share: Share,
        mut make: impl FnMut(&mut Self, &Dir, &str) -> Result<()>,
    ) -> Result<()> {
        let root = self.ground.volume.root();
        let Some(tree) = existing(root, name)? else {
            return Ok(());
        };
        let hashes = hashes(&tree)?;
        for (index, hash) in hashes.iter().enumerate() {
            if self.stops() {
                return Ok(());
            }
            self.monitor.progress(share.part(index, hashes.len()).begin());
            let moved = make(self, &tree, hash);
            self.took(moved, &format!("{name}/{hash}"))?;
        }
        // Not empty: what is in it was told of.
        let _ = root.remove_dir(name);
        Ok(())
    }

    fn stops(&mut self) -> bool {
        if self.monitor.stops() {
            self.done.complete = false;
        }
        !self.done.complete
    }

    /// A directory that cannot be moved keeps no other.
    fn took(&mut self, moved: Result<()>, path: &str) -> Result<()> {
        match moved {
            Err(error) if matches!(error.kind(), Kind::NoSpace | Kind::QuotaExceeded | Kind::ReadOnly) => {
                Err(error)
            }
            Err(error) => {
                self.done.left += 1;
                self.monitor.found(&Finding::unreadable(path, &error));
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    fn make_user_first(&mut self, tree: &Dir, resource: &Resource, hash: &str) -> Result<()> {
        let Some(old) = existing(tree, hash)? else {
            return Ok(());
        };
        let home = self
            .ground
            .volume
            .root()
            .open_or_make_dir("users")?
            .open_or_make_dir(hash)?;
        take_marker(&old, &home)?;
        self.move_directory((tree, hash), (&home, resource.as_str()))?;
        // In the new place the marker is one further up.
        let moved = home.open_dir(resource.as_str())?;
        absent_is_fine(moved.unlink(OWNER_MARKER))?;
        moved.sync()
    }

    fn make_resource_first(&mut self, users: &Dir, hash: &str) -> Result<()> {
        let Some(home) = existing(users, hash)? else {
            return Ok(());
        };
        let has_marker = home::marker(&home)?.is_some();
        for resource in &self.ground.resources {
            let Some(old) = existing(&home, resource.as_str())? else {
                continue;
            };
            take_marker(&home, &old)?;
            let tree = self.ground.volume.root().open_or_make_dir(resource.as_str())?;
            self.move_directory((&home, resource.as_str()), (&tree, hash))?;
        }
        // A session that has written nothing yet writes its marker there with its first change.
        if has_marker {
            absent_is_fine(home.unlink(OWNER_MARKER))?;
            home.sync()?;
            let _ = users.remove_dir(hash);
        }
        Ok(())
    }

    /// Moves a directory as it is. Where the service has made one already, the two change places first: the
    /// one that mounts have open must be the one that stays. Where the file system cannot exchange two, what the service saved
    /// comes into the one that is moved, and is in neither place until that has its new name.
    fn move_directory(&mut self, from: (&Dir, &str), to: (&Dir, &str)) -> Result<()> {
        self.monitor.looked_at();
        match from.0.rename(from.1, to.0, to.1, Rename::NoReplace) {
            Err(error) if error.kind() == Kind::Exists && !to.0.abilities()?.exchanges => {
                self.merge(to.0.open_dir(to.1)?, from.0.open_dir(from.1)?)?;
                // What the service saves meanwhile comes with the next round.
                match to.0.remove_dir(to.1) {
                    Err(error) if error.kind() == Kind::DirectoryNotEmpty => {}
                    removed => removed?,
                }
                return self.move_directory(from, to);
            }
            Err(error) if error.kind() == Kind::Exists => {
                from.0.rename(from.1, to.0, to.1, Rename::Exchange)?;
                let (left, stays) = (from.0.open_dir(from.1)?, to.0.open_dir(to.1)?);
                self.merge(left, stays)?;
                from.0.remove_dir(from.1)?;
            }
            result => {
                result?;
                self.done.directories += 1;
            }
        }
        to.0.sync()?;
        from.0.sync()
    }

    /// Moves what is in `from`, file by file, into `to`, and removes the directories below `from`. Of two files of one name the
    /// one that was saved last stays.
    fn merge(&mut self, from: Dir, to: Dir) -> Result<()> {
        let mut levels = vec![home::names(&from)?.into_iter()];
        let (mut from, mut to) = (Descent::new(from), Descent::new(to));
        while let Some(level) = levels.last_mut() {
            let (source, target) = (from.here()?, to.here()?);
            match level.next() {
                Some(name) => {
                    if self.merge_entry(source, target, &name)? == Merged::Directories {
                        from.enter(&name)?;
                        to.enter(&name)?;
                        levels.push(home::names(from.last())?.into_iter());
                    }
                }
                None => {
                    target.sync()?;
                    levels.pop();
                    to.leave();
                    if let Some(name) = from.leave() {
                        from.here()?.remove_dir(&name)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn merge_entry(&mut self, from: &Dir, to: &Dir, name: &str) -> Result<Merged> {
        let stat = match from.stat(name) {
            Err(error) if error.kind() == Kind::NotFound => return Ok(Merged::Done),
            stat => stat?,
        };
        if name == OWNER_MARKER {
            from.unlink(name)?;
            return Ok(Merged::Done);
        }
        match from.rename(name, to, name, Rename::NoReplace) {
            Ok(()) => self.done.files += 1,
            Err(error) if error.kind() == Kind::Exists => {
                if stat.file_type == FileType::Directory {
                    return Ok(Merged::Directories);
                }
                leave_the_latest(from, to, name, stat.mtime)?;
                self.done.superseded += 1;
            }
            Err(error) if error.kind() == Kind::NotFound => {}
            Err(error) => return Err(error),
        }
        Ok(Merged::Done)
    }
}

/// What became of one entry of a directory that is merged into another one.
#[derive(PartialEq, Eq)]
enum Merged {
    Done,
    /// Both have a directory of the name, which are to be merged.
    Directories,
}

/// Of two files of one name the one that was saved last stays in `to`, whoever saves another meanwhile, and
/// none in `from`.
fn leave_the_latest(from: &Dir, to: &Dir, name: &str, mut placed: Timestamp) -> Result<()> {
    if !to.abilities()?.exchanges {
        // Whoever saves another between the two calls loses it.
        return match to.stat(name)?.mtime <= placed {
            true => from.rename(name, to, name, Rename::Replace),
            false => from.unlink(name),
        };
    }
    loop {
        from.rename(name, to, name, Rename::Exchange)?;
        let displaced = from.stat(name)?.mtime;
        if displaced <= placed {
            return from.unlink(name);
        }
        placed = displaced;
    }
}

/// The owner marker of `from` stands in `to`, too.
fn take_marker(from: &Dir, to: &Dir) -> Result<()> {
    home::marker(from)?.map_or(Ok(()), |full_hash| home::mark(to, &full_hash))
}

fn absent_is_fine(result: Result<()>) -> Result<()> {
    match result {
        Err(error) if error.kind() != Kind::NotFound => Err(error),
        _ => Ok(()),
    }
}
