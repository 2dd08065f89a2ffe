//! Former members: one is tried now and then, and all of them when one is back.

use std::time::Duration;

use super::net::*;
use super::upkeep::pings;
use crate::proto::config::Config;
use crate::proto::engine::{Event, Origin, Removal};
use crate::proto::identity::Contact;
use crate::proto::time::Time;
use crate::proto::wire::MessageKind;

/// Lets time pass while some peers answer all that they are asked, knowing nobody.
fn live_on(net: &mut Net, duration: Duration, peers: &[usize]) {
    let end = net.now + duration;
    while net.now < end {
        net.run(ms(100).min(end.since(net.now)));
        for &peer in peers {
            for got in net.claim_all(peer) {
                match got.message.kind() {
                    MessageKind::Ping => drop(net.send_pong(peer, got.hash)),
                    MessageKind::FindNode => drop(net.send_neighbors(peer, &[])),
                    _ => {}
                }
            }
        }
    }
}

/// The PINGs to some nodes from a time on, in order.
fn pings_since(net: &Net, nodes: &[Contact], since: Time) -> Vec<Time> {
    let mut times: Vec<Time> = nodes.iter().flat_map(|node| pings(net, *node)).filter(|at| *at >= since).collect();
    times.sort_unstable();
    times
}

/// Asserts that times follow one another with waits that double up to ten minutes, each up to an eighth shorter.
fn assert_doubling(times: &[Time], from: Time, mut wait: Duration) {
    let mut last = from;
    for at in times {
        let gap = at.since(last);
        assert!(wait * 7 / 8 <= gap && gap <= wait + ms(1), "{gap:?} where {wait:?} was due");
        last = *at;
        wait = (wait * 2).min(secs(600));
    }
}

/// An engine with one peer that stays, and five that were members for long and fell silent together. Tells the peers, and
/// when the last of them was given up.
fn five_lost() -> (Net, usize, [usize; 5], Time) {
    let mut net = Net::alone(Config::default());
    let stays = net.peer(2, addr("10.0.0.2:30303"));
    let lost = [3u8, 4, 5, 6, 7].map(|n| net.peer(n.into(), addr(&format!("10.0.0.{n}:30303"))));
    let all: Vec<usize> = std::iter::once(stays).chain(lost).collect();
    for &peer in &all {
        net.bond(peer);
    }
    live_on(&mut net, secs(200), &all);
    assert_eq!(net.engine(0).table().len(), 6);
    for peer in lost {
        net.deafen(peer, true);
    }
    while net.engine(0).table().len() > 1 {
        live_on(&mut net, ms(100), &[stays]);
    }
    let dead = net.nodes[0].events.iter().filter(|(_, event)| matches!(event, Event::NodeRemoved(_, Removal::Dead)));
    let last = dead.map(|(at, _)| *at).max().unwrap();
    (net, stays, lost, last)
}

#[test]
fn the_dead_are_tried_one_at_a_time_and_ever_more_rarely() {
    let (mut net, stays, lost, begun) = five_lost();
    let nodes = lost.map(|peer| net.peer_contact(peer));
    live_on(&mut net, secs(3 * 3600), &[stays]);
    let times = pings_since(&net, &nodes, begun + ms(1));
    assert!(times[0].since(begun) <= secs(30), "the first within half a minute");
    assert_doubling(&times[1..], times[0], secs(60));
    assert!((20..30).contains(&times.len()), "{} PINGs", times.len());
    // They take turns.
    for node in nodes {
        let of_it = pings_since(&net, &[node], begun + ms(1));
        assert!((4..=6).contains(&of_it.len()), "{} PINGs", of_it.len());
    }
}

#[test]
fn when_one_is_back_all_others_are_tried_at_once() {
    for all_back in [false, true] {
        let (mut net, stays, lost, _) = five_lost();
        let (back, others) = (lost[0], &lost[1..]);
        let nodes: Vec<Contact> = others.iter().map(|&peer| net.peer_contact(peer)).collect();
        // The waits have grown to ten minutes, and one has just been tried.
        live_on(&mut net, secs(7200), &[stays]);
        let before = pings_since(&net, &nodes, Time::ZERO).len();
        while pings_since(&net, &nodes, Time::ZERO).len() == before {
            live_on(&mut net, ms(100), &[stays]);
        }
        live_on(&mut net, secs(5), &[stays]);
        for &peer in others {
            net.deafen(peer, !all_back);
        }
        net.deafen(back, false);
        net.bond(back);
        let begun = net.now;
        let alive: Vec<usize> = if all_back { [&[stays][..], &lost].concat() } else { vec![stays, back] };
        live_on(&mut net, secs(5), &alive);
        // Three at once, and the fourth a little later.
        let first = |node: &Contact| pings_since(&net, &[*node], begun)[0].since(begun);
        let mut times: Vec<Duration> = nodes.iter().map(first).collect();
        times.sort_unstable();
        assert_eq!(times[..3], [ms(1); 3]);
        assert!(ms(175) <= times[3] - ms(1) && times[3] - ms(1) <= ms(200), "{times:?}");
        for node in &nodes {
            assert_eq!(net.is_member(0, node), all_back);
        }
        assert!(net.is_member(0, &net.peer_contact(back)));
        let refreshed = net.nodes[0]
            .events
            .iter()
            .any(|(at, event)| *at > begun && matches!(event, Event::LookupFinished { origin: Origin::Itself, .. }));
        assert!(refreshed, "and it looks around again");
        if all_back {
            continue;
        }
        // From there the waits begin anew, and nobody is pinged twice in quick succession.
        live_on(&mut net, secs(3600), &alive);
        let times = pings_since(&net, &nodes, begun);
        assert_doubling(&times[4..], times[3], secs(30));
        assert!(times.len() > 8);
        for node in &nodes {
            let of_it = pings_since(&net, &[*node], begun);
            assert!(of_it.windows(2).all(|pair| pair[1].since(pair[0]) >= secs(26)), "{of_it:?}");
        }
    }
}

#[test]
fn who_was_a_member_for_less_than_a_minute_is_forgotten() {
    let mut net = Net::alone(Config::default());
    let [stays, brief] = [2u8, 3].map(|n| net.peer(n.into(), addr(&format!("10.0.0.{n}:30303"))));
    net.bond(stays);
    live_on(&mut net, secs(60), &[stays]);
    net.bond(brief);
    net.deafen(brief, true);
    while net.engine(0).table().len() > 1 {
        live_on(&mut net, ms(100), &[stays]);
    }
    let begun = net.now;
    live_on(&mut net, secs(3600), &[stays]);
    assert_eq!(pings_since(&net, &[net.peer_contact(brief)], begun), []);
}
