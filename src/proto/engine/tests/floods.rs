//! Nobody is kept out by the silent, and nobody can make us flood others.

use std::time::Duration;

use super::net::*;
use super::peers::crowded_bucket;
use crate::proto::config::Config;
use crate::proto::engine::{Command, Reply};
use crate::proto::identity::Contact;
use crate::proto::wire::MessageKind;

const A: &str = "10.0.0.2:30303";
const B: &str = "10.0.0.3:30303";

/// When a stranger is late after one round trip of 20 ms and an answer to what was sent twice: the mean and four
/// deviations of a quarter more than half of it.
const RTT_LATE: Duration = Duration::from_millis(70);

/// A newcomer pings; it has its PONG and its proof within 300 ms.
fn newcomer_is_proved(net: &mut Net, peer: usize) {
    let begun = net.now;
    net.bond(peer);
    assert!(net.now.since(begun) < ms(300));
}

#[test]
fn silent_strangers_do_not_keep_out_a_newcomer() {
    for max_pending in [4096, 64] {
        let mut config = Config::default();
        config.requests.max_pending = max_pending;
        let mut net = Net::alone(config);
        for n in 0..1000 {
            let at = addr(&format!("10.1.{}.{}:30303", n / 250, n % 250));
            let ping = net.make_ping(at);
            net.forge(&key(1000 + n), at, addr("10.0.0.1:30303"), &ping);
        }
        net.run(DELAY);
        assert_eq!(net.engine(0).under_way().0, max_pending.min(1000));
        assert_eq!(net.engine(0).counters().sent(MessageKind::Ping), 1000, "each stranger got its PING");
        assert_eq!(net.engine(0).counters().sent(MessageKind::Pong), 1000);
        let peer = net.peer(2, addr(A));
        newcomer_is_proved(&mut net, peer);
    }
}

#[test]
fn silent_nodes_from_neighbors_do_not_keep_out_a_newcomer() {
    let mut net = Net::alone(Config::default());
    let teller = net.peer(3, addr(B));
    net.bond(teller);
    let mut named = 0;
    // It names 1,000 nodes that do not exist, 16 at each answer.
    while named < 1000 {
        let lookup =
            net.command(0, Command::Lookup { target: target((named / 16) as u8), until_found: false, paths: None });
        net.claim_all(teller);
        net.run(DELAY);
        let nodes: Vec<Contact> = (named..named + 16)
            .map(|n| contact(&key(1000 + n), addr(&format!("10.1.{}.{}:30303", n / 250, n % 250))))
            .collect();
        net.send_neighbors(teller, &nodes);
        net.run(DELAY);
        net.claim_all(teller);
        let _ = lookup;
        named += 16;
    }
    let peer = net.peer(2, addr(A));
    newcomer_is_proved(&mut net, peer);
    net.run(secs(1));
    net.claim_all(peer);
    net.claim_all(teller);
}

#[test]
fn requests_of_our_own_do_not_keep_out_a_newcomer() {
    let mut config = passive();
    config.requests.max_pending = 64;
    let mut net = Net::alone(config);
    let ids: Vec<_> = (0..80)
        .map(|n| net.command(0, Command::Ping(contact(&key(1000 + n), addr(&format!("10.1.0.{n}:30303"))))))
        .collect();
    // An eighth of the places is for strangers.
    assert_eq!(net.nodes[0].replies.len(), 80 - 56);
    assert_eq!(net.nodes[0].replies[0].1, ids[56]);
    assert_eq!(net.engine(0).counters().not_sent, 80 - 56);
    let peer = net.peer(2, addr(A));
    newcomer_is_proved(&mut net, peer);
    for n in 0..20 {
        let at = addr(&format!("10.2.0.{n}:30303"));
        let ping = net.make_ping(at);
        net.forge(&key(2000 + n), at, addr("10.0.0.1:30303"), &ping);
    }
    net.run(DELAY);
    assert_eq!(net.engine(0).under_way().0, 64);
    // What was asked for by command is not given up for strangers.
    assert_eq!(net.nodes[0].replies.len(), 80 - 56);
    net.run(secs(2));
    assert_eq!(net.nodes[0].replies.len(), 80);
}

#[test]
fn nobody_makes_us_knock_at_a_door_more_than_four_times() {
    let mut net = Net::alone(passive());
    let victim = net.peer(2, addr(A));
    for n in 0..20 {
        let ping = net.make_ping(addr(A));
        net.forge(&key(1000 + n), addr(A), addr("10.0.0.1:30303"), &ping);
    }
    net.run(2 * DELAY);
    let kinds: Vec<MessageKind> = net.claim_all(victim).iter().map(|got| got.message.kind()).collect();
    assert_eq!(kinds.iter().filter(|kind| **kind == MessageKind::Ping).count(), 4);
    assert_eq!(kinds.iter().filter(|kind| **kind == MessageKind::Pong).count(), 20);
}

#[test]
fn a_stranger_whose_place_was_taken_is_left_in_peace_all_the_same() {
    let mut config = Config::default();
    config.refresh.min = secs(60);
    config.requests.max_pending = 8;
    let mut net = Net::alone(config);
    let teller = net.peer(3, addr(B));
    net.bond(teller);
    net.expect_find(teller);
    let stranger = net.peer(2, addr(A));
    let hash = net.send_ping(stranger);
    let (_, ping) = net.expect_ping(stranger);
    net.expect_pong(stranger, hash);
    for n in 0..8 {
        let at = addr(&format!("10.2.0.{n}:30303"));
        let ping = net.make_ping(at);
        net.forge(&key(2000 + n), at, addr("10.0.0.1:30303"), &ping);
    }
    net.run(DELAY);
    assert_eq!(net.engine(0).counters().unanswered, 2, "the oldest two have lost their places");
    net.send_neighbors(teller, &[net.peer_contact(stranger)]);
    let (_, again) = net.expect_ping(stranger);
    assert_eq!(again.at, ping.at + secs(1), "the lookup wants to ask it, and waits until its second is over");
    // It has been in peace for its second; from here on it is asked as anybody is.
    let (_, late) = net.expect_ping(stranger);
    assert_eq!((late.at.since(again.at), late.hash), (RTT_LATE, again.hash), "once more when it is late");
    net.expect_nothing(stranger, secs(1));
    net.claim_all(teller);
}

#[test]
fn hints_are_tried_a_few_at_a_time() {
    let mut config = Config::default();
    config.refresh.min = secs(3600);
    config.lookup.max_hint_pings = 2;
    config.lookup.max_queries = 1;
    let mut net = Net::alone(config);
    let teller = net.peer(3, addr(B));
    net.bond(teller);
    net.expect_find(teller);
    let begun = net.now + DELAY;
    let silent: Vec<Contact> = (0..8).map(|n| contact(&key(50 + n), addr(&format!("10.2.0.{n}:30303")))).collect();
    net.send_neighbors(teller, &silent);
    net.run(ms(5500));
    let sent = net.nodes[0].sent.iter().filter(|(_, to, _)| to.ip().to_string().starts_with("10.2."));
    let times: Vec<u64> = sent.map(|(at, ..)| at.since(begun).as_secs()).collect();
    assert_eq!(times, [0, 0, 1, 1, 2, 2, 3, 3]);
    // It is silent from here on.
    net.claim_all(teller);
}

#[test]
fn nobody_sends_us_where_it_makes_no_sense() {
    let mut net = Net::new(1);
    net.add(1, addr("10.0.0.1:30303"), Config::default());
    let teller = net.peer(3, addr("8.8.8.8:30303"));
    net.bond(teller);
    net.expect_find(teller);
    let places =
        ["127.0.0.1:30303", "192.168.1.5:30303", "8.8.4.4:53", "8.8.4.4:0", "224.0.0.1:30303", "9.9.9.9:30303"];
    let nodes = places.map(|place| contact(&key(addr(place).port().into()), addr(place)));
    let told = net.now;
    net.send_neighbors(teller, &nodes);
    net.run(ms(500));
    let sent = net.nodes[0].sent.iter().filter(|(_, to, _)| to.ip() != addr("8.8.8.8:1").ip());
    let sent: Vec<_> = sent.map(|(at, to, kind)| (at.since(told), *to, *kind)).collect();
    let ping = |after| (after, addr("9.9.9.9:30303"), MessageKind::Ping);
    // The lookup waits for it as well, so it is pinged once more when it is late.
    assert_eq!(sent, [ping(DELAY), ping(DELAY + ms(60))]);
    net.claim_all(teller);
}

#[test]
fn whoever_pings_with_many_keys_does_not_keep_us_from_asking_at_that_address() {
    let mut net = Net::alone(passive());
    let peer = net.peer(2, addr(A));
    for n in 0..4 {
        let ping = net.make_ping(addr(A));
        net.forge(&key(1000 + n), addr(A), addr("10.0.0.1:30303"), &ping);
    }
    net.run(2 * DELAY);
    assert_eq!(net.claim_all(peer).len(), 8);
    let id = net.command(0, Command::Ping(net.peer_contact(peer)));
    let (_, ping) = net.expect_ping(peer);
    net.send_pong(peer, ping.hash);
    assert!(matches!(net.reply(0, id), Reply::Ping(_)));
    // The door is not knocked at more often for all that.
    let another = net.make_ping(addr(A));
    net.forge(&key(2000), addr(A), addr("10.0.0.1:30303"), &another);
    net.forge(&key(2001), addr(A), addr("10.0.0.1:30303"), &another);
    net.run(2 * DELAY);
    assert_eq!(net.kinds(peer), [MessageKind::Ping, MessageKind::Pong, MessageKind::Pong]);
    net.claim_all(peer);
}

#[test]
fn a_member_that_cannot_be_checked_does_not_hold_up_the_checks_of_others() {
    let mut config = passive();
    config.requests.max_per_address = 1;
    let mut net = Net::alone(config);
    let peers = crowded_bucket(&mut net);
    for peer in peers {
        net.bond(peer);
        net.deafen(peer, true);
    }
    let silent = peers.map(|peer| net.peer_contact(peer));
    let begun = net.now;
    while net.now < begun + secs(30) {
        // A question of ours is always under way to the first one's address, where another key is asked for.
        let occupied = contact(&key(5000), silent[0].endpoint.udp_addr());
        net.command(0, Command::Ping(occupied));
        net.run(ms(100));
    }
    assert_eq!(silent.map(|contact| net.is_member(0, &contact)), [true, false, false]);
}
