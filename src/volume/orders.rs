//! Orders to every host that serves the volume: files without content in its root, whose names say what is to end.

use std::collections::BTreeSet;

use super::dir::Dir;
use super::marks::Marks;
use super::staged::random_name;
use crate::clock::Moment;
use crate::error::{Kind, Result};

/// How the names of orders begin; who is meant, and something random, follow.
const PREFIX: &str = ".tenantfs-end-";

/// In place of who is meant.
const ALL: &str = "all";

/// Those that were given before something began: they are not meant for it.
#[derive(Clone, Debug, Default)]
pub struct EarlierOrders(BTreeSet<String>);

/// That sessions end, on every host.
#[derive(Debug)]
pub struct Order {
    name: String,
}

impl Order {
    /// Gives it: to the sessions of whoever `subject` means, letters and digits; to all, when that is none.
    ///
    /// # Errors
    /// The volume's.
    pub fn give(root: &Dir, subject: Option<&str>) -> Result<Self> {
        let order = Self {
            name: random_name(&format!("{PREFIX}{}-", subject.unwrap_or(ALL)))?,
        };
        root.create_file(&order.name, 0o600)?;
        Ok(order)
    }

    /// Takes it back, when everybody had time to see it.
    ///
    /// # Errors
    /// The volume's.
    pub fn take_back(&self, root: &Dir) -> Result<()> {
        match root.unlink(&self.name) {
            Err(error) if error.kind() != Kind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

impl Marks {
    /// The orders that are there now.
    ///
    /// # Errors
    /// As of [`has_now`](Self::has_now).
    pub fn orders(&self) -> Result<EarlierOrders> {
        self.has_now("")?;
        let names = self.names();
        let orders = names.iter().filter(|name| name.starts_with(PREFIX));
        Ok(EarlierOrders(orders.cloned().collect()))
    }

    /// Returns when an order is there for whoever `subject` means, and is none of those before.
    pub async fn ordered(&self, subject: &str, before: &EarlierOrders, since: Moment) {
        self.any_appears(since, |name| is_for(name, subject) && !before.0.contains(name))
            .await;
    }
}

/// Whether a file of this name is one.
pub(super) fn is_order(name: &str) -> bool {
    name.starts_with(PREFIX)
}

fn is_for(name: &str, subject: &str) -> bool {
    let rest = name.strip_prefix(PREFIX).and_then(|rest| rest.rsplit_once('-'));
    rest.is_some_and(|(meant, _)| meant == ALL || meant == subject)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;
    use crate::volume::Volume;

    #[tokio::test]
    async fn an_order_is_for_whom_it_means_and_was_there_before() {
        let directory = tempfile::tempdir().unwrap();
        let volume = Volume::open(directory.path()).unwrap();
        let (root, marks, since) = (volume.root(), volume.marks(), Moment::now());
        let soon = Duration::from_millis(10);
        let before = marks.orders().unwrap();
        let order = Order::give(root, Some("abc")).unwrap();
        let after = marks.orders().unwrap();
        assert!(timeout(soon, marks.ordered("abc", &before, since)).await.is_ok());
        assert!(timeout(soon, marks.ordered("ab", &before, since)).await.is_err());
        assert!(timeout(soon, marks.ordered("abc", &after, since)).await.is_err());
        order.take_back(root).unwrap();
        order.take_back(root).unwrap();
        let all = Order::give(root, None).unwrap();
        marks.orders().unwrap();
        assert!(timeout(soon, marks.ordered("ab", &after, since)).await.is_ok());
        all.take_back(root).unwrap();
    }
}
