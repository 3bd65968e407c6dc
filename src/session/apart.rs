//! Work that may wait for a volume that hangs, on a thread that nothing else waits for.

use std::thread;

use tokio::sync::oneshot;

use crate::error::{Doing, Error, Kind, Result};

/// Does `work` on a thread of its own, called `name`. Not on one of a pool: those that wait for a volume that hangs must not
/// keep another session from starting, being suspended, or ending.
///
/// # Errors
/// [`Kind::Io`] when there is no thread to be had, or the work panics.
pub async fn apart<T: Send + 'static>(name: &str, work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    let (done, result) = oneshot::channel();
    let run = move || {
        // Nobody may be waiting any more: then nobody wants to know.
        let _ = done.send(work());
    };
    thread::Builder::new()
        .name(name.to_owned())
        .spawn(run)
        .doing("starting a thread")?;
    let bug = |_| {
        Error::new(
            Kind::Io,
            format!("panic of thread {name}; this is a bug, please report it"),
        )
    };
    result.await.map_err(bug)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_ends_the_work_and_nothing_else() {
        let work = || -> () { panic!("sentinel") };
        let error = apart("cutter", work).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Io);
        assert!(
            error.to_string().contains("cutter") && !error.to_string().contains("sentinel"),
            "{error}"
        );
        assert_eq!(apart("next", || 7).await.unwrap(), 7);
    }
}
