//! The logs of several hosts: each is verified by itself, and all of them are read as one, by time.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::head::HeadKey;
use super::line::Line;
use super::lines::LineReader;
use super::verify::{Findings, verify};
use crate::error::{At, Doing, Result};
use crate::input;

const READING: &str = "reading the audit log";

/// What was found in the log of one host.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct HostFindings {
    /// As its lines say; empty where they do not.
    pub host: String,
    /// What was found.
    pub findings: Findings,
}

/// Verifies the logs of several hosts, each by itself: of each host the files, the oldest first. Whose a file is, its first line says.
///
/// # Errors
/// As [`verify`].
pub fn verify_hosts(files: &[PathBuf], keys: &[HeadKey]) -> Result<Vec<HostFindings>> {
    let by_host = by_host(files)?.into_iter();
    let verified =
        by_host.map(|(host, files)| verify(&files, keys).map(|findings| HostFindings { host, findings }));
    verified.collect()
}

/// Hands the lines of all these files to `each`, by the time that they have. Of one host they stay in their order.
///
/// # Errors
/// Any error of opening or reading a file; those of `each`.
pub fn merge(files: &[PathBuf], each: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
    let mut streams = Vec::new();
    for files in by_host(files)?.into_values() {
        let mut stream = Stream {
            files: files.into_iter(),
            reader: None,
            next: None,
        };
        stream.advance()?;
        streams.push(stream);
    }
    loop {
        let waiting = streams.iter_mut().filter(|stream| stream.next.is_some());
        let Some(first) = waiting.min_by(|one, other| one.time().cmp(&other.time())) else {
            return Ok(());
        };
        if let Some((_, line)) = &first.next {
            each(line)?;
        }
        first.advance()?;
    }
}

/// The lines of one host.
struct Stream {
    files: std::vec::IntoIter<PathBuf>,
    reader: Option<(PathBuf, LineReader)>,
    /// The next line, and its time.
    next: Option<(String, Vec<u8>)>,
}

impl Stream {
    fn time(&self) -> Option<&str> {
        self.next.as_ref().map(|(time, _)| time.as_str())
    }

    fn advance(&mut self) -> Result<()> {
        // What is no line stays where it is.
        let before = self.next.take().map(|(time, _)| time).unwrap_or_default();
        loop {
            if let Some((path, reader)) = &mut self.reader
                && let Some(raw) = reader.next().doing(READING).at(path)?
            {
                let time = Line::parse(&raw.bytes).map_or(before, |line| line.ts.into_owned());
                self.next = Some((time, raw.bytes));
                return Ok(());
            }
            let Some(path) = self.files.next() else {
                return Ok(());
            };
            let reader = open(&path)?;
            self.reader = Some((path, reader));
        }
    }
}

fn open(path: &Path) -> Result<LineReader> {
    let opened = input::open(path).and_then(LineReader::new);
    opened.doing(READING).at(path)
}

/// The files of each host, in the order in which they are named.
fn by_host(files: &[PathBuf]) -> Result<BTreeMap<String, Vec<PathBuf>>> {
    let mut by_host = BTreeMap::<_, Vec<_>>::new();
    for path in files {
        let first = open(path)?.next().doing(READING).at(path)?;
        let line = first.as_ref().and_then(|raw| Line::parse(&raw.bytes));
        let host = line.and_then(|line| line.host.map(|host| host.into_owned()));
        by_host
            .entry(host.unwrap_or_default())
            .or_default()
            .push(path.clone());
    }
    Ok(by_host)
}

#[cfg(test)]
mod tests {
    use super::super::line::digest;
    use super::*;

    /// A log of that host with lines at these seconds.
    fn log(directory: &Path, name: &str, host: Option<&str>, seconds: &[u32]) -> PathBuf {
        let (mut text, mut prev) = (String::new(), [0; 32]);
        for (seq, second) in (1..).zip(seconds) {
            let line = Line {
                ts: format!("2026-01-01T00:00:{second:02}.000Z").into(),
                seq,
                session: "".into(),
                user: "".into(),
                uid: 0,
                pid: 0,
                op: name.into(),
                path: "".into(),
                outcome: "ok".into(),
                reason: "".into(),
                prev: hex::encode(prev).into(),
                how: None,
                count: None,
                path_sha256: None,
                host: host.map(Into::into),
            };
            let line = serde_json::to_string(&line).unwrap();
            prev = digest(line.as_bytes());
            text += &line;
            text.push('\n');
        }
        let path = directory.join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    #[test]
    fn each_hosts_log_is_verified_by_itself_and_all_lines_are_read_by_time() {
        let directory = tempfile::tempdir().unwrap();
        let log = |name, host, seconds: &[u32]| log(directory.path(), name, host, seconds);
        let files = [
            log("one", Some("a"), &[1, 4, 5]),
            log("two", Some("b"), &[2, 3, 6]),
            log("old", None, &[4]),
        ];
        let mixed = verify(&files, &[]).unwrap();
        assert!(mixed.problem_count > 0, "as one log they are none");
        let hosts = verify_hosts(&files, &[]).unwrap();
        let found: Vec<_> = hosts
            .iter()
            .map(|host| {
                (
                    host.host.as_str(),
                    host.findings.lines,
                    host.findings.problem_count,
                )
            })
            .collect();
        assert_eq!(found, [("", 1, 0), ("a", 3, 0), ("b", 3, 0)]);
        let mut merged = Vec::new();
        merge(&files, &mut |line| {
            let line = Line::parse(line).unwrap();
            merged.push(format!("{} {}", &line.ts[18..19], line.op));
            Ok(())
        })
        .unwrap();
        assert_eq!(
            merged,
            ["1 one", "2 two", "3 two", "4 old", "4 one", "5 one", "6 two"]
        );

        let text = std::fs::read_to_string(&files[1]).unwrap();
        std::fs::write(&files[1], text.replace("00:03", "00:07")).unwrap();
        let hosts = verify_hosts(&files, &[]).unwrap();
        assert!(
            hosts
                .iter()
                .all(|host| (host.findings.problem_count > 0) == (host.host == "b"))
        );
    }
}
