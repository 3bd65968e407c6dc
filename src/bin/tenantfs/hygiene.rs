//! Keys and records stay in this process's memory: not in core dumps, not in swap, not in what a panic says.

use std::panic::{self, PanicHookInfo};
use std::thread;

use rustix::mm::{MlockAllFlags, mlockall};
use rustix::process::{DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit};

/// For every process of ours: no core dumps, which would have keys and records in them. Panics say where they were, and not
/// why: the standard library's messages quote the text that an index was wrong for.
pub(crate) fn keep_to_oneself() {
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    if let Err(errno) = setrlimit(Resource::Core, none) {
        log::warn!("setting the limit of core dumps: {errno}");
    }
    panic::set_hook(Box::new(|panic| log::error!("{}", described(panic))));
}

/// For a process that has a key and stays what it is: nobody but root may look at its memory.
pub(crate) fn hide_memory() {
    if let Err(errno) = set_dumpable_behavior(DumpableBehavior::NotDumpable) {
        log::warn!("hiding the memory of this process: {errno}");
    }
}

/// Keeps what this process has in memory, now and later, out of swap; where it may lock as much as it likes, which root sees
/// to. With less, what it needs one day would be refused instead.
///
/// Pages are locked when they are touched: of a serving thread's large buffer, only as much as was ever used.
pub(crate) fn lock_memory() {
    let all = Rlimit {
        current: None,
        maximum: None,
    };
    // Fails for who is not root: then it counts what is allowed already.
    let _ = setrlimit(Resource::Memlock, all);
    if getrlimit(Resource::Memlock).current.is_some() {
        return log::info!(
            "memory is not locked: keys and records may be written to swap; see LimitMEMLOCK= or ulimit -l"
        );
    }
    let flags = MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT;
    if let Err(errno) = mlockall(flags) {
        log::info!("memory is not locked: keys and records may be written to swap: {errno}");
    }
}

/// Where a panic was. Its message is left out, whatever it is.
fn described(panic: &PanicHookInfo<'_>) -> String {
    let thread = thread::current();
    let name = thread.name().unwrap_or("without a name");
    match panic.location() {
        Some(place) => format!("panic of thread {name} at {place}; this is a bug, please report it"),
        None => format!("panic of thread {name}; this is a bug, please report it"),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    #[test]
    fn a_panic_says_where_it_was_and_nothing_of_the_text() {
        let (said, heard) = channel();
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |panic| said.send(described(panic)).unwrap()));
        let text = String::from("sentinel-ä");
        let cut = thread::Builder::new()
            .name("cutter".to_owned())
            .spawn(move || text[..text.len() - 1].len());
        assert!(cut.unwrap().join().is_err());
        panic::set_hook(before);
        let said = heard.recv().unwrap();
        assert!(
            said.contains("thread cutter at src/bin/tenantfs/hygiene.rs:"),
            "{said}"
        );
        assert!(!said.contains("sentinel"), "{said}");
    }
}
