//! What the operator's monitoring reads: how much of what happens, how long it takes, and what goes wrong.
//!
//! Everything is counted for all sessions together. The labels have closed sets of values (operations, errnos, states):
//! no series is added by a user, a file or a name.

mod counts;
mod endpoint;
mod operations;

use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, prometheus_text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use crate::event::Observer;
use counts::{Counts, SessionObserver};
pub use endpoint::{Listener, serve};

/// How the name of every metric begins.
const PREFIX: &str = "tenantfs";

/// What is counted in this process.
pub struct Metrics {
    registry: Mutex<Registry>,
    counts: Arc<Counts>,
}

impl Metrics {
    /// Nothing has happened yet.
    pub fn new() -> Arc<Self> {
        let mut registry = Registry::with_prefix(PREFIX);
        let counts = Counts::register(&mut registry);
        Arc::new(Self {
            registry: Mutex::new(registry),
            counts,
        })
    }

    /// The observer of one session. Dropped, it takes the session out of those that are counted by state.
    pub fn observer(&self) -> Arc<dyn Observer> {
        Arc::new(SessionObserver::new(Arc::clone(&self.counts)))
    }

    /// Adds a value that is looked up whenever somebody reads the metrics: how long a queue is, for example. `read` must
    /// not wait. A name ends in its unit, and is given once.
    pub fn gauge(
        &self,
        name: &'static str,
        help: &'static str,
        read: impl Fn() -> u64 + Send + Sync + 'static,
    ) {
        let gauge = LookedUp {
            name,
            // As the library ends those of its own.
            help: format!("{help}."),
            read: Box::new(read),
        };
        self.registry.lock().register_collector(Box::new(gauge));
    }

    /// Everything, in Prometheus' text format 0.0.4.
    pub fn text(&self) -> String {
        let mut text = String::new();
        // A string takes whatever it is given.
        let _ = prometheus_text::encode(&mut text, &self.registry.lock());
        text
    }
}

/// A value that somebody else keeps.
struct LookedUp {
    name: &'static str,
    help: String,
    read: Box<dyn Fn() -> u64 + Send + Sync>,
}

impl fmt::Debug for LookedUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl Collector for LookedUp {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut metric = encoder.encode_descriptor(self.name, &self.help, None, MetricType::Gauge)?;
        metric.encode_gauge(&(self.read)())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_looked_up_at_each_reading() {
        let metrics = Metrics::new();
        let queue = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&queue);
        metrics.gauge("queue_lines", "Lines that wait", move || seen.lock().len() as u64);
        assert!(
            metrics.text().contains("\ntenantfs_queue_lines 0\n"),
            "{}",
            metrics.text()
        );
        queue.lock().push("line");
        assert!(
            metrics.text().contains("\ntenantfs_queue_lines 1\n"),
            "{}",
            metrics.text()
        );
    }
}
