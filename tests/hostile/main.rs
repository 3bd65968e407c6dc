//! Attacks, by family. Each case is made on a running daemon beside another user who must not notice: see [`arena`].
//!
//! Here each family runs shortened. `scripts/test --hostile-long` runs all of it at full length.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

#[path = "../common/mod.rs"]
mod common;

mod arena;
mod exhaustion;
mod names;
mod operator;
mod parsers;
mod planted;
mod races;
mod side_channels;
mod wall;
