//! Experiments that have a name.

use std::time::Duration;

use super::churn::Sessions;
use super::network::{NatShares, Network};
use super::setup::{Arrivals, Contacts, Course, Fill, Setup};

/// An experiment that has a name. Its settings are a beginning: whoever runs it may change some.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// What it is called.
    pub name: &'static str,
    /// What happens in it, in one line.
    pub about: &'static str,
    setup: fn() -> Setup,
}

/// All scenarios. The first one is what [`Setup::default`] is.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "steady",
        about: "1,000 nodes join at their leisure; then lookups in peace",
        setup: Setup::default,
    },
    Scenario { name: "join-storm", about: "2,000 nodes join within 10 s through 4 bootnodes", setup: join_storm },
    Scenario {
        name: "churn",
        about: "10,000 nodes at a time come and go for 6 h: Weibull sessions of shape 0.5 and median 1 h",
        setup: churn,
    },
    Scenario {
        name: "half-die",
        about: "half of 1,000 nodes fall silent at once; lookups over the 10 min after it",
        setup: half_die,
    },
    Scenario {
        name: "partition",
        about: "1,000 nodes are split into halves for 30 min, and join again; lookups over the 20 min after it",
        setup: partition,
    },
    Scenario {
        name: "late-bootnodes",
        about: "1,000 nodes start, and the 4 bootnodes that all of them rely on a minute later",
        setup: late_bootnodes,
    },
    Scenario {
        name: "dead-20",
        about: "a fifth of the entries of all tables are dead when the lookups begin",
        setup: || dead(0.2),
    },
    Scenario {
        name: "dead-50",
        about: "half of the entries of all tables are dead when the lookups begin",
        setup: || dead(0.5),
    },
    Scenario {
        name: "lossy",
        about: "5 % of the packets are lost, 2 % come twice, 5 % are overtaken, and all have up to 20 ms of jitter",
        setup: lossy,
    },
    Scenario {
        name: "nat",
        about: "70 % of 1,000 nodes are behind address translators: 20 % full cone, 30 % restricted, 20 % symmetric",
        setup: nat,
    },
    Scenario { name: "ring", about: "4 nodes in a ring, each of which knows the one before it alone", setup: ring },
];

impl Scenario {
    /// The scenario of this name.
    pub fn named(name: &str) -> Option<&'static Scenario> {
        SCENARIOS.iter().find(|scenario| scenario.name == name)
    }

    /// Its settings.
    pub fn setup(&self) -> Setup {
        (self.setup)()
    }
}

/// Joiners that are looked up where joining is what the scenario is about.
const PROBES: usize = 200;

fn join_storm() -> Setup {
    let arrivals = Arrivals { within: Some(Duration::from_secs(10)), ..Arrivals::default() };
    Setup { nodes: 2000, arrivals, probes: PROBES, ..Setup::default() }
}

fn churn() -> Setup {
    Setup {
        nodes: 10_000,
        lookups: 10_000,
        fill: Fill::Warm,
        course: Course::Churn(Sessions::weibull(0.5, Duration::from_hours(1))),
        watch: Some(Duration::from_hours(6)),
        ..Setup::default()
    }
}

fn half_die() -> Setup {
    Setup { dead: 0.5, watch: Some(Duration::from_mins(10)), lookups: 3000, ..Setup::default() }
}

fn partition() -> Setup {
    let course = Course::Split { lasts: Duration::from_mins(30) };
    Setup { course, watch: Some(Duration::from_mins(20)), lookups: 6000, ..Setup::default() }
}

fn late_bootnodes() -> Setup {
    let arrivals = Arrivals { bootnodes_after: Duration::from_mins(1), ..Arrivals::default() };
    Setup { arrivals, probes: PROBES, ..Setup::default() }
}

fn dead(share: f64) -> Setup {
    Setup { dead: share, ..Setup::default() }
}

fn lossy() -> Setup {
    let mut setup = Setup::default();
    setup.network = Network { loss: 0.05, jitter: 20.0, duplicate: 0.02, reorder: 0.05, ..setup.network };
    setup
}

fn nat() -> Setup {
    let mut setup = Setup::default();
    setup.network.nat = NatShares { full_cone: 0.2, restricted: 0.3, symmetric: 0.2 };
    setup
}

fn ring() -> Setup {
    let arrivals = Arrivals { contacts: Contacts::Ring, ..Arrivals::default() };
    Setup { nodes: 4, lookups: 100, arrivals, watch: Some(Duration::from_mins(1)), probes: PROBES, ..Setup::default() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::time::Time;
    use crate::sim::network::Partition;
    use crate::sim::{Report, Target};

    /// A scenario with fewer nodes and lookups.
    fn small(name: &str, nodes: usize, lookups: usize) -> Report {
        let setup = Scenario::named(name).expect("it is in the list").setup();
        Setup { nodes, lookups, ..setup }.run(|_, _| ()).unwrap()
    }

    #[test]
    fn every_scenario_has_a_name_of_its_own_and_settings_that_can_be() {
        let mut names: Vec<&str> = SCENARIOS.iter().map(|scenario| scenario.name).collect();
        assert!(SCENARIOS.iter().all(|scenario| scenario.setup().check().is_ok()));
        assert_eq!(Scenario::named("steady").unwrap().setup(), Setup::default());
        assert!(Scenario::named("storm").is_none());
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), SCENARIOS.len());
    }

    #[test]
    fn joiners_of_a_storm_are_found_within_seconds() {
        let report = small("join-storm", 200, 100);
        assert_eq!((report.found_closest, report.found_all, report.census.connected), (1.0, 1.0, 1.0));
        let joiners = report.joiners.unwrap();
        assert!(joiners.seconds_to_95.is_some_and(|seconds| seconds <= 4.0), "{joiners:?}");
    }

    #[test]
    fn everybody_joins_once_the_bootnodes_are_there() {
        let report = small("late-bootnodes", 100, 100);
        assert_eq!((report.found_closest, report.found_all, report.census.connected), (1.0, 1.0, 1.0));
        let joiners = report.joiners.unwrap();
        assert_eq!(joiners.found.last(), Some(&(32.0, 1.0)), "{joiners:?}");
    }

    #[test]
    fn the_four_of_the_ring_all_know_one_another() {
        let report = small("ring", 4, 20);
        assert_eq!((report.census.running, report.census.connected), (4, 1.0));
        let entries = report.census.entries;
        assert_eq!((entries.mean, entries.se, entries.max), (3.0, 0.0, 3.0));
        assert_eq!((report.found_closest, report.found_all, report.hops.max), (1.0, 1.0, 0.0));
        // One node and its only contact cannot be found before that contact runs.
        assert!(report.joiners.unwrap().seconds_to_95.is_some());
    }

    #[test]
    fn lookups_go_around_the_dead() {
        for (name, stale) in [("dead-20", 0.2), ("dead-50", 0.5)] {
            let report = small(name, 200, 200);
            assert!(report.found_closest >= 0.99, "{name}: {}", report.found_closest);
            // The lookups are over in some seconds, and most of the dead still stand in the tables.
            assert!((report.census.stale - stale).abs() < 0.1, "{name}: {}", report.census.stale);
            assert!(report.census.running < 190);
        }
    }

    #[test]
    fn when_half_have_died_lookups_are_soon_complete_again() {
        let report = small("half-die", 200, 400);
        assert!((70..130).contains(&report.census.running));
        assert!(report.moments[5..].iter().all(|moment| moment.found_closest == 1.0), "{:?}", report.moments);
        assert!(report.moments[50..].iter().all(|moment| moment.found_all == 1.0), "{:?}", report.moments);
        assert_eq!((report.census.stale, report.census.connected), (0.0, 1.0));
    }

    #[test]
    fn most_lookups_succeed_where_packets_are_lost() {
        // The nearest node is asked once, and one exchange in ten fails.
        let report = small("lossy", 200, 200);
        assert_eq!(report.answered, 1.0);
        assert!(report.found_closest > 0.8, "{}", report.found_closest);
        assert_eq!(report.census.connected, 1.0);
    }

    #[test]
    fn those_that_everybody_reaches_are_found_beside_those_behind_translators() {
        let report = small("nat", 200, 200);
        assert_eq!(report.answered, 1.0);
        assert!(report.found_closest >= 0.95, "{}", report.found_closest);
    }

    #[test]
    fn halves_that_are_apart_do_not_find_each_other() {
        let split = Partition { boundary: 50, from: Time::ZERO, until: Time::NEVER };
        let mut setup = Setup { nodes: 100, lookups: 400, fill: Fill::Warm, target: Target::Node, ..Setup::default() };
        setup.network.partition = Some(split);
        let report = setup.run(|_, _| ()).unwrap();
        // Half of all nodes are on the other side; five standard deviations are an eighth.
        assert!((report.found_closest - 0.5).abs() < 0.125, "{}", report.found_closest);
    }

    #[test]
    fn halves_that_were_apart_find_each_other() {
        let report = small("partition", 100, 600);
        // Every other lookup is for the other side.
        assert!(report.moments[2..].iter().all(|moment| moment.found_closest == 1.0), "{:?}", report.moments);
        assert_eq!(report.census.connected, 1.0);
    }

    #[test]
    fn lookups_find_the_nearest_while_nodes_come_and_go() {
        let setup = Scenario::named("churn").unwrap().setup();
        let setup = Setup { nodes: 100, lookups: 600, watch: Some(Duration::from_hours(1)), ..setup };
        let report = setup.run(|_, _| ()).unwrap();
        assert_eq!(report, Setup { threads: 2, ..setup.clone() }.run(|_, _| ()).unwrap());
        assert!((80..=120).contains(&report.census.running), "{}", report.census.running);
        assert!(report.answered > 0.99 && report.found_closest > 0.97, "{}", report.found_closest);
        assert!(report.census.stale < 0.15, "{}", report.census.stale);
        assert!(report.dead_told > 0.0 && report.dead_told < 0.15, "{}", report.dead_told);
        // By the protocol instead, and with half of the sessions shorter than 10 minutes.
        let sessions = Sessions::exponential(Duration::from_mins(10));
        let setup = Setup { fill: Fill::Join, course: Course::Churn(sessions), ..setup };
        let report = setup.run(|_, _| ()).unwrap();
        assert!(report.answered > 0.99 && report.found_closest > 0.95, "{}", report.found_closest);
    }
}
