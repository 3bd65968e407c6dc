//! Whether a migration can begin: while one is not finished nobody can log in, so what would keep it from its
//! end is better known before.

use rustix::fs::{Access, AtFlags, accessat};

use super::{Finding, Ground, Monitor, existing, home, walk};
use crate::error::{At, Doing, Error, Kind, Result};
use crate::layout::Layout;
use crate::volume::Dir;

/// Looks at every directory that is moved out of the layout `ground` has, and tells `monitor` of those that
/// cannot be. Whether it came to the end.
///
/// # Errors
/// [`Kind::ProblemsFound`] when there is one; it has the first one's reason.
pub(super) fn check(ground: &Ground, monitor: &mut dyn Monitor) -> Result<bool> {
    let mut check = Check {
        ground,
        monitor,
        failed: 0,
        first: None,
    };
    let complete = check.trees();
    let Some(error) = check.first else {
        return Ok(complete);
    };
    let what = match check.failed {
        1 => "nothing was moved, because one directory cannot be".to_owned(),
        failed => format!("nothing was moved, because {failed} directories cannot be; the first of them"),
    };
    Err(error.context(what).as_kind(Kind::ProblemsFound))
}

struct Check<'a> {
    ground: &'a Ground,
    monitor: &'a mut dyn Monitor,
    /// How many directories cannot be moved, and why the first one cannot.
    failed: u64,
    first: Option<Error>,
}

impl Check<'_> {
    fn trees(&mut self) -> bool {
        let ground = self.ground;
        let root = ground.volume.root();
        if let Err(error) = may_change(root) {
            self.failed(".", error);
        }
        let trees = match ground.layout {
            Layout::ResourceFirst => ground
                .resources
                .iter()
                .map(|resource| resource.as_str())
                .collect(),
            Layout::UserFirst => vec!["users"],
        };
        trees.into_iter().all(|tree| {
            self.tree(root, tree).unwrap_or_else(|error| {
                self.failed(tree, error);
                true
            })
        })
    }

    /// Whether it came to the end.
    fn tree(&mut self, root: &Dir, name: &str) -> Result<bool> {
        let Some(tree) = existing(root, name)? else {
            return Ok(true);
        };
        may_change(&tree)?;
        for hash in walk::hashes(&tree)? {
            if self.monitor.stops() {
                return Ok(false);
            }
            if let Err(error) = self.home(&tree, &hash) {
                self.failed(&format!("{name}/{hash}"), error);
            }
        }
        Ok(true)
    }

    /// One user's directory, with all that is moved out of it on its own.
    fn home(&self, tree: &Dir, hash: &str) -> Result<()> {
        let Some(home) = existing(tree, hash)? else {
            return Ok(());
        };
        may_change(&home)?;
        home::marker(&home)?;
        if self.ground.layout == Layout::UserFirst {
            for resource in &self.ground.resources {
                existing(&home, resource.as_str())?.map_or(Ok(()), |dir| may_change(&dir))?;
            }
        }
        Ok(())
    }

    fn failed(&mut self, path: &str, error: Error) {
        self.monitor.found(&Finding::unreadable(path, &error));
        self.failed += 1;
        self.first.get_or_insert(error);
    }
}

/// Whether this account may move what is in the directory, and the directory itself: its entry `..` changes,
/// too.
///
/// # Errors
/// [`Kind::AccessDenied`]; [`Kind::ReadOnly`] on a file system that is.
fn may_change(dir: &Dir) -> Result<()> {
    let all = Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK;
    accessat(dir, ".", all, AtFlags::EACCESS)
        .doing("changing a directory")
        .at(dir.path())
}
