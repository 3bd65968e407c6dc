//! Who may prove to be whom: API keys, and those who check them.

mod key;
mod static_keys;

pub use key::{ApiKey, key_hash};
pub use static_keys::StaticKeys;

use crate::error::Result;
use crate::identity::Principal;

/// Turns an API key into the proof of a user id.
pub trait Authenticator: Send + Sync {
    /// Checks `key`.
    ///
    /// # Errors
    /// [`AuthenticationRefused`](crate::error::Kind::AuthenticationRefused) when it proves nothing.
    fn authenticate(&self, key: &ApiKey) -> Result<Principal>;
}
