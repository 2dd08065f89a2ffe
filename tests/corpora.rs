//! The fuzz targets without a fuzzer: over their corpora, over what once failed, and over random bytes.

use std::collections::BTreeSet;
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

#[test]
fn the_corpus_of_the_engine_reaches_its_bounds() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/engine");
    let reached: BTreeSet<&str> = fs::read_dir(dir)
        .unwrap()
        .flat_map(|entry| fuzz::engine::reached(&fs::read(entry.unwrap().path()).unwrap()))
        .collect();
    let missing: Vec<&str> = EXPECTED.into_iter().filter(|what| !reached.contains(what)).collect();
    assert!(missing.is_empty(), "no input of the corpus brings about {missing:?}; see fuzz/README.md");
}

const EXPECTED: [&str; 17] = [
    "bound requests",
    "bound errands",
    "bound lookups",
    "bound bootnodes",
    "bound contacts",
    "bound replacements",
    "reply lookup",
    "reply ping",
    "reply record",
    "reply busy",
    "reply failed",
    "expired",
    "unsolicited",
    "wrong_sender",
    "unproved",
    "from_self",
    "bad_record",
];

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
