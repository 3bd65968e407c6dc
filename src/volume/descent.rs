//! A way down from one directory, as deep as it leads.

use std::collections::VecDeque;

use super::dir::Dir;
use crate::error::Result;

/// So many directories at the end of a way are open, and as many more above, evenly spaced. The others are opened anew, by their
/// names, on the way back: so the deepest tree takes no more descriptors than a flat one. Opening all of them from the top on, each
/// time, would take too long: Landlock looks at every directory above one that is opened.
const MOST_OPEN: usize = 64;

/// The directories between one and another one deep below it.
#[derive(Debug)]
pub struct Descent {
    top: Dir,
    names: Vec<String>,
    /// The last of them, each with its depth. None is open where the way has come back to the last one that was.
    open: VecDeque<(usize, Dir)>,
    /// Some of those above, at depths that this divides.
    kept: Vec<(usize, Dir)>,
    spacing: usize,
    /// What makes a directory that is missing.
    make: fn(&Dir, &str) -> Result<Dir>,
}

impl Descent {
    /// A way that has not led anywhere yet.
    pub fn new(top: Dir) -> Self {
        Self {
            top,
            names: Vec::new(),
            open: VecDeque::new(),
            kept: Vec::new(),
            spacing: MOST_OPEN,
            make: Dir::make_dir,
        }
    }

    /// One on which what is made is its owner's alone.
    pub fn private(top: Dir) -> Self {
        Self {
            make: Dir::make_private_dir,
            ..Self::new(top)
        }
    }

    /// The directory that it begins at.
    pub fn top(&self) -> &Dir {
        &self.top
    }

    /// What the directories on the way are called, from the top on.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The directory at its end.
    ///
    /// # Errors
    /// The operating system's, when a directory on the way cannot be opened again: somebody has moved it. Then the way ends above
    /// that one.
    pub fn here(&mut self) -> Result<&Dir> {
        if self.open.is_empty() && !self.names.is_empty() {
            self.reopen()?;
        }
        Ok(self.last())
    }

    /// The directory that [`here`](Self::here) has led to.
    pub fn last(&self) -> &Dir {
        self.open.back().map_or(&self.top, |(_, dir)| dir)
    }

    /// Goes on to the directory `name`.
    ///
    /// # Errors
    /// The operating system's; then the way has not changed.
    pub fn enter(&mut self, name: &str) -> Result<()> {
        let dir = self.here()?.open_dir(name)?;
        self.go_to(name, dir);
        Ok(())
    }

    /// Goes on to the directory `name`, which is made where it is absent.
    ///
    /// # Errors
    /// The operating system's; then the way has not changed.
    pub fn enter_or_make(&mut self, name: &str) -> Result<()> {
        let make = self.make;
        let dir = self.here()?.open_or_make_dir_by(name, make)?;
        self.go_to(name, dir);
        Ok(())
    }

    /// Leads to the directory at the end of these names, from the top on, and makes what is missing. What it has in common with where
    /// it led before is not opened again.
    ///
    /// # Errors
    /// The operating system's; then the way ends before it.
    pub fn lead_to(&mut self, names: &[&str]) -> Result<&Dir> {
        let in_common = self
            .names
            .iter()
            .zip(names)
            .take_while(|(there, wanted)| there == *wanted);
        let in_common = in_common.count();
        while self.names.len() > in_common {
            self.leave();
        }
        self.here()?;
        for name in names.iter().skip(in_common) {
            self.enter_or_make(name)?;
        }
        self.here()
    }

    /// Goes back by one step, and says what the directory is called that it has left. None at the top.
    pub fn leave(&mut self) -> Option<String> {
        let left = self.names.pop();
        let depth = self.names.len();
        self.open.pop_back();
        self.kept.pop_if(|(kept, _)| *kept > depth);
        left
    }

    /// Goes on to the directory `name`, which somebody has opened.
    pub fn go_to(&mut self, name: &str, dir: Dir) {
        self.names.push(name.to_owned());
        self.push(self.names.len(), dir);
    }

    fn push(&mut self, depth: usize, dir: Dir) {
        self.open.push_back((depth, dir));
        if self.open.len() > MOST_OPEN
            && let Some((depth, dir)) = self.open.pop_front()
        {
            self.keep(depth, dir);
        }
    }

    fn keep(&mut self, depth: usize, dir: Dir) {
        let is_new = self.kept.last().is_none_or(|(kept, _)| *kept < depth);
        if !is_new || !depth.is_multiple_of(self.spacing) {
            return;
        }
        self.kept.push((depth, dir));
        if self.kept.len() > MOST_OPEN {
            self.spacing *= 2;
            let spacing = self.spacing;
            self.kept.retain(|(depth, _)| depth.is_multiple_of(spacing));
        }
    }

    /// Opens the last directories again, from the nearest one above that is open.
    fn reopen(&mut self) -> Result<()> {
        let (from, mut at) = match self.kept.last() {
            Some((depth, dir)) => (*depth, dir.reopen()?),
            None => (0, self.top.reopen()?),
        };
        for index in from..self.names.len() {
            let Some(name) = self.names.get(index) else { break };
            match at.open_dir(name) {
                Ok(dir) => {
                    let above = std::mem::replace(&mut at, dir);
                    if index > from {
                        self.push(index, above);
                    }
                }
                Err(error) => {
                    self.names.truncate(index);
                    if index > from {
                        self.push(index, at);
                    }
                    return Err(error);
                }
            }
        }
        self.push(self.names.len(), at);
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs::File;

    use super::*;

    /// As many as make every second directory that was kept be closed.
    const LEVELS: usize = MOST_OPEN * (MOST_OPEN + 3);

    fn deep() -> (tempfile::TempDir, Descent) {
        let directory = tempfile::tempdir_in("/var/tmp").unwrap();
        let top = File::open(directory.path()).unwrap();
        let mut way = Descent::new(Dir::opened(top.into(), directory.path()));
        for level in 0..LEVELS {
            way.enter_or_make(&level.to_string()).unwrap();
            assert!(way.open.len() + way.kept.len() <= 2 * MOST_OPEN);
        }
        (directory, way)
    }

    #[test]
    fn the_way_back_leads_through_every_directory_and_few_are_open() {
        let (_directory, mut way) = deep();
        for level in (0..LEVELS).rev() {
            assert_eq!(way.leave(), Some(level.to_string()));
            // Each is the one that it is said to be: it has the one that was left, and can be rid of it.
            way.here().unwrap().remove_dir(&level.to_string()).unwrap();
            assert!(way.open.len() + way.kept.len() <= 2 * MOST_OPEN);
        }
        assert_eq!(way.leave(), None);
    }

    #[test]
    fn a_way_of_which_a_part_was_moved_ends_above_it() {
        let (directory, mut way) = deep();
        let path: std::path::PathBuf = (0..=5).map(|level| level.to_string()).collect();
        let moved = directory.path().join(path);
        std::fs::rename(&moved, moved.with_file_name("elsewhere")).unwrap();
        let mut lost = None;
        while lost.is_none() && way.leave().is_some() {
            lost = way.here().err();
        }
        assert_eq!(lost.unwrap().kind(), crate::error::Kind::NotFound);
        assert_eq!(way.names().len(), 5);
        assert!(way.here().unwrap().stat("elsewhere").is_ok());
    }
}
