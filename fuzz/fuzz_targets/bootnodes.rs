//! See `kadnode_fuzz::bootnodes`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| kadnode_fuzz::bootnodes::check(data));
