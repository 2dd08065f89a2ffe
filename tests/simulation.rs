//! The simulator at a size that matters: a thousand nodes that join by the protocol, on ten seeds.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use kadnode::sim::{Report, Scenario};

const SEEDS: u64 = 10;

/// `steady`: a thousand nodes join through four bootnodes, and then a thousand lookups for random targets follow.
fn reports() -> Vec<Report> {
    let next = AtomicU64::new(1);
    let done = Mutex::new(Vec::new());
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed > SEEDS {
                        break;
                    }
                    let mut setup = Scenario::named("steady").expect("it is in the list").setup();
                    setup.seed = seed;
                    let report = setup.run(|_, _| ()).expect("the settings are possible");
                    done.lock().expect("nobody panics while holding it").push(report);
                }
            });
        }
    });
    done.into_inner().expect("all have ended")
}

#[test]
fn a_thousand_that_join_by_the_protocol_find_the_nearest_on_ten_seeds() {
    let reports = reports();
    assert_eq!(reports.len() as u64, SEEDS);
    for report in &reports {
        let seed = report.seed;
        assert_eq!((report.nodes, report.lookups, report.answered), (1000, 1000, 1.0), "seed {seed}");
        assert_eq!(report.found_closest, 1.0, "seed {seed}");
        assert!(report.found_all >= 0.999, "seed {seed}: {}", report.found_all);
        assert_eq!(report.census.connected, 1.0, "seed {seed}");
        // Filled from the list of all nodes, with one of each sixteenth in a bucket, it takes 0.882 hops; see
        // docs/simulator.md. The standard error of a thousand lookups is 0.012.
        assert!(report.hops.mean < 0.94, "seed {seed}: {}", report.hops.mean);
    }
    let mean = reports.iter().map(|report| report.hops.mean).sum::<f64>() / SEEDS as f64;
    assert!(mean < 0.882 * 1.05, "{mean}: at most 5 % more than in filled tables");
}
