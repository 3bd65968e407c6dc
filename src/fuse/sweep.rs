//! Making the kernel drop much at once, while the volume may hang.
//!
//! The kernel takes a notification when the pages and directories it names are free: their holders may wait for us, and we for
//! the volume. One that waits does not keep the others: another thread goes on with them.

use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use parking_lot::Mutex;

use super::threads::spawn;
use crate::clock::Stopwatch;

/// How often it is looked how far it is.
const POLL: Duration = Duration::from_millis(2);

/// After how long without another one done a notification counts as stuck, and how many may be.
const STUCK: Duration = Duration::from_millis(20);
const MAX_STUCK: usize = 64;

/// Calls `notify` for each of `known`, and waits for at most `patience`. Returns whether all was done by then; what is stuck
/// goes on.
pub(super) fn sweep<T: Send + 'static>(
    patience: Duration,
    known: Vec<T>,
    notify: impl Fn(T) + Clone + Send + 'static,
) -> bool {
    let queue = Arc::new(Mutex::new(known.into_iter()));
    let mut threads: Vec<JoinHandle<()>> = Vec::new();
    let (watch, mut moved, mut seen) = (Stopwatch::start(), Stopwatch::start(), usize::MAX);
    let mut alone = false;
    loop {
        threads.retain(|thread| !thread.is_finished());
        let left = queue.lock().len();
        if left == 0 && threads.is_empty() {
            return true;
        }
        if watch.elapsed() > patience {
            return false;
        }
        if left != seen {
            (seen, moved) = (left, Stopwatch::start());
        }
        let stuck = moved.elapsed() > STUCK && threads.len() < MAX_STUCK;
        if left > 0 && !alone && (threads.is_empty() || stuck) {
            let thread = go_on(Arc::clone(&queue), notify.clone());
            alone = thread.is_none();
            threads.extend(thread);
            moved = Stopwatch::start();
        }
        let next = if alone { queue.lock().next() } else { None };
        match next {
            // There are no threads to be had. Then this one sends, though it may get stuck.
            Some(one) => notify(one),
            None => thread::sleep(POLL),
        }
    }
}

fn go_on<T: Send + 'static>(
    queue: Arc<Mutex<std::vec::IntoIter<T>>>,
    notify: impl Fn(T) + Send + 'static,
) -> Option<JoinHandle<()>> {
    let work = move || {
        // Not locked while it is sent.
        let next = || queue.lock().next();
        while let Some(one) = next() {
            notify(one);
        }
    };
    let thread = spawn("notify", work);
    thread.inspect_err(|error| log::warn!("{error:#}")).ok()
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    #[test]
    fn what_is_stuck_keeps_nothing_else() {
        let (done, notified) = channel();
        let (let_go, held) = channel::<()>();
        let held = Arc::new(Mutex::new(held));
        let notify = move |number: u32| {
            if number == 3 {
                let _ = held.lock().recv();
            }
            let _ = done.send(number);
        };
        let all = sweep(Duration::from_millis(300), (0..100).collect(), notify.clone());
        assert!(!all, "one is stuck");
        assert_eq!(notified.try_iter().count(), 99);
        drop(let_go);
        assert_eq!(notified.recv().unwrap(), 3);
        assert!(sweep(Duration::from_secs(10), (0..100).collect(), notify));
        assert_eq!(notified.try_iter().count(), 100);
    }
}
