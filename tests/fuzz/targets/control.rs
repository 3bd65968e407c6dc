//! What a client sends on the control socket, as any bytes whatever.

#![no_main]
#![allow(dead_code)] // The normal tests use more of the laws.

#[path = "../../laws/control.rs"]
mod laws;

libfuzzer_sys::fuzz_target!(|input: &[u8]| laws::check_input(input));
