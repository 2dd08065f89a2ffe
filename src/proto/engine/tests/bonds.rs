//! Endpoint proofs: what gives one, what needs one, and what gets no answer at all.

use super::net::*;
use super::peers::crowded_bucket;
use crate::proto::config::Config;
use crate::proto::contacts::Contacts;
use crate::proto::engine::{Clock, Command, CommandError, Dropped, Reply};
use crate::proto::identity::{Contact, RecordContent};
use crate::proto::wire::{self, EnrResponse, Message, MessageKind, OpenError};

const A: &str = "10.0.0.2:30303";
const B: &str = "10.0.0.3:30303";

#[test]
fn a_pong_from_another_address_proves_nothing() {
    let mut net = Net::alone(passive());
    let peer = net.peer(2, addr(A));
    let hash = net.send_ping(peer);
    let (_, ping) = net.expect_ping(peer);
    net.expect_pong(peer, hash);
    let pong = net.make_pong(ping.hash);
    for elsewhere in [B, "10.0.0.2:30304"] {
        net.forge(&key(2), addr(elsewhere), addr("10.0.0.1:30303"), &pong);
        net.run(DELAY);
        assert!(!net.is_bonded(peer) && !net.has_proved(contact(&key(2), addr(elsewhere))));
    }
    assert_eq!(net.dropped(Dropped::Unsolicited), 2);
    // The request is still under way, and the right answer is taken.
    net.send(peer, &pong);
    net.run(DELAY);
    assert!(net.is_bonded(peer));
    assert!(!net.has_proved(contact(&key(2), addr("10.0.0.2:30304"))));
}

#[test]
fn a_pong_with_the_right_hash_from_elsewhere_proves_neither_address() {
    let mut net = Net::alone(passive());
    let (here, there) = (net.peer(2, addr(A)), net.peer(2, addr(B)));
    let us = addr("10.0.0.1:30303");
    let contacts = [net.peer_contact(here), net.peer_contact(there)];
    // The same node at two addresses: each is pinged, and each PONG comes from the other one.
    let ids = contacts.map(|contact| net.command(0, Command::Ping(contact)));
    let [ping_here, ping_there] = [here, there].map(|peer| net.expect_ping(peer).1);
    assert_ne!(ping_here.hash, ping_there.hash);
    let pongs = [ping_here.hash, ping_there.hash].map(|hash| net.make_pong(hash));
    net.forge(&key(2), addr(B), us, &pongs[0]);
    net.forge(&key(2), addr(A), us, &pongs[1]);
    net.run(DELAY);
    assert_eq!(net.dropped(Dropped::Unsolicited), 2);
    assert_eq!(contacts.map(|contact| net.has_proved(contact)), [false, false]);
    assert!(net.nodes[0].replies.is_empty() && net.engine(0).table().is_empty());
    // Both requests are still under way: the one takes its own PONG, and the other times out.
    net.send(here, &pongs[0]);
    net.run(DELAY);
    assert_eq!(contacts.map(|contact| net.has_proved(contact)), [true, false]);
    assert!(matches!(net.reply(0, ids[0]), Reply::Ping(_)));
    assert_eq!(net.reply(0, ids[1]), Reply::Failed(CommandError::Timeout));
    assert_eq!(contacts.map(|contact| net.has_proved(contact)), [true, false]);
    net.forge(&key(2), addr(A), us, &pongs[1]);
    net.send(there, &pongs[1]);
    net.run(DELAY);
    assert_eq!((net.dropped(Dropped::Unsolicited), net.has_proved(contacts[1])), (4, false), "over is over");
    net.claim_all(here);
    net.claim_all(there);
}

#[test]
fn a_pong_of_another_node_ends_the_request() {
    let mut net = Net::alone(passive());
    let peer = net.peer(2, addr(A));
    let id = net.command(0, Command::Ping(net.peer_contact(peer)));
    let (_, ping) = net.expect_ping(peer);
    let pong = net.make_pong(ping.hash);
    net.forge(&key(3), addr(A), addr("10.0.0.1:30303"), &pong);
    assert_eq!(net.reply(0, id), Reply::Failed(CommandError::OtherNode));
    assert_eq!(net.dropped(Dropped::WrongSender), 1);
    assert!(!net.has_proved(contact(&key(3), addr(A))));
    // Over is over.
    net.send(peer, &pong);
    net.run(DELAY);
    assert_eq!(net.dropped(Dropped::Unsolicited), 1);
    assert!(!net.is_bonded(peer));
}

#[test]
fn a_pong_counts_once_and_in_time_and_when_asked_for() {
    let mut net = Net::alone(passive());
    let peer = net.peer(2, addr(A));
    net.send_pong(peer, [7; 32]);
    net.run(DELAY);
    assert_eq!(net.dropped(Dropped::Unsolicited), 1, "nobody asked");
    let hash = net.send_ping(peer);
    let (_, ping) = net.expect_ping(peer);
    net.expect_pong(peer, hash);
    net.send_pong(peer, [7; 32]);
    net.run(DELAY);
    assert_eq!(net.dropped(Dropped::Unsolicited), 2, "the wrong hash");
    // Sent 10 ms before it came here, and it takes 10 ms back: on the dot of the timeout it is too late.
    net.run(ms(1000 - 10 - 10) - DELAY);
    net.send_pong(peer, ping.hash);
    net.run(DELAY);
    assert_eq!(net.dropped(Dropped::Unsolicited), 3, "late");
    assert!(!net.is_bonded(peer));

    let hash = net.send_ping(peer);
    let (_, ping) = net.expect_ping(peer);
    net.expect_pong(peer, hash);
    net.send_pong(peer, ping.hash);
    net.run(DELAY);
    assert!(net.is_bonded(peer));
    net.send_pong(peer, ping.hash);
    net.run(DELAY);
    assert_eq!(net.dropped(Dropped::Unsolicited), 4, "twice");
}

/// Whether a FINDNODE from there is worth a recovery, whoever it is by.
fn screened(net: &mut Net, from: std::net::SocketAddr) -> Result<(), Dropped> {
    let mut packet = Vec::new();
    wire::seal(&key(77), &net.make_find(target(9)), &mut packet);
    let framed = wire::frame(&packet).unwrap();
    net.input(0, |engine, now| engine.screen(now, from, framed).map(|_| ()))
}

#[test]
fn requests_from_where_nobody_has_proved_himself_are_not_even_opened() {
    let mut net = Net::alone(passive());
    let peer = net.peer(2, addr(A));
    assert_eq!(screened(&mut net, addr(A)), Err(Dropped::Unproved));

    // The PONG may come with it, in one batch.
    let hash = net.send_ping(peer);
    let (_, ping) = net.expect_ping(peer);
    net.expect_pong(peer, hash);
    assert_eq!(screened(&mut net, addr(A)), Ok(()));
    net.send_pong(peer, ping.hash);
    net.run(DELAY);
    assert_eq!(screened(&mut net, addr(A)), Ok(()));
    assert_eq!(screened(&mut net, addr("10.0.0.2:30304")), Err(Dropped::Unproved), "another port");

    net.deafen(peer, true);
    // 16 nodes at one address are asked for; of more one might have.
    for n in 0..17 {
        assert_eq!(screened(&mut net, addr(B)), Err(Dropped::Unproved), "{n} nodes");
        let ping = net.make_ping(addr(B));
        net.forge(&key(100 + n), addr(B), addr("10.0.0.1:30303"), &ping);
        net.run(secs(2));
    }
    assert_eq!(screened(&mut net, addr(B)), Ok(()));
}

#[test]
fn requests_need_a_proof() {
    let mut net = Net::alone(passive());
    let peer = net.peer(2, addr(A));
    let other_port = net.peer(2, addr("10.0.0.2:30304"));
    let ask = |net: &mut Net, peer| {
        net.send_find(peer, target(9));
        let request = net.make_enr_request();
        net.send(peer, &request);
    };
    ask(&mut net, peer);
    net.expect_nothing(peer, secs(3));
    assert_eq!(net.dropped(Dropped::Unproved), 2, "a stranger");

    // While our PING to it is out it is one still.
    let hash = net.send_ping(peer);
    let (_, ping) = net.expect_ping(peer);
    net.expect_pong(peer, hash);
    ask(&mut net, peer);
    net.expect_nothing(peer, ms(20));
    assert_eq!(net.dropped(Dropped::Unproved), 4);
    net.send_pong(peer, ping.hash);
    net.run(DELAY);
    let proved_at = net.now;

    ask(&mut net, other_port);
    net.expect_nothing(other_port, secs(2));
    assert_eq!(net.dropped(Dropped::Unproved), 6, "the same key at another port");

    let answered = |net: &mut Net| {
        ask(net, peer);
        assert_eq!(net.expect_neighbors(peer), []);
        assert_eq!(net.expect(peer).message.kind(), MessageKind::EnrResponse);
    };
    answered(&mut net);
    // It is not a member any longer (it answers no check), but its proof lasts.
    let day = 24 * 3600;
    net.deafen(peer, true);
    net.run(secs(day) - ms(2000) - net.now.since(proved_at));
    net.deafen(peer, false);
    assert!(!net.is_member(0, &net.peer_contact(peer)));
    answered(&mut net);
    net.run(secs(2));
    ask(&mut net, peer);
    net.expect_nothing(peer, secs(3));
    assert_eq!(net.dropped(Dropped::Unproved), 8, "its proof has expired");
}

#[test]
fn who_loses_its_place_keeps_its_proof() {
    let mut config = passive();
    config.table.k = 2;
    config.table.replacements = 1;
    let mut net = Net::alone(config);
    let peers = crowded_bucket(&mut net);
    let next = (200..).find(|n| key(1).id().log_distance(&key(*n).id()) == 256).unwrap();
    let next = net.peer(next, addr("10.0.0.9:30303"));
    net.bond(peers[0]);
    net.bond(peers[1]);
    net.ping_by_hand(peers[2]);
    let members = peers.map(|peer| net.is_member(0, &net.peer_contact(peer)));
    assert_eq!(members, [true, false, true], "the third makes the bucket more diverse");
    net.bond(next);
    assert!(net.engine(0).table().replacements().count() == 1 && net.is_bonded(next), "and the second one is out");
    assert!(net.is_bonded(peers[1]));
    net.send_find(peers[1], target(1));
    assert_eq!(net.expect_neighbors(peers[1]).len(), 2);
}

#[test]
fn what_has_expired_or_is_unknown_gets_nothing() {
    let mut net = Net::alone(passive());
    let peer = net.peer(2, addr(A));
    let bonded = net.peer(3, addr(B));
    net.bond(bonded);
    let expirations = [net.unix(-1), 0, (net.unix(20) as i64).wrapping_neg() as u64, u64::MAX, 1 << 63];
    for (count, expiration) in (1..).zip(expirations) {
        for (message, peer) in [
            (net.make_ping(addr(A)), peer),
            (net.make_find(target(1)), bonded),
            (net.make_enr_request(), bonded),
            (net.make_neighbors(&[]), bonded),
            (net.make_pong([1; 32]), bonded),
        ] {
            let message = match message {
                Message::Ping(m) => Message::Ping(crate::proto::wire::Ping { expiration, ..m }),
                Message::FindNode(m) => Message::FindNode(crate::proto::wire::FindNode { expiration, ..m }),
                Message::EnrRequest(_) => Message::EnrRequest(crate::proto::wire::EnrRequest { expiration }),
                Message::Neighbors(m) => Message::Neighbors(crate::proto::wire::Neighbors { expiration, ..m }),
                Message::Pong(m) => Message::Pong(crate::proto::wire::Pong { expiration, ..m }),
                other => other,
            };
            net.send(peer, &message);
        }
        net.expect_nothing(peer, ms(1100));
        net.expect_nothing(bonded, ms(10));
        // A NEIGHBORS that nobody waits for is not even read.
        assert_eq!((net.dropped(Dropped::Expired), net.dropped(Dropped::Unsolicited)), (4 * count, count));
    }
    // A packet of an unknown type, with a right hash and signature.
    for kind in [0u8, 7, 255] {
        let mut packet = vec![0; 97];
        packet.extend([kind, 0xc0]);
        let signature = key(2).sign(&crate::proto::crypto::keccak256(&packet[97..]));
        packet[32..97].copy_from_slice(&signature);
        let hash = crate::proto::crypto::keccak256(&packet[32..]);
        packet[..32].copy_from_slice(&hash);
        net.send_raw(addr(A), addr("10.0.0.1:30303"), packet);
    }
    net.expect_nothing(peer, ms(1100));
    assert_eq!(net.dropped(Dropped::Open(OpenError::Type)), 3);
    // The second in which a packet expires is the last in which it is good.
    let now = net.unix(0);
    let Message::Ping(ping) = net.make_ping(addr(A)) else { unreachable!() };
    let hash = net.send(peer, &Message::Ping(crate::proto::wire::Ping { expiration: now, ..ping }));
    net.expect_ping(peer);
    net.expect_pong(peer, hash);
}

#[test]
fn a_step_of_the_clock_is_followed() {
    let mut net = Net::alone(passive());
    let peer = net.peer(2, addr(A));
    let [early, late] = [0, 3600].map(|later| {
        let Message::Ping(ping) = net.make_ping(addr(A)) else { unreachable!() };
        Message::Ping(crate::proto::wire::Ping { expiration: ping.expiration + later, ..ping })
    });
    let unix_micros = net.unix(3600) * 1_000_000;
    net.input(0, |engine, now| engine.set_clock(Clock { now, unix_micros }));
    net.send(peer, &early);
    net.expect_nothing(peer, secs(1));
    assert_eq!(net.dropped(Dropped::Expired), 1);
    net.send(peer, &late);
    assert_eq!(net.expect_ping(peer).0.expiration, net.unix(3620));
    assert_eq!(net.expect(peer).message.kind(), MessageKind::Pong);
}

#[test]
fn a_stranger_gets_one_ping_and_its_answers_in_its_first_second() {
    // With all that an engine does by default, a lookup under way, and two nodes that name the stranger in NEIGHBORS.
    let mut config = Config::default();
    config.refresh.min = secs(60);
    let mut net = Net::alone(config);
    let tellers = [net.peer(10, addr("10.0.0.10:30303")), net.peer(11, addr("10.0.0.11:30303"))];
    let stranger = net.peer(2, addr(A));
    for teller in tellers {
        net.bond(teller);
    }
    // The engine looks for its own neighbourhood, as soon as the first second of its first member is over, and then
    // around for a while.
    assert_eq!(net.expect_find(tellers[0]).0.target, *key(1).public_key());
    net.send_neighbors(tellers[0], &[]);
    net.run(ms(100));
    while net.engine(0).under_way() != (0, 0, 0) {
        for teller in tellers {
            for got in net.claim_all(teller) {
                // What is late comes with a PING.
                match got.message.kind() {
                    MessageKind::FindNode => net.send_neighbors(teller, &[]),
                    MessageKind::Ping => net.send_pong(teller, got.hash),
                    other => panic!("{other:?}"),
                };
            }
        }
        net.run(ms(50));
    }
    let lookup = net.command(0, Command::Lookup { target: target(1), until_found: false, paths: None });
    let hash = net.send_ping(stranger);
    let (_, ping) = net.expect_ping(stranger);
    net.expect_pong(stranger, hash);
    let quiet_until = ping.at - DELAY + secs(1);
    net.expect_find(tellers[0]);
    net.send_neighbors(tellers[0], &[net.peer_contact(stranger)]);
    // A second PING while ours is out is answered, and no more.
    net.run(ms(50));
    let hash = net.send_ping(stranger);
    net.expect_pong(stranger, hash);
    // Its proof changes nothing: no FINDNODE yet, though the lookup wants to ask it.
    net.send_pong(stranger, ping.hash);
    let (_, asked) = net.expect_find(tellers[1]);
    let (late, check) = net.expect_late_find(tellers[1], &asked);
    assert_eq!(late, ms(50));
    net.send_pong(tellers[1], check.hash);
    assert_eq!(net.expect_ping(tellers[1]).1.hash, check.hash, "its PONG is late as well");
    net.send_neighbors(tellers[1], &[net.peer_contact(stranger)]);
    net.run(DELAY);
    assert!(net.is_bonded(stranger));
    let (_, find) = net.expect_find(stranger);
    assert_eq!(find.at, quiet_until + DELAY, "it comes when the second is over, and not before");
    net.send_neighbors(stranger, &[]);
    assert!(matches!(net.reply(0, lookup), Reply::Lookup(report) if report.closest.len() == 3));
    net.run(ms(100));
}

#[test]
fn a_silent_stranger_is_not_pinged_again() {
    let mut net = Net::alone(Config::default());
    let stranger = net.peer(2, addr(A));
    let hash = net.send_ping(stranger);
    net.expect_ping(stranger);
    net.expect_pong(stranger, hash);
    net.expect_nothing(stranger, secs(600));
    // But its next PING gets another one.
    let hash = net.send_ping(stranger);
    net.expect_ping(stranger);
    net.expect_pong(stranger, hash);
}

#[test]
fn a_bonded_nodes_ping_gets_a_pong_only() {
    let mut net = Net::alone(passive());
    let peer = net.peer(3, addr(B));
    net.bond(peer);
    let hash = net.send_ping(peer);
    net.expect_pong(peer, hash);
    net.expect_nothing(peer, secs(2));
}

#[test]
fn answers_to_findnode() {
    let mut net = Net::alone(passive());
    let asker = net.peer(2, addr(A));
    net.bond(asker);
    net.send_find(asker, target(1));
    assert_eq!(net.expect_neighbors(asker), [], "nobody but the asker is known");
    let others: Vec<usize> = (0..20).map(|n| net.peer(100 + n, addr(&format!("10.0.1.{n}:30303")))).collect();
    for &other in &others {
        net.bond(other);
    }
    // Those that have not proved themselves are not named.
    let unproved = net.peer(200, addr("10.0.2.1:30303"));
    let hash = net.send_ping(unproved);
    net.expect_ping(unproved);
    net.expect_pong(unproved, hash);
    net.send_find(asker, target(1));
    let mut expected: Vec<Contact> = others.iter().map(|&other| net.peer_contact(other)).collect();
    let id = target(1).node_id();
    expected.sort_by_key(|contact| id.distance(&contact.id()));
    // A bucket holds 16 of them, so which 16 that are depends on the buckets.
    expected.retain(|contact| net.is_member(0, contact));
    expected.truncate(16);
    assert_eq!(expected.len(), 16);
    let (first, second) = (net.expect_neighbors(asker), net.expect_neighbors(asker));
    assert_eq!((first.len(), second.len()), (12, 4));
    assert_eq!([first, second].concat(), expected);
}

#[test]
fn answers_name_only_addresses_that_make_sense_to_the_asker() {
    let mut net = Net::new(1);
    net.add(1, addr("10.0.0.1:30303"), passive());
    let at =
        ["127.0.0.1:4000", "127.0.0.2:4001", "192.168.1.7:5000", "192.168.1.8:5001", "8.8.8.8:6000", "9.9.9.9:6001"];
    let peers = at.map(|at| net.peer(u64::from(addr(at).port()), addr(at)));
    for peer in peers {
        net.bond(peer);
    }
    let named = |net: &mut Net, asker| {
        net.send_find(asker, target(1));
        let mut ports: Vec<u16> = net.expect_neighbors(asker).iter().map(|contact| contact.endpoint.udp).collect();
        ports.sort_unstable();
        ports
    };
    assert_eq!(named(&mut net, peers[0]), [4001, 5000, 5001, 6000, 6001], "loopback is told all");
    assert_eq!(named(&mut net, peers[2]), [5001, 6000, 6001], "the LAN is not told of loopback");
    assert_eq!(named(&mut net, peers[4]), [6001], "the internet is told of the internet");
}

#[test]
fn neighbors_count_only_when_asked_for() {
    let mut net = Net::alone(passive());
    let peer = net.peer(2, addr(A));
    let mut unknown: Vec<Contact> =
        (0..16).map(|n| contact(&key(500 + n), addr(&format!("10.9.0.{n}:30303")))).collect();
    for contact in &mut unknown {
        contact.endpoint.tcp = 30303;
    }
    net.bond(peer);
    let big = net.make_neighbors(&unknown);
    let mut buffer = Vec::new();
    crate::proto::wire::seal(&key(2), &big, &mut buffer);
    assert_eq!(buffer.len(), 1373, "what ethereumjs sends");
    net.send(peer, &big);
    net.send_neighbors(peer, &unknown[..3]);
    net.run(secs(1));
    assert_eq!(net.dropped(Dropped::Unsolicited), 2);

    let lookup = net.command(0, Command::Lookup { target: target(1), until_found: false, paths: None });
    net.expect_find(peer);
    // Another node cannot answer in its place, and neither can it from another port.
    net.forge(&key(3), addr(A), addr("10.0.0.1:30303"), &big);
    net.forge(&key(2), addr("10.0.0.2:30304"), addr("10.0.0.1:30303"), &big);
    net.run(DELAY);
    assert_eq!((net.dropped(Dropped::WrongSender), net.dropped(Dropped::Unsolicited)), (1, 3));
    net.send(peer, &big);
    let Reply::Lookup(report) = net.reply(0, lookup) else { panic!() };
    assert_eq!(report.trace[0].named, Some(16), "the oversized answer was read");
    assert_eq!(report.closest.len(), 1, "none of them answered");
    // Whoever was only heard of is not passed on.
    net.send_find(peer, target(1));
    assert_eq!(net.expect_neighbors(peer), []);
}

#[test]
fn hearsay_does_not_change_what_a_node_said_of_itself() {
    let mut net = Net::alone(passive());
    let [peer, liar] = [net.peer(2, addr(A)), net.peer(3, addr(B))];
    for peer in [peer, liar] {
        net.bond(peer);
    }
    let Message::Ping(mut ping) = net.make_ping(addr(A)) else { unreachable!() };
    ping.from.tcp = 30303;
    let hash = net.send(peer, &Message::Ping(ping));
    net.expect_pong(peer, hash);
    let lookup = net.command(0, Command::Lookup { target: target(1), until_found: false, paths: None });
    let asked = net.expect_find(peer).1;
    // The liar's first second lasts a little longer, so the peer's answer is late by then.
    net.expect_find(liar);
    let (late, check) = net.expect_late_find(peer, &asked);
    assert_eq!(late, ms(50));
    net.send_pong(peer, check.hash);
    let mut lie = net.peer_contact(peer);
    lie.endpoint.tcp = 6666;
    net.send_neighbors(liar, &[lie]);
    net.send_neighbors(peer, &[]);
    net.reply(0, lookup);
    net.send_find(liar, target(1));
    assert_eq!(net.expect_neighbors(liar)[0].endpoint.tcp, 30303);
}

#[test]
fn a_ping_names_its_true_origin() {
    for (bound, to, origin) in [
        ("10.0.0.1:30303", "10.0.0.2:30303", "10.0.0.1:30303"),
        ("127.0.0.1:5555", "127.0.0.1:5556", "127.0.0.1:5555"),
        ("0.0.0.0:5555", "127.0.0.1:5556", "127.0.0.1:5555"),
        ("[::1]:5555", "[::1]:5556", "[::1]:5555"),
    ] {
        let mut net = Net::new(1);
        net.add(1, addr(bound), passive());
        let peer = net.peer(2, addr(to));
        let hash = net.send_ping(peer);
        let (ping, _) = net.expect_ping(peer);
        assert_eq!((ping.from.ip.unwrap(), ping.from.udp), (addr(origin).ip(), addr(origin).port()));
        assert_eq!((ping.to.ip.unwrap(), ping.to.udp), (addr(to).ip(), addr(to).port()));
        assert_eq!((ping.expiration, ping.enr_seq), (net.unix(20), Some(net.engine(0).local_record().unwrap().seq())));
        net.expect_pong(peer, hash);
    }
}

#[test]
fn our_own_key_is_nobody() {
    let mut net = Net::alone(passive());
    let mirror = net.peer(1, addr(A));
    net.send_ping(mirror);
    net.send_find(mirror, target(1));
    net.expect_nothing(mirror, secs(2));
    assert_eq!((net.dropped(Dropped::FromSelf), net.dropped(Dropped::Unproved)), (1, 1));
}

#[test]
fn a_record_has_to_be_the_nodes_own() {
    let mut net = Net::alone(passive());
    let peer = net.peer(2, addr(A));
    net.bond(peer);
    let sign = |n: u64, seq| {
        let content = RecordContent { v4: Some(([10, 0, 0, 2].into(), 30303, 0)), ..Default::default() };
        crate::proto::identity::Record::sign(&key(n), seq, &content).unwrap()
    };
    let other = sign(3, 1).as_bytes().to_vec();
    let mut damaged = sign(2, 1).as_bytes().to_vec();
    damaged[10] ^= 1;
    for (count, record) in (1..).zip([other, damaged, vec![0xc0]]) {
        let id = net.command(0, Command::RequestRecord(net.peer_contact(peer)));
        let request_hash = net.expect_enr_request(peer).hash;
        net.send(peer, &Message::EnrResponse(EnrResponse { request_hash, record: record.into() }));
        assert_eq!(net.reply(0, id), Reply::Failed(CommandError::BadRecord));
        assert_eq!(net.dropped(Dropped::BadRecord), count);
    }
    let id = net.command(0, Command::RequestRecord(net.peer_contact(peer)));
    let request_hash = net.expect_enr_request(peer).hash;
    let record = sign(2, 7);
    let response = |request_hash| Message::EnrResponse(EnrResponse { request_hash, record: record.as_bytes().clone() });
    net.send(peer, &response([9; 32]));
    net.run(DELAY);
    assert_eq!(net.dropped(Dropped::Unsolicited), 1);
    net.send(peer, &response(request_hash));
    assert!(matches!(net.reply(0, id), Reply::Record(got) if *got == record));
    // Another node at that address.
    let id = net.command(0, Command::RequestRecord(net.peer_contact(peer)));
    let request_hash = net.expect_enr_request(peer).hash;
    net.forge(&key(3), addr(A), addr("10.0.0.1:30303"), &response(request_hash));
    assert_eq!(net.reply(0, id), Reply::Failed(CommandError::OtherNode));
    // Our own record goes to whoever has proved itself.
    let request = net.make_enr_request();
    let hash = net.send(peer, &request);
    let Message::EnrResponse(answer) = net.expect(peer).message else { panic!() };
    assert_eq!((answer.request_hash, &answer.record), (hash, net.engine(0).local_record().unwrap().as_bytes()));
}

#[test]
fn who_moves_keeps_its_proof_where_it_was() {
    let mut config = passive();
    config.table.first_check = secs(600);
    config.table.min_check = secs(600);
    let mut net = Net::alone(config);
    let here = net.peer(2, addr(A));
    let there = net.peer(2, addr("10.0.0.9:30303"));
    net.bond(here);
    net.run(secs(40));
    net.bond(there);
    let member = net.engine(0).table().entries().next().unwrap().1.node;
    assert_eq!(net.engine(0).contacts().contact(member), net.peer_contact(there), "it is a member at its new address");
    for peer in [here, there] {
        net.send_find(peer, target(1));
        assert_eq!(net.expect_neighbors(peer), []);
    }
}
