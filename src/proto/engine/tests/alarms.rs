//! Alarms and the clock of peers: when the operator is told, and when not.

use super::net::*;
use crate::proto::config::Config;
use crate::proto::engine::{Alarm, Clock, Command, Dropped, Event};
use crate::proto::identity::Prefix;
use crate::proto::wire::{Message, Ping, Pong};

/// The alarms that the first engine has raised since this was last asked.
fn alarms(net: &mut Net) -> Vec<Alarm> {
    let events = std::mem::take(&mut net.nodes[0].events).into_iter();
    let alarms = events.filter_map(|(_, event)| match event {
        Event::Alarm(alarm) => Some(alarm),
        _ => None,
    });
    alarms.collect()
}

/// Our clock is set, so many seconds ahead of what it was.
fn set_clock(net: &mut Net, ahead: i64) {
    let unix_micros = net.unix(ahead) * 1_000_000;
    net.input(0, |engine, now| engine.set_clock(Clock { now, unix_micros }));
}

/// A network of bonded peers on the internet, each in a /24 of its own.
fn with_peers(count: u8) -> (Net, Vec<usize>) {
    let mut net = Net::alone(passive());
    let peers = (0..count).map(|n| net.peer(100 + u64::from(n), addr(&format!("20.0.{n}.1:30303")))).collect();
    (net, peers)
}

/// The engine pings a peer, which answers as its own clock has it.
fn ping(net: &mut Net, peer: usize) {
    net.command(0, Command::Ping(net.peer_contact(peer)));
    let (_, ping) = net.expect_ping(peer);
    net.send_pong(peer, ping.hash);
    net.run(DELAY);
}

#[test]
fn a_clock_that_is_behind_is_told_of_by_pongs() {
    let (mut net, peers) = with_peers(6);
    set_clock(&mut net, -15);
    for peer in &peers[..4] {
        ping(&mut net, *peer);
    }
    // Whoever is heard twice is one.
    ping(&mut net, peers[3]);
    assert_eq!(alarms(&mut net), []);
    ping(&mut net, peers[4]);
    assert_eq!(alarms(&mut net), [Alarm::ClockSkew { ahead: -15 }]);
    ping(&mut net, peers[5]);
    assert_eq!(alarms(&mut net), [], "it is known");
    // It is set right.
    set_clock(&mut net, 0);
    for peer in peers {
        ping(&mut net, peer);
    }
    assert_eq!(alarms(&mut net), []);
}

#[test]
fn a_clock_that_is_far_behind_is_told_of_by_pings_of_those_who_were_known_before() {
    let (mut net, peers) = with_peers(7);
    for peer in &peers[..5] {
        net.bond(*peer);
    }
    set_clock(&mut net, -3600);
    let send = |net: &mut Net, peer: usize| {
        let hash = net.send_ping(peer);
        net.run(2 * DELAY);
        assert!(
            net.claim_all(peer).iter().any(|got| matches!(&got.message, Message::Pong(pong) if pong.ping_hash == hash))
        );
    };
    for peer in &peers[..4] {
        send(&mut net, *peer);
    }
    // Strangers have proved nothing, not even that they are there.
    for stranger in &peers[5..] {
        send(&mut net, *stranger);
    }
    assert_eq!(alarms(&mut net), []);
    send(&mut net, peers[4]);
    assert_eq!(alarms(&mut net), [Alarm::ClockSkew { ahead: -3600 }]);
}

#[test]
fn a_clock_that_is_far_ahead_is_told_of_by_pongs_that_have_expired() {
    let (mut net, peers) = with_peers(5);
    set_clock(&mut net, 3600);
    let forger = addr("21.0.0.1:30303");
    for (at, peer) in peers.iter().enumerate() {
        assert_eq!(alarms(&mut net), []);
        let contact = net.peer_contact(*peer);
        net.command(0, Command::Ping(contact));
        let (_, asked) = net.expect_ping(*peer);
        let us = net.nodes[0].addr;
        // Neither a wrong hash, nor another address, nor another key says anything.
        for (key, from, hash) in
            [(100 + at as u64, contact.endpoint.udp_addr(), [7; 32]), (100 + at as u64, forger, asked.hash)]
        {
            let pong = net.make_pong(hash);
            net.forge(&crate::proto::engine::tests::net::key(key), from, us, &pong);
        }
        net.send_pong(*peer, asked.hash);
        net.send_pong(*peer, asked.hash);
        net.run(DELAY);
        assert!(!net.is_bonded(*peer), "what has expired proves nothing");
    }
    assert_eq!(alarms(&mut net), [Alarm::ClockSkew { ahead: 3600 }]);
    assert_eq!(net.dropped(Dropped::Expired), 4 * 5);
    net.run(secs(2));
    for peer in peers {
        net.claim_all(peer);
    }
}

#[test]
fn an_expired_pong_counts_once_and_not_by_another_key() {
    let (mut net, peers) = with_peers(6);
    set_clock(&mut net, 3600);
    for peer in &peers {
        let contact = net.peer_contact(*peer);
        net.command(0, Command::Ping(contact));
        let (_, asked) = net.expect_ping(*peer);
        let (us, pong) = (net.nodes[0].addr, net.make_pong(asked.hash));
        net.forge(&key(99), contact.endpoint.udp_addr(), us, &pong);
        // The PING has had its expired answer.
        net.send(*peer, &pong);
        net.run(DELAY);
    }
    assert_eq!(alarms(&mut net), []);
    net.run(secs(2));
    for peer in peers {
        net.claim_all(peer);
    }
}

#[test]
fn peers_of_either_lifetime_say_nothing_of_a_clock_that_is_right() {
    let (mut net, peers) = with_peers(8);
    for (at, peer) in peers.into_iter().enumerate() {
        net.bond(peer);
        let lifetime = if at % 2 == 0 { 20 } else { 60 };
        let (Message::Ping(ping), expiration) = (net.make_ping(net.peers[peer].addr), net.unix(lifetime)) else {
            unreachable!()
        };
        let hash = net.send(peer, &Message::Ping(Ping { expiration, ..ping }));
        net.expect_pong(peer, hash);
        net.command(0, Command::Ping(net.peer_contact(peer)));
        let (_, asked) = net.expect_ping(peer);
        let Message::Pong(pong) = net.make_pong(asked.hash) else { unreachable!() };
        net.send(peer, &Message::Pong(Pong { expiration, ..pong }));
        net.run(DELAY);
    }
    assert_eq!(alarms(&mut net), []);
}

#[test]
fn many_identities_of_one_network_raise_one_alarm() {
    let mut net = Net::alone(passive());
    for n in 0..60 {
        let peer = net.peer(200 + n, addr(&format!("20.0.0.{}:30303", n + 1)));
        net.bond(peer);
    }
    let refused = 60 - net.engine(0).table().entries().count() - net.engine(0).table().replacements().count();
    assert!(refused > 40, "the table takes ten of a /24");
    assert_eq!(alarms(&mut net), [Alarm::OneNetwork { prefix: Prefix::V4([20, 0, 0]), identities: 32 }]);
}

#[test]
fn many_identities_of_a_private_network_are_no_alarm() {
    let mut net = Net::alone(passive());
    for n in 0..60 {
        let peer = net.peer(200 + n, addr(&format!("10.0.1.{}:30303", n + 1)));
        net.bond(peer);
    }
    assert_eq!(alarms(&mut net), []);
}

/// Has a peer answer a lookup, and everybody whom it names stay silent but those who are peers.
fn look_up(net: &mut Net, target: u8, named: &[usize]) {
    net.command(0, Command::Lookup { target: super::net::target(target), until_found: false, paths: None });
    let end = net.now + secs(20);
    while net.engine(0).under_way().2 > 0 && net.step(end) {
        net.answer_inboxes(|_, _, _| named.to_vec());
    }
}

#[test]
fn a_crowd_near_to_our_own_id_raises_one_alarm_when_the_size_of_the_network_is_known() {
    let own = key(1).id();
    // Of 6,000 nodes every fortieth is to be there, so that the network seems to have 150.
    let all: Vec<u64> = (1000..7000).collect();
    let ids: Vec<_> = all.iter().map(|n| key(*n).id()).collect();
    let nearest = |to: crate::proto::identity::NodeId, count: usize| {
        let mut order: Vec<usize> = (0..all.len()).collect();
        order.sort_unstable_by_key(|at| to.distance(&ids[*at]));
        order.truncate(count);
        order.into_iter().map(|at| all[at]).collect::<Vec<u64>>()
    };
    let mut config = passive();
    // The peers are not asked whether they are still there.
    config.table.first_check = secs(36_000);
    let mut net = Net::alone(config);
    let mut places = 0;
    let mut meet = |net: &mut Net, nodes: Vec<u64>| -> Vec<usize> {
        let new = |n: u64| {
            places += 1;
            net.peer(n, addr(&format!("10.1.{}.{}:30303", places / 250, places % 250)))
        };
        nodes.into_iter().map(new).collect()
    };
    let mut crowd: Vec<u64> = nearest(own, 40);
    // All of those who are near to us, and of those who are near to three targets every fortieth.
    for n in 0..3u8 {
        let thin: Vec<u64> = nearest(target(n).node_id(), 640).into_iter().step_by(40).collect();
        let near = meet(&mut net, thin);
        if n == 0 {
            net.bond(near[0]);
        }
        look_up(&mut net, n, &near);
        crowd.retain(|n| !net.peers.iter().any(|peer| peer.key.id() == key(*n).id()));
    }
    assert_eq!(alarms(&mut net), []);
    let crowd = meet(&mut net, crowd);
    let mut raised = Vec::new();
    for peer in crowd {
        net.bond(peer);
        raised.extend(alarms(&mut net));
    }
    let [Alarm::Crowded { nodes, expected, network }] = raised[..] else { panic!("{raised:?}") };
    assert!((64..300).contains(&network), "{network}");
    assert!((4..=16).contains(&nodes) && expected < nodes as f64 / 4.0, "{nodes} where {expected} were expected");
    for peer in 0..net.peers.len() {
        net.claim_all(peer);
    }
}

#[test]
fn votes_count_only_of_pongs_that_answer_us_from_the_very_address() {
    let mut config = passive();
    config.votes.enabled = true;
    let mut net = Net::alone(config);
    let us = net.nodes[0].addr;
    let Message::Pong(pong) = net.make_pong([0; 32]) else { unreachable!() };
    let seen = crate::proto::wire::WireEndpoint { ip: Some([9, 9, 9, 9].into()), udp: 30303, tcp: 0 };
    let vote = |hash| Message::Pong(Pong { ping_hash: hash, to: seen, ..pong.clone() });
    let records = |net: &Net| net.nodes[0].events.iter().filter(|(_, e)| matches!(e, Event::LocalRecord(_))).count();
    let mut last = None;
    for n in 0..5u8 {
        assert_eq!(records(&net), 0);
        let peer = net.peer(100 + u64::from(n), addr(&format!("20.0.{n}.1:30303")));
        // Nobody asked; the address in the PINGs of a stranger; a PONG from elsewhere; a PONG of another node.
        net.send(peer, &vote([7; 32]));
        let hash = net.send_ping(peer);
        let (_, ping) = net.expect_ping(peer);
        net.expect_pong(peer, hash);
        net.forge(&key(100 + u64::from(n)), addr(&format!("21.0.{n}.1:30303")), us, &vote(ping.hash));
        net.run(DELAY);
        net.send(peer, &vote(ping.hash));
        net.run(DELAY);
        // Again: a network has one vote, however many there say so.
        net.send(peer, &vote(ping.hash));
        net.run(DELAY);
        last = Some(peer);
    }
    assert_eq!(records(&net), 1, "five networks agree");
    assert!(last.is_some_and(|peer| net.is_bonded(peer)));
    assert_eq!(net.dropped(Dropped::Unsolicited), 3 * 5);
}

#[test]
fn a_quiet_engine_notes_nothing() {
    let mut config = Config {
        alarms: crate::proto::config::AlarmConfig { sybils: false, skew: false, ..Default::default() },
        ..passive()
    };
    config.votes.enabled = false;
    let mut net = Net::alone(config);
    set_clock(&mut net, -15);
    for n in 0..50 {
        let peer = net.peer(200 + n, addr(&format!("20.0.0.{}:30303", n + 1)));
        ping(&mut net, peer);
    }
    assert_eq!(alarms(&mut net), []);
}
