//! Two hosts that serve one volume on a distributed file system: what is promised of one host holds of both.
//!
//! Each test has a volume of its own on the cluster that `scripts/test --engines` brings up, with a daemon on each of its two client
//! mounts. What users do on both at once is written down and checked afterwards (`history.rs`). Nothing here is skipped: without a
//! cluster these tests fail, and cargo leaves them out unless it is told to run them.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

#[path = "../common/mod.rs"]
mod common;
mod faults;
mod figures;
mod history;
mod hosts;
mod isolation;
mod operators;
mod promises;
mod races;
mod workers;
