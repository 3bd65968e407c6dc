//! The audit log of a test, read as an operator reads it.

use std::fs;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use super::{SERVICE_UID, Volume, eventually, run, tenantfs};

/// How long a line may take until it is in the file.
pub(crate) const SOON: Duration = Duration::from_secs(5);

/// An audit log of a test's.
pub(crate) struct Log(pub(crate) PathBuf);

impl Log {
    /// In a directory of the server's, as under systemd.
    pub(crate) fn of(volume: &Volume) -> Self {
        let directory = volume.base().join("log");
        if !directory.exists() {
            fs::create_dir(&directory).unwrap();
            chown(&directory, Some(SERVICE_UID), Some(SERVICE_UID)).unwrap();
        }
        Self(directory.join("audit.jsonl"))
    }

    /// As an option has it.
    pub(crate) fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }

    /// All of it, as it is now.
    pub(crate) fn text(&self) -> String {
        fs::read_to_string(&self.0).unwrap_or_default()
    }

    /// All of its lines.
    pub(crate) fn lines(&self) -> Vec<Value> {
        let text = self.text();
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    /// The lines like these: `op path outcome`, where `*` is anything.
    pub(crate) fn like(&self, pattern: &str) -> Vec<Value> {
        self.like_from(0, pattern)
    }

    /// The same, but for so many lines at the beginning.
    pub(crate) fn like_from(&self, skipped: usize, pattern: &str) -> Vec<Value> {
        let words: Vec<_> = pattern.split(' ').collect();
        let is = |line: &Value| {
            let members = ["op", "path", "outcome"].map(|member| line[member].as_str().unwrap().to_owned());
            words
                .iter()
                .zip(&members)
                .all(|(word, member)| *word == "*" || word == member)
        };
        self.lines().into_iter().skip(skipped).filter(is).collect()
    }

    /// Waits for a line like this one.
    pub(crate) fn wait(&self, pattern: &str) -> Value {
        let there = eventually(SOON, || !self.like(pattern).is_empty());
        assert!(there, "no line {pattern:?} in\n{}", self.text());
        self.like(pattern).pop().unwrap()
    }

    /// Every line is as it was written.
    pub(crate) fn verify(&self) {
        verify(&[&self.0]);
    }
}

/// All of these files, the oldest first, are as they were written.
pub(crate) fn verify(files: &[&Path]) {
    let mut command = tenantfs();
    command.args(["audit", "verify"]).args(files);
    let output = run(command, "");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(0), "{said}");
}
