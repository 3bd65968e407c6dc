//! A command as a whole, timed from its start to its end. What it writes goes to memory, which costs every target the same.

use std::ffi::OsString;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Seek as _};
use std::process::Command;
use std::time::Instant;

use rustix::fs::MemfdFlags;

use crate::Result;
use crate::times::Report;

pub(crate) fn run(command: &[OsString]) -> Result<Report> {
    let (program, arguments) = command.split_first().ok_or("no command")?;
    let mut output = File::from(rustix::fs::memfd_create("output", MemfdFlags::CLOEXEC)?);
    let mut command = Command::new(program);
    command.args(arguments).stdout(output.try_clone()?);
    let begin = Instant::now();
    let status = command.status()?;
    let total = begin.elapsed();
    if !status.success() {
        return Err(format!("{program:?}: {status}").into());
    }
    output.rewind()?;
    let (mut found, mut last) = (0, String::new());
    for line in BufReader::new(output).lines() {
        found += 1;
        last = line?;
    }
    Ok(Report {
        total,
        each: Vec::new(),
        found,
        output: last,
    })
}
