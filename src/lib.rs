//! tenantfs: per-user views of a shared volume of JSON records.
//!
//! The program `tenantfs` shows each user their records as files. A service in Rust has the same records without any mount:
//! whose a key is says an [authenticator](auth), and that proof opens a [`Store`](store::Store), in which there are no
//! other users.
//!
//! ```
//! use std::sync::Arc;
//! use tenantfs::auth::{ApiKey, StaticKeys, key_hash};
//! use tenantfs::error::Kind;
//! use tenantfs::event::LogObserver;
//! use tenantfs::name::RecordId;
//! use tenantfs::seal::SealingKeys;
//! use tenantfs::store::{Options, Store};
//! use tenantfs::volume::Volume;
//!
//! # fn main() -> tenantfs::error::Result<()> {
//! # let dir = tempfile::tempdir().unwrap();
//! // Once, when the service starts. Keys and volume are files of its account, which the mounts' server runs as, too.
//! let hash = |key| ApiKey::new(key).map(|key| key_hash(&key));
//! let keys = StaticKeys::parse(&format!(
//!     r#"{{"keys":[{{"sha256":"{}","user_id":"alice"}},{{"sha256":"{}","user_id":"bob"}}]}}"#,
//!     hash("key-of-alice")?, hash("key-of-bob")?,
//! ))?;
//! let volume = Volume::open(dir.path())?;
//! let options = Options {
//!     keys: Some(Arc::new(SealingKeys::parse(SealingKeys::generate()?.text.as_bytes())?)),
//!     ..Options::default()
//! };
//! let observer = Arc::new(LogObserver::default());
//!
//! // For every request: authenticate, and open what is that user's.
//! let alice = keys.authenticate(&ApiKey::new("key-of-alice")?)?;
//! let alices = Store::open(&volume, &alice, options.clone(), observer.clone())?.collection("schedules")?;
//!
//! // The record gets its owner, and its secret is sealed: neither needs to be thought of again.
//! let id = RecordId::random()?;
//! alices.save(&id, br#"{"at": "02:00", "api_key": "sk-123"}"#)?;
//! assert_eq!(alices.load(&id)?, r#"{"at": "02:00"}"#);
//! assert_eq!(alices.list()?, [id.clone()]);
//!
//! // To others it does not exist.
//! let bob = keys.authenticate(&ApiKey::new("key-of-bob")?)?;
//! let bobs = Store::open(&volume, &bob, options, observer)?.collection("schedules")?;
//! assert_eq!(bobs.load(&id).unwrap_err().kind(), Kind::NotFound);
//! assert_eq!(bobs.list()?, []);
//! assert_eq!(bobs.delete(&id).unwrap_err().kind(), Kind::NotFound);
//!
//! alices.delete(&id)?;
//! # Ok(())
//! # }
//! ```
//!
//! The calls of a store wait for the disk: an asynchronous service makes them on threads for that. `tests/axum_service` is
//! one, in axum. The parts can also be used alone: [`seal`] opens and seals secrets, [`record::Lens`] tells whose a text is
//! and strips it, [`layout`] says where things are.
//!
//! Each module imports only from modules above it in this list (`tests/layering.rs` checks it).
pub mod clock;
pub mod error;

pub mod identity;
pub mod keyfile;
pub mod name;

pub mod seal;

pub mod budget;
pub mod event;
pub mod layout;
pub mod record;
pub mod volume;

pub mod audit;
pub mod auth;
pub mod metrics;
pub mod store;

pub mod admin;
pub mod vfs;

pub mod fuse;
pub mod mounter;

pub mod session;

pub mod daemon;
