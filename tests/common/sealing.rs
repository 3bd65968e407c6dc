//! Sealing keys of a volume, and what they open: by the library, not by the program under test.

use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tenantfs::identity::UserId;
use tenantfs::seal::{Sealer, SealingKeys};

use super::{Mount, Tenant, Volume, write_private};

/// The id of the key that is active unless a test says otherwise.
pub(crate) const KEY: &str = "k1";

impl Volume {
    pub(crate) fn sealing_keys_file(&self) -> PathBuf {
        self.base().join("sealing-keys.json")
    }

    /// Writes a sealing keys file. Each key is its id's bytes, and zeros.
    pub(crate) fn has_keys(&self, active: &str, ids: &[&str]) {
        let keys = ids.iter().map(|id| {
            let mut key = [0; 32];
            key[..id.len()].copy_from_slice(id.as_bytes());
            ((*id).to_owned(), Value::from(STANDARD.encode(key)))
        });
        let keys: serde_json::Map<_, _> = keys.collect();
        let file = json!({"active": active, "keys": keys});
        write_private(&self.sealing_keys_file(), &file.to_string());
    }

    /// Mounts with sealing keys: those that the volume has, else one.
    pub(crate) fn mount_sealing(&self, tenant: &Tenant) -> Mount<'_> {
        self.mount_sealing_with(tenant, &[])
    }

    pub(crate) fn mount_sealing_with(&self, tenant: &Tenant, options: &[&str]) -> Mount<'_> {
        if !self.sealing_keys_file().exists() {
            self.has_keys(KEY, &[KEY]);
        }
        let keys = self.sealing_keys_file();
        let sealing = ["--sealing-keys", keys.to_str().unwrap()];
        self.mount_with(tenant, &[&sealing, options].concat())
    }

    /// What seals and opens for a tenant.
    pub(crate) fn sealer(&self, tenant: &Tenant) -> Sealer {
        let keys = SealingKeys::load(&self.sealing_keys_file()).unwrap();
        keys.sealer(&UserId::new(tenant.user).unwrap())
    }

    /// A secret of a stored record, opened; none when it has none. It must be sealed.
    pub(crate) fn opened(&self, tenant: &Tenant, resource: &str, name: &str, member: &str) -> Option<String> {
        let stored: Value = serde_json::from_str(&self.stored(tenant, resource, name)).unwrap();
        let sealed = stored.get(member)?.as_str().unwrap();
        let opened = self.sealer(tenant).open(member, sealed);
        let opened = opened.unwrap_or_else(|why| panic!("{sealed}: {why}"));
        Some(String::from_utf8(opened.to_vec()).unwrap())
    }
}
