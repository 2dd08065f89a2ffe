//! Bonds that lookups make on their way: how long they wait for whom, and who has forgotten us.

use super::lookups::far_peers;
use super::net::*;
use crate::proto::config::Config;
use crate::proto::contacts::Contacts;
use crate::proto::engine::{Command, CommandError, Dropped, Reply};
use crate::proto::identity::Contact;
use crate::proto::wire::MessageKind;

const A: &str = "10.0.0.2:30303";

/// An engine that does nothing of its own accord, and in whose table a bucket has one place.
fn bucket_of_one() -> Config {
    let mut config = passive();
    config.table.k = 1;
    config
}

#[test]
fn bonding_goes_on_as_soon_as_the_other_sides_ping_is_answered() {
    let mut net = Net::alone(passive());
    let peer = net.peer(2, addr(A));
    let begun = net.now;
    let id = net.command(0, Command::RequestRecord(net.peer_contact(peer)));
    let (_, ping) = net.expect_ping(peer);
    net.send_pong(peer, ping.hash);
    net.run(ms(3));
    let hash = net.send_ping(peer);
    net.expect_pong(peer, hash);
    let asked = net.expect_enr_request(peer);
    // PING, PONG, 3 ms later its PING, and the request behind our PONG: packets of one moment can lie 3 ms apart.
    assert_eq!(asked.at.since(begun), 3 * DELAY + ms(3) + 3 * ms(3));
    assert!(net.is_bonded(peer));

    // The same when its PING comes before its PONG.
    let other = net.peer(3, addr("10.0.0.3:30303"));
    let begun = net.now;
    net.command(0, Command::RequestRecord(net.peer_contact(other)));
    let (_, ping) = net.expect_ping(other);
    let hash = net.send_ping(other);
    net.send_pong(other, ping.hash);
    net.expect_pong(other, hash);
    // With no time between the two, the expected gap shrinks by a quarter.
    assert_eq!(net.expect_enr_request(other).at.since(begun), 3 * DELAY + 3 * ms(3) * 3 / 4);
    // Neither answers that. Our PONG may have been lost, so each is bonded with anew before it is given up.
    for silent in [peer, other] {
        net.expect_enr_request(silent);
        let ((_, first), (_, again)) = (net.expect_ping(silent), net.expect_ping(silent));
        assert_eq!(first.hash, again.hash);
    }
    assert!(matches!(net.reply(0, id), Reply::Failed(CommandError::Timeout)));
    net.run(secs(2));
}

/// An engine whose one place in the farthest bucket a peer has taken, for others to be named by.
fn with_teller() -> (Net, usize) {
    let mut net = Net::alone(bucket_of_one());
    let teller = net.peer(far_peers().next().unwrap(), addr(A));
    net.bond(teller);
    net.run(secs(1));
    (net, teller)
}

/// A lookup hears of a stranger that is so far away, and bonds with it.
fn bonded_within_a_lookup(net: &mut Net, teller: usize, n: u64, way: std::time::Duration) -> usize {
    let stranger = net.peer(n, addr(&format!("10.0.1.{n}:30303")));
    let (here, there) = (net.nodes[0].addr, net.peers[stranger].addr);
    net.delays.insert((here, there), way);
    net.delays.insert((there, here), way);
    let key = *net.peers[stranger].key.public_key();
    net.command(0, Command::Lookup { target: key, until_found: false, paths: None });
    net.expect_find(teller);
    let named = [net.peer_contact(stranger)];
    net.send_neighbors(teller, &named);
    let (_, ping) = net.expect_ping(stranger);
    net.send_pong(stranger, ping.hash);
    let hash = net.send_ping(stranger);
    net.expect_pong(stranger, hash);
    stranger
}

#[test]
fn after_a_bond_the_nodes_own_round_trip_says_when_it_is_late() {
    let (mut net, teller) = with_teller();
    // Those whose bucket is full are no members, and the mean of all is between the two.
    for (n, way) in far_peers().skip(1).zip([ms(24), ms(13)]) {
        let stranger = bonded_within_a_lookup(&mut net, teller, n, way);
        let (_, first) = net.expect_find(stranger);
        let (late, ping) = net.expect_late_find(stranger, &first);
        assert_eq!(late, 2 * 2 * way);
        net.send_pong(stranger, ping.hash);
        net.send_neighbors(stranger, &[]);
        net.run(secs(1));
    }
}

#[test]
fn the_rest_of_an_answer_is_waited_for_as_long_as_packets_of_one_moment_lie_apart() {
    let (mut net, teller) = with_teller();
    let n = far_peers().nth(1).unwrap();
    let stranger = bonded_within_a_lookup(&mut net, teller, n, ms(24));
    net.expect_find(stranger);
    net.send_neighbors(stranger, &[]);
    net.run(ms(24));
    // A sixteenth of a round trip of 48 ms is the first guess of the gap between two packets, and three times that is
    // below the shortest wait.
    net.run(ms(9));
    assert_eq!(net.engine(0).under_way().2, 1, "the rest may still come");
    net.run(ms(1));
    assert_eq!(net.engine(0).under_way().2, 0, "and not after a whole round trip");
}

#[test]
fn bonding_with_a_peer_that_remembers_us_takes_a_bounded_wait() {
    let mut net = Net::alone(passive());
    let peer = net.peer(2, addr(A));
    let begun = net.now;
    let id = net.command(0, Command::Lookup { target: target(1), until_found: false, paths: None });
    assert!(matches!(net.reply(0, id), Reply::Lookup(report) if report.closest.is_empty()), "nobody is known");
    net.ping_by_hand(peer);
    let begun_again = net.now;
    let id = net.command(0, Command::Lookup { target: target(1), until_found: false, paths: None });
    let (_, ping) = net.expect_ping(peer);
    net.send_pong(peer, ping.hash);
    let (_, find) = net.expect_find(peer);
    assert_eq!(find.at.since(begun_again), 3 * DELAY + 4 * DELAY, "it waits two round trips for the other's PING");
    net.send_neighbors(peer, &[]);
    net.reply(0, id);
    // It answered, so it does remember us: the next request needs no ceremony.
    let again = net.now;
    net.command(0, Command::Lookup { target: target(2), until_found: false, paths: None });
    let (_, find) = net.expect_find(peer);
    assert_eq!(find.at.since(again), DELAY);
    net.send_neighbors(peer, &[]);
    net.run(secs(1));
    assert!(begun < again);
}

#[test]
fn a_peer_that_forgot_us_is_bonded_again_within_the_lookup() {
    let mut net = Net::new(3);
    for n in 0..2 {
        net.add(n + 1, addr(&format!("10.0.0.{}:30303", n + 1)), passive());
    }
    let other = net.contact(1);
    net.ping(0, other);
    assert_eq!(net.lookup(0, target(1)).closest.len(), 1);
    net.stop(1);
    net.start(1);
    let report = net.lookup(0, target(1));
    assert_eq!(report.closest.iter().map(|found| (found.contact, found.answered)).collect::<Vec<_>>(), [(other, true)]);
    // When the answer is late it is pinged. Bonding, the answer, and the shortest wait for the rest. FINDNODE is a ninth of a
    // round trip behind the PONG.
    assert_eq!(report.took, ms(50) + 4 * DELAY + ms(10) + std::time::Duration::from_micros(2_812));
    // It was asked once more together with the PING.
    assert_eq!(net.nodes[1].dropped, [Dropped::Unproved; 2]);
}

#[test]
fn a_replacement_that_forgot_us_is_bonded_again_too() {
    let mut net = Net::alone(bucket_of_one());
    let mut far = far_peers();
    let peers = [2u8, 3].map(|at| net.peer(far.next().unwrap(), addr(&format!("10.0.0.{at}:30303"))));
    for peer in peers {
        net.bond(peer);
    }
    assert_eq!(net.engine(0).table().replacements().count(), 1);
    net.run(secs(1));
    let forgetful = peers[1];
    let begun = net.now;
    net.command(0, Command::RequestRecord(net.peer_contact(forgetful)));
    assert_eq!(net.expect_enr_request(forgetful).hash, net.expect_enr_request(forgetful).hash);
    let (_, ping) = net.expect_ping(forgetful);
    assert_eq!(ping.at.since(begun), secs(1) + DELAY);
    let hash = net.send_ping(forgetful);
    net.send_pong(forgetful, ping.hash);
    net.expect_pong(forgetful, hash);
    assert_eq!(net.expect_enr_request(forgetful).hash, net.expect_enr_request(forgetful).hash);
    net.run(secs(2));
}

/// What a first packet named is compared with what the second one does, though the lookup has dropped it meanwhile.
#[test]
fn what_an_answer_has_named_is_kept_until_it_is_complete() {
    let mut config = passive();
    config.lookup.max_candidates = 16;
    let mut net = Net::alone(config);
    let peers: Vec<usize> = (2..4).map(|n| net.peer(n, addr(&format!("10.0.0.{n}:30303")))).collect();
    peers.iter().for_each(|peer| net.bond(*peer));
    // Each is nearer to the target than all before, so that the first named are the first dropped.
    let wanted = target(1);
    let mut named: Vec<(u64, Contact)> =
        (100..200).map(|n| (n, contact(&key(n), addr(&format!("10.{n}.0.1:30303"))))).collect();
    named.sort_by_key(|(_, contact)| std::cmp::Reverse(wanted.node_id().distance(&contact.id())));
    let named: Vec<Contact> = named.into_iter().map(|(_, contact)| contact).collect();
    net.command(0, Command::Lookup { target: wanted, until_found: false, paths: None });
    for peer in &peers {
        net.expect_find(*peer);
    }
    net.send_neighbors(peers[0], &named[..12]);
    net.send_neighbors(peers[1], &named[12..24]);
    net.run(DELAY);
    let engine = net.nodes[0].engine.as_mut().unwrap();
    let mut live = engine.live();
    live.sort_unstable();
    engine.contacts.sweep(&live);
    // One of them is named again, and the others are news.
    net.send_neighbors(peers[0], &named[11..15]);
    net.run(DELAY);
    assert_eq!(net.engine(0).counters().received(MessageKind::Neighbors), 3);
    peers.iter().for_each(|peer| drop(net.claim_all(*peer)));
    net.run(secs(30));
    peers.iter().for_each(|peer| drop(net.claim_all(*peer)));
}

/// Our proof of it has run out, and a PING in its name may be anybody's.
#[test]
fn who_has_pinged_us_and_does_not_answer_is_asked_for_nothing() {
    let mut net = Net::alone(passive());
    let peer = net.peer(2, addr(A));
    net.bond(peer);
    net.run(secs(25 * 3600));
    net.claim_all(peer);
    let ping = net.send_ping(peer);
    net.expect_ping(peer);
    net.expect_pong(peer, ping);
    net.run(secs(2));
    net.claim_all(peer);
    let id = net.command(0, Command::RequestRecord(net.peer_contact(peer)));
    net.expect_ping(peer);
    net.run(secs(3));
    assert!(net.claim_all(peer).iter().all(|got| got.message.kind() == MessageKind::Ping));
    assert_eq!(net.reply(0, id), Reply::Failed(CommandError::Timeout));
}
