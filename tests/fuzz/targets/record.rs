//! A record on the volume and what a user writes over it, as any bytes whatever.

#![no_main]
#![allow(dead_code)] // The normal tests use more of the laws.

#[path = "../../laws/record.rs"]
mod laws;

libfuzzer_sys::fuzz_target!(|input: &[u8]| laws::check_input(input));
