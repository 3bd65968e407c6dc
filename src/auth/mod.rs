//! Who may prove to be whom: API keys, those who check them, and how long their word is good.
//!
//! [`StaticKeysFile`] and [`HttpService`] are the two [`Authenticator`]s. A service asks one for every request; those
//! who ask for the same key at the same time may share one question, see [`Shared`].
//!
//! ```
//! use tenantfs::auth::{ApiKey, Authenticator, StaticKeysFile, key_hash};
//! use tenantfs::error::Kind;
//!
//! # async fn example() -> tenantfs::error::Result<()> {
//! # let file = tempfile::NamedTempFile::new().unwrap();
//! let hash = key_hash(&ApiKey::new("sesame")?);
//! std::fs::write(file.path(), format!(r#"{{"keys":[{{"sha256":"{hash}","user_id":"alice"}}]}}"#)).unwrap();
//! let auth: Box<dyn Authenticator> = Box::new(StaticKeysFile::open(file.path())?);
//!
//! let validation = auth.validate(&ApiKey::new("sesame")?).await?;
//! assert_eq!(validation.principal.user().as_str(), "alice");
//! let refused = auth.validate(&ApiKey::new("guess")?).await.unwrap_err();
//! assert_eq!(refused.kind(), Kind::AuthenticationRefused);
//! # Ok(())
//! # }
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(example()).unwrap();
//! ```

mod answer;
mod far_end;
mod http;
mod key;
mod lease;
mod shared;
mod sock_diag;
mod static_keys;
mod subordinate;
mod throttle;

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

pub use http::{HttpService, ServiceOptions};
pub use key::{ApiKey, key_hash};
pub use lease::{Lease, State, Terms};
pub use shared::Shared;
pub use static_keys::{StaticKeys, StaticKeysFile};
pub use subordinate::SubordinateUids;
pub use throttle::{Delay, Throttle, Turn};

use crate::error::Result;
use crate::identity::Principal;

/// What an authenticator says of a key that it accepts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Validation {
    /// Whose key it is.
    pub principal: Principal,
    /// How long that stays good, where the authenticator says so: it shortens a lease, and never lengthens one.
    pub expires_in: Option<Duration>,
}

/// A validation under way. Dropped, it is given up.
pub type Validating<'a> = Pin<Box<dyn Future<Output = Result<Validation>> + Send + 'a>>;

/// Turns API keys into proofs of user ids.
pub trait Authenticator: Send + Sync {
    /// Checks `key`, in bounded time.
    ///
    /// # Errors
    /// [`AuthenticationRefused`](crate::error::Kind::AuthenticationRefused) is a no.
    /// [`AuthenticationUnreachable`](crate::error::Kind::AuthenticationUnreachable) is neither a yes nor a no: nobody
    /// answered, or nothing that can be understood.
    fn validate<'a>(&'a self, key: &'a ApiKey) -> Validating<'a>;
}
