//! See `kadnode_fuzz::enode`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| kadnode_fuzz::enode::check(data));
