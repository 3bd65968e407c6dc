//! What was found out about files of ours that somebody asks for again and again: what is wrong with a draft, what a removed record
//! has. Each takes as long as the whole text takes to read.

use std::num::NonZeroUsize;

use lru::LruCache;
use parking_lot::Mutex;

use crate::clock;
use crate::error::Result;
use crate::volume::{FileId, Stat, Version};

/// About how many files: more than one answer has.
const MOST: NonZeroUsize = NonZeroUsize::new(4096).unwrap();

/// A memory: what was used least recently goes first.
#[derive(Debug)]
pub(super) struct Judged<T>(Mutex<LruCache<FileId, (Version, T)>>);

impl<T> Default for Judged<T> {
    fn default() -> Self {
        Self(Mutex::new(LruCache::new(MOST)))
    }
}

impl<T: Clone> Judged<T> {
    /// What is known of this version of a file, or `judge` finds out now.
    ///
    /// # Errors
    /// Those of `judge`, which are not remembered.
    pub(super) fn get(&self, stat: &Stat, judge: impl FnOnce() -> Result<T>) -> Result<T> {
        let (now, version) = (clock::now(), stat.version());
        if let Some((known, verdict)) = self.0.lock().get(&stat.id)
            && *known == version
        {
            return Ok(verdict.clone());
        }
        let verdict = judge()?;
        if version.is_settled(now) {
            self.0.lock().put(stat.id, (version, verdict.clone()));
        }
        Ok(verdict)
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::time::Duration;

    use super::*;
    use crate::error::{Error, Kind};
    use crate::volume::stat;

    #[test]
    fn a_version_of_a_file_is_judged_once_when_it_is_settled_and_another_one_anew() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let judged = Judged::default();
        let ask = |verdict: u32| {
            let stat = stat(File::open(file.path()).unwrap()).unwrap();
            judged.get(&stat, || Ok(verdict)).unwrap()
        };
        assert_eq!((ask(1), ask(2)), (1, 2), "it may change within the tick");
        std::thread::sleep(Duration::from_millis(100));
        assert_eq!((ask(3), ask(4)), (3, 3));
        fs::write(file.path(), "x").unwrap();
        assert_eq!(ask(5), 5);
    }

    #[test]
    fn what_went_wrong_is_tried_again() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::thread::sleep(Duration::from_millis(100));
        let stat = stat(file.as_file()).unwrap();
        let judged = Judged::default();
        let failed = judged.get(&stat, || Err(Error::new(Kind::Io, "the disk breaks")));
        assert!(failed.is_err());
        assert_eq!(judged.get(&stat, || Ok(7)).unwrap(), 7);
    }
}
