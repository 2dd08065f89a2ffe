//! What is sent once more when its answer is late, and copies of answers.

use std::time::Duration;

use super::net::*;
use crate::proto::engine::{Command, CommandId, Dropped, LookupReport, Reply};
use crate::proto::identity::{Contact, Record, RecordContent};
use crate::proto::wire::{EnrResponse, Message, MessageKind};

const A: &str = "10.0.0.2:30303";

/// The first engine and a peer that it knows and that is past its first second.
fn acquainted() -> (Net, usize) {
    let mut net = Net::alone(passive());
    let peer = net.peer(2, addr(A));
    net.bond(peer);
    net.run(secs(1));
    (net, peer)
}

fn start_lookup(net: &mut Net) -> CommandId {
    net.command(0, Command::Lookup { target: target(1), until_found: false, paths: None })
}

fn report(net: &mut Net, id: CommandId) -> LookupReport {
    let Reply::Lookup(report) = net.reply(0, id) else { panic!() };
    report
}

/// The two packets of a full answer, which name nobody who could be asked.
fn full_answer(net: &Net, peer: usize) -> [Vec<Contact>; 2] {
    [vec![net.peer_contact(peer); 12], vec![net.contact(0); 4]]
}

#[test]
fn a_late_findnode_is_sent_once_more_and_its_answer_counts_once() {
    // An answer to the copy alone, to the first alone, and to both.
    for answers in [[false, true], [true, false], [true, true]] {
        let (mut net, peer) = acquainted();
        let answered = net.engine(0).counters().answered;
        let packets = full_answer(&net, peer);
        let id = start_lookup(&mut net);
        let (_, first) = net.expect_find(peer);
        let (late, ping) = net.expect_late_find(peer, &first);
        assert_eq!(late, ms(50));
        net.send_pong(peer, ping.hash);
        net.expect_nothing(peer, ms(100));
        for _ in answers.iter().filter(|answered| **answered) {
            for nodes in &packets {
                net.send_neighbors(peer, nodes);
            }
        }
        let begun = net.now;
        let report = report(&mut net, id);
        assert_eq!(net.now.since(begun), DELAY, "it is complete with the second packet");
        let steps: Vec<_> = report.trace.iter().map(|step| (step.contact, step.named)).collect();
        assert_eq!(steps, [(net.peer_contact(peer), Some(16))]);
        net.expect_nothing(peer, secs(2));
        assert_eq!(net.engine(0).counters().answered, answered + 2, "the PING, and the FINDNODE once");
        assert_eq!(net.dropped(Dropped::Unsolicited), if answers == [true; 2] { 2 } else { 0 });
    }
}

/// When the PING of an errand to a stranger is sent once more: what we think of round trips.
fn patience_with_a_stranger(net: &mut Net, n: u64) -> Duration {
    let stranger = net.peer(n, addr(&format!("10.0.1.{n}:30303")));
    net.command(0, Command::RequestRecord(net.peer_contact(stranger)));
    let ((_, first), (_, again)) = (net.expect_ping(stranger), net.expect_ping(stranger));
    assert_eq!(first.hash, again.hash);
    again.at.since(first.at)
}

#[test]
fn the_time_until_an_answer_to_a_request_that_was_sent_twice_is_no_round_trip() {
    let (mut net, peer) = acquainted();
    // One round trip of 20 ms is known, and its half is the first deviation.
    assert_eq!(patience_with_a_stranger(&mut net, 7), ms(20) + 4 * ms(10));
    let packets = full_answer(&net, peer);
    for (n, late) in [(8, 57_500), (9, 55_156)] {
        let id = start_lookup(&mut net);
        let (_, first) = net.expect_find(peer);
        let (_, ping) = net.expect_late_find(peer, &first);
        net.send_pong(peer, ping.hash);
        net.run(ms(300));
        for nodes in &packets {
            net.send_neighbors(peer, nodes);
        }
        report(&mut net, id);
        // Not a measure, but a reason for patience: the deviation is a quarter longer each time, after the true measure of
        // the PING has made it a quarter shorter.
        assert_eq!(patience_with_a_stranger(&mut net, n), Duration::from_micros(late));
    }
    // A member's own estimate is of round trips too.
    let rtt = |net: &Net| {
        let entries = net.engine(0).table().entries();
        entries.map(|(_, entry)| entry.rtt().as_millis() as u64).collect::<Vec<_>>()
    };
    assert_eq!(rtt(&net), [20]);
    let slow = net.peer(3, addr("10.0.0.3:30303"));
    net.command(0, Command::RequestRecord(net.peer_contact(slow)));
    let ((_, ping), _) = (net.expect_ping(slow), net.expect_ping(slow));
    net.run(ms(300));
    net.send_pong(slow, ping.hash);
    net.run(DELAY);
    assert_eq!(rtt(&net), [20, 20], "the mean of all, as long as nothing is known of it");
    net.run(secs(10));
    net.claim_all(slow);
    net.claim_all(peer);
}

#[test]
fn an_answer_that_has_begun_is_not_asked_for_again() {
    let (mut net, peer) = acquainted();
    net.delays.insert((addr(A), addr("10.0.0.1:30303")), ms(30));
    let [first, _] = full_answer(&net, peer);
    let id = start_lookup(&mut net);
    net.expect_find(peer);
    net.send_neighbors(peer, &first);
    // It came after 40 ms, so the second packet is waited for until after the time at which the first would be late.
    assert_eq!(report(&mut net, id).took, ms(80));
    net.expect_nothing(peer, secs(1));
}

#[test]
fn an_answer_in_which_the_packets_of_both_are_mixed_is_complete() {
    let (mut net, peer) = acquainted();
    let [first, rest] = full_answer(&net, peer);
    let id = start_lookup(&mut net);
    let (_, first_find) = net.expect_find(peer);
    let (_, ping) = net.expect_late_find(peer, &first_find);
    net.send_pong(peer, ping.hash);
    // The first packet of the first answer is lost, and the second one of the copy's.
    net.send_neighbors(peer, &rest);
    net.send_neighbors(peer, &first);
    assert_eq!(report(&mut net, id).trace[0].named, Some(16));
    assert_eq!(net.dropped(Dropped::Unsolicited), 0);
}

#[test]
fn a_copy_of_the_first_packet_does_not_end_the_answer() {
    let (mut net, peer) = acquainted();
    let [first, rest] = full_answer(&net, peer);
    let begun = net.now;
    let id = start_lookup(&mut net);
    net.expect_find(peer);
    net.send_neighbors(peer, &first);
    net.send_neighbors(peer, &first);
    net.run(ms(5));
    net.send_neighbors(peer, &rest);
    assert_eq!(report(&mut net, id).trace[0].named, Some(16));
    assert_eq!(net.now.since(begun), 2 * DELAY + ms(5));
    assert_eq!(net.dropped(Dropped::Unsolicited), 1);

    // Nor does it make the wait for the second packet longer, when there is none.
    let begun = net.now;
    let id = start_lookup(&mut net);
    net.expect_find(peer);
    net.send_neighbors(peer, &first);
    net.run(ms(5));
    net.send_neighbors(peer, &first);
    assert_eq!(report(&mut net, id).trace[0].named, Some(12));
    assert_eq!(net.now.since(begun), 2 * DELAY + 2 * DELAY);
    assert_eq!(net.dropped(Dropped::Unsolicited), 2);
}

#[test]
fn a_late_ping_of_an_errand_is_sent_once_more_and_proves_the_node_by_the_same_hash() {
    for answers in 1..=2 {
        let mut net = Net::alone(passive());
        let peer = net.peer(2, addr(A));
        net.command(0, Command::RequestRecord(net.peer_contact(peer)));
        let (_, first) = net.expect_ping(peer);
        let (_, again) = net.expect_ping(peer);
        // Nobody's round trip is known yet.
        assert_eq!(again.at.since(first.at), ms(500));
        assert_eq!((&again.message, again.hash), (&first.message, first.hash), "the very same packet");
        assert!(!net.is_bonded(peer));
        for _ in 0..answers {
            net.send_pong(peer, first.hash);
        }
        net.run(DELAY);
        assert!(net.is_bonded(peer));
        assert_eq!(net.dropped(Dropped::Unsolicited), answers - 1, "it counts once");
        let hash = net.send_ping(peer);
        net.expect_pong(peer, hash);
        // So is the request of the command. When it has failed the bond is made anew, once.
        let (first, again) = (net.expect_enr_request(peer), net.expect_enr_request(peer));
        assert_eq!((&again.message, again.hash), (&first.message, first.hash));
        let ((_, first), (_, again)) = (net.expect_ping(peer), net.expect_ping(peer));
        assert_eq!(first.hash, again.hash);
        net.expect_nothing(peer, secs(2));
    }
}

#[test]
fn a_stranger_that_does_not_answer_its_ping_is_passed_over() {
    let (mut net, teller) = acquainted();
    let id = start_lookup(&mut net);
    net.expect_find(teller);
    let dead = contact(&key(500), addr("10.9.0.1:30303"));
    net.send_neighbors(teller, &[dead]);
    let report = report(&mut net, id);
    let steps: Vec<_> = report.trace.iter().map(|step| (step.contact, step.asked_at, step.ended_at)).collect();
    let asked = 2 * DELAY;
    assert_eq!(steps, [(net.peer_contact(teller), ms(0), 2 * asked), (dead, asked, asked + ms(300))]);
    // The PING goes on.
    assert_eq!(net.engine(0).under_way(), (1, 0, 0));
    net.run(secs(1));
}

#[test]
fn who_has_bonded_within_the_lookup_is_not_passed_over() {
    let (mut net, teller) = acquainted();
    let slow = net.peer(3, addr("10.0.0.3:30303"));
    let named = [net.peer_contact(slow)];
    let id = start_lookup(&mut net);
    net.expect_find(teller);
    net.send_neighbors(teller, &named);
    let (_, ping) = net.expect_ping(slow);
    net.send_pong(slow, ping.hash);
    let hash = net.send_ping(slow);
    net.expect_pong(slow, hash);
    let (_, asked) = net.expect_find(slow);
    let (_, ping) = net.expect_late_find(slow, &asked);
    assert_eq!(net.expect_ping(slow).1.hash, ping.hash, "it leaves that unanswered too");
    net.run((asked.at + ms(900)).since(net.now));
    net.send_neighbors(slow, &[]);
    let report = report(&mut net, id);
    assert!(report.closest.iter().any(|found| found.contact == named[0] && found.answered), "{:?}", report.closest);
    net.expect_nothing(slow, secs(1));
}

#[test]
fn a_ping_that_no_errand_waits_for_is_sent_once() {
    let mut net = Net::alone(passive());
    let peer = net.peer(2, addr(A));
    let id = net.command(0, Command::Ping(net.peer_contact(peer)));
    net.expect_ping(peer);
    net.expect_nothing(peer, secs(2));
    assert!(matches!(net.reply(0, id), Reply::Failed(_)));
}

#[test]
fn nothing_is_repeated_at_the_address_of_a_stranger_in_its_first_second() {
    let (mut net, peer) = acquainted();
    start_lookup(&mut net);
    net.expect_find(peer);
    // Somebody else pings from there while the answer is awaited.
    let ping = net.make_ping(addr(A));
    net.forge(&key(3), addr(A), addr("10.0.0.1:30303"), &ping);
    net.run(ms(900));
    assert_eq!(net.kinds(peer), [MessageKind::Ping, MessageKind::Pong]);
    net.run(secs(3));
    net.claim_all(peer);
}

#[test]
fn two_requests_for_one_record_are_told_apart() {
    let (mut net, peer) = acquainted();
    let content = RecordContent::default();
    let record = Record::sign(&net.peers[peer].key, 1, &content).unwrap().as_bytes().to_vec();
    let ids = [0; 2].map(|_| net.command(0, Command::RequestRecord(net.peer_contact(peer))));
    let (first, second) = (net.expect_enr_request(peer), net.expect_enr_request(peer));
    assert_ne!(first.hash, second.hash);
    for hash in [second.hash, first.hash] {
        let record = record.clone();
        net.send(peer, &Message::EnrResponse(EnrResponse { request_hash: hash, record: record.into() }));
    }
    for id in ids {
        assert!(matches!(net.reply(0, id), Reply::Record(_)));
    }
}
