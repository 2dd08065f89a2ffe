//! Tests of the simulator on small networks.

use std::sync::Arc;

use super::*;
use crate::proto::config::Config;
use crate::proto::engine::{Alarm, Command, CommandId, LookupReport, Reply};
use crate::proto::identity::PublicKey;
use crate::proto::time::Time;

fn config() -> Config {
    let mut config = Config { fetch_records: false, ..Config::default() };
    config.votes.enabled = false;
    config.alarms.skew = false;
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

/// Runs the network until a second, with a lookup each 20 ms.
fn live_until(world: &mut World, second: u64) -> Vec<(Time, usize, Alarm)> {
    let begin = world.now();
    let nodes = world.population().len() as u64;
    let mut alarms = Vec::new();
    for n in 0..(second * 1_000_000).saturating_sub(begin.0) / 20_000 {
        if n % 500 == 0 {
            world.run_until(Time(begin.0 + n * 20_000));
            world.take_replies();
            alarms.extend(world.take_alarms());
        }
        let command = Command::Lookup { target: target((begin.0 + n) as usize), until_found: false, paths: None };
        world.command((n * 7 % nodes) as usize, Time(begin.0 + n * 20_000), CommandId(n), command);
    }
    world.run_until(Time::from_secs(second));
    alarms.extend(world.take_alarms());
    alarms
}

#[test]
fn honest_networks_raise_no_alarm_and_sybils_around_a_node_do() {
    const HONEST: usize = 200;
    const VICTIM: usize = 77;
    let mut population = Population::new(HONEST + 16, 1, false, 1);
    let own = *population.id(VICTIM);
    // All within a 64th of the expected gap: 2^256 / 200, which is more than 2^248.
    for sybil in 0..16u8 {
        let mut id = own;
        id.0[1] ^= 1;
        id.0[2] ^= sybil << 2;
        id.0[31] ^= sybil + 1;
        population.craft(HONEST + usize::from(sybil), id);
    }
    let network = Network::new("uniform:25-75".parse().unwrap());
    let mut config = config();
    config.alarms = Default::default();
    let mut world = World::new(Arc::new(population), config, network, Fidelity::Message, 1, 2);
    for node in 0..HONEST {
        world.start(node, Time(node as u64 * 50_000), &[0, 1, 2, 3]);
    }
    assert_eq!(live_until(&mut world, 1800), []);
    for sybil in HONEST..HONEST + 16 {
        world.start(sybil, world.now(), &[VICTIM]);
    }
    let alarms = live_until(&mut world, 1900);
    let of_victim = alarms.iter().filter(|(_, node, _)| *node == VICTIM);
    let of_victim: Vec<&Alarm> = of_victim.map(|(.., alarm)| alarm).collect();
    let [Alarm::Crowded { nodes: 4..=16, expected, network }] = of_victim[..] else { panic!("{alarms:?}") };
    assert!(*expected < 0.05 && (100..400).contains(network), "{alarms:?}");
}
