//! The laws of the audit log's verifier, for any bytes in the files of a log.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;
use tenantfs::audit::{self, Findings, HeadKey};
use zeroize::Zeroizing;

/// What separates the files in one input: first the one beside the log, empty where there is none; then the log's, oldest
/// first. No line of a log has it.
pub(crate) const SEPARATOR: u8 = 0x1d;

/// The most files of one input.
const MOST: usize = 4;

/// A log of two files that the writer wrote and signed with [`key`], and the file beside it.
pub(crate) const WRITTEN: [&[u8]; 3] = [
    include_bytes!("../data/audit-log/log.head"),
    include_bytes!("../data/audit-log/log.1"),
    include_bytes!("../data/audit-log/log"),
];

/// What the log was signed with.
pub(crate) fn key() -> HeadKey {
    HeadKey::new("k1", Zeroizing::new([7; 32])).unwrap()
}

/// One directory, for files that are written over and over: in memory, where there is such a place.
struct Files(TempDir);

impl Files {
    fn new() -> Self {
        let memory = Path::new("/dev/shm");
        let place = match memory.is_dir() {
            true => memory.to_owned(),
            false => std::env::temp_dir(),
        };
        Self(TempDir::new_in(place).unwrap())
    }

    /// Puts the files there, and the one beside the last.
    fn put(&self, head: &[u8], files: &[&[u8]]) -> Vec<PathBuf> {
        let path = |index: usize| self.0.path().join(index.to_string());
        for index in 0..MOST {
            let _ = fs::remove_file(path(index).with_extension("head"));
        }
        let paths: Vec<_> = (0..files.len()).map(path).collect();
        for (path, content) in paths.iter().zip(files) {
            fs::write(path, content).unwrap();
        }
        if let (Some(last), false) = (paths.last(), head.is_empty()) {
            fs::write(last.with_extension("head"), head).unwrap();
        }
        paths
    }
}

/// All that must hold of one input.
pub(crate) fn check_input(input: &[u8]) {
    let mut parts = input.splitn(MOST + 1, |byte| *byte == SEPARATOR);
    let head = parts.next().unwrap_or_default();
    check(head, &parts.collect::<Vec<_>>());
}

/// All that must hold of these files, the oldest first, and the one beside the last.
pub(crate) fn check(head: &[u8], files: &[&[u8]]) {
    thread_local! {
        static FILES: Files = Files::new();
    }
    let (paths, [alone, keyed]) = FILES.with(|place| {
        let paths = place.put(head, files);
        let found = [&[][..], &[key()]].map(|keys| audit::verify(&paths, keys).unwrap());
        (paths, found)
    });
    for found in [&alone, &keyed] {
        check_places(found, &paths, files);
        if found.problem_count == 0 {
            assert_eq!(broken_link(head, files), None, "no problem is found");
        }
    }
    assert_eq!(alone.authenticated, None);
    if keyed.problem_count == 0 {
        assert_eq!(keyed.authenticated, keyed.last);
        assert!(
            is_written(head, files),
            "what is signed is what was written: {keyed:?}"
        );
    }
    if head == WRITTEN[0]
        && files.concat() == WRITTEN[1..].concat()
        && files.iter().all(|file| ends_whole(file))
    {
        assert_eq!(keyed.problems, [], "a log as it was written");
    }
}

fn ends_whole(file: &[u8]) -> bool {
    file.last().is_none_or(|last| *last == b'\n')
}

fn lines<'f>(files: &[&'f [u8]]) -> Vec<&'f [u8]> {
    let lines = files
        .iter()
        .map(|file| file.split_inclusive(|byte| *byte == b'\n'));
    lines.flatten().collect()
}

/// What is found is where it is said to be.
fn check_places(found: &Findings, paths: &[PathBuf], files: &[&[u8]]) {
    assert_eq!(found.lines, lines(files).len() as u64);
    assert_eq!(found.problems.len() as u64, found.problem_count.min(100));
    assert_eq!(found.check().is_ok(), found.problem_count == 0);
    assert!(found.authenticated <= found.last || found.problem_count > 0);
    for problem in &found.problems {
        let index = paths.iter().position(|path| *path == problem.file);
        let file = files[index.expect("it is in one of the files")];
        let before = usize::try_from(problem.line).unwrap() - 1;
        let all = lines(&[file]);
        assert!(before < all.len() || (before, file) == (0, b""), "{problem}");
        let offset: usize = all[..before].iter().map(|line| line.len()).sum();
        assert_eq!(problem.offset, offset as u64, "{problem}");
    }
}

/// What is not as a writer leaves it, to a reader that knows nothing but the contract: every line has the number after and the
/// hash of the one before it, and the file beside the log has those of the last.
pub(crate) fn broken_link(head: &[u8], files: &[&[u8]]) -> Option<String> {
    let mut last: Option<(u64, String)> = None;
    for line in lines(files) {
        let shown = String::from_utf8_lossy(line);
        let Some(text) = line.strip_suffix(b"\n") else {
            return Some(format!("an unfinished line: {shown}"));
        };
        let parsed: Value = serde_json::from_slice(text).unwrap_or_default();
        let (Some(seq), Some(prev)) = (parsed["seq"].as_u64(), parsed["prev"].as_str()) else {
            return Some(format!("no line: {shown}"));
        };
        let (expected, follows) = match last {
            Some((before, digest)) => (digest, seq == before.saturating_add(1)),
            // The ones before may be in files that are not given.
            None if seq != 1 => (prev.to_owned(), true),
            None => ("0".repeat(64), true),
        };
        if !follows || prev != expected {
            return Some(format!("it does not follow: {shown}"));
        }
        last = Some((seq, hex::encode(Sha256::digest(text))));
    }
    let (Some((seq, digest)), false) = (last, head.is_empty()) else {
        return None;
    };
    let head: Value = serde_json::from_slice(head).unwrap_or_default();
    let ends = head["seq"].as_u64() == Some(seq) && head["sha256"].as_str() == Some(&digest);
    (!ends).then(|| format!("it does not end where {head} says"))
}

/// Whether these are lines of the written log, one after the other, as far as somebody has signed them.
fn is_written(head: &[u8], files: &[&[u8]]) -> bool {
    let (given, all) = (lines(files), lines(&WRITTEN[1..]));
    let is_part = |given: &[&[u8]]| given.is_empty() || all.windows(given.len()).any(|part| part == given);
    if is_part(&given) {
        return true;
    }
    // Where nothing says where the log ends, the signed line at its end vouches for those before it, and not for itself.
    let (last, before) = given.split_last().unwrap();
    head.is_empty() && is_part(before) && String::from_utf8_lossy(last).contains("k1:")
}
