//! Addresses without a key: whoever answers there is known by his PONG.

use super::net::*;
use crate::proto::config::Config;
use crate::proto::contacts::{Contacts, OwnContacts};
use crate::proto::engine::{Command, CommandError, Dropped, Engine, Event, Reply};
use crate::proto::identity::{Contact, IdPrefix};
use crate::proto::time::Time;
use crate::proto::wire::MessageKind;

fn pinged_at(net: &Net, addr: std::net::SocketAddr) -> Vec<Time> {
    let sent = net.nodes[0].sent.iter();
    sent.filter(|(_, to, kind)| *to == addr && *kind == MessageKind::Ping).map(|(at, ..)| *at).collect()
}

#[test]
fn an_address_is_enough_to_join() {
    let mut net = Net::new(1);
    let nodes: Vec<usize> =
        (1..=3).map(|n| net.add(n, addr(&format!("10.0.{n}.1:30303")), Config::default())).collect();
    let first = net.contact(nodes[1]);
    net.bootnode(nodes[2], first);
    net.run(secs(2));
    let begun = net.now;
    net.input(nodes[0], |engine, now| engine.add_address(now, addr("10.0.2.1:30303"), None)).unwrap();
    net.run(ms(200));
    // One round trip for the bond, one for FINDNODE, one for the other node's bond: nobody waits.
    let added: Vec<_> = net.nodes[nodes[0]]
        .events
        .iter()
        .filter_map(
            |(at, event)| if let Event::NodeAdded(contact) = event { Some((at.since(begun), *contact)) } else { None },
        )
        .collect();
    assert_eq!(added.iter().map(|(_, contact)| *contact).collect::<Vec<_>>(), [first, net.contact(nodes[2])]);
    assert_eq!(added[0].0, ms(20));
    assert!(added[1].0 <= ms(80), "{added:?}");
    assert_eq!(net.engine(nodes[0]).bootnodes(), 1);
}

#[test]
fn a_command_tells_who_is_there_and_whether_it_is_the_one_meant() {
    let mut net = Net::alone(passive());
    let at = addr("10.0.0.2:30303");
    let peer = net.peer(2, at);
    let id = key(2).id();
    let right: IdPrefix = id.to_string()[..9].parse().unwrap();
    let wrong: IdPrefix = key(3).id().to_string()[..9].parse().unwrap();
    let commands = [None, Some(right), Some(wrong)].map(|pin| net.command(0, Command::PingAddress(at, pin)));
    net.run(ms(10));
    let got = net.claim_all(peer);
    assert_eq!(got.len(), 1, "one PING serves them all");
    net.send_pong(peer, got[0].hash);
    net.run(ms(10));
    for command in &commands[..2] {
        let Reply::Ping(pinged) = net.reply(0, *command) else { panic!("it has answered") };
        assert_eq!((pinged.contact, pinged.rtt), (contact(&key(2), at), ms(20)));
    }
    assert_eq!(net.reply(0, commands[2]), Reply::Failed(CommandError::OtherNode));
    let node = net.engine(0).contacts().find(key(2).public_key(), at);
    assert!(node.is_some_and(|node| net.engine(0).has_proved(net.now, node)));
}

#[test]
fn another_node_than_the_pinned_one_is_not_let_in() {
    let mut net = Net::alone(Config::default());
    let at = addr("10.0.0.2:30303");
    let peer = net.peer(2, at);
    let wrong: IdPrefix = key(3).id().to_string()[..9].parse().unwrap();
    net.input(0, |engine, now| engine.add_address(now, at, Some(wrong))).unwrap();
    net.run(ms(10));
    let got = net.claim_all(peer);
    net.send_pong(peer, got[0].hash);
    net.run(ms(10));
    assert_eq!(net.nodes[0].events.last().unwrap().1, Event::OtherNode { addr: at, id: key(2).id() });
    assert_eq!(net.nodes[0].dropped, [Dropped::WrongSender]);
    assert!(net.engine(0).table().is_empty());
    assert!(net.engine(0).contacts().find(key(2).public_key(), at).is_none());
    // Nor when it pings us: it gets its PONG and no more.
    let ping = net.send_ping(peer);
    net.expect_pong(peer, ping);
    assert!(net.engine(0).table().is_empty());
    // The same one is not told of twice.
    net.run(ms(300));
    let got = net.claim_all(peer);
    net.send_pong(peer, got[0].hash);
    net.run(ms(10));
    assert_eq!(net.nodes[0].events.len(), 1);
    // It is tried again, and the right one is taken when it is there.
    net.run(ms(600));
    let got = net.claim_all(peer);
    assert_eq!(got.len(), 1);
    net.peers[peer].key = key(3);
    net.send_pong(peer, got[0].hash);
    net.run(ms(10));
    assert_eq!(net.engine(0).table().len(), 1);
}

#[test]
fn an_address_whose_node_finds_no_room_is_tried_again() {
    let mut net = Net::alone(Config::default());
    net.nodes[0].contacts = 1;
    net.start(0);
    // Nobody is there, and it takes the only place in the store.
    let other = contact(&key(9), addr("10.0.0.9:30303"));
    net.bootnode(0, other);
    let at = addr("10.0.0.2:30303");
    let peer = net.peer(2, at);
    net.input(0, |engine, now| engine.add_address(now, at, None)).unwrap();
    net.run(ms(10));
    let got = net.claim_all(peer);
    net.send_pong(peer, got[0].hash);
    net.run(ms(10));
    assert_eq!(net.nodes[0].dropped, [Dropped::WrongSender]);
    assert!(net.engine(0).table().is_empty());
    // There is room as soon as the other one is forgotten.
    net.input(0, |engine, _| engine.remove_bootnode(&other));
    net.run(secs(2));
    let got = net.claim_all(peer);
    let last = got.last().expect("it is tried again");
    net.send_pong(peer, last.hash);
    net.run(ms(10));
    assert_eq!(net.engine(0).table().len(), 1);
}

#[test]
fn a_silent_address_is_tried_with_growing_waits_and_for_ever() {
    let mut net = Net::alone(Config::default());
    let at = addr("10.0.0.2:30303");
    let begun = net.now;
    net.input(0, |engine, now| engine.add_address(now, at, None)).unwrap();
    net.run(secs(600));
    let times = pinged_at(&net, at);
    // Each try is two packets half a second apart, and takes a second; the waits between double from 0.25 s to a minute.
    let tries: Vec<u64> = times.chunks(2).map(|pair| pair[0].since(begun).as_millis() as u64).collect();
    assert_eq!(tries[..5], [0, 1_250, 2_750, 4_750, 7_750]);
    assert!(times.chunks(2).all(|pair| pair.len() < 2 || pair[1].since(pair[0]) == ms(500)));
    assert_eq!(tries.last().map(|last| last - tries[tries.len() - 2]), Some(61_000));
    net.input(0, |engine, _| engine.remove_address(at, None));
    net.run(secs(200));
    assert_eq!(pinged_at(&net, at).len(), times.len());
    assert_eq!(net.engine(0).bootnodes(), 0);
}

#[test]
fn what_two_have_given_stays_until_both_have_taken_it_back() {
    let mut net = Net::alone(Config::default());
    let at = addr("10.0.0.2:30303");
    let pin: IdPrefix = key(2).id().to_string()[..9].parse().unwrap();
    let node = contact(&key(2), at);
    let mut given = |change: fn(&mut Engine<OwnContacts>, Time, &(Contact, IdPrefix))| {
        net.input(0, |engine, now| change(engine, now, &(node, pin)));
        net.engine(0).bootnodes()
    };
    for expected in [3, 3] {
        given(|engine, now, (node, _)| engine.add_bootnode(now, node).unwrap());
        given(|engine, now, (node, _)| engine.add_address(now, node.endpoint.udp_addr(), None).unwrap());
        let all = given(|engine, now, (node, pin)| {
            engine.add_address(now, node.endpoint.udp_addr(), Some(*pin)).unwrap();
        });
        assert_eq!(all, expected, "a key, an address and a pin are three");
    }
    let mut left = Vec::new();
    for _ in 0..2 {
        left.push(given(|engine, _, (node, _)| engine.remove_bootnode(node)));
        left.push(given(|engine, _, (node, _)| engine.remove_address(node.endpoint.udp_addr(), None)));
        left.push(given(|engine, _, (node, pin)| engine.remove_address(node.endpoint.udp_addr(), Some(*pin))));
    }
    assert_eq!(left, [3, 3, 3, 2, 1, 0]);
    assert_eq!(given(|engine, _, (node, _)| engine.remove_bootnode(node)), 0);
}

#[test]
fn a_command_hears_that_nobody_answers() {
    let mut net = Net::alone(passive());
    let command = net.command(0, Command::PingAddress(addr("10.0.0.2:30303"), None));
    net.run(secs(1));
    assert_eq!(net.reply(0, command), Reply::Failed(CommandError::Timeout));
    for (text, error) in [
        ("10.0.0.2:0", CommandError::Unreachable),
        ("0.0.0.0:5", CommandError::Unreachable),
        ("255.255.255.255:5", CommandError::Unreachable),
        ("[2a00::1]:5", CommandError::OtherFamily),
    ] {
        let command = net.command(0, Command::PingAddress(addr(text), None));
        assert_eq!(net.reply(0, command), Reply::Failed(error), "{text}");
        assert_eq!(net.input(0, |engine, now| engine.add_address(now, addr(text), None)), Err(error), "{text}");
    }
}

#[test]
fn a_node_with_a_new_key_at_its_address_is_found_again() {
    let mut net = Net::new(1);
    let at = addr("10.0.0.2:30303");
    let node = net.add(1, addr("10.0.0.1:30303"), Config::default());
    let old = net.add(2, at, Config::default());
    net.input(node, |engine, now| engine.add_address(now, at, None)).unwrap();
    net.run(secs(2));
    assert_eq!(net.engine(node).table().len(), 1);
    net.stop(old);
    let stopped = net.now;
    net.move_out(old);
    let new = net.add(3, at, Config::default());
    let added = |net: &Net, key| {
        net.nodes[node].events.iter().any(|(_, event)| matches!(event, Event::NodeAdded(c) if c.key == key))
    };
    let wanted = *key(3).public_key();
    while !added(&net, wanted) {
        assert!(net.now.since(stopped) < secs(180), "the table is empty, and the address is tried");
        net.run(secs(1));
    }
    assert_eq!(net.engine(new).table().len(), 1);
}

#[test]
fn ones_own_address_in_a_list_that_all_share_is_dropped() {
    let mut net = Net::new(1);
    let own = addr("10.0.0.1:30303");
    let node = net.add(1, own, Config::default());
    let command = net.command(node, Command::PingAddress(own, None));
    net.input(node, |engine, now| engine.add_address(now, own, None)).unwrap();
    net.run(ms(20));
    assert_eq!(net.reply(node, command), Reply::Failed(CommandError::Itself));
    assert_eq!(net.engine(node).bootnodes(), 0);
    net.run(secs(60));
    assert_eq!(net.nodes[node].dropped, [Dropped::FromSelf]);
}

#[test]
fn a_wrong_hash_and_a_wrong_address_prove_nothing() {
    let mut net = Net::alone(Config::default());
    let at = addr("10.0.0.2:30303");
    let (peer, other) = (net.peer(2, at), net.peer(3, addr("10.0.0.3:30303")));
    net.input(0, |engine, now| engine.add_address(now, at, None)).unwrap();
    net.run(ms(10));
    let got = net.claim_all(peer);
    net.send_pong(peer, [7; 32]);
    net.send_pong(other, got[0].hash);
    net.run(ms(10));
    assert_eq!(net.nodes[0].dropped, [Dropped::Unsolicited; 2]);
    assert!(net.engine(0).table().is_empty());
}

#[test]
fn floods_in_the_name_of_an_address_do_not_keep_its_answer_out() {
    let mut config = Config::default();
    config.limits.local = true;
    let mut net = Net::alone(config);
    let at = addr("8.8.8.8:30303");
    let peer = net.peer(2, at);
    let other = addr("8.8.8.8:5");
    // The bucket of the address is empty before it is asked.
    for _ in 0..300 {
        net.send_raw(other, addr("10.0.0.1:30303"), vec![1; 150]);
    }
    net.run(ms(10));
    assert!(net.dropped(Dropped::Address) > 0);
    net.input(0, |engine, now| engine.add_address(now, at, None)).unwrap();
    net.run(ms(10));
    let got = net.claim_all(peer);
    for _ in 0..300 {
        net.send_raw(other, addr("10.0.0.1:30303"), vec![1; 150]);
    }
    net.send_pong(peer, got[0].hash);
    net.run(ms(10));
    assert_eq!(net.engine(0).table().len(), 1);
}
