//! Waits for changes that others make on the volume. Each line of standard input says what is to come: `size NAME BYTES`,
//! `text NAME TEXT`, `present NAME`, `absent NAME`, `listed NAME` or `unlisted NAME`. It looks until it is not so, and caches have that;
//! then it prints `ready`, and `seen` as soon as it is so, or `never` after five seconds.

use std::fs;
use std::io::{ErrorKind, Write as _};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::Result;

const LIMIT: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_micros(500);

pub(crate) fn run() -> Result<()> {
    let mut output = std::io::stdout().lock();
    for line in std::io::stdin().lines() {
        let line = line?;
        let words: Vec<_> = line.split(' ').collect();
        if !wait(&words, false)? {
            return Err(format!("{line}: it is so before the change").into());
        }
        writeln!(output, "ready")?;
        output.flush()?;
        writeln!(output, "{}", if wait(&words, true)? { "seen" } else { "never" })?;
        output.flush()?;
    }
    Ok(())
}

/// Looks until it is so, or is not so; whether that came to pass.
fn wait(words: &[&str], wanted: bool) -> Result<bool> {
    let begin = Instant::now();
    while shows(words)? != wanted {
        if begin.elapsed() > LIMIT {
            return Ok(false);
        }
        sleep(PAUSE);
    }
    Ok(true)
}

fn shows(words: &[&str]) -> Result<bool> {
    Ok(match words {
        ["size", name, bytes] => fs::symlink_metadata(name)?.len() == bytes.parse::<u64>()?,
        ["text", name, text] => fs::read_to_string(name)?.contains(text),
        ["present", name] => exists(name)?,
        ["absent", name] => !exists(name)?,
        ["listed", name] => is_listed(name)?,
        ["unlisted", name] => !is_listed(name)?,
        _ => return Err(format!("unknown: {words:?}").into()),
    })
}

fn exists(name: &str) -> Result<bool> {
    match fs::symlink_metadata(name) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn is_listed(name: &str) -> Result<bool> {
    for entry in fs::read_dir(".")? {
        if entry?.file_name() == *name {
            return Ok(true);
        }
    }
    Ok(false)
}
