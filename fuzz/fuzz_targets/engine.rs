//! See `kadnode_fuzz::engine`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| kadnode_fuzz::engine::check(data));
