//! Work that may wait for a volume that hangs, on a thread that nothing else waits for.

use std::thread;

use tokio::sync::oneshot;

use crate::error::{Error, Kind, Result};

/// Does `work` on a thread of its own. Not on the runtime's pool: should every thread of that wait for a volume, sessions
/// must still be suspended and end.
///
/// # Errors
/// [`Kind::Io`] when there is no thread to be had, or the work panics.
pub async fn apart<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    let (done, result) = oneshot::channel();
    let run = move || {
        // Nobody may be waiting any more: then nobody wants to know.
        let _ = done.send(work());
    };
    thread::Builder::new()
        .name("apart".to_owned())
        .spawn(run)
        .map_err(|error| Error::io(&error, "starting a thread"))?;
    result
        .await
        .map_err(|_| Error::new(Kind::Io, "a panic; this is a bug, please report it"))
}
