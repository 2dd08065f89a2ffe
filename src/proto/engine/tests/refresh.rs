//! Refreshes: whom they ask, whom they take in, how often they come, and that they mend a network.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::net::*;
use super::peers::crowded_bucket;
use super::upkeep::pings;
use crate::proto::config::Config;
use crate::proto::engine::{Command, Event, Origin};
use crate::proto::identity::{Contact, NodeId, PublicKey};
use crate::proto::time::Time;

#[test]
fn a_node_that_died_and_came_back_is_found_again() {
    let mut net = small_network(12);
    net.stop(5);
    let gone = net.contact(5);
    net.run(secs(600));
    for at in (0..12).filter(|at| *at != 5) {
        assert!(!net.is_member(at, &gone));
    }
    net.start(5);
    let bootnode = net.contact(0);
    net.bootnode(5, bootnode);
    net.run(secs(120));
    assert_all_know_all(&net, 0..12);
}

fn small_network(size: u64) -> Net {
    let mut net = Net::unsealed(11);
    for n in 0..size {
        net.add(n + 1, addr(&format!("10.0.0.{}:30303", n + 1)), Config::default());
        if n > 0 {
            let bootnode = net.contact(0);
            net.bootnode(n as usize, bootnode);
        }
    }
    net.run(secs(900));
    assert_all_know_all(&net, 0..size as usize);
    net
}

fn assert_all_know_all(net: &Net, nodes: std::ops::Range<usize>) {
    for at in nodes.clone() {
        for other in nodes.clone().filter(|other| *other != at) {
            assert!(net.is_member(at, &net.contact(other)), "{at} does not know {other}");
        }
    }
}

#[test]
fn the_halves_of_a_split_network_find_each_other_again() {
    // Through the bootnode that all of them know, or through former members when it is gone for good.
    for bootnode in [true, false] {
        let mut net = small_network(12);
        if !bootnode {
            net.stop(0);
        }
        let alive = usize::from(!bootnode)..12;
        let half = |addr: std::net::SocketAddr| match addr.ip() {
            std::net::IpAddr::V4(ip) => ip.octets()[3] <= 6,
            std::net::IpAddr::V6(_) => unreachable!(),
        };
        net.cut = Some(Box::new(move |from, to| half(from) != half(to)));
        net.run(secs(2 * 3600));
        for at in alive.clone() {
            for other in alive.clone().filter(|other| (*other < 6) != (at < 6)) {
                assert!(!net.is_member(at, &net.contact(other)), "the halves have dropped each other");
            }
        }
        net.cut = None;
        net.run(secs(600));
        assert_all_know_all(&net, alive);
    }
}

const A: &str = "10.0.0.2:30303";

fn added(event: &Event) -> Option<Contact> {
    match event {
        Event::NodeAdded(contact) => Some(*contact),
        _ => None,
    }
}

/// Has all peers answer for a time; see [`Net::answer_inboxes`].
fn answer_all(net: &mut Net, time: Duration, mut named: impl FnMut(&Net, usize, PublicKey) -> Vec<usize>) {
    let end = net.now + time;
    while net.step(end) {
        net.answer_inboxes(&mut named);
    }
}

#[test]
fn a_refresh_asks_two_and_takes_in_whom_they_know_nearest_to_the_target() {
    // A table of one, and room in all other buckets.
    let mut config = Config::default();
    config.table.k = 1;
    config.refresh.min = secs(3600);
    let mut net = Net::alone(config);
    let own = key(1);
    let teller = net.peer(2, addr(A));
    let strangers: Vec<usize> = (0..40).map(|n| net.peer(100 + n, addr(&format!("10.1.0.{n}:30303")))).collect();
    net.bond(teller);
    let (mut way, mut asked) = (None, Vec::new());
    answer_all(&mut net, secs(5), |net, peer, target| {
        if way.is_none() && target != *own.public_key() {
            let id = |peer: usize| net.peers[peer].key.id();
            let bucket = |peer: usize| own.id().log_distance(&id(peer));
            let distance = |peer: usize| target.node_id().distance(&id(peer));
            let mut near: Vec<usize> = strangers.iter().copied().filter(|s| bucket(*s) != bucket(teller)).collect();
            near.sort_by_key(|stranger| distance(*stranger));
            let nearest = near[0];
            let on_the_way =
                near.into_iter().find(|s| bucket(*s) != bucket(nearest) && distance(*s) < distance(teller));
            way = on_the_way.map(|on_the_way| (target, on_the_way, nearest));
        }
        match way {
            Some((sought, on_the_way, nearest)) if sought == target => {
                asked.push(peer);
                vec![if peer == teller { on_the_way } else { nearest }]
            }
            _ => vec![],
        }
    });
    let (_, on_the_way, nearest) = way.expect("one of the targets has two strangers near it");
    assert_eq!(asked, [teller, on_the_way]);
    assert!(net.is_member(0, &net.peer_contact(nearest)));
    // It has proved itself, and there is room for it; but it was only asked on the way.
    assert!(net.is_bonded(on_the_way) && !net.is_member(0, &net.peer_contact(on_the_way)));

    // The next refresh looks for whom it knows to belong into an empty place, and tries whom others name as well.
    let contact = net.peer_contact(on_the_way);
    let mut sought = 0;
    answer_all(&mut net, secs(3700), |_, _, target| {
        sought += usize::from(target == contact.key);
        if target == contact.key { vec![on_the_way] } else { vec![] }
    });
    assert_eq!(sought, 1, "it is asked for in each refresh until it is a member, and nobody is nearer than it");
    assert!(net.is_member(0, &contact));
}

#[test]
fn in_an_empty_table_whoever_was_asked_on_the_way_is_welcome() {
    for last_one_stays in [true, false] {
        let mut config = Config::default();
        config.table.max_fails = 1;
        let mut net = Net::alone(config);
        let (member, other) = (net.peer(2, addr(A)), net.peer(3, addr("10.0.0.3:30303")));
        net.bond(member);
        // A refresh has come to the other one by the time that the only member is given up.
        while net.expect_find(member).0.target == *key(1).public_key() {
            net.send_neighbors(member, &[]);
        }
        let ping = net.command(0, Command::Ping(net.peer_contact(member)));
        let (_, check) = net.expect_ping(member);
        net.run(ms(800));
        let named = [net.peer_contact(other)];
        net.send_neighbors(member, &named);
        let (_, asked) = net.expect_ping(other);
        if last_one_stays {
            net.send_pong(member, check.hash);
        }
        net.reply(0, ping);
        assert_eq!(net.engine(0).table().len(), usize::from(last_one_stays));
        net.send_pong(other, asked.hash);
        net.run(DELAY);
        assert_eq!((net.is_bonded(other), net.is_member(0, &named[0])), (true, !last_one_stays));
        net.claim_all(member);
        net.claim_all(other);
    }
}

#[test]
fn a_young_table_looks_for_others_in_the_places_of_those_it_met_first() {
    // One in each of the nine farthest buckets, so that hardly any place lacks somebody.
    let own = key(1);
    let place = |id: &NodeId| (own.id().log_distance(id), own.id().distance(id).subrange());
    let in_bucket = |log| (2..).find(|n| own.id().log_distance(&key(*n).id()) == log).unwrap();
    let mut met: Vec<u64> = (248..=256).map(in_bucket).collect();
    let home = place(&key(met[8]).id());
    let mut at_home: Vec<u64> = (2..).filter(|n| place(&key(*n).id()) == home).take(13).collect();
    for (age, young) in [(0, true), (20 * 60, false)] {
        let mut config = Config::default();
        config.table.k = 1;
        let mut net = Net::alone(config);
        // It has met the one that comes last in the order of the table.
        at_home.sort_by_key(|n| std::cmp::Reverse(net.engine(0).table().rank(&key(*n).id())));
        met[8] = at_home[0];
        let peers: Vec<usize> = (1..)
            .zip(met.iter().chain(&at_home[1..]))
            .map(|(at, n)| net.peer(*n, addr(&format!("10.0.2.{at}:30303"))))
            .collect();
        for peer in &peers {
            net.bond(*peer);
        }
        answer_all(&mut net, secs(age), |_, _, _| vec![]);
        let keys: Vec<PublicKey> = met.iter().map(|n| *key(*n).public_key()).collect();
        let mut sought = 0;
        answer_all(&mut net, secs(1900), |_, _, target| {
            sought += usize::from(keys.contains(&target));
            if place(&target.node_id()).0 == home.0 { peers[9..].to_vec() } else { vec![] }
        });
        let rank = |id: &NodeId| net.engine(0).table().rank(id);
        let added = net.nodes[0].events.iter().filter_map(|(_, event)| added(event).map(|contact| contact.id()));
        let ranks: Vec<u64> = added.filter(|id| place(id) == home).map(|id| rank(&id)).collect();
        assert_eq!(ranks[0], rank(&key(met[8]).id()));
        assert!(ranks.windows(2).all(|pair| pair[1] < pair[0]), "each comes before the one that yields: {ranks:?}");
        assert_eq!((ranks.len() > 1, sought > 0), (young, young), "{sought} requests, {} members", ranks.len());
    }
}

/// The targets of each refresh, where these are ten seconds apart.
fn targets_of_refreshes(net: &Net) -> Vec<Vec<NodeId>> {
    let mut refreshes: Vec<Vec<NodeId>> = Vec::new();
    let mut last = Time::ZERO;
    for (at, event) in &net.nodes[0].events {
        if let Event::LookupFinished { origin: Origin::Refresh, target, .. } = event {
            if at.since(last) > secs(5) {
                refreshes.push(Vec::new());
            }
            last = *at;
            refreshes.last_mut().unwrap().push(*target);
        }
    }
    refreshes
}

/// Buckets of two, and a refresh each ten seconds.
fn quick_refreshes() -> Config {
    let mut config = Config::default();
    config.table.k = 2;
    config.refresh.min = secs(10);
    config.refresh.max_room = secs(10);
    config
}

#[test]
fn whoever_pings_with_many_keys_decides_on_half_of_the_targets() {
    let mut net = Net::alone(quick_refreshes());
    let [first, second, _] = crowded_bucket(&mut net);
    let place = |n: u64| (key(1).id().log_distance(&key(n).id()), key(1).id().distance(&key(n).id()).subrange());
    let home = key(1).id().distance(&net.peers[first].key.id()).subrange();
    let in_each =
        (0..16).filter(|sixteenth| *sixteenth != home).map(|s| (200..).find(|n| place(*n) == (256, s)).unwrap());
    let strangers: Vec<usize> =
        (0..).zip(in_each).map(|(at, n)| net.peer(n, addr(&format!("10.1.0.{at}:30303")))).collect();
    for peer in [first, second].iter().chain(&strangers) {
        net.bond(*peer);
    }
    assert_eq!(net.engine(0).table().len(), 2);
    answer_all(&mut net, secs(120), |_, _, _| vec![]);
    let of_strangers: Vec<NodeId> = strangers.iter().map(|peer| net.peers[*peer].key.id()).collect();
    let refreshes = targets_of_refreshes(&net);
    assert!(refreshes.len() >= 10);
    for targets in refreshes {
        let of_them = targets.iter().filter(|target| of_strangers.contains(target)).count();
        assert_eq!((targets.len(), of_them), (8, 4));
    }
}

#[test]
fn each_target_of_a_refresh_is_in_another_place() {
    let own = key(1).id();
    let place = |id: &NodeId| (own.log_distance(id), own.distance(id).subrange());
    let mut net = Net::alone(quick_refreshes());
    // Two members in each of the far buckets, so that hardly any place lacks somebody: in the nearest two of those both
    // are of one sixteenth, in the others of different ones.
    let mut peers = Vec::new();
    for log in 249..=256 {
        let first = (2..).find(|n| own.log_distance(&key(*n).id()) == log).unwrap();
        let (_, home) = place(&key(first).id());
        let fits = |n: &u64| {
            let (bucket, sixteenth) = place(&key(*n).id());
            bucket == log && (sixteenth == home) == (log < 251)
        };
        let second = (first + 1..).find(fits).unwrap();
        peers.extend([first, second].map(|n| net.peer(n, addr(&format!("10.0.{}.{}:30303", log - 240, n % 250)))));
    }
    for peer in peers {
        net.bond(peer);
    }
    assert_eq!(net.engine(0).table().len(), 16);
    answer_all(&mut net, secs(300), |_, _, _| vec![]);
    let refreshes = targets_of_refreshes(&net);
    assert!(refreshes.len() >= 25);
    for targets in refreshes {
        let places: BTreeSet<(u16, u8)> = targets.iter().map(place).collect();
        assert_eq!((targets.len(), places.len()), (8, 8), "{targets:?}");
    }
}

#[test]
fn who_has_waited_is_not_tried_when_another_has_filled_the_empty_sixteenth() {
    let mut config = quick_refreshes();
    config.lookup.max_queries = 1;
    let mut net = Net::alone(config);
    let [first, second, other] = crowded_bucket(&mut net);
    let place = |n: u64| (key(1).id().log_distance(&key(n).id()), key(1).id().distance(&key(n).id()).subrange());
    let empty = key(1).id().distance(&net.peers[other].key.id()).subrange();
    let mut hints: Vec<u64> = (200..).filter(|n| place(*n) == (256, empty)).take(2).collect();
    // The one that waits would come before the other in the order of the table.
    hints.sort_by_key(|n| Reverse(net.engine(0).table().rank(&key(*n).id())));
    let hints: Vec<usize> = (0..).zip(hints).map(|(at, n)| net.peer(n, addr(&format!("10.1.0.{at}:30303")))).collect();
    net.bond(first);
    net.bond(second);
    net.command(0, Command::Lookup { target: target(1), until_found: false, paths: None });
    answer_all(&mut net, secs(60), |_, _, sought| if sought == target(1) { hints.clone() } else { vec![] });
    let contacts = hints.iter().map(|peer| net.peer_contact(*peer));
    let pinged: Vec<bool> = contacts.clone().map(|contact| !pings(&net, contact).is_empty()).collect();
    let members: Vec<bool> = contacts.map(|contact| net.is_member(0, &contact)).collect();
    assert_eq!((pinged, members), (vec![true, false], vec![true, false]));
}

#[test]
fn of_those_nearest_to_a_target_the_first_in_order_is_tried_first() {
    let mut config = Config::default();
    config.table.k = 2;
    config.refresh.min = secs(3600);
    let mut net = Net::alone(config);
    let own = key(1).id();
    let place = |id: NodeId| (own.log_distance(&id), own.distance(&id).subrange());
    let teller = (2..100).find(|n| own.log_distance(&key(*n).id()) == 255).unwrap();
    let teller = net.peer(teller, addr(A));
    let strangers: Vec<usize> = (0..80).map(|n| net.peer(100 + n, addr(&format!("10.1.0.{n}:30303")))).collect();
    net.bond(teller);
    let mut two = None;
    answer_all(&mut net, secs(5), |net, peer, target| {
        let id = |peer: &usize| net.peers[*peer].key.id();
        let sought = target.node_id();
        if two.is_none() && place(sought).0 != place(id(&teller)).0 {
            let mut near: Vec<usize> = strangers.iter().copied().filter(|s| place(id(s)) == place(sought)).collect();
            near.sort_by_key(|stranger| sought.distance(&id(stranger)));
            let rank = |peer: &usize| net.engine(0).table().rank(&id(peer));
            two = near
                .windows(2)
                .next()
                .filter(|two| rank(&two[1]) < rank(&two[0]))
                .map(|two| (target, [two[0], two[1]]));
        }
        match two {
            Some((sought, two)) if sought == target && peer == teller => two.to_vec(),
            // All that an answer can hold, so that the lookup ends at once and does not ask the other one.
            Some((sought, _)) if sought == target => vec![teller, peer],
            _ => vec![],
        }
    });
    let (_, [nearer, farther]) = two.expect("one of the targets has two strangers near it");
    let added: Vec<Contact> = net.nodes[0].events.iter().filter_map(|(_, event)| added(event)).collect();
    assert_eq!(added, [teller, farther, nearer].map(|peer| net.peer_contact(peer)));
}

#[test]
fn a_refresh_looks_for_nobody_who_was_lost_or_would_be_refused() {
    let mut net = Net::alone(Config::default());
    let own = key(1);
    let in_bucket = |log, count| -> Vec<u64> {
        (2..).filter(|n| own.id().log_distance(&key(*n).id()) == log).take(count).collect()
    };
    let lost = net.peer(in_bucket(255, 1)[0], addr("10.0.0.2:30303"));
    // A bucket takes in two of one /24.
    let of_a_network: Vec<usize> =
        (1..).zip(in_bucket(256, 3)).map(|(at, n)| net.peer(n, addr(&format!("20.0.0.{at}:30303")))).collect();
    for peer in of_a_network.iter().chain([&lost]) {
        net.bond(*peer);
    }
    net.deafen(lost, true);
    let mut targets = Vec::new();
    answer_all(&mut net, secs(600), |_, _, target| {
        targets.push(target);
        vec![]
    });
    let contacts = [of_a_network[1], of_a_network[2], lost].map(|peer| net.peer_contact(peer));
    assert_eq!(contacts.map(|contact| net.is_member(0, &contact)), [true, false, false]);
    assert!(net.is_bonded(of_a_network[2]));
    assert!(targets.len() > 100 && targets.iter().all(|target| contacts.iter().all(|contact| contact.key != *target)));
    // Once it has answered again there is a place for it, and no reason to look for it.
    net.deafen(lost, false);
    net.bond(lost);
    assert!(net.is_member(0, &contacts[2]));
}

#[test]
fn refreshes_become_rare_when_nothing_is_gained() {
    let mut net = small_network(6);
    net.nodes.iter_mut().for_each(|node| node.events.clear());
    net.run(secs(3600));
    let refreshes = |net: &Net| {
        let events = net.nodes[0].events.iter();
        let refresh = |event: &Event| matches!(event, Event::LookupFinished { origin: Origin::Itself, .. });
        events.filter(|(_, event)| refresh(event)).map(|(at, _)| *at).collect::<Vec<Time>>()
    };
    let times = refreshes(&net);
    for pair in times.windows(2) {
        let gap = pair[1].since(pair[0]);
        assert!(secs(105) <= gap && gap <= secs(121), "{gap:?}: two minutes, or up to an eighth less");
    }
    assert!(times.len() >= 29);
    // A new member makes the next one come soon, and after that they thin out again.
    net.add(77, addr("10.0.0.77:30303"), Config::default());
    let bootnode = net.contact(0);
    net.bootnode(6, bootnode);
    let from = net.now;
    net.run(secs(300));
    let gaps: Vec<_> = refreshes(&net).into_iter().filter(|at| *at > from).collect();
    let gaps: Vec<_> = gaps.windows(2).map(|pair| pair[1].since(pair[0])).collect();
    // A second, and the time that the lookups take, one request at a time.
    assert!(gaps[0] <= ms(1500), "{gaps:?}");
    assert!(gaps.windows(2).all(|pair| pair[1] > pair[0]), "{gaps:?}");
}

#[test]
fn whoever_pings_with_many_keys_decides_on_half_of_the_targets_at_most() {
    // Buckets of two: the far ones full and diverse, so that they lack nobody, and in the next both of one sixteenth.
    let own = key(1);
    let mut by_bucket = BTreeMap::<u16, Vec<(u8, u64)>>::new();
    for n in 2..12_000 {
        let distance = own.id().distance(&key(n).id());
        by_bucket.entry(distance.log()).or_default().push((distance.subrange(), n));
    }
    let pair = |log: u16, same: bool| {
        let (first, others) = by_bucket[&log].split_first().unwrap();
        [first.1, others.iter().find(|(at, _)| (*at == first.0) == same).unwrap().1]
    };
    let honest: Vec<u64> = (251..=256).flat_map(|log| pair(log, false)).chain(pair(250, true)).collect();
    // Somebody has keys for all the other places of that bucket.
    let home = own.id().distance(&key(pair(250, true)[0]).id()).subrange();
    let crowd: Vec<u64> = by_bucket[&250].iter().filter(|(at, _)| *at != home).map(|(_, n)| *n).take(60).collect();
    for sample_for in [secs(36_000), secs(1)] {
        let mut config = Config::default();
        config.table.k = 2;
        config.table.settled_age = secs(36_000);
        config.refresh.min = secs(3600);
        config.refresh.max_room = secs(3600);
        config.refresh.sample_for = sample_for;
        config.alarms.sybils = false;
        let mut net = Net::alone(config);
        for (at, n) in (0..).zip(honest.iter().chain(&crowd)) {
            let peer = net.peer(*n, addr(&format!("10.0.2.{at}:30303")));
            net.bond(peer);
            answer_all(&mut net, ms(1), |_, _, _| vec![]);
        }
        answer_all(&mut net, secs(1000), |_, _, _| vec![]);
        net.nodes[0].events.clear();
        answer_all(&mut net, secs(3650), |_, _, _| vec![]);
        let targets = net.nodes[0].events.iter().filter_map(|(_, event)| match event {
            Event::LookupFinished { origin: Origin::Refresh, target, .. } => Some(*target),
            _ => None,
        });
        let targets: Vec<NodeId> = targets.collect();
        let theirs = targets.iter().filter(|target| crowd.iter().any(|n| key(*n).id() == **target)).count();
        assert_eq!((theirs, targets.len()), (4, 8));
    }
}
