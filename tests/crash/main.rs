//! What is left of a volume when its server, an operator's command, the disk or the power fails, at each step of what they do.
//!
//! A server is killed by strace, which ends the real, unmodified program as it enters the n-th system call of a kind, before
//! that takes place (`strace -e inject=fsync:signal=KILL:when=2`). A failpoint crate would kill a build that nobody runs, at
//! the points that somebody thought of; here every system call that changes the volume is one, and those that are added
//! later are too. The sequence is recorded first ([`strace::Call`]), and each run is compared with it: a kill that hit
//! something else, or nothing, fails the test. The same way a system call is made to fail: ENOSPC and EIO.
//!
//! strace counts by thread and by kind of call. So what is killed is one request of the kernel's, which one thread answers, or
//! a command that does its work on one thread; that is checked, too.
//!
//! Here a sample of the points is tried. With TENANTFS_HOSTILE_LONG=1, as `scripts/test --hostile-long` has it, all are.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

#[path = "../common/mod.rs"]
mod common;

mod disk;
mod kill;
mod operations;
mod power_cut;
mod refused;
mod scene;
mod scenes;
mod shutdown;
mod strace;
mod volume;

use std::io::Write as _;

/// Whether everything is tried.
fn is_long() -> bool {
    std::env::var_os("TENANTFS_HOSTILE_LONG").is_some()
}

/// Of `all` points those that are tried in this run: about `sample` of them, evenly spread, the first and the last included.
fn tried<T>(all: Vec<T>, sample: usize) -> Vec<T> {
    if is_long() || all.len() <= sample {
        return all;
    }
    let last = all.len() - 1;
    let chosen: Vec<usize> = (0..sample).map(|nth| nth * last / (sample - 1)).collect();
    let numbered = all.into_iter().enumerate();
    numbered
        .filter(|(number, _)| chosen.contains(number))
        .map(|(_, point)| point)
        .collect()
}

/// A line of the table that `scripts/test --hostile-long` ends with.
fn report(what: &str, count: usize) {
    let line = format!("HOSTILE: crash | {what} | {count}\n");
    // Not eprintln!: the test runner would swallow it.
    std::io::stderr().write_all(line.as_bytes()).unwrap();
}
