//! Operations on one large file.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use crate::Result;
use crate::mixed::Random;
use crate::times::{Report, Times};

/// What `cat` and `cp` read and write at once.
const BLOCK: usize = 128 << 10;
const PAGE: usize = 4 << 10;

pub(crate) fn read_through(path: &Path) -> Result<Report> {
    let mut buffer = vec![0; BLOCK];
    let (mut found, mut times) = (0, Times::new(1 << 14));
    let mut file = File::open(path)?;
    loop {
        let count = file.read(&mut buffer)?;
        times.lap();
        if count == 0 {
            break;
        }
        found += count as u64;
    }
    drop(file);
    Ok(times.end(found))
}

pub(crate) fn write_through(path: &Path, bytes: u64, fsync: bool) -> Result<Report> {
    let buffer = vec![0x5a; BLOCK];
    let mut times = Times::new(1 << 14);
    let mut file = File::create_new(path)?;
    for _ in 0..bytes / BLOCK as u64 {
        file.write_all(&buffer)?;
        times.lap();
    }
    if fsync {
        file.sync_all()?;
    }
    drop(file);
    Ok(times.end(bytes))
}

/// Where the pages are that are read or written, the same ones in every run.
fn places(file: &File, count: u32) -> Result<Vec<u64>> {
    let (pages, mut random) = (file.metadata()?.len() / PAGE as u64, Random::new(7));
    Ok((0..count).map(|_| random.below(pages) * PAGE as u64).collect())
}

pub(crate) fn read_random(path: &Path, count: u32) -> Result<Report> {
    let mut buffer = vec![0; PAGE];
    let file = File::open(path)?;
    let places = places(&file, count)?;
    let mut times = Times::new(places.len());
    for place in places {
        file.read_exact_at(&mut buffer, place)?;
        times.lap();
    }
    Ok(times.end(u64::from(count)))
}

pub(crate) fn write_random(path: &Path, count: u32) -> Result<Report> {
    let buffer = vec![0xa5; PAGE];
    let file = File::options().write(true).open(path)?;
    let places = places(&file, count)?;
    let mut times = Times::new(places.len());
    for place in places {
        file.write_all_at(&buffer, place)?;
        times.lap();
    }
    file.sync_all()?;
    Ok(times.end(u64::from(count)))
}
