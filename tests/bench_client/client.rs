//! The operations that `scripts/bench` times, in loops that add one reading of the clock to each: Python alone takes longer for a stat
//! than the kernel does.
//!
//! It works in the current directory, as the user that it is started as, and prints one JSON object: the seconds it took, those of the
//! median, the 99th percentile and the slowest operation, and what was found, by which the caller sees that all of it was there.

use std::error::Error;
use std::ffi::{CString, OsString};
use std::path::PathBuf;

use clap::{Parser, Subcommand};

mod attachment;
mod commands;
mod mixed;
mod records;
mod times;
mod watch;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Times one operation in the current directory
#[derive(Parser)]
struct Args {
    #[command(subcommand)]
    operation: Operation,
}

#[derive(Subcommand)]
enum Operation {
    /// Lstat each record
    Stat { records: u32 },
    /// Open, read and close each record
    Read { records: u32 },
    /// Create, write and close records that are not there
    Create {
        records: u32,
        #[arg(long)]
        fsync: bool,
    },
    /// Truncate, write and close records that are there
    Truncate { records: u32 },
    /// Write beside each record, and rename over it
    Replace { records: u32 },
    /// Read a file from its beginning to its end
    ReadThrough { file: PathBuf },
    /// Write a new file from its beginning to its end
    WriteThrough {
        file: PathBuf,
        bytes: u64,
        #[arg(long)]
        fsync: bool,
    },
    /// Read 4 KiB at random places
    ReadRandom { file: PathBuf, count: u32 },
    /// Write 4 KiB at random places, and fsync at the end
    WriteRandom { file: PathBuf, count: u32 },
    /// Several processes that stat, read, rewrite, create and remove records
    Mixed {
        processes: u32,
        operations: u32,
        records: u32,
        written: PathBuf,
    },
    /// One of those processes
    Worker {
        number: u32,
        operations: u32,
        records: u32,
        written: PathBuf,
    },
    /// Wait for changes by others, each as standard input says
    Watch,
    /// Run a command
    Run {
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<OsString>,
    },
}

/// Names as system calls take them, so that no time is measured in which they are made.
fn names(prefix: &str, count: u32) -> Result<Vec<CString>> {
    (0..count)
        .map(|number| Ok(CString::new(format!("{prefix}-{number:06}.json"))?))
        .collect()
}

fn main() -> Result<()> {
    match Args::parse().operation {
        Operation::Stat { records } => records::stat(records)?.print(),
        Operation::Read { records } => records::read(records)?.print(),
        Operation::Create { records, fsync } => records::create(records, fsync)?.print(),
        Operation::Truncate { records } => records::truncate(records)?.print(),
        Operation::Replace { records } => records::replace(records)?.print(),
        Operation::ReadThrough { file } => attachment::read_through(&file)?.print(),
        Operation::WriteThrough { file, bytes, fsync } => {
            attachment::write_through(&file, bytes, fsync)?.print()
        }
        Operation::ReadRandom { file, count } => attachment::read_random(&file, count)?.print(),
        Operation::WriteRandom { file, count } => attachment::write_random(&file, count)?.print(),
        Operation::Mixed {
            processes,
            operations,
            records,
            written,
        } => mixed::run(processes, operations, records, &written)?.print(),
        Operation::Worker {
            number,
            operations,
            records,
            written,
        } => mixed::work(number, operations, records, &written),
        Operation::Watch => watch::run(),
        Operation::Run { command } => commands::run(&command)?.print(),
    }
}
