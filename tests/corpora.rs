//! The fuzz targets without a fuzzer: over their corpora, over what once failed, and over random bytes.

use std::fs;
use std::panic::catch_unwind;
use std::path::Path;

use proptest::collection::vec;
use proptest::prelude::*;

#[path = "../fuzz/src/lib.rs"]
#[expect(unreachable_pub, reason = "it is a library of its own beside the fuzzers")]
mod fuzz;

#[test]
fn corpora_and_regressions_break_nothing() {
    let mut failed = Vec::new();
    for (name, check) in fuzz::TARGETS {
        let mut count = 0;
        for kind in ["corpus", "regressions"] {
            let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz").join(kind).join(name);
            for entry in fs::read_dir(dir).into_iter().flatten() {
                let path = entry.unwrap().path();
                let input = fs::read(&path).unwrap();
                if catch_unwind(|| check(&input)).is_err() {
                    failed.push(path);
                }
                count += 1;
            }
        }
        assert!(count > 0, "{name} has no corpus");
    }
    assert!(failed.is_empty(), "see the panics above; these fail: {failed:?}");
}

/// No files of failures: what fails becomes a test, or an input in `fuzz/regressions`.
fn cases(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(cases(300))]

    #[test]
    fn the_engine_keeps_its_invariants(input in vec(any::<u8>(), 0..1500)) {
        fuzz::engine::check(&input);
    }

    #[test]
    fn random_bytes_break_no_codec(input in vec(any::<u8>(), 0..400)) {
        for (_, check) in fuzz::TARGETS.iter().filter(|(name, _)| *name != "engine") {
            check(&input);
        }
    }
}
