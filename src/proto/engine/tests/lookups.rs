//! Lookups and commands, in networks of engines and against hand-driven peers.

use super::net::*;
use crate::proto::config::Config;
use crate::proto::engine::{Command, CommandError, CommandId, Reply};
use crate::proto::identity::{Contact, NodeId};
use crate::proto::wire::MessageKind;

const A: &str = "10.0.0.2:30303";

/// Engines that join through the first of them, and some time to find one another.
fn joined(size: u64) -> Net {
    let mut net = Net::unsealed(7);
    for n in 0..size {
        net.add(n + 1, addr(&format!("10.0.{}.{}:30303", n / 250, n % 250 + 1)), Config::default());
        if n > 0 {
            let bootnode = net.contact(0);
            net.bootnode(n as usize, bootnode);
            net.run(ms(100));
        }
    }
    // In the end nobody is a stranger to anybody, so nobody is left in peace for a second when a lookup wants to ask it.
    net.run(secs(900));
    net
}

/// Peers that belong in the farthest bucket of the first engine.
pub(super) fn far_peers() -> impl Iterator<Item = u64> {
    (2..).filter(|n| key(1).id().log_distance(&key(*n).id()) == 256)
}

/// The live nodes nearest to a target, the asker left out.
pub(super) fn nearest(net: &Net, target: &NodeId, asker: usize, limit: usize) -> Vec<Contact> {
    let live = |at: &usize| *at != asker && net.nodes[*at].engine.is_some() && !net.nodes[*at].silenced;
    let mut contacts: Vec<Contact> = (0..net.nodes.len()).filter(live).map(|at| net.contact(at)).collect();
    contacts.sort_by_key(|contact| target.distance(&contact.id()));
    contacts.truncate(limit);
    contacts
}

#[test]
fn a_network_finds_itself_and_lookups_find_the_nearest() {
    let mut net = joined(60);
    for at in [0, 1, 30, 59] {
        assert!(net.engine(at).table().len() >= 30, "{} members", net.engine(at).table().len());
        for n in 0..5 {
            let report = net.lookup(at, target(n));
            let found: Vec<Contact> = report.closest.iter().map(|found| found.contact).collect();
            assert_eq!(found, nearest(&net, &target(n).node_id(), at, 16));
            assert!(report.closest.iter().all(|found| found.answered));
            // Some may be under way when the nearest have answered.
            assert!(report.trace.len() >= 16 && report.queries as usize >= report.trace.len());
            assert!(report.hops() <= Some(2), "{:?}", report.hops());
            // Sixteen answers, three at a time, and 20 ms for a round trip. Bonding takes another one, or three when the
            // other side remembers us and we wait for its PING in vain.
            assert!(report.took <= 6 * 4 * 2 * DELAY, "{:?}", report.took);
            let again = net.lookup(at, target(n));
            assert_eq!(again.closest.iter().map(|found| found.contact).collect::<Vec<_>>(), found);
            assert!(again.took <= 6 * 2 * DELAY, "{:?}", again.took);
        }
    }
}

#[test]
fn dead_nodes_hold_up_a_lookup_a_little_and_are_not_in_its_result() {
    let mut net = joined(60);
    for at in (0..60).filter(|at| at % 3 == 1) {
        net.nodes[at].silenced = true;
    }
    let answered = |report: &crate::proto::engine::LookupReport| -> Vec<Contact> {
        report.closest.iter().filter(|found| found.answered).map(|found| found.contact).collect()
    };
    // At first everybody still names the dead, in the place of some that live.
    for at in [0, 30] {
        for n in 0..3 {
            let report = net.lookup(at, target(n));
            let (found, best) = (answered(&report), nearest(&net, &target(n).node_id(), at, 20));
            assert!(found.len() >= 10 && found.iter().all(|contact| best.contains(contact)), "{}", found.len());
            assert!(report.took < secs(4), "{:?}", report.took);
        }
    }
    net.run(secs(600));
    for at in [0, 30] {
        for n in 0..3 {
            let report = net.lookup(at, target(n));
            assert_eq!(answered(&report), nearest(&net, &target(n).node_id(), at, 16));
            assert!(report.took < secs(1), "{:?}", report.took);
        }
    }
}

#[test]
fn lost_packets_do_not_spoil_a_network() {
    let mut net = joined(40);
    net.loss = 0.05;
    net.run(secs(300));
    for at in [0, 20] {
        for n in 0..5 {
            let report = net.lookup(at, target(n));
            let found = report.closest.iter().filter(|found| found.answered).map(|found| found.contact);
            let best = nearest(&net, &target(n).node_id(), at, 16);
            assert!(found.filter(|contact| best.contains(contact)).count() >= 14);
            assert!(report.took < secs(4), "{:?}", report.took);
        }
    }
}

#[test]
fn a_lookup_among_the_dead_ends() {
    let mut net = Net::alone(passive());
    let peer = net.peer(2, addr(A));
    net.bond(peer);
    let id = net.command(0, Command::Lookup { target: target(1), until_found: false, paths: None });
    net.expect_find(peer);
    let nodes: Vec<Contact> = (0..16).map(|n| contact(&key(500 + n), addr(&format!("10.9.0.{n}:30303")))).collect();
    net.send_neighbors(peer, &nodes[..12]);
    net.send_neighbors(peer, &nodes[12..]);
    let begun = net.now;
    let Reply::Lookup(report) = net.reply(0, id) else { panic!() };
    let found: Vec<_> = report.closest.iter().map(|found| (found.contact, found.answered, found.depth)).collect();
    assert_eq!(found, [(net.peer_contact(peer), true, 1)]);
    assert_eq!((report.queries, report.hops()), (17, Some(0)));
    // Three at a time, each late after some 100 ms and given up after one second.
    assert!(net.now.since(begun) < secs(3), "{:?}", report.took);
    let named: Vec<Option<u8>> = report.trace.iter().map(|step| step.named).collect();
    assert_eq!(named[0], Some(16));
    assert_eq!(named[1..], [None; 16]);

    // The time is bounded even so.
    let mut config = passive();
    config.lookup.max_time = ms(200);
    let mut net = Net::alone(config);
    let peer = net.peer(2, addr(A));
    net.bond(peer);
    net.deafen(peer, true);
    let begun = net.now;
    let id = net.command(0, Command::Lookup { target: target(1), until_found: false, paths: None });
    let Reply::Lookup(report) = net.reply(0, id) else { panic!() };
    assert_eq!((report.closest.len(), report.took, net.now.since(begun)), (1, ms(200), ms(200)));
    assert!(!report.closest[0].answered, "hearsay is marked as such");
    assert_eq!(net.engine(0).under_way().1, 0);
    net.run(secs(5));
}

/// Two members of the first engine, both asked by a lookup, of which the first does not answer, and the second only its
/// PING.
fn one_of_two_is_silent(net: &mut Net) -> ([usize; 2], CommandId) {
    let [silent, other] = [2u8, 3].map(|at| net.peer(at.into(), addr(&format!("10.0.0.{at}:30303"))));
    net.bond(silent);
    net.bond(other);
    net.run(secs(1));
    let id = net.command(0, Command::Lookup { target: target(1), until_found: false, paths: None });
    let (_, asked) = net.expect_find(silent);
    let (_, asked_too) = net.expect_find(other);
    let (late, ping) = net.expect_late_find(silent, &asked);
    let (_, answered) = net.expect_late_find(other, &asked_too);
    net.send_pong(other, answered.hash);
    let again = net.expect_ping(silent).1;
    // Both are late after the shortest time.
    assert_eq!((late, again.at.since(ping.at), again.hash), (ms(50), ms(50), ping.hash));
    ([silent, other], id)
}

#[test]
fn a_silent_node_is_passed_over_and_doubted() {
    let mut net = Net::alone(passive());
    let begun = net.now;
    let ([silent, other], id) = one_of_two_is_silent(&mut net);
    net.send_neighbors(other, &[]);
    let Reply::Lookup(report) = net.reply(0, id) else { panic!() };
    let found: Vec<_> = report.closest.iter().map(|found| (found.contact, found.answered)).collect();
    assert_eq!(found, [(net.peer_contact(other), true)]);
    // 300 ms after the PING, which was sent when the FINDNODE was late.
    assert_eq!(report.took, ms(50) + ms(300));
    let mut steps: Vec<_> = report.trace.iter().map(|step| (step.contact, step.ended_at, step.named)).collect();
    steps.sort_by_key(|step| step.1);
    assert_eq!(steps[1], (net.peer_contact(silent), report.took, None));
    // The PING goes on, and its failure is the first of those by which a member is lost.
    let fails = |net: &Net| net.engine(0).table().entries().map(|(_, entry)| entry.fails()).max();
    assert_eq!(fails(&net), Some(0));
    net.run(ms(1050) - ms(350));
    assert_eq!(fails(&net), Some(1));
    net.expect_ping(silent);
    assert!(net.now > begun && net.kinds(silent).is_empty());
}

#[test]
fn a_silent_node_counts_again_when_it_answers_before_the_lookup_has_ended() {
    for pong in [false, true] {
        let mut net = Net::alone(passive());
        let ([silent, other], id) = one_of_two_is_silent(&mut net);
        // The other one, which has answered its PING, keeps the lookup from its end.
        net.run(ms(400));
        if pong {
            let hash = net.send_ping(silent);
            net.expect_pong(silent, hash);
            // It has our proof now, and is asked anew; and that is waited for.
            net.expect_find(silent);
            net.send_neighbors(other, &[]);
            net.run(ms(350));
            assert_eq!(net.engine(0).under_way().2, 1);
        }
        net.send_neighbors(silent, &[]);
        if !pong {
            net.send_neighbors(other, &[]);
        }
        let Reply::Lookup(report) = net.reply(0, id) else { panic!() };
        assert_eq!(report.closest.iter().filter(|found| found.answered).count(), 2);
        net.run(secs(2));
        net.claim_all(silent);
    }
}

#[test]
fn where_nobody_answers_all_are_waited_for() {
    let mut net = Net::alone(passive());
    let peer = net.peer(2, addr(A));
    net.bond(peer);
    net.run(secs(1));
    net.deafen(peer, true);
    let id = net.command(0, Command::Lookup { target: target(1), until_found: false, paths: None });
    let Reply::Lookup(report) = net.reply(0, id) else { panic!() };
    // Until the FINDNODE has failed, and then the PING, which was sent when that was late.
    assert_eq!((report.closest.len(), report.took), (0, secs(1) + ms(50)));
}

#[test]
fn a_partial_answer_is_over_after_about_one_round_trip() {
    let mut net = Net::alone(passive());
    let peer = net.peer(2, addr(A));
    net.bond(peer);
    net.run(secs(1));
    for nodes in [0, 1, 12] {
        let nodes: Vec<Contact> = (0..nodes).map(|_| net.peer_contact(peer)).collect();
        let begun = net.now;
        let id = net.command(0, Command::Lookup { target: target(1), until_found: false, paths: None });
        net.expect_find(peer);
        net.send_neighbors(peer, &nodes);
        assert!(matches!(net.reply(0, id), Reply::Lookup(report) if report.trace[0].named == Some(nodes.len() as u8)));
        assert_eq!(net.now.since(begun), 2 * DELAY + 2 * DELAY, "the answer, and one round trip for the rest of it");
    }
    // A full answer is over at once.
    let [full, rest] = [vec![net.peer_contact(peer); 12], vec![net.contact(0); 4]];
    let begun = net.now;
    let id = net.command(0, Command::Lookup { target: target(1), until_found: false, paths: None });
    net.expect_find(peer);
    net.send_neighbors(peer, &full);
    net.send_neighbors(peer, &rest);
    assert!(matches!(net.reply(0, id), Reply::Lookup(report) if report.trace[0].named == Some(16)));
    assert_eq!(net.now.since(begun), 2 * DELAY);
}

#[test]
fn answers_are_not_mixed_up_when_two_lookups_ask_one_node() {
    let mut net = Net::alone(passive());
    let peer = net.peer(2, addr(A));
    net.bond(peer);
    net.run(secs(1));
    let dead = |n: u64| contact(&key(500 + n), addr(&format!("10.9.0.{n}:30303")));
    let ids: Vec<_> = (0..6)
        .map(|n| net.command(0, Command::Lookup { target: target(n), until_found: false, paths: None }))
        .collect();
    let begun = net.now;
    for n in 0..6u8 {
        let (find, _) = net.expect_find(peer);
        assert_eq!(find.target, target(n), "they take turns");
        net.send_neighbors(peer, &[dead(u64::from(n))]);
    }
    assert_eq!(net.now.since(begun), 5 * 4 * DELAY + DELAY);
    for (n, id) in ids.into_iter().enumerate() {
        let Reply::Lookup(report) = net.reply(0, id) else { panic!() };
        let asked: Vec<(Contact, Option<u8>)> = report.trace.iter().map(|step| (step.contact, step.named)).collect();
        assert_eq!(asked, [(net.peer_contact(peer), Some(1)), (dead(n as u64), None)]);
    }
}

#[test]
fn those_who_wait_their_turn_at_a_node_that_does_not_answer_fail_with_the_first() {
    let mut net = Net::alone(passive());
    let peer = net.peer(2, addr(A));
    net.bond(peer);
    net.run(secs(1));
    let begun = net.now;
    let ids: Vec<_> = (0..6)
        .map(|n| net.command(0, Command::Lookup { target: target(n), until_found: false, paths: None }))
        .collect();
    let (_, first) = net.expect_find(peer);
    let (late, ping) = net.expect_late_find(peer, &first);
    assert_eq!(late, ms(50));
    // It is there, and does not ping us, so it is not passed over.
    net.send_pong(peer, ping.hash);
    // It may have forgotten us all the same, so it is pinged; it answers that, and still no FINDNODE.
    let (_, ping) = net.expect_ping(peer);
    net.send_pong(peer, ping.hash);
    let (first, again) = (net.expect_find(peer).1, net.expect_find(peer).1);
    assert_eq!((again.at.since(first.at), again.message), (ms(50), first.message), "once more when it is late");
    for id in ids {
        assert!(matches!(net.reply(0, id), Reply::Lookup(report) if report.closest.is_empty()));
    }
    // Two timeouts, one round trip, and the wait for its PING.
    assert_eq!(net.now.since(begun), secs(2) + 2 * DELAY + 4 * DELAY);
    net.expect_nothing(peer, secs(1));
}

#[test]
fn a_lookup_until_found_ends_with_the_answer_of_the_node() {
    let mut net = joined(40);
    for wanted in [5, 25] {
        let id = net.command(
            0,
            Command::Lookup { target: *net.nodes[wanted].key.public_key(), until_found: true, paths: None },
        );
        let Reply::Lookup(report) = net.reply(0, id) else { panic!() };
        assert_eq!(report.closest[0].contact, net.contact(wanted));
        assert!(report.closest[0].answered);
        assert!(report.queries < 16, "{} queries", report.queries);
        assert_eq!(net.engine(0).under_way().1, 0, "what was under way is dropped");
    }
}

#[test]
fn a_node_that_is_looked_for_is_pinged_at_once_and_asked_for_nobody() {
    let mut config = passive();
    config.lookup.alpha = 1;
    let mut net = Net::alone(config);
    let wanted = net.peer(9, addr("10.0.0.9:30303"));
    let mut others = [2u8, 3].map(|at| net.peer(at.into(), addr(&format!("10.0.0.{at}:30303"))));
    others.sort_by_key(|other| key(9).id().distance(&net.peers[*other].key.id()));
    for other in others {
        net.bond(other);
    }
    net.run(secs(1));
    let begun = net.now;
    let id = net.command(0, Command::Lookup { target: *key(9).public_key(), until_found: true, paths: None });
    let (_, asked) = net.expect_find(others[0]);
    net.expect_late_find(others[0], &asked);
    // Since that one is late the other one is being asked, and is no reason to wait.
    net.expect_find(others[1]);
    let named = net.peer_contact(wanted);
    net.send_neighbors(others[0], &[named]);
    let (_, ping) = net.expect_ping(wanted);
    let hash = net.send_ping(wanted);
    net.send_pong(wanted, ping.hash);
    net.expect_pong(wanted, hash);
    let Reply::Lookup(report) = net.reply(0, id) else { panic!() };
    assert_eq!((report.closest[0].contact, report.closest[0].answered), (named, true));
    assert_eq!(ping.at.since(begun), ms(50) + 3 * DELAY);
    assert!(report.took < ms(50) + 5 * DELAY, "{:?}", report.took);
    net.expect_nothing(wanted, secs(2));
    for other in others {
        net.claim_all(other);
    }
}

#[test]
fn nobody_is_asked_on_an_address_family_that_the_socket_does_not_speak() {
    for (bound, pinged) in [("10.0.0.1:30303", false), ("[::]:30303", true)] {
        let mut net = Net::new(1);
        net.add(1, addr(bound), Config::default());
        let teller = net.peer(2, addr(A));
        let far = contact(&key(3), addr("[2a00::3]:30303"));
        let result = net.input(0, |engine, now| engine.add_bootnode(now, &far));
        assert_eq!(result, if pinged { Ok(()) } else { Err(CommandError::OtherFamily) });
        net.bond(teller);
        net.expect_find(teller);
        let other = contact(&key(4), addr("[2a00:0:0:1::4]:30303"));
        net.send_neighbors(teller, &[far, other]);
        net.run(secs(2));
        let pings: Vec<_> = net.nodes[0].sent.iter().filter(|(_, to, _)| to.is_ipv6()).map(|(_, to, _)| *to).collect();
        for contact in [far, other] {
            assert_eq!(pings.contains(&contact.endpoint.udp_addr()), pinged);
        }
        net.claim_all(teller);
    }
}

#[test]
fn commands_and_their_failures() {
    let mut config = passive();
    config.lookup.max_lookups = 2;
    let mut net = Net::alone(config);
    let peer = net.peer(2, addr(A));
    let failure = |net: &mut Net, command: Command| {
        let id = net.command(0, command);
        match net.reply(0, id) {
            Reply::Failed(error) => error,
            other => panic!("{other:?}"),
        }
    };
    let itself = net.contact(0);
    assert_eq!(failure(&mut net, Command::Ping(itself)), CommandError::Itself);
    assert_eq!(failure(&mut net, Command::RequestRecord(itself)), CommandError::Itself);
    for place in ["10.0.0.9:0", "0.0.0.0:9", "224.0.0.1:9", "255.255.255.255:9", "[::]:9", "[ff02::1]:9"] {
        let nowhere = contact(&key(9), addr(place));
        assert_eq!(failure(&mut net, Command::Ping(nowhere)), CommandError::Unreachable);
        assert_eq!(failure(&mut net, Command::RequestRecord(nowhere)), CommandError::Unreachable);
    }
    let begun = net.now;
    let silent = contact(&key(9), addr("10.0.0.9:30303"));
    assert_eq!(failure(&mut net, Command::Ping(silent)), CommandError::Timeout);
    assert_eq!(net.now.since(begun), secs(1));
    assert_eq!(failure(&mut net, Command::RequestRecord(silent)), CommandError::Timeout);
    assert_eq!(net.now.since(begun), secs(2), "nothing is asked of a node that does not answer a PING");

    // Two commands share one PING.
    let ids = [0, 1].map(|_| net.command(0, Command::Ping(net.peer_contact(peer))));
    let (_, ping) = net.expect_ping(peer);
    net.send_pong(peer, ping.hash);
    for id in ids {
        let Reply::Ping(pinged) = net.reply(0, id) else { panic!() };
        assert_eq!((pinged.contact, pinged.rtt, pinged.enr_seq), (net.peer_contact(peer), 2 * DELAY, None));
        assert_eq!(pinged.our_address, Some(addr("10.0.0.1:1").ip()));
    }
    // As many lookups as may be.
    let lookups: Vec<_> = (0..2)
        .map(|n| net.command(0, Command::Lookup { target: target(n), until_found: false, paths: None }))
        .collect();
    assert_eq!(
        failure(&mut net, Command::Lookup { target: target(3), until_found: false, paths: None }),
        CommandError::Busy
    );
    net.deafen(peer, true);
    for id in lookups {
        assert!(matches!(net.reply(0, id), Reply::Lookup(_)));
    }
    let id = net.command(0, Command::Lookup { target: target(3), until_found: false, paths: None });
    assert!(matches!(net.reply(0, id), Reply::Lookup(_)), "there is room again");
    // Other keys at one address: four requests at a time.
    let ids: Vec<_> =
        (0..5).map(|n| net.command(0, Command::Ping(contact(&key(50 + n), addr("10.0.0.50:30303"))))).collect();
    assert_eq!(net.reply(0, ids[4]), Reply::Failed(CommandError::Busy));
    assert_eq!(net.reply(0, ids[0]), Reply::Failed(CommandError::Timeout));
}

#[test]
fn a_record_is_asked_for_after_bonding() {
    let mut net = Net::new(3);
    for n in 0..2 {
        net.add(n + 1, addr(&format!("10.0.0.{}:30303", n + 1)), passive());
    }
    let id = net.command(0, Command::RequestRecord(net.contact(1)));
    assert!(matches!(net.reply(0, id), Reply::Record(record) if record == *net.engine(1).local_record().unwrap()));
    let kinds: Vec<MessageKind> = net.nodes[0].sent.iter().map(|(.., kind)| *kind).collect();
    assert_eq!(kinds, [MessageKind::Ping, MessageKind::Pong, MessageKind::EnrRequest]);
    assert_eq!(net.nodes[1].dropped, []);
}
