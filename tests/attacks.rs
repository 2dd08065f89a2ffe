//! Attacks in the simulator: one run of each, small enough for every test run. docs/attacks.md has the large ones.

use kadnode::sim::attack::{Eclipse, Limits};
use kadnode::sim::{Fidelity, Fill, Setup};

#[test]
fn a_few_addresses_with_many_keys_get_no_more_of_a_table_than_the_limits_allow() {
    let report = Eclipse::default().run(|_, _| ()).unwrap();
    assert_eq!((report.identities, report.addresses, report.allowed), (272, 2, Some(20)));
    let run = &report.runs[0];
    assert!(report.failed().is_empty(), "{run:?}");
    assert!(run.before.1 <= 20 && run.before.0 > 100, "{run:?}");
    assert_eq!(run.after.iter().map(|after| after.time.as_secs()).collect::<Vec<_>>(), [5, 60, 600]);
    for after in &run.after {
        assert!(after.attackers <= 20 && 4 * after.attackers < after.members, "{run:?}");
        assert_eq!((after.lookups, after.captured), (20, 0), "{run:?}");
    }
}

#[test]
fn without_the_limits_they_get_most_of_the_table() {
    let report = Eclipse { limits: Limits::Off, ..Eclipse::default() }.run(|_, _| ()).unwrap();
    assert_eq!(report.allowed, None);
    let run = &report.runs[0];
    assert!(report.failed().is_empty(), "{run:?}");
    assert!(run.after.iter().all(|after| after.attackers > 200), "{run:?}");
}

#[test]
fn sybils_name_one_another_at_both_fidelities_and_lookups_find_honest_nodes_all_the_same() {
    let setup = Setup { nodes: 200, lookups: 100, fill: Fill::Warm, sybils: 0.2, ..Setup::default() };
    let report = setup.run(|_, _| ()).unwrap();
    let wire = Setup { fidelity: Fidelity::Wire, threads: 2, ..setup.clone() }.run(|_, _| ()).unwrap();
    assert_eq!(report, wire);
    let sybils = report.sybils.unwrap();
    assert_eq!((sybils.nodes, sybils.captured, report.answered), (40, 0.0, 1.0));
    assert!((0.1..0.3).contains(&sybils.in_tables) && sybils.in_results > 0.2, "{sybils:?}");
    assert!(report.found_closest > 0.9, "{}", report.found_closest);
    // Whoever is honest says the same as ever.
    let honest = Setup { sybils: 0.0, ..setup }.run(|_, _| ()).unwrap();
    assert_eq!((honest.sybils, honest.found_closest), (None, 1.0));
    assert_ne!(honest.event_hash, report.event_hash);
}
