//! See `kadnode_fuzz::message`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| kadnode_fuzz::message::check(data));
