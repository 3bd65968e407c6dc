//! The thread of a session on which its access is suspended, resumed and ended.
//!
//! It is there from the beginning, so that what ends access never waits for a thread to be had. And it is the session's own:
//! one that waits for a volume that hangs keeps no other session from ending.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Sender, channel};
use std::thread;

use tokio::sync::oneshot;

use crate::error::{Doing, Error, Kind, Result};

type Work = Box<dyn FnOnce() + Send>;

/// Ends when it is dropped and all is done that was asked for.
pub(super) struct OwnThread(Sender<Work>);

impl OwnThread {
    /// Starts it.
    ///
    /// # Errors
    /// [`Kind::Io`] when there is no thread to be had.
    pub(super) fn start() -> Result<Self> {
        let (sender, asked) = channel::<Work>();
        thread::Builder::new()
            .name("session".to_owned())
            .spawn(move || {
                for work in asked {
                    // A panic ends this work and nothing else; whoever asked for it is told, by `run`.
                    let _ = catch_unwind(AssertUnwindSafe(work));
                }
            })
            .doing("starting a thread")?;
        Ok(Self(sender))
    }

    /// Does `work` when all is done that was asked for before: from the call on, whether or not its result is awaited.
    ///
    /// # Errors
    /// [`Kind::Io`] when the work panics.
    pub(super) fn run<T, W>(&self, work: W) -> impl Future<Output = Result<T>> + use<T, W>
    where
        T: Send + 'static,
        W: FnOnce() -> T + Send + 'static,
    {
        let (done, result) = oneshot::channel();
        let run = move || {
            // Nobody may be waiting any more: then nobody wants to know.
            let _ = done.send(work());
        };
        let bug = "panic of a session's thread; this is a bug, please report it";
        // If the thread were gone, `run` would be dropped, and the result with it.
        let _ = self.0.send(Box::new(run));
        async move { result.await.map_err(|_| Error::new(Kind::Io, bug)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn work_is_done_in_turn_and_a_panic_ends_only_its_own() {
        let thread = OwnThread::start().unwrap();
        let work = || -> () { panic!("sentinel") };
        let error = thread.run(work).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Io);
        assert!(!error.to_string().contains("sentinel"), "{error}");
        assert_eq!(thread.run(|| 7).await.unwrap(), 7);
    }
}
