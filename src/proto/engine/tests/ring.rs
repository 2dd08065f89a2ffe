//! The four nodes of the articles that the project started from, each knowing one other, with the settings as they are by
//! default.

use std::time::Duration;

use super::net::*;
use crate::proto::config::Config;
use crate::proto::contacts::Contacts;
use crate::proto::wire::{Message, MessageKind, Neighbors};

const NODES: usize = 4;

/// The nodes of the ring in a node's table, by number.
fn members(net: &Net, at: usize) -> Vec<usize> {
    let engine = net.engine(at);
    let contacts = engine.table().entries().map(|(_, entry)| engine.contacts().contact(entry.node));
    let mut members: Vec<usize> =
        contacts.filter_map(|contact| (0..NODES).position(|n| net.contact(n) == contact)).collect();
    members.sort_unstable();
    members
}

/// Whom of the ring a node names to a peer that asks; some packets from the past may be left over.
fn named(net: &mut Net, at: usize, peer: usize) -> Vec<usize> {
    let (from, to, key) = (net.peers[peer].addr, net.nodes[at].addr, net.peers[peer].key.clone());
    for message in [net.make_ping(from), net.make_find(target(1))] {
        net.forge(&key, from, to, &message);
        net.run(2 * DELAY);
        let got = net.claim_all(peer);
        for ping in got.iter().filter(|got| got.message.kind() == MessageKind::Ping) {
            let pong = net.make_pong(ping.hash);
            net.forge(&key, from, to, &pong);
            net.run(DELAY);
        }
        for got in got {
            if let Message::Neighbors(Neighbors { nodes, .. }) = got.message {
                let keys = nodes.iter().map(|node| node.key);
                return keys.filter_map(|key| (0..NODES).position(|n| net.contact(n).key == key)).collect();
            }
        }
    }
    panic!("whoever has proved himself is answered")
}

fn others(at: usize, gone: Option<usize>) -> Vec<usize> {
    (0..NODES).filter(|n| *n != at && Some(*n) != gone).collect()
}

/// Lets time pass until something is true of all living nodes; tells how long it took.
fn until(net: &mut Net, limit: Duration, mut done: impl FnMut(&mut Net) -> bool) -> Duration {
    let begun = net.now;
    while !done(net) {
        assert!(net.now.since(begun) < limit, "not within {limit:?}");
        net.run(ms(10));
    }
    net.now.since(begun)
}

fn ring() -> Net {
    let mut net = Net::new(4);
    for n in 0..NODES {
        let node = net.add(n as u64 + 1, addr(&format!("10.0.{n}.1:30303")), Config::default());
        if n > 0 {
            let before = net.contact(n - 1);
            net.bootnode(node, before);
        }
        net.run(ms(50));
    }
    let last = net.contact(NODES - 1);
    net.bootnode(0, last);
    net
}

/// What the articles need rounds of gossip for, and what they leave open: who has died, and who is back.
fn live_die_and_return(settled: Duration) {
    let mut net = ring();
    let all = |net: &mut Net| (0..NODES).all(|at| members(net, at) == others(at, None));
    until(&mut net, secs(1), all);
    net.run(settled);
    assert!(all(&mut net));

    net.stop(2);
    let died = net.now;
    for at in others(2, None) {
        let peer = net.peer(100 + at as u64, addr(&format!("10.1.{at}.1:30303")));
        while named(&mut net, at, peer).contains(&2) {
            assert!(net.now.since(died) < secs(60), "node {at} still names a dead node");
            net.run(secs(1));
        }
    }
    let left = secs(300).saturating_sub(net.now.since(died));
    until(&mut net, left, |net| others(2, None).iter().all(|at| members(net, *at) == others(*at, Some(2))));

    net.start(2);
    let before = net.contact(1);
    net.bootnode(2, before);
    until(&mut net, secs(2), all);
    for peer in 0..net.peers.len() {
        net.claim_all(peer);
    }
}

#[test]
fn four_in_a_ring_know_one_another_at_once_forget_the_dead_and_know_who_is_back() {
    live_die_and_return(Duration::ZERO);
}

#[test]
fn a_ring_that_has_been_there_for_long_does_too() {
    live_die_and_return(secs(5 * 3600));
}
