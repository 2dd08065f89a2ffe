//! See `kadnode_fuzz::packet_open`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| kadnode_fuzz::packet_open::check(data));
