//! How a store treats the volume.

use std::sync::Arc;
use std::time::Duration;

use crate::layout::Layout;
use crate::name::{Resource, default_resources};
use crate::quota::Quotas;
use crate::record::DEFAULT_SECRET_FIELDS;
use crate::seal::SealingKeys;
use crate::volume::Durability;

/// How a store treats the volume.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where the tenant's directories are.
    pub layout: Layout,
    /// The resources shown, in this order.
    pub resources: Vec<Resource>,
    /// What a commit waits for, unless it is asked for more.
    pub durability: Durability,
    /// Refuse every change.
    pub read_only: bool,
    /// The largest record as the mount shows it, in bytes.
    pub max_record: u64,
    /// The largest file that is no record, in bytes, holes too.
    pub max_attachment: u64,
    /// How much each user may have; without it, as much as they like.
    pub quotas: Option<Arc<Quotas>>,
    /// The members that are secret.
    pub secret_fields: Vec<String>,
    /// What seals them; without it none can be written.
    pub keys: Option<Arc<SealingKeys>>,
    /// The resources whose new records get the session's own key, sealed, where they have none.
    pub attach_session_key: Vec<Resource>,
    /// How long a record that was removed waits: for the next one of its name, which gets its secrets, or to be restored.
    /// With zero it is gone at once.
    pub keep_removed: Duration,
    /// What views may take that are remembered, to be served again without being read, in bytes.
    pub remembered: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            layout: Layout::default(),
            resources: default_resources(),
            durability: Durability::default(),
            read_only: false,
            max_record: 16 << 20,
            max_attachment: 1 << 40,
            quotas: None,
            secret_fields: DEFAULT_SECRET_FIELDS.iter().map(ToString::to_string).collect(),
            keys: None,
            attach_session_key: Vec::new(),
            keep_removed: Duration::from_secs(3600),
            remembered: 8 << 20,
        }
    }
}
