//! Threads of a session, by name.

use std::thread::{self, JoinHandle};

use crate::error::{Doing, Result};

pub(super) fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>> {
    thread::Builder::new()
        .name(name.to_owned())
        .spawn(work)
        .doing("starting a thread")
}
