//! See `kadnode_fuzz::record`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| kadnode_fuzz::record::check(data));
