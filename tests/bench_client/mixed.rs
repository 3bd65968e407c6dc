//! What many programs do at once: half of it reads, a quarter stats, a quarter writes.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::fs::OFlags;

use crate::records::{content, open, read_all, write};
use crate::times::{Report, Times};
use crate::{Result, names};

/// The same numbers in every run: splitmix64.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % end
    }
}

/// Starts the processes, and waits for all of them. They read the records here and write into another directory.
pub(crate) fn run(processes: u32, operations: u32, records: u32, written: &Path) -> Result<Report> {
    let begin = Instant::now();
    let workers = (0..processes)
        .map(|number| {
            let numbers = [number, operations, records].map(|number| number.to_string());
            let mut worker = Command::new(std::env::current_exe()?);
            worker
                .arg("worker")
                .args(numbers)
                .arg(written)
                .stdout(Stdio::piped())
                .spawn()
        })
        .collect::<std::io::Result<Vec<_>>>()?;
    let mut each = Vec::new();
    for worker in workers {
        let output = worker.wait_with_output()?;
        if !output.status.success() {
            return Err("a worker failed".into());
        }
        for nanoseconds in str::from_utf8(&output.stdout)?.split_whitespace() {
            each.push(Duration::from_nanos(nanoseconds.parse()?));
        }
    }
    Ok(Report {
        total: begin.elapsed(),
        found: each.len() as u64,
        each,
        output: String::new(),
    })
}

/// One process: prints the nanoseconds of each operation.
pub(crate) fn work(number: u32, operations: u32, records: u32, written: &Path) -> Result<()> {
    let (names, content, mut buffer) = (names("record", records)?, content(), vec![0; 128 << 10]);
    let own = (0..16)
        .map(|slot| {
            CString::new(
                written
                    .join(format!("new-{number}-{slot}.json"))
                    .as_os_str()
                    .as_bytes(),
            )
        })
        .collect::<std::result::Result<Vec<_>, _>>()?;
    let mut random = Random::new(u64::from(number));
    let mut times = Times::new(operations as usize);
    for _ in 0..operations {
        let name = names
            .get(random.below(names.len() as u64) as usize)
            .ok_or("no records")?;
        let mine = own
            .get(random.below(own.len() as u64) as usize)
            .ok_or("no records")?;
        match random.below(20) {
            0..10 => drop(read_all(name, &mut buffer)?),
            10..15 => drop(rustix::fs::lstat(name)?),
            15..19 => write(
                &open(mine, OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC)?,
                &content,
            )?,
            _ => match rustix::fs::unlink(mine) {
                Ok(()) | Err(rustix::io::Errno::NOENT) => {}
                Err(error) => return Err(error.into()),
            },
        }
        times.lap();
    }
    let report = times.end(0);
    let numbers: Vec<_> = report
        .each
        .iter()
        .map(|time| time.as_nanos().to_string())
        .collect();
    println!("{}", numbers.join(" "));
    Ok(())
}
