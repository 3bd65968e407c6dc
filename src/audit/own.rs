//! What the log has of one user, for that user to read.

use std::fs::File;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::line::{Line, MAX_LINE};
use crate::error::{At, Doing, Error, Result};

/// The most lines that are given.
const MOST: usize = 1000;

/// How far it is looked back, in bytes, in all files together.
const FAR: u64 = 64 << 20;

/// How much is read at a time.
const CHUNK: u64 = 256 << 10;

/// A line of the log, without what would tell how much others do: its number and its place in the chain.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[allow(missing_docs)] // The members of a line, as the README explains them.
pub struct OwnEvent {
    pub ts: String,
    pub session: String,
    pub user: String,
    pub uid: u32,
    pub pid: u32,
    pub op: String,
    pub path: String,
    pub outcome: String,
    pub reason: String,
}

/// The latest events of `uid` in the log at `path` and in the file before it, if that was rotated to `PATH.1`: at most
/// so many, and at most 1000; the latest is the last. It is not looked back for ever.
///
/// # Errors
/// [`Kind::Io`](crate::error::Kind::Io) and the like when the log cannot be read.
pub fn own_events(path: &Path, uid: u32, lines: u32) -> Result<Vec<OwnEvent>> {
    let most = MOST.min(usize::try_from(lines).unwrap_or(MOST));
    let mut rotated = path.as_os_str().to_owned();
    rotated.push(".1");
    let (mut events, mut left) = (Vec::new(), FAR);
    for (path, required) in [(path, true), (Path::new(&rotated), false)] {
        let opened = File::options()
            .read(true)
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
            .open(path);
        let file = match opened {
            Ok(file) => file,
            Err(_) if !required => break,
            // A log that was just rotated away.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(Error::io(&error, "opening the audit log").at(path)),
        };
        let read = read_back(&file, &mut left, |line| {
            events.extend(own(line, uid));
            events.len() < most
        });
        read.doing("reading the audit log").at(path)?;
    }
    events.reverse();
    Ok(events)
}

/// Gives the lines from the last one back, until the caller has enough or `left` is used up.
fn read_back(file: &File, left: &mut u64, mut more: impl FnMut(&[u8]) -> bool) -> std::io::Result<()> {
    let mut end = file.metadata()?.len();
    // The beginning of a line whose end was read already, and is here.
    let mut rest = Vec::new();
    while end > 0 && *left > 0 {
        let start = end.saturating_sub(CHUNK.min(*left));
        *left -= end - start;
        let mut chunk = vec![0; usize::try_from(end - start).unwrap_or_default()];
        file.read_exact_at(&mut chunk, start)?;
        chunk.extend_from_slice(&rest);
        end = start;
        let whole = match start {
            0 => 0,
            _ => chunk
                .iter()
                .position(|byte| *byte == b'\n')
                .map_or(chunk.len(), |at| at + 1),
        };
        let lines = chunk
            .get(whole..)
            .unwrap_or_default()
            .rsplit(|byte| *byte == b'\n');
        for line in lines.filter(|line| !line.is_empty()) {
            if !more(line) {
                return Ok(());
            }
        }
        chunk.truncate(whole);
        // No line of ours is that long.
        if chunk.len() > MAX_LINE {
            chunk.clear();
        }
        rest = chunk;
    }
    Ok(())
}

fn own(line: &[u8], uid: u32) -> Option<OwnEvent> {
    let line = Line::parse(line).filter(|line| line.uid == uid)?;
    Some(OwnEvent {
        ts: line.ts.into_owned(),
        session: line.session.into_owned(),
        user: line.user.into_owned(),
        uid: line.uid,
        pid: line.pid,
        op: line.op.into_owned(),
        path: line.path.into_owned(),
        outcome: line.outcome.into_owned(),
        reason: line.reason.into_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::line::{Entry, Who};

    #[test]
    fn the_latest_of_ones_own_are_given_over_both_files_and_nobody_elses() {
        let directory = tempfile::TempDir::new().unwrap();
        let path = directory.path().join("log");
        let (mut all, mut digest) = (Vec::new(), [0; 32]);
        for number in 0..10_000u64 {
            let who = Who {
                session: "s".to_owned(),
                user: "u".to_owned(),
                uid: u32::try_from(number % 3).unwrap(),
            };
            let entry = Entry::now("open", format!("{number}-{}", "x".repeat(100)), "ok", "");
            digest = entry.write(&who, number + 1, &digest, &mut all);
        }
        let half = all.len() / 2 + all[all.len() / 2..].iter().position(|b| *b == b'\n').unwrap() + 1;
        std::fs::write(directory.path().join("log.1"), &all[..half]).unwrap();
        std::fs::write(&path, &all[half..]).unwrap();
        let events = own_events(&path, 1, 1000).unwrap();
        assert_eq!(events.len(), 1000);
        let expected: Vec<_> = (0..10_000).filter(|number| number % 3 == 1).collect();
        for (event, number) in events.iter().zip(&expected[expected.len() - 1000..]) {
            assert_eq!(event.uid, 1);
            assert!(event.path.starts_with(&format!("{number}-")), "{}", event.path);
        }
        std::fs::write(&path, "").unwrap();
        assert_eq!(
            own_events(&path, 1, 5).unwrap().len(),
            5,
            "those of the file before"
        );
        assert!(own_events(&path, 7, 5).unwrap().is_empty());
    }
}
