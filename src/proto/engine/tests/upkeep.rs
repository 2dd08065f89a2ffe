//! What the engine does of its own accord: joining, checking members, records, votes.

use super::net::*;
use super::peers::crowded_bucket;
use crate::proto::config::Config;
use crate::proto::contacts::Contacts;
use crate::proto::engine::{Event, Removal};
use crate::proto::identity::{Contact, RecordContent};
use crate::proto::time::Time;
use crate::proto::wire::{EnrResponse, Message, MessageKind, Pong, WireEndpoint};

const A: &str = "10.0.0.2:30303";

/// When the first engine sent PINGs to an address.
pub(super) fn pings(net: &Net, to: Contact) -> Vec<Time> {
    let to = to.endpoint.udp_addr();
    let sent = net.nodes[0].sent.iter();
    sent.filter(|(_, addr, kind)| *addr == to && *kind == MessageKind::Ping).map(|(at, ..)| *at).collect()
}

fn events(net: &mut Net, at: usize) -> Vec<Event> {
    std::mem::take(&mut net.nodes[at].events).into_iter().map(|(_, event)| event).collect()
}

#[test]
fn a_silent_bootnode_is_tried_again_for_ever() {
    let mut net = Net::alone(Config::default());
    let bootnode = contact(&key(2), addr(A));
    let begun = net.now;
    net.bootnode(0, bootnode);
    net.run(secs(3600));
    let times = pings(&net, bootnode);
    // Each is given up after a second, and the next follows after 0.25 s, 0.5 s and so on up to 60 s.
    let mut at = begun;
    for (tries, time) in times.iter().enumerate() {
        assert_eq!(*time, at);
        let wait = ms(250) * 2u32.pow(tries.min(20) as u32);
        at = at + secs(1) + wait.min(secs(60));
    }
    assert!(times.len() > 60);
    // It is there from now on, and found within that minute.
    let late = net.peer(2, addr(A));
    net.expect_nothing(late, ms(0));
    let end = net.now + secs(61);
    while net.kinds(late).is_empty() {
        assert!(net.step(end));
    }
    let (_, ping) = net.expect_ping(late);
    net.send_pong(late, ping.hash);
    net.run(DELAY);
    assert!(net.is_member(0, &bootnode));
    net.claim_all(late);
}

#[test]
fn a_node_that_starts_before_its_bootnode_joins_soon_after_it_comes_up() {
    let mut net = Net::new(5);
    for n in 0..3 {
        net.add(n + 1, addr(&format!("10.0.0.{}:30303", n + 1)), Config::default());
    }
    net.stop(2);
    for at in [0, 1] {
        let bootnode = net.contact(2);
        net.bootnode(at, bootnode);
    }
    net.run(secs(3));
    net.start(2);
    let begun = net.now;
    let others = [net.contact(1), net.contact(2)];
    while !others.iter().all(|other| net.is_member(0, other)) {
        assert!(net.step(begun + secs(5)), "not all found");
    }
}

#[test]
fn a_new_bond_has_the_silent_contacts_tried_at_once() {
    let mut config = Config::default();
    // Lookups of its own would try them as well.
    config.refresh.min = secs(36_000);
    let mut net = Net::alone(config);
    let first = net.peer(5, addr("10.0.0.5:30303"));
    net.bond(first);
    net.run(secs(3));
    let silent = contact(&key(2), addr(A));
    net.bootnode(0, silent);
    // Its waits have grown to a minute, and it has just been tried.
    let begun = net.now;
    while net.now.since(begun) < secs(300) || pings(&net, silent).last().is_none_or(|at| *at != net.now) {
        assert!(net.step(net.now + secs(60)));
        answer_pings(&mut net, first);
    }
    let before = pings(&net, silent).len();
    net.run(secs(1));
    answer_pings(&mut net, first);
    let [second, third] = [3u8, 4].map(|n| net.peer(n.into(), addr(&format!("10.0.0.{n}:30303"))));
    net.bond(second);
    assert_eq!(pings(&net, silent).len(), before + 1, "its turn was in a minute, and the bond makes it come");
    assert_eq!(pings(&net, silent).last(), Some(&net.now), "at once");
    let live_on = |net: &mut Net| {
        for _ in 0..190 {
            net.run(ms(100));
            answer_pings(net, first);
            answer_pings(net, second);
        }
    };
    live_on(&mut net);
    live_on(&mut net);
    assert_eq!(pings(&net, silent).len(), before + 1, "without a bond it waits its minute");
    net.bond(third);
    assert_eq!(pings(&net, silent).len(), before + 2, "and so does the next bond");
    assert_eq!(pings(&net, silent).last(), Some(&net.now));
    for peer in [first, second, third] {
        net.claim_all(peer);
    }
}

#[test]
fn a_bootnode_that_pings_us_is_not_pinged_twice() {
    let mut net = Net::alone(Config::default());
    let bootnode = net.peer(2, addr(A));
    net.deafen(bootnode, true);
    net.bootnode(0, net.peer_contact(bootnode));
    net.run(secs(60));
    net.deafen(bootnode, false);
    // It comes up between two tries.
    while net.engine(0).under_way().0 > 0 {
        net.run(ms(100));
    }
    net.claim_all(bootnode);
    net.bond(bootnode);
    net.expect_nothing(bootnode, ms(900));
    net.run(ms(200));
    assert_eq!(net.expect(bootnode).message.kind(), MessageKind::FindNode);
    net.run(secs(2));
    net.claim_all(bootnode);
}

#[test]
fn a_dead_member_is_not_named_then_dropped_then_replaced() {
    let mut config = passive();
    config.table.k = 1;
    let mut net = Net::alone(config);
    // The dying one and the next stand in one bucket, the asker in another.
    let log = |n: u64| key(1).id().log_distance(&key(n).id());
    let far: Vec<u64> = (2..200).filter(|n| log(*n) == 256).take(2).collect();
    let near = (2..200).find(|n| log(*n) == 255).unwrap();
    let peers = [far[0], far[1], near].map(|n| net.peer(n, addr(&format!("10.0.0.{}:30303", n + 1))));
    for peer in peers {
        net.bond(peer);
    }
    let contacts = peers.map(|peer| net.peer_contact(peer));
    assert!(net.is_member(0, &contacts[0]) && !net.is_member(0, &contacts[1]));
    assert_eq!(net.engine(0).table().replacements().count(), 1);
    let named = |net: &mut Net| {
        net.claim_all(peers[2]);
        net.send_find(peers[2], target(1));
        net.run(2 * DELAY);
        let got = net.claim_all(peers[2]);
        let neighbors = got.iter().find_map(|got| match &got.message {
            Message::Neighbors(neighbors) => Some(neighbors.nodes.clone()),
            _ => None,
        });
        neighbors.unwrap().iter().filter_map(|node| node.contact()).collect::<Vec<_>>()
    };
    assert_eq!(named(&mut net), [contacts[0]]);
    net.deafen(peers[0], true);
    events(&mut net, 0);
    // Its first check comes after some 10 s.
    let begun = net.now;
    while pings(&net, contacts[0]).len() < 2 {
        assert!(net.step(begun + secs(11)));
        let keep_alive = net.kinds(peers[2]);
        assert!(keep_alive.len() < 3);
        answer_pings(&mut net, peers[2]);
    }
    let checked = net.now;
    assert_eq!(named(&mut net), [contacts[0]], "it is given a second to answer");
    net.run(secs(1));
    answer_pings(&mut net, peers[2]);
    assert_eq!(named(&mut net), [], "the first failed check takes it out of the answers");
    assert!(net.is_member(0, &contacts[0]));
    while net.is_member(0, &contacts[0]) {
        assert!(net.step(checked + secs(10)));
        answer_pings(&mut net, peers[2]);
    }
    let times = pings(&net, contacts[0]);
    assert_eq!(times[1..], [checked, checked + secs(3), checked + secs(6)], "three checks");
    assert_eq!(net.now, checked + secs(7));
    let happened: Vec<Event> = net.nodes[0].events.iter().map(|(_, event)| event.clone()).collect();
    assert_eq!(happened, [Event::NodeRemoved(contacts[0], Removal::Dead), Event::NodeAdded(contacts[1])]);
    // The replacement is checked at once.
    net.run(2 * DELAY);
    assert_eq!(pings(&net, contacts[1]).len(), 2);
    answer_pings(&mut net, peers[1]);
    net.run(DELAY);
    assert_eq!(named(&mut net), [contacts[1]]);
    for peer in peers {
        net.claim_all(peer);
    }
    // It comes back with the same key, pings us, and is known again.
    net.deafen(peers[0], false);
    net.bond(peers[0]);
    assert_eq!(net.engine(0).table().replacements().count(), 1);
}

/// Has a peer answer the PINGs that it got.
fn answer_pings(net: &mut Net, peer: usize) {
    for got in net.claim_all(peer) {
        if got.message.kind() == MessageKind::Ping {
            net.send_pong(peer, got.hash);
        }
    }
}

#[test]
fn who_was_doubted_when_it_lost_its_place_is_checked_when_it_gets_it_back() {
    let mut config = passive();
    config.table.k = 2;
    let mut net = Net::alone(config);
    let peers = crowded_bucket(&mut net);
    let contacts = peers.map(|peer| net.peer_contact(peer));
    net.bond(peers[0]);
    net.bond(peers[1]);
    net.deafen(peers[1], true);
    while net.engine(0).counters().unanswered == 0 {
        assert!(net.step(net.now + secs(20)));
        answer_pings(&mut net, peers[0]);
    }
    net.ping_by_hand(peers[2]);
    assert_eq!(contacts.map(|contact| net.is_member(0, &contact)), [true, false, true]);
    net.deafen(peers[1], false);
    net.deafen(peers[0], true);
    while net.is_member(0, &contacts[0]) {
        assert!(net.step(net.now + secs(60)));
        answer_pings(&mut net, peers[2]);
    }
    assert!(net.is_member(0, &contacts[1]));
    net.claim_all(peers[1]);
    let (_, ping) = net.expect_ping(peers[1]);
    net.send_pong(peers[1], ping.hash);
    answer_pings(&mut net, peers[2]);
    net.run(DELAY);
    assert!(net.engine(0).table().entries().all(|(_, entry)| entry.is_live()));
    for peer in peers {
        net.claim_all(peer);
    }
}

#[test]
fn a_lost_check_does_not_lose_a_member() {
    let mut net = Net::alone(passive());
    let peer = net.peer(2, addr(A));
    net.bond(peer);
    let member = net.peer_contact(peer);
    let begun = net.now;
    for _ in 0..20 {
        // Two of three checks get lost.
        for _ in 0..2 {
            net.deafen(peer, true);
            let before = pings(&net, member).len();
            while pings(&net, member).len() == before {
                assert!(net.step(net.now + secs(60)));
            }
            net.run(secs(1));
        }
        net.deafen(peer, false);
        let before = pings(&net, member).len();
        while pings(&net, member).len() == before {
            assert!(net.step(net.now + secs(3)));
        }
        net.run(DELAY);
        answer_pings(&mut net, peer);
        net.run(DELAY);
        assert!(net.is_member(0, &member));
    }
    assert!(net.now.since(begun) > secs(20 * 30), "a trusted member is checked each half minute");
}

#[test]
fn an_emptied_table_goes_back_to_the_bootnodes_at_once() {
    let mut net = Net::alone(Config::default());
    let bootnode = net.peer(2, addr(A));
    let silent = contact(&key(9), addr("10.0.0.9:30303"));
    net.bootnode(0, net.peer_contact(bootnode));
    net.bootnode(0, silent);
    let (_, ping) = net.expect_ping(bootnode);
    net.send_pong(bootnode, ping.hash);
    net.run(ms(300));
    net.claim_all(bootnode);
    assert_eq!(events(&mut net, 0)[..2], [Event::NodeAdded(net.peer_contact(bootnode)), Event::Contacts { any: true }]);
    net.deafen(bootnode, true);
    while !net.engine(0).table().is_empty() {
        assert!(net.step(net.now + secs(120)));
    }
    let lost = net.now;
    let mut happened = events(&mut net, 0);
    happened.retain(|event| !matches!(event, Event::LookupFinished { .. }));
    assert_eq!(
        happened,
        [Event::NodeRemoved(net.peer_contact(bootnode), Removal::Dead), Event::Contacts { any: false }]
    );
    for contact in [net.peer_contact(bootnode), silent] {
        assert_eq!(pings(&net, contact).last(), Some(&lost));
    }
    // From there the waits begin anew.
    let before = pings(&net, silent).len();
    net.run(secs(60));
    let times: Vec<_> = pings(&net, silent)[before - 1..].iter().take(4).map(|at| at.since(lost)).collect();
    assert_eq!(times, [ms(0), ms(1250), ms(2750), ms(4750)]);
    assert_eq!(
        pings(&net, net.peer_contact(bootnode)).iter().rev().map(|at| at.since(lost)).nth(times.len()),
        pings(&net, silent).iter().rev().map(|at| at.since(lost)).nth(times.len()),
        "both keep the same time"
    );
    net.deafen(bootnode, false);
    let (_, ping) = net.expect_late_ping(bootnode, secs(61));
    net.send_pong(bootnode, ping.hash);
    net.run(DELAY);
    assert!(net.is_member(0, &net.peer_contact(bootnode)));
    net.claim_all(bootnode);
}

#[test]
fn an_emptied_table_without_bootnodes_goes_back_to_former_members() {
    let mut net = Net::new(3);
    for n in 0..2 {
        net.add(n + 1, addr(&format!("10.0.0.{}:30303", n + 1)), Config::default());
    }
    let first = net.contact(0);
    net.bootnode(1, first);
    net.run(secs(1200));
    let other = net.contact(1);
    assert!(net.is_member(0, &other));
    net.stop(1);
    net.run(secs(300));
    assert!(net.engine(0).table().is_empty());
    // It comes back and knows nobody; the first one has to find it.
    net.start(1);
    net.run(secs(62));
    assert!(net.is_member(0, &other) && net.is_member(1, &first));
    let times = pings(&net, other);
    net.stop(1);
    net.run(secs(600));
    assert!(pings(&net, other).len() < times.len() + 60, "and not in a hurry");
}

#[test]
fn a_node_that_came_back_at_another_port_is_found_when_its_old_one_is_given_up() {
    let mut net = Net::alone(Config::default());
    let before = net.peer(2, addr(A));
    let after = net.peer(2, addr("10.0.0.2:40404"));
    net.bond(before);
    // It starts again at once. Nobody can tell yet that it is not at its old port any more.
    net.deafen(before, true);
    net.bond(after);
    let is_at = |net: &Net, peer: usize| {
        let engine = net.engine(0);
        let wanted = net.peer_contact(peer).endpoint.udp_addr();
        engine.table().entries().any(|(_, entry)| engine.contacts().endpoint(entry.node).udp_addr() == wanted)
    };
    assert!(is_at(&net, before) && net.is_bonded(after));
    net.run(secs(60));
    assert!(net.engine(0).table().is_empty());
    net.claim_all(before);
    net.claim_all(after);
    // It checks whether we are there.
    let hash = net.send_ping(after);
    let (_, ping) = net.expect_ping(after);
    net.expect_pong(after, hash);
    net.send_pong(after, ping.hash);
    net.run(DELAY);
    assert!(is_at(&net, after));
    net.run(secs(2));
    net.claim_all(after);
    net.claim_all(before);
}

#[test]
fn records_of_members_are_fetched_and_fetched_again_when_they_change() {
    let mut net = Net::new(3);
    for n in 0..2 {
        net.add(n + 1, addr(&format!("10.0.0.{}:30303", n + 1)), Config::default());
    }
    let bootnode = net.contact(1);
    net.bootnode(0, bootnode);
    net.run(secs(30));
    let updates = |net: &Net, at: usize| {
        let events = net.nodes[at].events.iter();
        events
            .filter_map(|(_, e)| if let Event::RecordUpdated(r) = e { Some(r.seq()) } else { None })
            .collect::<Vec<_>>()
    };
    let seq = net.engine(1).local_record().unwrap().seq();
    assert_eq!((updates(&net, 0), updates(&net, 1).len()), (vec![seq], 1));
    net.run(secs(600));
    assert_eq!(updates(&net, 0), [seq], "once");
    let content = RecordContent { v4: Some(([10, 0, 0, 2].into(), 30303, 30303)), ..Default::default() };
    net.input(1, |engine, _| engine.set_record_content(content.clone())).unwrap();
    net.run(secs(120));
    assert_eq!(updates(&net, 0), [seq, seq + 1]);
    let kept: Vec<_> = net.engine(0).table().entries().filter_map(|(_, e)| net.engine(0).record_of(e.node)).collect();
    assert_eq!(kept, [net.engine(1).local_record().unwrap()]);
    let asked = net.nodes[0].sent.iter().filter(|(.., kind)| *kind == MessageKind::EnrRequest).count();
    assert_eq!(asked, 2);
}

#[test]
fn an_old_record_does_not_replace_a_newer_one() {
    let mut config = Config::default();
    config.refresh.enabled = false;
    let mut net = Net::alone(config);
    let peer = net.peer(2, addr(A));
    net.bond(peer);
    net.run(secs(2));
    let record = |seq| crate::proto::identity::Record::sign(&key(2), seq, &RecordContent::default()).unwrap();
    for (said, sent) in [(5, 5), (9, 4), (9, 9)] {
        let Message::Ping(mut ping) = net.make_ping(addr(A)) else { unreachable!() };
        ping.enr_seq = Some(said);
        let hash = net.send(peer, &Message::Ping(ping));
        net.expect_pong(peer, hash);
        let request_hash = net.expect_enr_request(peer).hash;
        let record = record(sent).as_bytes().to_vec();
        net.send(peer, &Message::EnrResponse(EnrResponse { request_hash, record: record.into() }));
        net.run(DELAY);
    }
    let seqs: Vec<u64> = events(&mut net, 0)
        .iter()
        .filter_map(|event| if let Event::RecordUpdated(record) = event { Some(record.seq()) } else { None })
        .collect();
    assert_eq!(seqs, [5, 9]);
}

/// Nodes on the internet that all see the first engine at 9.9.9.9:999.
fn seen_from_afar(net: &mut Net, tellers: std::ops::Range<u8>) {
    for n in tellers {
        let peer = net.peer(100 + u64::from(n), addr(&format!("8.8.{n}.8:30303")));
        let hash = net.send_ping(peer);
        let (_, ping) = net.expect_ping(peer);
        net.expect_pong(peer, hash);
        let Message::Pong(pong) = net.make_pong(ping.hash) else { unreachable!() };
        let to = WireEndpoint { ip: Some([9, 9, 9, 9].into()), udp: 999, tcp: 0 };
        net.send(peer, &Message::Pong(Pong { to, ..pong }));
        net.run(DELAY);
    }
}

#[test]
fn the_internet_tells_us_our_address() {
    let mut net = Net::alone(passive());
    let seq = net.engine(0).local_record().unwrap().seq();
    seen_from_afar(&mut net, 0..4);
    assert_eq!(net.engine(0).local_record().unwrap().seq(), seq);
    seen_from_afar(&mut net, 4..5);
    let record = net.engine(0).local_record().unwrap().clone();
    assert_eq!((record.seq(), record.endpoint().unwrap().udp_addr()), (seq + 1, addr("9.9.9.9:999")));
    assert!(net.nodes[0].events.iter().any(|(_, event)| *event == Event::LocalRecord(record.clone())));
    seen_from_afar(&mut net, 5..7);
    assert_eq!(net.engine(0).local_record().unwrap().seq(), seq + 1, "nothing new");
    let content = net.engine(0).local().content.clone();
    net.input(0, |engine, _| engine.set_record_content(content.clone())).unwrap();
    assert_eq!(net.engine(0).local_record().unwrap().seq(), seq + 1, "nothing new");
}

#[test]
fn a_configured_address_is_nobodys_to_change() {
    let configured = RecordContent { v4: Some(([7, 7, 7, 7].into(), 777, 0)), ..Default::default() };
    // Whether it was there from the beginning or came later.
    for later in [false, true] {
        let mut net = Net::alone(passive());
        if later {
            net.input(0, |engine, _| engine.set_record_content(configured.clone())).unwrap();
        } else {
            net.start_with(0, configured.clone());
        }
        let seq = net.engine(0).local_record().unwrap().seq();
        seen_from_afar(&mut net, 0..9);
        assert_eq!(net.engine(0).local_record().unwrap().seq(), seq);
        assert_eq!(net.engine(0).local().content, configured);
    }
}

/// Peers of one bucket after another, up to 16 in each, from the farthest on: what somebody has prepared who wants to fill
/// a table.
fn occupiers(net: &mut Net, buckets: std::ops::RangeInclusive<u16>, count: usize) -> Vec<usize> {
    let mut places = std::collections::BTreeMap::new();
    let mut occupiers = Vec::new();
    for n in (2..).take(100_000) {
        let log = key(1).id().log_distance(&key(n).id());
        let here: &mut usize = places.entry(log).or_default();
        if buckets.contains(&log) && *here < 16 && occupiers.len() < count {
            *here += 1;
            let at = occupiers.len();
            occupiers.push(net.peer(n, addr(&format!("10.1.{}.{}:30303", at / 250, at % 250))));
        }
        if occupiers.len() == count {
            break;
        }
    }
    occupiers
}

#[test]
fn whoever_comes_first_does_not_keep_us_from_the_bootnodes() {
    let mut net = Net::alone(Config::default());
    let occupiers = occupiers(&mut net, 252..=256, 80);
    let bootnode = net.peer(200_001, addr("10.2.0.1:30303"));
    let honest: Vec<usize> = (0..16).map(|n| net.peer(300_000 + n, addr(&format!("10.3.0.{n}:30303")))).collect();
    // The bootnode is there when all is full of others, who name one another.
    net.deafen(bootnode, true);
    net.bootnode(0, net.peer_contact(bootnode));
    let own = *key(1).public_key();
    let mut asked = Vec::new();
    let live = |net: &mut Net, time, asked: &mut Vec<(Time, bool)>| {
        let end = net.now + time;
        while net.step(end) {
            net.answer_inboxes(|net, peer, target| {
                if peer == bootnode {
                    asked.push((net.now, target == own));
                }
                if occupiers.contains(&peer) { occupiers[..16].to_vec() } else { honest.to_vec() }
            });
        }
    };
    for occupier in &occupiers {
        net.bond(*occupier);
        // All that the engine wants of them is answered.
        live(&mut net, ms(1), &mut asked);
    }
    live(&mut net, secs(20), &mut asked);
    assert_eq!(net.engine(0).table().len(), 80, "five buckets are full");
    assert!(net.nodes[0].events.iter().any(|(_, event)| *event == Event::Contacts { any: true }));
    net.deafen(bootnode, false);
    let begun = net.now;
    while !net.is_bonded(bootnode) {
        let before = net.now;
        live(&mut net, ms(100), &mut asked);
        assert!(before.since(begun) < secs(61), "it is tried though there are members");
    }
    live(&mut net, ms(500), &mut asked);
    assert!(matches!(asked[..], [(_, true), ..]), "it is asked for our own neighbourhood: {asked:?}");
    // Honest nodes find their places, also in buckets that were full: each refresh asks the bootnode for somebody.
    live(&mut net, secs(600), &mut asked);
    assert!(asked.iter().filter(|(_, itself)| !itself).count() > 3, "{asked:?}");
    let members = honest.iter().filter(|peer| net.is_member(0, &net.peer_contact(**peer))).count();
    assert!(members > 4, "{members} of 16");
}
