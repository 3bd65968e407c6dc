//! `tenantfs mounter`.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use tenantfs::error::{Error, Result};

pub(crate) fn run() -> Result<()> {
    // The mounts end with the server: who ends both at once must not end this one first.
    let ignored = Arc::new(AtomicBool::new(false));
    for signal in [SIGHUP, SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&ignored))
            .map_err(|error| Error::io(&error, "ignoring signals"))?;
    }
    tenantfs::mounter::serve()
}
