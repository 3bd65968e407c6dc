//! tenantfs: per-user views of a shared volume of JSON records.
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
