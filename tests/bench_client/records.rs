//! Operations on records, one after another.

use std::ffi::CStr;

use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::times::{Report, Times};
use crate::{Result, names};

/// What is written into a record: 2.5 KB.
pub(crate) fn content() -> Vec<u8> {
    format!(r#"{{"n": 1, "text": "{}"}}"#, "x".repeat(2500)).into_bytes()
}

pub(crate) fn open(name: &CStr, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    rustix::fs::open(name, flags | OFlags::CLOEXEC, Mode::from_raw_mode(0o640))
}

pub(crate) fn write(file: &OwnedFd, mut bytes: &[u8]) -> rustix::io::Result<()> {
    while !bytes.is_empty() {
        let written = rustix::io::write(file, bytes)?;
        bytes = bytes.get(written..).ok_or(Errno::IO)?;
    }
    Ok(())
}

/// Reads a file to its end, as `cat` does; how many bytes it has.
pub(crate) fn read_all(name: &CStr, buffer: &mut [u8]) -> rustix::io::Result<u64> {
    let file = open(name, OFlags::RDONLY)?;
    let mut total = 0;
    loop {
        match rustix::io::read(&file, &mut *buffer)? {
            0 => return Ok(total),
            count => total += count as u64,
        }
    }
}

pub(crate) fn stat(records: u32) -> Result<Report> {
    let names = names("record", records)?;
    let (mut found, mut times) = (0, Times::new(names.len()));
    for name in &names {
        found += rustix::fs::lstat(name)?.st_size as u64;
        times.lap();
    }
    Ok(times.end(found))
}

pub(crate) fn read(records: u32) -> Result<Report> {
    let (names, mut buffer) = (names("record", records)?, vec![0; 128 << 10]);
    let (mut found, mut times) = (0, Times::new(names.len()));
    for name in &names {
        found += read_all(name, &mut buffer)?;
        times.lap();
    }
    Ok(times.end(found))
}

pub(crate) fn create(records: u32, fsync: bool) -> Result<Report> {
    let (names, content) = (names("new", records)?, content());
    let mut times = Times::new(names.len());
    for name in &names {
        let file = open(name, OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL)?;
        write(&file, &content)?;
        if fsync {
            rustix::fs::fsync(&file)?;
        }
        drop(file);
        times.lap();
    }
    Ok(times.end(u64::from(records)))
}

pub(crate) fn truncate(records: u32) -> Result<Report> {
    let (names, content) = (names("new", records)?, content());
    let mut times = Times::new(names.len());
    for name in &names {
        let file = open(name, OFlags::WRONLY | OFlags::TRUNC)?;
        write(&file, &content)?;
        drop(file);
        times.lap();
    }
    Ok(times.end(u64::from(records)))
}

pub(crate) fn replace(records: u32) -> Result<Report> {
    let (names, content) = (names("new", records)?, content());
    let mut times = Times::new(names.len());
    for name in &names {
        let file = open(c"new.tmp", OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL)?;
        write(&file, &content)?;
        drop(file);
        rustix::fs::rename(c"new.tmp", name)?;
        times.lap();
    }
    Ok(times.end(u64::from(records)))
}
