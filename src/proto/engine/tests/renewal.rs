//! Proofs are renewed at once after a sleep or a move, not when the next check is due.

use super::bounds::size;
use super::lookups::far_peers;
use super::net::*;
use super::upkeep::pings;
use crate::proto::config::Config;
use crate::proto::contacts::Contacts;
use crate::proto::engine::{Command, Dropped, Event};
use crate::proto::identity::Contact;
use crate::proto::wire::{Message, MessageKind, Pong, WireEndpoint};

/// Nodes that have known one another for an hour.
fn network(count: u64) -> Net {
    let mut net = Net::unsealed(1);
    for n in 1..=count {
        let node = net.add(n, addr(&format!("10.0.{n}.1:30303")), Config::default());
        if n > 1 {
            let first = net.contact(0);
            net.bootnode(node, first);
        }
    }
    net.run(secs(3600));
    net
}

fn knows(net: &Net, at: usize, contact: Contact) -> bool {
    net.engine(at).table().entries().any(|(_, entry)| net.engine(at).contacts().contact(entry.node) == contact)
}

#[test]
fn who_has_moved_is_known_at_its_new_address_as_soon_as_it_fails_to_answer_at_the_old_one() {
    let mut net = network(5);
    let old = net.contact(4);
    net.relocate(4, addr("10.9.9.9:30303"));
    let new = net.contact(4);
    net.input(4, |engine, now| engine.renew(now));
    net.run(ms(1100));
    for at in 0..4 {
        assert!(knows(&net, at, new) && !knows(&net, at, old), "node {at}");
    }
    assert_eq!(net.engine(4).table().len(), 4);
    // And is answered there.
    let asked = net.nodes[4].received.len();
    let report = net.lookup(4, target(7));
    assert_eq!(report.closest.iter().filter(|found| found.answered).count(), 4);
    assert!(net.nodes[4].received[asked..].iter().any(|(_, _, kind)| *kind == MessageKind::Neighbors));
}

#[test]
fn members_that_left_meanwhile_are_out_within_seconds() {
    let mut net = network(5);
    let gone = net.contact(2);
    net.stop(2);
    let asleep = net.now;
    net.input(0, |engine, now| engine.renew(now));
    while knows(&net, 0, gone) {
        net.run(secs(1));
        assert!(net.now.since(asleep) <= secs(30), "it is asked again and again, and given up");
    }
    assert!((1..5).filter(|at| *at != 2).all(|at| knows(&net, 0, net.contact(at))));
}

#[test]
fn a_large_table_is_renewed_in_portions() {
    let mut net = network(50);
    let begun = net.now;
    net.input(0, |engine, now| engine.renew(now));
    net.run(ms(600));
    let members = net.engine(0).table().len();
    let sent = net.nodes[0].sent.iter().filter(|(at, _, kind)| *at >= begun && *kind == MessageKind::Ping);
    let within = |millis| sent.clone().filter(|(at, ..)| at.since(begun) <= ms(millis)).count();
    assert_eq!([1, 101, 201, 301].map(within), [16, 32, members, members]);
}

#[test]
fn contacts_that_were_silent_are_tried_at_once() {
    let mut net = Net::alone(Config::default());
    let silent = contact(&key(2), addr("10.0.0.2:30303"));
    net.bootnode(0, silent);
    net.run(secs(600));
    let tried = pings(&net, silent).len();
    net.input(0, |engine, now| engine.renew(now));
    let begun = net.now;
    net.run(secs(10));
    let again: Vec<u64> = pings(&net, silent)[tried..].iter().map(|at| at.since(begun).as_millis() as u64).collect();
    assert_eq!(again, [0, 1250, 2750, 4750, 7750], "the waits begin anew");
}

#[test]
fn who_answers_at_two_addresses_stays_where_it_is() {
    let mut net = network(2);
    let here = net.contact(1);
    let there = net.peer(2, addr("10.9.9.9:30303"));
    let begun = net.now;
    for _ in 0..5 {
        net.send_ping(there);
        for _ in 0..100 {
            net.run(ms(20));
            net.answer_inboxes(|_, _, _| Vec::new());
        }
    }
    net.claim_all(there);
    assert!(net.is_bonded(there));
    assert!(knows(&net, 0, here));
    assert!(pings(&net, here).iter().filter(|at| **at >= begun).count() <= 6);
    assert_eq!(size(&net.engine(0).sizes(), "members that may have moved").0, 0);
}

#[test]
fn who_has_moved_asks_nobody_before_it_has_proved_itself_anew() {
    let mut net = network(5);
    net.relocate(4, addr("10.9.9.9:30303"));
    net.input(4, |engine, now| engine.renew(now));
    let report = net.lookup(4, target(7));
    assert_eq!(report.closest.iter().filter(|found| found.answered).count(), 4);
    assert!((0..4).all(|at| !net.nodes[at].dropped.contains(&Dropped::Unproved)));
}

#[test]
fn what_others_have_said_of_our_address_is_forgotten() {
    let mut config = passive();
    config.votes.enabled = true;
    let mut net = Net::alone(config);
    let records = |net: &Net| net.nodes[0].events.iter().filter(|(_, e)| matches!(e, Event::LocalRecord(_))).count();
    let vote = |net: &mut Net, peer: usize| {
        let (_, ping) = net.expect_ping(peer);
        let seen = WireEndpoint { ip: Some([9, 9, 9, 9].into()), udp: 30303, tcp: 0 };
        let Message::Pong(pong) = net.make_pong(ping.hash) else { unreachable!() };
        net.send(peer, &Message::Pong(Pong { to: seen, ..pong }));
        net.run(DELAY);
    };
    let peers: Vec<usize> = (0..5).map(|n| net.peer(100 + n, addr(&format!("20.0.{n}.1:30303")))).collect();
    for (at, &peer) in peers.iter().enumerate() {
        if at == 4 {
            net.input(0, |engine, now| engine.renew(now));
        }
        let hash = net.send_ping(peer);
        // What is asked of the others meanwhile waits for them.
        vote(&mut net, peer);
        net.expect_pong(peer, hash);
    }
    assert_eq!(records(&net), 0, "four of the five had seen us elsewhere");
    for &peer in &peers[..4] {
        assert_eq!(records(&net), 0);
        vote(&mut net, peer);
    }
    assert_eq!(records(&net), 1, "five networks agree on where we are now");
}

#[test]
fn where_too_much_is_under_way_it_is_asked_afterwards() {
    let mut net = Net::alone(passive());
    let peer = net.peer(2, addr("10.0.0.2:30303"));
    net.bond(peer);
    net.run(secs(5));
    for n in 3..7 {
        let other = contact(&key(n), net.peers[peer].addr);
        net.command(0, Command::Ping(other));
    }
    net.run(ms(20));
    net.claim_all(peer);
    let here = net.peer_contact(peer);
    let begun = net.now;
    net.input(0, |engine, now| engine.renew(now));
    net.run(secs(2));
    let asked: Vec<u64> =
        pings(&net, here).iter().filter(|at| **at >= begun).map(|at| at.since(begun).as_millis() as u64).collect();
    assert_eq!(asked, [1001], "as soon as the others have failed");
    net.claim_all(peer);
}

#[test]
fn the_table_is_refreshed_soon_afterwards() {
    let mut net = network(3);
    net.run(secs(10));
    let begun = net.now;
    net.input(0, |engine, now| engine.renew(now));
    net.run(secs(2));
    assert!(net.nodes[0].sent.iter().any(|(at, _, kind)| *at >= begun && *kind == MessageKind::FindNode));
}

#[test]
fn whoever_is_no_member_is_bonded_with_anew_too() {
    let mut config = passive();
    (config.table.k, config.table.replacements) = (1, 0);
    let mut net = Net::alone(config);
    let mut far = far_peers();
    let [member, outsider] = [2, 3].map(|at| net.peer(far.next().unwrap(), addr(&format!("10.0.0.{at}:30303"))));
    net.bond(member);
    net.bond(outsider);
    assert!(net.is_member(0, &net.peer_contact(member)) && !net.is_member(0, &net.peer_contact(outsider)));
    net.run(secs(1));
    net.input(0, |engine, now| engine.renew(now));
    net.command(0, Command::RequestRecord(net.peer_contact(outsider)));
    let (_, ping) = net.expect_ping(outsider);
    net.send_pong(outsider, ping.hash);
    let hash = net.send_ping(outsider);
    net.expect_pong(outsider, hash);
    net.expect_enr_request(outsider);
    for peer in [member, outsider] {
        net.claim_all(peer);
    }
}
