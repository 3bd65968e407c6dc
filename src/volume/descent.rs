//! A way down from one directory, as deep as it leads.

use std::collections::VecDeque;

use super::dir::Dir;
use crate::error::Result;

/// So many directories at the end of a way are open. Those above are opened anew, by their names, on the way back: so the
/// deepest tree takes no more descriptors than a flat one, and one in so many steps takes longer.
const MOST_OPEN: usize = 64;

/// The directories between one and another one deep below it.
#[derive(Debug)]
pub struct Descent {
    top: Dir,
    names: Vec<String>,
    /// The last of them. None is open where the way has come back to the last one that was.
    open: VecDeque<Dir>,
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
        self.open.back().unwrap_or(&self.top)
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
        self.open.pop_back();
        self.names.pop()
    }

    /// Goes on to the directory `name`, which somebody has opened.
    pub fn go_to(&mut self, name: &str, dir: Dir) {
        self.names.push(name.to_owned());
        self.push_open(dir);
    }

    fn push_open(&mut self, dir: Dir) {
        self.open.push_back(dir);
        if self.open.len() > MOST_OPEN {
            self.open.pop_front();
        }
    }

    fn reopen(&mut self) -> Result<()> {
        for index in 0..self.names.len() {
            let above = self.open.back().unwrap_or(&self.top);
            let Some(name) = self.names.get(index) else { break };
            match above.open_dir(name) {
                Ok(dir) => self.push_open(dir),
                Err(error) => {
                    self.names.truncate(index);
                    return Err(error);
                }
            }
        }
        Ok(())
    }
}
