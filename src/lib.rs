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
//! # The rooms
//!
//! Each module imports only from rows above its own, and within it no two files need each other (`tests/layering` checks
//! both):
//!
//! 1. - [`account`]: how accounts of this host are called.
//! 2. - [`clock`]: what time it is, and how long something took.
//!    - [`error`]: the one error type, with its kinds and their errnos.
//!    - [`escape`]: how what others wrote is shown to somebody.
//!    - [`input`]: opening files that somebody names to be read.
//! 3. - [`identity`]: user ids, their hashes, and the proof that somebody is that user.
//!    - [`keyfile`]: opening files that hold keys or quotas, if nobody else could have written or read them.
//!    - [`name`]: which names resources, records and entries may have.
//! 4. - [`quota`]: how much each user may have on the volume, and how much they have.
//!    - [`seal`]: encrypts the secrets and drafts of one user.
//! 5. - [`budget`]: shares of a limited good among the sessions of a process.
//!    - [`event`]: what happens in a session, and the observers that are told.
//!    - [`layout`]: where on a volume whose records are.
//!    - [`record`]: the lens between a record's stored text and what its owner sees of it.
//!    - [`volume`]: the only way to files on the volume.
//! 6. - [`audit`]: the audit log: writing and verifying it.
//!    - [`auth`]: whose a key is, and for how long that holds.
//!    - [`hooks`]: the operator's commands that publish a volume, and fetch what others published.
//!    - [`hosts`]: which hosts serve the volume, and whom.
//!    - [`metrics`]: counts what observers are told, for Prometheus.
//!    - [`store`]: one user's records, attachments and directories on the volume.
//! 7. - [`admin`]: the operator's work on a whole volume: verify, list, export, erase, reseal, unseal, migrate.
//!    - [`vfs`]: one user's file system: inodes, handles, drafts, and what the kernel may cache.
//! 8. - [`fuse`]: serves a file system to the kernel.
//!    - [`mounter`]: the privileged process that mounts, and its clients.
//! 9. - [`session`]: one user's mount from login to end, confined, and ended with the lease of its key.
//!    - [`daemon`]: many sessions in one process, and the socket that they are controlled by.
pub mod account;

pub mod clock;
pub mod error;
pub mod escape;
pub mod input;

pub mod identity;
pub mod keyfile;
pub mod name;

pub mod quota;
pub mod seal;

pub mod budget;
pub mod event;
pub mod layout;
pub mod record;
pub mod volume;

pub mod audit;
pub mod auth;
pub mod hooks;
pub mod hosts;
pub mod metrics;
pub mod store;

pub mod admin;
pub mod vfs;

pub mod fuse;
pub mod mounter;

pub mod session;

pub mod daemon;
