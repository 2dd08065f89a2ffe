//! Tests of the simulator on small networks.

use std::sync::Arc;

use super::*;
use crate::proto::config::Config;
use crate::proto::engine::{Command, CommandId, LookupReport, Reply};
use crate::proto::identity::PublicKey;
use crate::proto::time::Time;

fn config() -> Config {
    let mut config = Config { fetch_records: false, ..Config::default() };
    config.votes.enabled = false;
    config
}

fn world(nodes: usize, fidelity: Fidelity, latency: &str, seed: u64, threads: usize) -> World {
    let population = Arc::new(Population::new(nodes, seed, fidelity == Fidelity::Wire, threads));
    let network = Network::new(latency.parse().unwrap());
    World::new(population, config(), network, fidelity, seed, threads)
}

/// Everybody joins in the first ten seconds, through the first four.
fn join(world: &mut World) {
    let nodes = world.population().len();
    for node in 0..nodes {
        let at = if node < 4 { Time::ZERO } else { Time((node as u64 * 10_000_000) / nodes as u64) };
        world.start(node, at, &[0, 1, 2, 3]);
    }
    world.run_until(Time::from_secs(60));
}

fn target(n: usize) -> PublicKey {
    let mut bytes = [7; 64];
    bytes[..8].copy_from_slice(&(n as u64).to_be_bytes());
    PublicKey(bytes)
}

fn lookups(world: &mut World, count: usize) -> Vec<(usize, LookupReport)> {
    let nodes = world.population().len();
    let begin = world.now();
    for n in 0..count {
        let command = Command::Lookup { target: target(n), until_found: false, paths: None };
        world.command(n * 7 % nodes, Time(begin.0 + n as u64 * 20_000), CommandId(n as u64), command);
    }
    world.run_until(Time(begin.0 + count as u64 * 20_000 + 40_000_000));
    let replies = world.take_replies();
    let reports = replies.into_iter().map(|(_, node, _, reply)| match reply {
        Reply::Lookup(report) => (node, report),
        other => panic!("{other:?}"),
    });
    reports.collect()
}

#[test]
fn nodes_that_join_by_the_protocol_find_the_nearest() {
    let mut world = world(200, Fidelity::Message, "uniform:25-75", 1, 1);
    join(&mut world);
    let population = world.population().clone();
    let truth = Truth::new((0..population.len()).map(|node| (*population.id(node), node as u32)));
    let reports = lookups(&mut world, 100);
    assert_eq!(reports.len(), 100);
    for (asker, report) in reports {
        let expected = truth.closest(&report.target.node_id(), 16, Some(asker as u32));
        let found: Vec<u32> = report
            .closest
            .iter()
            .map(|found| super::population::node_of(found.contact.endpoint.udp_addr()).unwrap() as u32)
            .collect();
        assert_eq!(found, expected);
    }
}

#[test]
fn threads_and_fidelity_change_nothing() {
    let digest = |fidelity, threads| {
        let mut world = world(40, fidelity, "lognormal:50,0.6", 3, threads);
        join(&mut world);
        let reports = lookups(&mut world, 10);
        (world.digest(), world.traffic().sent, reports)
    };
    let one = digest(Fidelity::Message, 1);
    assert_eq!(one, digest(Fidelity::Message, 1));
    assert_eq!(one, digest(Fidelity::Message, 2));
    assert_eq!(one, digest(Fidelity::Message, 3));
    assert_eq!(one, digest(Fidelity::Wire, 2));
}

/// Mean hops of lookups for random targets in a warm network.
fn mean_hops(nodes: usize, choice: Choice, latency: &str, count: usize) -> (f64, f64) {
    let mut world = world(nodes, Fidelity::Message, latency, 5, 2);
    world.warm(choice);
    let population = world.population().clone();
    let truth = Truth::new((0..population.len()).map(|node| (*population.id(node), node as u32)));
    let (mut hops, mut nearest) = (0, 0);
    let reports = lookups(&mut world, count);
    assert_eq!(reports.len(), count);
    for (asker, report) in &reports {
        let expected = truth.closest(&report.target.node_id(), 1, Some(*asker as u32));
        let found = report.closest.first().and_then(|f| super::population::node_of(f.contact.endpoint.udp_addr()));
        nearest += usize::from(found == expected.first().map(|node| *node as usize));
        hops += usize::from(report.hops().unwrap_or(0));
    }
    (hops as f64 / count as f64, nearest as f64 / count as f64)
}

#[test]
fn hops_in_a_warm_network_are_those_of_the_theory() {
    // Roos, Salah and Strufe 2015, for k = 16 and alpha = 3, their count less one: 0.955.
    let (hops, nearest) = mean_hops(1000, Choice::Uniform, "constant:50", 2000);
    assert_eq!(nearest, 1.0);
    assert!((hops - 0.955).abs() < 0.03, "{hops}");
    let (diverse, nearest) = mean_hops(1000, Choice::Diverse, "constant:50", 2000);
    assert_eq!(nearest, 1.0);
    assert!(diverse < hops - 0.03, "{diverse} against {hops}");
}
