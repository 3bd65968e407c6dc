//! Where a walk is, as it is shown and written down.

use sha2::{Digest, Sha256};

/// Longer paths are abbreviated, in bytes: no program could open them, and of a tree as deep as somebody likes to make it, whole
/// paths would take as much room as the square of its depth.
const LONGEST: usize = 4096;

/// The path of a directory: as it is, or with what comes first abbreviated to a digest of it. The same directory has the same
/// path every time.
pub(super) struct Trail {
    /// What comes before the first abbreviation, before the second one, and so on; each stands on its own.
    parts: Vec<String>,
    /// For each step, in which part it was and how long that was before it.
    steps: Vec<(usize, usize)>,
    /// How much of each part is never abbreviated: whose it is, and which resource.
    top: usize,
}

impl Trail {
    pub(super) fn new(top: &str) -> Self {
        Self {
            parts: vec![top.to_owned()],
            steps: Vec::new(),
            top: top.len(),
        }
    }

    /// The directory's path.
    pub(super) fn path(&self) -> &str {
        self.parts.last().map_or("", String::as_str)
    }

    /// The path of an entry of it.
    pub(super) fn of(&self, name: &str) -> String {
        format!("{}/{name}", self.path())
    }

    /// What of the path of an entry called `name` lies between the top and it, with a slash behind each.
    pub(super) fn below<'p>(&self, path: &'p str, name: &str) -> &'p str {
        let until = path.len() - name.len();
        path.get(self.top + 1..until).unwrap_or_default()
    }

    /// Goes on to the directory `name`. Says what was abbreviated for it: what is written instead of which path from the top on.
    pub(super) fn enter(&mut self, name: &str) -> Option<(String, String)> {
        let part = self.parts.len() - 1;
        self.steps.push((part, self.path().len()));
        let path = self.of(name);
        if path.len() <= LONGEST {
            if let Some(last) = self.parts.last_mut() {
                *last = path;
            }
            return None;
        }
        let (top, long) = self.path().split_at(self.top);
        let long = long.trim_start_matches('/').to_owned();
        let digest = hex::encode(Sha256::digest(&long));
        let (half, _) = digest.split_at(digest.len() / 2);
        let short = format!("…{half}");
        let path = format!("{top}/{short}/{name}");
        self.parts.push(path);
        Some((short, long))
    }

    /// Goes back by one step.
    pub(super) fn leave(&mut self) {
        if let Some((part, length)) = self.steps.pop() {
            self.parts.truncate(part + 1);
            if let Some(last) = self.parts.last_mut() {
                last.truncate(length);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The parent's path, and the one that `below` it is found at.
    #[test]
    fn however_deep_it_is_a_path_stays_short_and_is_the_same_again() {
        let name = "d".repeat(250);
        let mut trail = Trail::new("schedules/0123456789abcdef");
        let (mut paths, mut abbreviated) = (vec![trail.path().to_owned()], Vec::new());
        for _ in 0..200 {
            abbreviated.extend(trail.enter(&name));
            paths.push(trail.path().to_owned());
        }
        assert!(
            paths
                .iter()
                .all(|path| path.len() <= LONGEST && path.starts_with("schedules/0123456789abcdef"))
        );
        let mut distinct = paths.clone();
        distinct.sort_unstable();
        distinct.dedup();
        assert_eq!(distinct.len(), paths.len());
        assert!(abbreviated.len() > 10);
        for (short, long) in &abbreviated {
            assert!(paths.contains(&format!("schedules/0123456789abcdef/{long}")));
            assert!(paths.contains(&format!("schedules/0123456789abcdef/{short}/{name}")));
        }
        let path = trail.of("x.json");
        assert!(path.ends_with(&format!("/{}x.json", trail.below(&path, "x.json"))));
        for path in paths.iter().rev() {
            assert_eq!(trail.path(), path);
            trail.leave();
        }
        let path = trail.of("x.json");
        assert_eq!(
            (trail.below(&path, "x.json"), &*path),
            ("", "schedules/0123456789abcdef/x.json")
        );
    }
}
