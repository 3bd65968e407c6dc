//! The files of an audit log, as any bytes whatever.

#![no_main]
#![allow(dead_code)] // The normal tests use more of the laws.

#[path = "../../laws/audit.rs"]
mod laws;

libfuzzer_sys::fuzz_target!(|input: &[u8]| laws::check_input(input));
