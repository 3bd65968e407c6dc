//! What an operator sees, and what is said to who mistypes: `doctor`, `status`, `top`, the config file, layouts, keys that are found.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

#[path = "../common/mod.rs"]
mod common;

mod checked;
mod found;
mod layouts;
mod names;
mod status;
mod top;
mod view;
mod words;

use std::process::Output;

/// A command's standard output.
fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A command's standard error.
fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}
