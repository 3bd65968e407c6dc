//! How many links a directory has: 2, and one for each visible directory in it.

use super::attributes::NodeKind;
use super::folder::Folder;
use crate::error::Result;
use crate::name::EntryName;

/// Directories in one directory, at most so many of which are counted: the counting is done anew whenever one comes or goes.
const MAX_COUNTED: u32 = 256;

/// What a directory has for links that are not counted: programs then expect any number of directories in it.
const NOT_COUNTED: u32 = 1;

impl Folder {
    /// The number of links to show where the volume's directory has so many `names`: its own number would count what is
    /// hidden. What others do to those that are hidden shows with the next change of that number.
    ///
    /// # Errors
    /// The volume's.
    pub fn links(&self, names: u32) -> Result<u32> {
        if names <= 2 {
            // None is in it; or 1, from a file system that does not count either.
            return Ok(names);
        }
        if names > 2 + MAX_COUNTED {
            return Ok(NOT_COUNTED);
        }
        if let Some(links) = self.facts().links(self.id(), names) {
            return Ok(links);
        }
        let mut links = 2;
        for entry in self.dir().directories()? {
            let Ok(name) = EntryName::parse(&entry) else {
                continue;
            };
            let found = self.lookup(&name);
            links += u32::from(found.is_ok_and(|found| found.kind == NodeKind::Directory));
        }
        // Counted while others came or went, it holds for no number.
        if self.dir().stat_self()?.nlink == names {
            self.facts().remember_links(self.id(), names, links);
        }
        Ok(links)
    }
}
