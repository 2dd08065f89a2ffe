//! Small worlds in networks that are not kind.

use std::sync::Arc;

use super::nat::NatKind;
use super::*;
use crate::proto::config::Config;
use crate::proto::engine::{Command, CommandError, CommandId, LookupReport, Reply};
use crate::proto::identity::{Contact, PublicKey};
use crate::sim::{Fidelity, Population, Traffic, Truth, World};

const SEED: u64 = 3;

fn calm() -> Network {
    Network::new("uniform:25-75".parse().unwrap())
}

/// Everything at once.
fn rough() -> Network {
    Network {
        jitter: 20.0,
        loss: 0.05,
        duplicate: 0.1,
        reorder: 0.1,
        partition: Some(Partition { boundary: 10, from: Time::from_secs(10), until: Time::from_secs(20) }),
        nat: NatShares { full_cone: 0.2, restricted: 0.2, symmetric: 0.2 },
        clocks: WrongClocks { share: 0.2, seconds: 30.0 },
        ..calm()
    }
}

fn world(nodes: usize, network: &Network, fidelity: Fidelity, threads: usize) -> World {
    assert_eq!(network.check(), Ok(()));
    let population = Arc::new(Population::new(nodes, SEED, fidelity == Fidelity::Wire, threads));
    let mut config = Config { fetch_records: false, ..Config::default() };
    config.votes.enabled = false;
    World::new(population, config, network.clone(), fidelity, SEED, threads)
}

/// Everybody joins in the first ten seconds, through the first four; then it runs until a second.
fn join(world: &mut World, until: u64) {
    let nodes = world.population().len();
    for node in 0..nodes {
        let at = if node < 4 { 0 } else { node as u64 * 10_000_000 / nodes as u64 };
        world.start(node, Time(at), &[0, 1, 2, 3]);
    }
    world.run_until(Time::from_secs(until));
}

/// Lookups by `askers`, one every 20 ms, until all are over.
fn lookups(world: &mut World, askers: impl Iterator<Item = usize>) -> Vec<(usize, LookupReport)> {
    let (begin, mut count) = (world.now(), 0);
    for (n, asker) in askers.enumerate() {
        let command = Command::Lookup { target: PublicKey([n as u8 + 1; 64]), until_found: false, paths: None };
        world.command(asker, Time(begin.0 + n as u64 * 20_000), CommandId(n as u64), command);
        count = n as u64;
    }
    world.run_until(Time(begin.0 + count * 20_000 + 30_000_000));
    let reports = world.take_replies().into_iter().map(|(_, node, _, reply)| match reply {
        Reply::Lookup(report) => (node, report),
        other => panic!("{other:?}"),
    });
    reports.collect()
}

/// What comes of a ping, ten seconds later.
fn ping(world: &mut World, from: usize, to: Contact) -> Result<Contact, CommandError> {
    world.command(from, world.now(), CommandId(0), Command::Ping(to));
    world.run_until(world.now() + std::time::Duration::from_secs(10));
    match world.take_replies().pop() {
        Some((_, _, _, Reply::Ping(pinged))) => Ok(pinged.contact),
        Some((_, _, _, Reply::Failed(error))) => Err(error),
        other => panic!("{other:?}"),
    }
}

/// The first node of each kind that is no bootnode.
fn first_of(network: &Network, kind: NatKind, but: usize) -> usize {
    (4..).find(|&node| node != but && network.nat.kind(SEED, node as u32) == kind).unwrap()
}

#[test]
fn threads_and_fidelity_change_nothing_in_a_rough_network() {
    let run = |fidelity, threads| -> (u64, Traffic, Vec<(usize, LookupReport)>) {
        let mut world = world(20, &rough(), fidelity, threads);
        join(&mut world, 30);
        world.stop(9, world.now());
        world.stop(15, world.now());
        let reports = lookups(&mut world, [0, 7, 14, 3, 10, 17].into_iter());
        (world.digest(), world.traffic(), reports)
    };
    let one = run(Fidelity::Message, 1);
    let Traffic { sent, bytes, told, told_dead, .. } = one.1;
    assert!(sent[..4].iter().zip(&bytes).all(|(sent, bytes)| *sent > 0 && *bytes > 100 * sent));
    assert!(0 < told_dead && told_dead < told, "{told_dead} of {told}");
    assert_eq!(one.2.len(), 6);
    for (fidelity, threads) in [(Fidelity::Message, 2), (Fidelity::Message, 3), (Fidelity::Wire, 2)] {
        let other = run(fidelity, threads);
        assert_eq!((one.0, one.1), (other.0, other.1), "{fidelity:?}, {threads} threads");
        assert!(one.2 == other.2, "{fidelity:?}, {threads} threads");
    }
}

#[test]
fn each_disturbance_changes_what_happens() {
    let run = |network: Network| {
        let mut world = world(12, &network, Fidelity::Message, 1);
        join(&mut world, 30);
        (world.digest(), world.traffic())
    };
    let (still, rough) = (run(calm()), rough());
    let all = [
        Network { jitter: rough.jitter, ..calm() },
        Network { loss: rough.loss, ..calm() },
        Network { duplicate: rough.duplicate, ..calm() },
        Network { reorder: rough.reorder, ..calm() },
        Network { partition: Some(Partition { boundary: 6, ..rough.partition.unwrap() }), ..calm() },
        Network { nat: rough.nat, ..calm() },
        Network { clocks: WrongClocks { share: 1.0, seconds: 60.0 }, ..calm() },
    ];
    let mut digests: Vec<u64> = all.into_iter().map(|network| run(network).0).chain([still.0]).collect();
    digests.sort_unstable();
    digests.dedup();
    assert_eq!(digests.len(), 8);
    // Neither of these is anything.
    assert_eq!(still, run(Network { clocks: WrongClocks { share: 0.0, seconds: 60.0 }, ..calm() }));
    assert_eq!(still, run(Network { clocks: WrongClocks { share: 1.0, seconds: 0.0 }, ..calm() }));
}

#[test]
fn lookups_complete_though_packets_come_twice_and_late() {
    for duplicate in [0.0, 0.3] {
        let network = Network { jitter: 30.0, duplicate, reorder: 0.3, ..calm() };
        let mut world = world(100, &network, Fidelity::Message, 2);
        join(&mut world, 60);
        let Traffic { sent, delivered, .. } = world.traffic();
        let times = delivered as f64 / sent.iter().sum::<u64>() as f64;
        assert!((times - 1.0 - duplicate).abs() < 0.02, "{times}");
        let population = world.population().clone();
        let truth = Truth::new((0..100).map(|node| (*population.id(node), node as u32)));
        let reports = lookups(&mut world, (0..50).map(|n| n * 7 % 100));
        assert_eq!(reports.len(), 50);
        let (mut nearest, mut all) = (0, 0);
        for (asker, report) in reports {
            let expected = truth.closest(&report.target.node_id(), 16, Some(asker as u32));
            let expected: Vec<Contact> = expected.into_iter().map(|node| population.contact(node as usize)).collect();
            let found: Vec<Contact> = report.closest.iter().map(|found| found.contact).collect();
            nearest += usize::from(found[0] == expected[0]);
            all += usize::from(found == expected);
        }
        assert_eq!(nearest, 50);
        // A NEIGHBORS that is late, or counted twice, takes nodes with it that only it named.
        assert!(all >= 40, "{all}");
    }
}

#[test]
fn who_bonds_with_whom_through_translators() {
    let third = 1.0 / 3.0;
    let network =
        Network { nat: NatShares { full_cone: third, restricted: third, symmetric: 1.0 - 2.0 * third }, ..calm() };
    let cone = first_of(&network, NatKind::FullCone, 0);
    let restricted = first_of(&network, NatKind::Restricted, 0);
    let symmetric = first_of(&network, NatKind::Symmetric, 0);
    let other = first_of(&network, NatKind::Symmetric, symmetric);
    let nodes = 1 + [cone, restricted, symmetric, other].into_iter().max().unwrap();
    let fresh = || {
        let mut world = world(nodes, &network, Fidelity::Message, 1);
        // They know nobody and are known to nobody.
        for node in [0, cone, restricted, symmetric, other] {
            world.start(node, Time::ZERO, &[]);
        }
        world.run_until(Time::from_secs(1));
        let contacts = [0, cone, restricted, symmetric, other].map(|node| world.population().contact(node));
        (world, contacts)
    };

    // Nobody behind a translator is reached before it has sent anything; who is open is reached by everybody.
    for from in [0, cone, restricted, symmetric] {
        let (mut world, [open, .., second]) = fresh();
        let (_, [_, to_cone, to_restricted, to_symmetric, _]) = fresh();
        for to in [to_cone, to_restricted, to_symmetric, second] {
            if world.population().contact(from) != to {
                assert_eq!(ping(&mut world, from, to), Err(CommandError::Timeout), "{from}");
            }
        }
        if from != 0 {
            assert_eq!(ping(&mut world, from, open), Ok(open), "{from}");
            // Both have proved themselves to one another.
            let (node, now) = (from, world.now());
            let engine = world.engine(0).unwrap();
            let entry = engine.table().entries().next().unwrap().1;
            assert!(engine.has_proved(now, entry.node));
            assert_eq!(crate::sim::population::number(entry.node), node);
            let port = crate::sim::population::port(entry.node);
            assert_eq!(port != 0, network.nat.kind(SEED, node as u32) == NatKind::Symmetric);
            assert_eq!(world.engine(node).unwrap().table().len(), 1);
        }
    }

    // A full cone that has sent to one is open to all; a restricted one is not, but the two of them get through once
    // both have tried.
    let (mut world, [open, to_cone, to_restricted, ..]) = fresh();
    assert_eq!(ping(&mut world, cone, open), Ok(open));
    assert_eq!(ping(&mut world, restricted, open), Ok(open));
    assert_eq!(ping(&mut world, 0, to_restricted), Ok(to_restricted));
    assert_eq!(ping(&mut world, other, to_restricted), Err(CommandError::Timeout));
    assert_eq!(ping(&mut world, other, to_cone), Ok(to_cone));
    assert_eq!(ping(&mut world, restricted, to_cone), Ok(to_cone));
    assert_eq!(ping(&mut world, cone, to_restricted), Ok(to_restricted));

    // Two symmetric ones never do, however often and whoever else they reach.
    let (mut world, [open, .., to_symmetric, to_other]) = fresh();
    for _ in 0..2 {
        assert_eq!(ping(&mut world, symmetric, open), Ok(open));
        assert_eq!(ping(&mut world, other, open), Ok(open));
        assert_eq!(ping(&mut world, symmetric, to_other), Err(CommandError::Timeout));
        assert_eq!(ping(&mut world, other, to_symmetric), Err(CommandError::Timeout));
    }
}

#[test]
fn nodes_whose_clock_is_far_off_are_heard_by_nobody() {
    let network = Network { clocks: WrongClocks { share: 0.5, seconds: 3600.0 }, ..calm() };
    let offset = |node: usize| network.clocks.offset(SEED, node as u32);
    let off: Vec<i64> = (0..1000).map(offset).filter(|offset| *offset != 0).collect();
    assert!(off.len().abs_diff(500) < 50);
    assert!(off.iter().all(|offset| offset.abs() <= 3_600_000_000));
    assert!(off.iter().filter(|offset| **offset < 0).count().abs_diff(250) < 50);

    let right = (0..).find(|&node| offset(node) == 0).unwrap();
    let behind = (0..).find(|&node| offset(node) < -60_000_000).unwrap();
    let ahead = (0..).find(|&node| offset(node) > 60_000_000).unwrap();
    let mut world = world(20, &network, Fidelity::Message, 1);
    for node in [right, behind, ahead] {
        world.start(node, Time::ZERO, &[]);
    }
    for (from, to) in [(behind, right), (right, behind), (right, ahead), (ahead, right), (ahead, behind)] {
        let to = world.population().contact(to);
        assert_eq!(ping(&mut world, from, to), Err(CommandError::Timeout));
    }
}

#[test]
fn the_dead_that_are_told_of_are_counted() {
    let mut world = world(60, &calm(), Fidelity::Message, 2);
    join(&mut world, 60);
    assert_eq!(world.traffic().told_dead, 0);
    let (before, now) = (world.traffic(), world.now());
    for node in 30..60 {
        world.stop(node, now);
    }
    assert!((30..60).all(|node| world.is_running(node, Time(now.0 - 1)) && !world.is_running(node, now)));
    assert!((0..30).all(|node| world.is_running(node, now)));
    for node in 0..30 {
        let command = Command::Lookup { target: PublicKey([node as u8; 64]), until_found: false, paths: None };
        world.command(node, now, CommandId(0), command);
    }
    world.run_until(now + std::time::Duration::from_millis(300));
    let after = world.traffic();
    let share = (after.told_dead - before.told_dead) as f64 / (after.told - before.told) as f64;
    assert!((0.4..0.6).contains(&share), "{share}");
    // Who comes back is dead no longer.
    for node in 30..60 {
        world.start(node, world.now(), &[0, 1, 2, 3]);
    }
    world.run_until(world.now() + std::time::Duration::from_secs(60));
    assert!((0..60).all(|node| world.is_running(node, world.now()) && world.engine(node).is_some()));
    world.take_replies();
    let back = world.traffic();
    lookups(&mut world, (0..30).map(|n| n * 7 % 30));
    assert!(world.traffic().told > back.told);
    assert_eq!(world.traffic().told_dead, back.told_dead);
}
